"""`arenal maps -- COMMAND`: runs a command on Arenal, and shows its memory when it was at its peak.

The moment before a process ends cannot be stopped at without becoming its debugger, which would change how it runs (and
keep gdb and strace away from it). So the command is looked at again and again, and the look at its peak is kept."""

import contextlib
import sys
import time

from arenal import layout
from arenal import library
from arenal import look
from arenal import start
from arenal.errors import Failure
from arenal.text import counted

FIRST_PAUSE = 0.001     # a short command deserves a look too: the pace starts fast, and slows down to
PAUSE = 0.05            # this many seconds,
SHARE = 0.1             # or to as many as keep us below this part of one processor


class Watch:
    """The looks at one command, by its process ID."""

    def __init__(self, child, output, every, guess):
        self.child, self.output, self.every, self.guess = child, output, every, guess
        self.started = time.monotonic()
        self.looks = 0
        self.peak = None            # the Snapshot with the greatest weight
        self.peak_weight = None
        self.peak_time = 0.0
        self.other = None           # the last look that did not find Arenal
        self.unheard = False

    def show(self, snapshot, moment, seconds):
        if self.unheard:
            return                  # nobody reads any more, or the disk is full, but the command goes on
        heading = f", {moment}, {seconds:.2f} s after its start"
        try:
            self.output.show(snapshot, heading, moment=moment, seconds=round(seconds, 3), looks=self.looks)
        except OSError as error:
            self.unheard = True
            self.output.give_up()
            if not isinstance(error, BrokenPipeError):
                with contextlib.suppress(OSError):
                    print(f"arenal: {error.filename or 'stderr'}: {error.strerror}: no looks are shown any more", file=sys.stderr)

    def look(self, compare):
        """One look. Returns the snapshot, or None: the command is ending, or it is past its peak and `compare` says
        that only a peak is wanted."""
        seconds = time.monotonic() - self.started
        try:
            snapshot = look.look(self.child, self.guess, self.peak_weight if compare else None)
        except Failure:
            return None
        if snapshot and snapshot.allocator == layout.LOADING:
            return None             # nothing is known of it yet
        self.looks += 1
        if snapshot and snapshot.allocator != "arenal":
            self.other = snapshot
        elif snapshot and (self.peak is None or look.weight(snapshot) >= self.peak_weight):
            self.peak, self.peak_weight, self.peak_time = snapshot, look.weight(snapshot), seconds
        return snapshot

    def until_end(self):
        pause = FIRST_PAUSE
        due = self.every
        while True:
            begin = time.monotonic()
            show = self.every and begin - self.started >= due
            snapshot = self.look(compare=not show)
            if show and snapshot:
                self.show(snapshot, "now", begin - self.started)
                due = begin - self.started + self.every
            pause = min(pause * 1.5, PAUSE)
            status = start.wait(self.child, max(pause, (time.monotonic() - begin) / SHARE))
            if status is not None:
                return status

    def finish(self):
        if self.peak:
            self.show(self.peak, f"the fullest of {counted(self.looks, 'look')}", self.peak_time)
        elif self.other:
            raise Failure(look.not_on_arenal(self.other))
        else:
            raise Failure("the command ended before it could be looked at")


def watch(tool, command, settings, stats, output, every=None, guess=False):
    """Returns the exit code of the command, negative when a signal ended it."""
    child = start.child(command, library.environment(library.find(tool), settings, stats))
    watcher = Watch(child, output, every, guess)
    status = watcher.until_end()
    try:
        watcher.finish()
    except Failure as failure:
        raise Failure(str(failure), status or failure.status) from failure
    return status
