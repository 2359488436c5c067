"""Files in memory that another process has (memfd_create), and its pipes. What it calls so may be anything: a file of root's that is mounted
under that name, a pipe, a file system of its own that never answers. So nothing is opened, nor even asked for its size, before the kernel
has said by which mount it was reached: all files in memory share one, which nobody can mount anything on. From then on one handle
stands for the file, so that nobody can put another one in its place."""

import fcntl
import os
import re
import select
import stat
import time

from arenal import files

F_GET_SEALS = 1034
# Seal, shrink, grow: its size stays, so that reading what is mapped cannot end us by SIGBUS.
SEALS = 1 | 2 | 4


class Strange(Exception):
    """It is not what it says."""


def _mount(handle):
    found = re.search(rb"^mnt_id:\s+(\d+)$", files.head(f"/proc/self/fdinfo/{handle}", 4096), re.M)
    return found and int(found[1])


def _hold_like(own, path, what):
    """A handle of the file, if it is of the kind that our own one is."""
    handle = os.open(path, os.O_PATH | os.O_CLOEXEC)
    try:
        if _mount(own) is None or _mount(handle) != _mount(own) or \
                stat.S_IFMT(os.fstat(handle).st_mode) != stat.S_IFMT(os.fstat(own).st_mode):
            raise Strange(f"it is no {what}")
        return handle
    except BaseException:
        os.close(handle)
        raise


def hold(path):
    """A handle of the file; it is not opened. Raises OSError, Strange."""
    own = os.memfd_create("arenal-compare", os.MFD_CLOEXEC)
    try:
        return _hold_like(own, path, "file in memory")
    finally:
        os.close(own)


def hold_pipe(path):
    """The same of a pipe without a name: all of these share one mount, too."""
    ends = os.pipe()
    try:
        return _hold_like(ends[0], path, "pipe")
    finally:
        for end in ends:
            os.close(end)


def reopen(handle, flags):
    """Opens the file itself, whatever has its name by now."""
    return os.open(f"/proc/self/fd/{handle}", flags | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)


def check(handle, name, smallest, largest, owners):
    """Whether it was created under this name, by one of these users, with such a size."""
    about = os.fstat(handle)
    if os.readlink(f"/proc/self/fd/{handle}") != f"/memfd:{name} (deleted)":
        raise Strange("it has another name")
    if not smallest <= about.st_size <= largest:
        raise Strange("it has an impossible size")
    if about.st_uid not in owners:
        raise Strange("it belongs to somebody else")


def check_seals(file):
    if fcntl.fcntl(file, F_GET_SEALS) & SEALS != SEALS:
        raise Strange("its size may change")


def owners_now(pid):
    """Its users: real, effective, saved, and of files; none when it has ended."""
    try:
        lines = files.head(f"/proc/{pid}/status", 1 << 16).splitlines()
    except OSError:
        return set()
    return {int(word) for line in lines if line.startswith(b"Uid:") for word in line.split()[1:]}


def owners(pid):
    """Whose files the process may have made: those of its users, and of the root of its user namespace, who it may have been before."""
    found = owners_now(pid)
    for line in files.head(f"/proc/{pid}/uid_map", 1 << 16).splitlines():
        inside, outside, _count = map(int, line.split())
        if inside == 0:
            found.add(outside)
    return found


def stream(handle, limit, start, patience, until):
    """All that comes out of a pipe, if it begins so and is not longer than that; within so many seconds from one part to the next, and
    until that moment. Raises OSError, Strange, TimeoutError."""
    pipe = reopen(handle, os.O_RDONLY)
    try:
        poll = select.poll()
        poll.register(pipe, select.POLLIN)
        data = bytearray()
        while True:
            if not poll.poll(1000 * max(0, min(patience, until - time.monotonic()))):
                raise TimeoutError
            part = os.read(pipe, 1 << 16)
            data += part
            if len(data) > limit or (data[:len(start)] != start[:len(data)]):
                raise Strange("its contents make no sense")
            if not part:
                return bytes(data)
    finally:
        os.close(pipe)
