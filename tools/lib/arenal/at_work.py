"""Whether a thread of another process that computes may be interrupted and sent through the door (door.py). Of
x86-64 only. What it is in the middle of, the process finds out itself: it can walk up its stack (door.c).
Here is what that would come too late for."""

import os
import struct
import time

from arenal import asleep, files
from arenal.errors import Torn

COMPUTED = 2            # ticks that it has computed, without one in the kernel, nor a call that reads or writes
LOOKED = 0.2            # seconds in which it may have done so,
PAUSE = 0.005           # and between two looks whether it has
UTIME, STIME = 11, 12   # fields of /proc/PID/task/TID/stat behind the name
NO_CALL = (1 << 64) - 1
CS_AT = 8               # of struct rseq: the sequence that it is in


class AtWork(asleep.Later):
    """It was in the middle of something."""


class InCall(asleep.Unsafe):
    """It was stopped in a system call, which may have told of that: it is not stopped again."""


def threads(pid, candidates):
    """Those that are at work, and compute: for a while, they were neither asleep nor in the kernel. A long system
    call, as a read of /dev/zero is, ends early where one is stopped in it. Raises AtWork when there are only others."""
    running = [task for task in candidates if is_running(pid, task)]
    before = {task: _work(pid, task) for task in running}
    waiting, found, until = {task for task in before if before[task]}, [], time.monotonic() + LOOKED
    while True:
        for task in sorted(waiting):
            now = _work(pid, task)
            if now is None or now[1:] != before[task][1:]:
                waiting.remove(task)
            elif now[0] - before[task][0] >= COMPUTED:
                waiting.remove(task)
                if is_running(pid, task):
                    found.append(task)
        if found or not waiting or time.monotonic() > until:
            break
        time.sleep(PAUSE)
    if running and not found:
        raise AtWork("it works, but makes system calls all the time")
    return found


def is_running(pid, thread):
    """Whether it is at work, be it in the kernel."""
    try:
        return files.head(f"/proc/{pid}/task/{thread}/syscall", 256).startswith(b"running")
    except (FileNotFoundError, ProcessLookupError):
        return False            # it has ended


def _work(pid, thread):
    """Its ticks of its own code; those in the kernel, how often it fell asleep, and what it has read and written so far.
    None: it has ended."""
    folder = f"/proc/{pid}/task/{thread}"
    try:
        fields = files.head(f"{folder}/stat", 4096).rpartition(b")")[2].split()
        return int(fields[UTIME]), int(fields[STIME]), asleep.switches(pid, thread), _read_and_written(folder)
    except (FileNotFoundError, ProcessLookupError, IndexError):
        return None


def _read_and_written(folder):
    try:
        return files.head(f"{folder}/io", 4096)
    except FileNotFoundError:
        return b""              # a kernel that does not count that


def files_of_libc(process):
    """Where libc's file lies, and the loader's, from and to. Raises Unsafe."""
    return [*_span(process, ("libc.so", "libc-")), *_span(process, ("ld-", "ld.so", "ld64"))]


def _span(process, names):
    found = [m for m in process.mappings if m.inode and os.path.basename(m.path).startswith(names)]
    if not found or len({m.path for m in found}) > 1:
        raise asleep.Unsafe("it computes, and which libc it has cannot be told")
    return min(m.start for m in found), max(m.end for m in found)


def check_place(process, held, registers):
    """Raises Unsafe, Torn."""
    if registers["call"] != NO_CALL:
        raise InCall("it makes system calls")
    if asleep.has_signal(process.pid, held.thread):
        raise AtWork("it is just getting a signal")
    code = process.at(registers["rip"])
    if code is None or not code.inode or "x" not in code.perms:
        raise AtWork("it runs code that was made at run time")
    if os.path.basename(code.path).startswith(asleep.CLOSED):
        raise AtWork("whenever it was looked at, it was in libc or in malloc")
    asleep.check_stack(process, registers)
    try:
        record = struct.unpack("<3Q", process.read(registers["fs_base"], 24))
    except Torn:
        record = ()
    if record[::2] != (registers["fs_base"],) * 2:
        raise asleep.Unsafe("its thread-local variables are not libc's")
    if held.dispatches():
        raise asleep.Unsafe("its system calls go to a handler of its own")
    try:
        sequence = held.restarted_sequence()
    except OSError:
        raise asleep.Unsafe("it computes: such a thread is interrupted on Linux 5.13 and later") from None
    if sequence and process.read(sequence + CS_AT, 8) != bytes(8):
        raise AtWork("it is in a sequence that begins anew when it is interrupted")
