"""How the processes of a trace ended, and whether one writes to its file still."""

import fcntl
import os
import signal
import stat
import struct
import time

from arenal import facts, files

HEADER = struct.Struct("<8sIIIIQQQQQ16sQI")     # struct trace_header of src/observe/trace_format.h, up to `held`
MAGIC, VERSION = b"ARENALTR", 2
NO_END, EXIT = range(2)                         # enum trace_end
STOPPED = 4                                     # enum trace_state
EXCLUDE = getattr(fcntl, "F_OFD_SETLK", 37), struct.pack("hhqqi4x", fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0)
MAPS_LIMIT = 64 << 20


def _header(file):
    """Of a trace, else None."""
    head = os.pread(file, HEADER.size, 0)
    found = HEADER.unpack(head) if stat.S_ISREG(os.fstat(file).st_mode) and len(head) == HEADER.size else (b"", 0)
    return found if found[:2] == (MAGIC, VERSION) else None


def settle(path):
    """Cuts the file to its length where the library could not: its last process was killed, say. Not while anybody may write to it, also
    processes that we may not see: all of them hold a lock, which the kernel drops when they end. How many chunks there are is known
    when we have got the lock that excludes them, and not before. On a file system that keeps no locks of what is mapped (overlayfs), root
    looks at all processes instead."""
    try:
        with open(path, "r+b", opener=lambda name, flags: os.open(name, flags | os.O_NOFOLLOW | os.O_NONBLOCK)) as file:
            header = _header(file.fileno())
            if not header or (not header[-1] and not _is_nobody_s(path, header)):
                return
            fcntl.fcntl(file, *EXCLUDE)
            header = _header(file.fileno())
            if header and 0 < header[2] * header[-2] < os.fstat(file.fileno()).st_size:
                file.truncate(header[2] * header[-2])
    except (OSError, OverflowError):
        pass                            # it stays long, without contents


def _maps(pid, path):
    """Does the process have the file mapped, as all do that are recorded in it? None: it may not be looked at."""
    try:
        number, text = os.stat(path).st_ino, files.head(f"/proc/{pid}/maps", MAPS_LIMIT)
    except PermissionError:
        return None
    except OSError:
        return False
    name = os.fsencode(os.path.realpath(path)).replace(b"\n", b"\\012")       # other file systems below have numbers of their own
    rows = (line.split(None, 5) for line in text.splitlines())
    return any(len(row) == 6 and (row[4] == b"%d" % number or row[5] == name) for row in rows)


def _may_write(pid, path, header):
    """Those that may not be looked at may, unless they are older than the file and did not make it."""
    found = _maps(pid, path)
    if found is not None:
        return found
    ticks = facts.started(pid)
    if ticks is None:
        return False
    boot = time.time() - time.clock_gettime(time.CLOCK_BOOTTIME)
    return int(pid) == header[3] or (boot + ticks / os.sysconf("SC_CLK_TCK") + 2) * 1e9 > header[5]


def _is_nobody_s(path, header):
    return os.geteuid() == 0 and os.path.exists("/proc/1") and \
        not any(_may_write(pid, path, header) for pid in filter(str.isdigit, os.listdir("/proc")))


def _runs(pid, summary):
    """None: that cannot be told. In another namespace of PIDs, none of them has its number, though somebody writes to the file."""
    if summary["writers"] == 0:
        return False
    found = _maps(pid, summary["path"])
    if found is not False:
        return found
    others = (row[0] for row in summary["processes"] if row[2] == NO_END and row[0] != pid)
    return False if any(_maps(other, summary["path"]) for other in others) else None


def _next_program(pid, summary):
    """The trace of the program that the process went on as, if there is one."""
    path = f"{summary['path']}.{pid}"
    try:
        file = files.regular(path, follow=False)
    except OSError:
        return None
    try:
        header = _header(file)
    finally:
        os.close(file)
    return path if header and header[3] == pid and header[5] >= summary["date"] else None


def describe(process, summary, signalled=None, reaped=False):
    """What became of a process, a row of the summary's: "called exit(0)". `reaped`: it is known to have ended, by the signal `signalled`
    if that is not None, whatever it had noted before."""
    pid, _, end, status = process
    if signalled:
        return f"was ended by {_name(signalled)}"
    if end == EXIT:
        return f"called exit({status})"
    if summary["state"] == STOPPED and not signalled:
        return "was recorded until that was stopped"
    program = _next_program(pid, summary)
    if program:
        return f"went on as another program: {program}"
    runs = False if reaped else _runs(pid, summary)
    if runs is None:
        return "runs still, or ended without calling exit"
    return "runs still" if runs else "ended without calling exit (_exit, another program, or a signal)"


def _name(number):
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
