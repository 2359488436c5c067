"""Begin and end of the processes that are measured, whoever runs them: none is left behind, what they print
is kept, and what they died of is said in a line."""

import contextlib
import ctypes
import os
import signal
import threading

from compare import process_tree

PR_SET_CHILD_SUBREAPER = 36


@contextlib.contextmanager
def uninterrupted():
    """Puts signals off until a process that is being started is known: otherwise nobody would end it."""
    if threading.current_thread() is not threading.main_thread():
        yield  # signals are handled in the main thread
        return
    pending = []
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    for number, handler in handlers.items():
        if callable(handler):
            signal.signal(number, lambda number, _: pending.append(number))
    try:
        yield
    finally:
        for number, handler in handlers.items():
            if callable(handler):
                signal.signal(number, handler)
        if pending:
            signal.raise_signal(pending[0])


def has_ended(pid):
    return os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None


def kill_all(process):
    """Kills the process's session and what its descendants are, then reaps it: before, no other process can
    have its number."""
    if process.returncode is None:
        tree = process_tree.processes(process.pid)
        try:
            os.killpg(process.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        for child in tree[1:]:  # those that moved to groups of their own
            try:
                os.kill(child, signal.SIGKILL)
            except ProcessLookupError:
                pass
    process.wait()


@contextlib.contextmanager
def no_orphans():
    """What outlives the process that started it, in a session of its own, becomes our child and not init's: so it is found at
    the end of the block, and ended instead of taking CPU time from the next run. Nobody else may start processes meanwhile."""
    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    before = set(process_tree.children(os.getpid()))
    try:
        yield
    finally:
        while orphans := set(process_tree.children(os.getpid())) - before:
            for pid in orphans:
                for one in reversed(process_tree.processes(pid)):   # its own children become ours when it has ended
                    with contextlib.suppress(ProcessLookupError):
                        os.kill(one, signal.SIGKILL)
                with contextlib.suppress(ChildProcessError):
                    os.waitpid(pid, 0)


def how_it_ended(status, seconds, errors):
    reason = last_line(errors)
    reason = f": {reason}" if reason else ""
    if status < 0:
        return f"crashed: {signal_name(-status)} after {seconds:.1f} s{reason}"
    return f"ended with status {status}{reason}"


def last_line(text, limit=200):
    lines = [line for line in text.splitlines() if line.strip()]
    return "".join(c if c.isprintable() else "?" for c in lines[-1].strip()[:limit]) if lines else ""


def signal_name(number):
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def memory_file(name, text=""):
    """Neither a pipe, which somebody had to empty, nor a file, whose disk may be full."""
    descriptor = os.memfd_create(f"compare-{name}")
    if text:
        os.write(descriptor, text if isinstance(text, bytes) else text.encode())
        os.lseek(descriptor, 0, os.SEEK_SET)
    return descriptor


def read_back(descriptor):
    size = os.fstat(descriptor).st_size
    return os.pread(descriptor, size, 0).decode(errors="replace")
