"""Whether a thread of another process that computes may be interrupted and sent through the door (door.py). Of
x86-64 only. What it is in the middle of, the process finds out itself: it can walk up its stack (door.c).
Here is what that would come too late for."""

import os
import struct
import time

from arenal import asleep, files
from arenal.errors import Torn

LOOKED = 0.005          # seconds in which a thread that computes does nothing else
NO_CALL = (1 << 64) - 1
CS_AT = 8               # of struct rseq: the sequence that it is in


class AtWork(asleep.Later):
    """It was in the middle of something."""


def threads(pid, candidates):
    """Those that are at work, and were all the time for a moment: they hardly ever sleep in a system call, which
    might tell of being stopped."""
    def looked():
        return {task: asleep.switches(pid, task) for task in candidates
                if files.head(f"/proc/{pid}/task/{task}/syscall", 256).startswith(b"running")}
    try:
        before = looked()
        if before:
            time.sleep(LOOKED)
            after = looked()
            return [task for task, count in before.items() if after.get(task) == count]
    except (FileNotFoundError, ProcessLookupError):
        pass                    # one has ended
    return []


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
        raise AtWork("it makes system calls all the time")
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
