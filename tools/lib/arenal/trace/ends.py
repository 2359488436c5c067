"""How the processes of a trace ended, and whether one writes to its file still."""

import fcntl
import os
import signal
import stat
import struct

HEADER = struct.Struct("<8sIIIIQQQQQ16sQI")     # struct trace_header of src/observe/trace_format.h, up to `held`
MAGIC, VERSION = b"ARENALTR", 2
NO_END, EXIT, EXIT_AT_ONCE, EXEC = range(4)     # enum trace_end


def settle(path):
    """Cuts the file to its length where the library could not: its last process was killed, say. Not while anybody may write to it, also
    processes that we may not see: all of them hold a lock, which the kernel drops when they end."""
    try:
        with open(path, "r+b", opener=lambda name, flags: os.open(name, flags | os.O_NOFOLLOW | os.O_NONBLOCK)) as file:
            about = os.fstat(file.fileno())
            head = file.read(HEADER.size)
            if not stat.S_ISREG(about.st_mode) or len(head) < HEADER.size:
                return
            magic, version, chunk, *_, chunks, held = HEADER.unpack(head)
            if magic == MAGIC and version == VERSION and held and 0 < chunk * chunks < about.st_size:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                file.truncate(chunk * chunks)
    except OSError:
        pass                            # it stays long, without contents


def describe(process, summary, signalled=None):
    """What became of a process, a row of the summary's: "ended by exit(0)". `signalled`: the signal that is known to have ended it."""
    pid, _, end, status = process
    if end == EXIT:
        return f"ended by exit({status})"
    if end == EXIT_AT_ONCE:
        return f"ended by _exit({status})"
    if end == EXEC:
        return "executed another program"
    if signalled:
        return f"was ended by {_name(signalled)}"
    if summary["writers"] == 0:
        return "ended without a word, as by a signal"
    if summary["writers"] == 1 and [row[0] for row in summary["processes"] if row[2] == NO_END] == [pid]:
        return "runs still"
    return "runs still, or ended without a word, as by a signal"


def _name(number):
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
