"""`arenal run`: turns into the command, on Arenal."""

import errno
import os
import shutil
import signal
import sys

from arenal import elf
from arenal import library
from arenal.errors import Failure


def find_command(name, env):
    """The path of the command, with the exit codes of env(1) and the shells: 127 not found, 126 not executable."""
    search = os.fsdecode(env.get(b"PATH", os.fsencode(os.defpath)))
    path = shutil.which(name, path=search)
    if path:
        return path
    if os.path.dirname(name) and os.path.exists(name):
        raise Failure(f"{name} is not an executable file", 126)
    raise Failure(f"{name}: no such command", 127)


def warn_if_static(path):
    if not elf.is_static_program(path):
        return
    try:
        if elf.symbol(path, "arenal_layout"):
            return                  # linked with libarenal.a: it is on Arenal already
    except (elf.NotElf, OSError):
        pass
    print(f"arenal: {path} is statically linked: it stays on its own malloc, because nothing can be preloaded into it",
          file=sys.stderr)


def restore_signals():
    """Python ignores these two, and an ignored signal stays ignored over exec."""
    for name in (signal.SIGPIPE, signal.SIGXFSZ):
        signal.signal(name, signal.SIG_DFL)


def shell_command(path, command):
    """For a script without "#!" line: shells and env(1) give it to sh, so we do."""
    return ["sh", path] + command[1:]


def run(tool, command, settings, stats, variables=()):
    env = library.environment(library.find(tool), settings, stats)
    env.update(variables)
    path = find_command(command[0], env)
    warn_if_static(path)
    sys.stdout.flush()
    sys.stderr.flush()
    restore_signals()
    try:
        try:
            os.execve(path, command, env)
        except OSError as error:
            if error.errno != errno.ENOEXEC:
                raise
            os.execve("/bin/sh", shell_command(path, command), env)
    except OSError as error:
        raise Failure(f"{path}: {error.strerror}", 126) from error
