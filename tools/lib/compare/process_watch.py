"""What is looked at while a process runs to its end: whether it has mapped the allocator, and the course of
its memory."""

import os
import select
import time

from compare import process_tree
from compare.process_life import has_ended
from compare.program_files import tool

SAMPLE_SECONDS = 0.02   # between two looks at the memory
MOST_SAMPLES = 2000     # then every other one is dropped, and looks are twice as far apart
PEEK_SECONDS = 0.001    # between two looks at the libraries, until the allocator is seen
PEEKING_SECONDS = 0.1   # later, it is not looked for so often
HELPERS = ("time", "taskset", "env")    # they start the program, which they become


class Watch:
    """What is looked at while a process runs: whether it has mapped the allocator, and its memory."""

    def __init__(self, allocator, wants_series):
        self.library = allocator.library if allocator else None
        self.seen = self.library is None
        self.unused = False     # a process was seen that could have mapped it, and has not
        self.helpers = {os.path.realpath(tool(name)) for name in HELPERS}
        self.wants_series = wants_series
        self.series = []
        self.used = []          # seconds of CPU at each of its points
        self.pause = SAMPLE_SECONDS

    def look(self, pid, seconds):
        """Returns the seconds until the next look is due; None when there is nothing more to see."""
        tree = process_tree.processes(pid)[1:]  # without `time` itself
        if not self.seen:
            # In this order: a helper becomes the program, but no program becomes a helper.
            measured = [child for child in tree if not process_tree.is_program(child, self.helpers)]
            uses = {process_tree.uses_library(child, self.library) for child in measured}
            self.seen = True in uses
            self.unused |= False in uses
        if self.wants_series and (not self.series or seconds - self.series[-1][0] >= self.pause * 0.9):
            resident = process_tree.rss(tree)
            if resident:
                self.series.append([round(seconds, 4), resident])
                self.used.append(process_tree.cpu_seconds(tree))
            if len(self.series) >= MOST_SAMPLES:
                del self.series[1::2], self.used[1::2]
                self.pause *= 2
        if not self.seen:
            return PEEK_SECONDS if seconds < PEEKING_SECONDS else self.pause
        return self.pause if self.wants_series else None


def wait(pid, start, timeout, watch):
    """Until the process has ended, which True says, or the time is over. Leaves it to be waited for."""
    # Waiting by a pidfd wakes at once, however long the looks are apart: the time measured depends on that.
    with os.fdopen(os.pidfd_open(pid), "rb", buffering=0) as handle:
        poll = select.poll()
        poll.register(handle, select.POLLIN)
        while True:
            seconds = time.monotonic() - start
            if seconds >= timeout:
                return has_ended(pid)
            pause = watch.look(pid, seconds)
            left = timeout - (time.monotonic() - start)
            if poll.poll(max(0, min(left, left if pause is None else pause)) * 1000 + 0.5):
                return True
