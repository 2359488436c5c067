"""`arenal run`: turns into the command, on Arenal."""

import errno
import os
import re
import shutil
import signal
import subprocess
import sys

from arenal import elf
from arenal import library
from arenal.errors import Failure

PATIENCE = 1.0          # seconds that the command gets to react to the terminal's Ctrl-C


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


def child(command, env):
    """Starts the command as a child of ours. Returns its Popen."""
    path = find_command(command[0], env)
    warn_if_static(path)
    try:
        try:
            return subprocess.Popen(command, executable=path, env=env, close_fds=False)
        except OSError as error:
            if error.errno != errno.ENOEXEC:
                raise
            return subprocess.Popen(shell_command(path, command), executable="/bin/sh", env=env, close_fds=False)
    except OSError as error:
        raise Failure(f"{path}: {error.strerror}", 126) from error


class _Terminated(Exception):
    """We were told to end by SIGTERM."""


def _on_sigterm(*_):
    raise _Terminated


def until_end(process, wait):
    """The exit code of a child, as a shell would give it. wait() waits for it; it ends too when we are told to."""
    signal.signal(signal.SIGTERM, _on_sigterm)
    try:
        code = wait()
        return code if code >= 0 else 128 - code
    except KeyboardInterrupt:
        _interrupted(process)
        return 128 + signal.SIGINT
    except _Terminated:
        process.terminate()
        process.wait()
        return 128 + signal.SIGTERM


def _interrupted(process):
    """Ctrl-C reaches the child too when it comes from the terminal, and only us when it is sent by kill."""
    try:
        process.wait(PATIENCE)
    except subprocess.TimeoutExpired:
        process.send_signal(signal.SIGINT)
        try:
            process.wait()
        except KeyboardInterrupt:
            process.kill()
            process.wait()


def run(tool, command, settings, stats, variables=()):
    env = library.environment(library.find(tool), settings, stats)
    if b"ARENAL_WINDOW" not in env and not re.search(rb"(^|,)window:", env.get(b"ARENAL_CONF", b"")):
        env[b"ARENAL_WINDOW"] = b"1"
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
