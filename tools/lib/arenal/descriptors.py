"""Whether what a thread of another process reads from has a time of its own, after which a read ends: that of a socket (SO_RCVTIMEO) or of a
terminal (VTIME). The kernel alone knows what is left of it, and has no place where we could shorten it for one call. We look at the file
through a descriptor of ours, which we have for that long (pidfd_getfd, Linux 5.6). Of x86-64 only."""

import ctypes
import os
import re
import socket
import stat
import struct
import termios

PIDFD_OPEN, PIDFD_GETFD = 434, 438
_MAY = re.compile(r"socket:\[|/dev/|/\d+$")      # the last one: a terminal of a container, seen from outside
_libc = ctypes.CDLL(None, use_errno=True)
_libc.syscall.restype = ctypes.c_long


def _call(number, *words):
    ctypes.set_errno(0)
    if (result := _libc.syscall(ctypes.c_long(number), *map(ctypes.c_long, words))) < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return result


def has_time(pid, thread, number):
    """Raises OSError where it cannot be told."""
    path = f"/proc/{pid}/task/{thread}/fd/{number}"
    try:
        if not _MAY.match(os.readlink(path)):
            return False        # others are not looked at: they may be in a file system that does not answer
        kind = os.stat(path)
    except FileNotFoundError:
        return False            # it has been closed since, and has no options that we could look at
    process = _call(PIDFD_OPEN, pid, 0)
    try:
        ours = _call(PIDFD_GETFD, process, number, 0)
    finally:
        os.close(process)
    try:
        now = os.fstat(ours)
        if (now.st_dev, now.st_ino) != (kind.st_dev, kind.st_ino):
            raise OSError(0, "the thread has descriptors of its own")
        return _time_of_socket(ours) if stat.S_ISSOCK(kind.st_mode) else _time_of_terminal(ours)
    finally:
        os.close(ours)


def _time_of_socket(handle):
    with socket.socket(fileno=os.dup(handle)) as ours:
        return any(struct.unpack("qq", ours.getsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, 16)))


def _time_of_terminal(handle):
    if not os.isatty(handle):
        return False
    _, _, _, local, _, _, characters = termios.tcgetattr(handle)
    return not local & termios.ICANON and characters[termios.VTIME] not in (0, b"\0")
