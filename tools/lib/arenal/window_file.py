"""Where the window of a process is: the thread of the library's that serves it, and its file, opened once it
has shown that it is one; and what there is to say of a process without."""

import errno
import os
import time
from itertools import islice

from arenal import facts, layout, memfile, proc, window_format
from arenal.errors import Failure, Gone

NAME = "arenal-window"          # of the thread, and of the file
# A window may be just being opened: its thread has no name yet, its file no contents.
OPENING = 0.3
SIZE_MIN, SIZE_MAX = 1 << 16, 1 << 20           # bytes of the file
DESCRIPTORS = 16                # its thread has one, or two


class NoWindow(Failure):
    """The process has no window; it may be on Arenal or not."""

    def __init__(self, sentence, on_arenal):
        super().__init__(sentence)
        self.on_arenal = on_arenal


class NotPermitted(Failure):
    """Only its own user, or root, may look into the process."""


def threads_of_arenal(pid):
    """The threads of the process that are the library's own, by name: what everybody may know."""
    found = {}
    try:
        tasks = os.listdir(f"/proc/{pid}/task")
    except OSError:
        return found
    for task in tasks:
        name = facts.read(f"/proc/{pid}/task/{task}/comm").rstrip(b"\n").decode(errors="replace")
        if name in (NAME, "arenal"):
            found[name] = task
    return found


def open_file(pid, opening=None):
    """The thread, and its file, opened for reading and writing because it has shown that it is a window.
    `opening`: seconds for one that is being opened just now."""
    until = time.monotonic() + (OPENING if opening is None else opening)
    while True:
        thread, path = find(pid, opening)
        try:
            handle = memfile.hold(path)
            try:
                memfile.check(handle, NAME, SIZE_MIN, SIZE_MAX, memfile.owners(pid))
                file = memfile.reopen(handle, os.O_RDONLY)
                try:
                    memfile.check_seals(file)
                    if os.pread(file, len(window_format.MAGIC), 0) != window_format.MAGIC:
                        raise memfile.Strange("it does not begin as one")
                finally:
                    os.close(file)
                return thread, memfile.reopen(handle, os.O_RDWR)
            finally:
                os.close(handle)
        except memfile.Strange as strange:
            if time.monotonic() > until:
                raise Failure(f"the window of process {pid} is none of Arenal's: {strange}") from strange
        time.sleep(0.005)


def find(pid, opening=None):
    """The thread, and the path under which its file may be opened."""
    if not os.path.isdir(f"/proc/{pid}"):
        raise Gone(pid, f"there is no process {pid}")
    if NAME not in threads_of_arenal(pid):
        missing = _no_window(pid)
        if not missing.on_arenal:
            raise missing
    until = time.monotonic() + (OPENING if opening is None else opening)
    while True:
        thread = threads_of_arenal(pid).get(NAME)
        path = _file_of(pid, thread) if thread else None
        if path:
            return thread, path
        if time.monotonic() > until:
            raise _no_window(pid)
        time.sleep(0.005)


def _file_of(pid, thread):
    folder = f"/proc/{pid}/task/{thread}/fd"
    try:
        with os.scandir(folder) as found:
            for entry in islice(found, DESCRIPTORS):
                if os.readlink(entry.path).startswith(f"/memfd:{NAME}"):
                    return entry.path
    except OSError as error:
        if error.errno != errno.ENOENT:
            raise failure(pid, error) from error
    return None


def _no_window(pid):
    # Raises what there is to say about processes that may not be looked at.
    with proc.Process(pid) as process:
        if layout.has_library(process) or layout.locate(process):
            return NoWindow(f"process {pid} ({process.name}) is on Arenal, but has no window: arenal ctl "
                            f"{pid} open opens one, as ARENAL_WINDOW=1 and arenal run do from the start "
                            "(before Linux 5.9 there is none)", True)
        process.check_whole()
        return NoWindow(f"process {pid} ({process.name}) is not on Arenal: it seems to be on "
                        f"{layout.allocator(process)}", False)


def failure(pid, error):
    """The exception that explains why the window could not be had."""
    if error.errno in (errno.EACCES, errno.EPERM):
        if facts.is_ending(pid):
            return Gone(pid)
        more = "" if os.geteuid() == 0 else " (which it must be for a process that has changed its user)"
        return NotPermitted(f"not permitted to look into process {pid}: {facts.who_may()}{more}")
    if error.errno in (errno.ENOENT, errno.ESRCH):
        return Gone(pid)
    return Failure(f"the window of process {pid}: {error.strerror or error}")
