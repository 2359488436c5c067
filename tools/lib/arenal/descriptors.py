"""What a read of a thread of another process waits for, as far as that is said by what it reads from: a time, after which it ends (a socket's
SO_RCVTIMEO, a terminal's VTIME), of which the kernel alone knows what is left, and that could be shortened for no single call; and more bytes
than one (SO_RCVLOWAT, VMIN), of which it returns, when it is stopped, those that have come so far. We look at the file through a descriptor of
ours, which we have for that long (pidfd_getfd, Linux 5.6). Of x86-64 only."""

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


def check_open(pid, thread, number):
    """Raises OSError where the thread's descriptor is closed: what was begun through it goes on; after a stop, it would find none."""
    os.readlink(f"/proc/{pid}/task/{thread}/fd/{number}")


def look(pid, thread, number):
    """Whether it has a time, and whether it waits for more than one byte. Raises OSError where it cannot be told."""
    path = f"/proc/{pid}/task/{thread}/fd/{number}"
    if not _MAY.match(os.readlink(path)):
        return False, False         # others are not looked at: they may be in a file system that does not answer
    kind = os.stat(path)
    process = _call(PIDFD_OPEN, pid, 0)
    try:
        ours = _call(PIDFD_GETFD, process, number, 0)
    finally:
        os.close(process)
    try:
        now = os.fstat(ours)
        if (now.st_dev, now.st_ino) != (kind.st_dev, kind.st_ino):
            raise OSError(0, "the thread has descriptors of its own")
        return _of_socket(ours) if stat.S_ISSOCK(kind.st_mode) else _of_terminal(ours)
    finally:
        os.close(ours)


def _of_socket(handle):
    with socket.fromfd(handle, socket.AF_UNIX, socket.SOCK_STREAM) as ours:         # of whichever kind: the kernel is asked the same of all
        return (any(struct.unpack("qq", ours.getsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, 16))),
                ours.getsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT) > 1)


def _of_terminal(handle):
    if not os.isatty(handle):
        return False, False
    try:
        _, _, _, local, _, _, characters = termios.tcgetattr(handle)
    except termios.error as error:          # it has just been hung up
        raise OSError(*error.args) from error
    if local & termios.ICANON:
        return False, False
    least, lasts = (one if isinstance(one, int) else ord(one) for one in (characters[termios.VMIN], characters[termios.VTIME]))
    return lasts > 0, least > 1
