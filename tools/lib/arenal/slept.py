"""For how long a thread has been asleep: the kernel says when it ran last, by a clock of each processor's own
that stands still while that works for the kernel or for other machines (/proc/PID/task/TID/sched). We read
ours there, on the same processor, and compare: so what is told is too little, if anything, by as much as that
clock stood still meanwhile."""

import os
import re
import time

from arenal import asleep, files

LIMIT = 1 << 14         # bytes of these files
NAP = 0.0005            # seconds; who has just slept has a fresh date
_RAN = re.compile(rb"^se\.exec_start\s*:\s*(\d+)\.(\d{6})$", re.M)
_PROCESSOR = 36         # field of /proc/PID/stat behind the name


class Asleep:
    """A sleep that goes on. `count`: how often the thread fell asleep so far; `_since`: when, by time.monotonic()."""

    def __init__(self, since, count):
        self._since, self.count = since, count

    def seconds(self):
        return time.monotonic() - self._since


def look(pid, thread):
    """The Asleep of a thread that sleeps; None when it cannot be told."""
    folder = f"/proc/{pid}/task/{thread}"
    try:
        count, processor = asleep.switches(pid, thread), _processor(folder)
        ran = _ran(f"{folder}/sched")
        before = os.sched_getaffinity(0)
        try:
            os.sched_setaffinity(0, {processor})
            time.sleep(NAP)
            ours = _ran("/proc/thread-self/sched")
            now = time.monotonic()
        finally:
            os.sched_setaffinity(0, before)
        if count is None or asleep.switches(pid, thread) != count:
            return None
        return Asleep(now - max(0, ours - ran) / 1e9, count)
    except (OSError, ValueError, TypeError, IndexError):
        return None


def _processor(folder):
    return int(files.head(f"{folder}/stat", LIMIT).rpartition(b")")[2].split()[_PROCESSOR])


def _ran(path):
    """Nanoseconds."""
    found = _RAN.search(files.head(path, LIMIT))
    return int(found[1]) * 1000000 + int(found[2])
