"""`arenal run`: turns into the command, on Arenal."""

import errno
import os
import re
import shutil
import signal
import subprocess
import sys
import time

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


def warn_of_other_libc(path, env):
    """The loader refuses the program then, and tells only which symbols are missing."""
    wanted = elf.libc(path)
    for preloaded in re.split(rb"[ :]+", env.get(b"LD_PRELOAD", b"")):
        built = elf.libc(os.fsdecode(preloaded)) if preloaded else None
        if wanted and built and built != wanted:
            print(f"arenal: {path} is a program for {wanted}, and {os.fsdecode(preloaded)} is built for {built}: it cannot be preloaded there. "
                  f"ARENAL_LIBRARY names another one (for musl, the preset musl builds it)", file=sys.stderr)


def restore_signals():
    """Python ignores these two, and an ignored signal stays ignored over exec."""
    for name in (signal.SIGPIPE, signal.SIGXFSZ):
        signal.signal(name, signal.SIG_DFL)


def shell_command(path, command):
    """For a script without "#!" line: shells and env(1) give it to sh, so we do."""
    return ["sh", path] + command[1:]


def child(command, env):
    """Starts the command as a child of ours. Returns its process ID, for `wait`."""
    path = find_command(command[0], env)
    warn_if_static(path)
    warn_of_other_libc(path, env)
    held = hold_signals()

    def start(words, executable):
        process = subprocess.Popen(words, executable=executable, env=env, close_fds=False, preexec_fn=lambda: release_signals(held))
        process.returncode = 0          # it is not this object that waits for it
        return process.pid
    try:
        try:
            return start(command, path)
        except OSError as error:
            if error.errno != errno.ENOEXEC:
                raise
            return start(shell_command(path, command), "/bin/sh")
    except OSError as error:
        raise Failure(f"{path}: {error.strerror}", 126) from error


# What ends or steers programs. The terminal sends these to the command itself, which is in our process group; what somebody sends to us
# alone is meant for the command.
SIGNALS = {signal.SIGHUP, signal.SIGINT, signal.SIGQUIT, signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2}


def hold_signals():
    """From now on they come when `wait` asks. Returns what the command gives to `release_signals`, so that it finds all as we did."""
    before = signal.signal(signal.SIGCHLD, signal.SIG_DFL)      # ignored, no child would be waited for
    return signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS | {signal.SIGCHLD}), before


def release_signals(held):
    mask, before = held
    signal.signal(signal.SIGCHLD, before)
    signal.pthread_sigmask(signal.SIG_SETMASK, mask)


def wait(pid, seconds=None):
    """The exit code of a child, negative when a signal ended it; None: it goes on after so many seconds. Signals reach the command as often
    as they would without us: those that were sent to us are passed on, unless they came from the kernel, which sends to all."""
    until = None if seconds is None else time.monotonic() + seconds
    while True:
        ended, status = os.waitpid(pid, os.WNOHANG)
        if ended:
            while signal.sigtimedwait(SIGNALS, 0):
                pass                    # they were for the command
            signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)
            return -os.WTERMSIG(status) if os.WIFSIGNALED(status) else os.WEXITSTATUS(status)
        left = 3600 if until is None else until - time.monotonic()
        if left <= 0:
            return None
        came = signal.sigtimedwait(SIGNALS | {signal.SIGCHLD}, left)
        if came and came.si_signo != signal.SIGCHLD and came.si_code <= 0:
            os.kill(pid, came.si_signo)


def run(tool, command, settings, stats, variables=()):
    env = library.environment(library.find(tool), settings, stats)
    if b"ARENAL_WINDOW" not in env and not re.search(rb"(^|,)window:", env.get(b"ARENAL_CONF", b"")):
        env[b"ARENAL_WINDOW"] = b"1"
    env.update(variables)
    path = find_command(command[0], env)
    warn_if_static(path)
    warn_of_other_libc(path, env)
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
