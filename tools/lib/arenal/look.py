"""`arenal maps PID`: what a process's memory looks like now."""

import contextlib
import time

from arenal import files
from arenal import layout
from arenal import picture
from arenal import facts, proc
from arenal.errors import Failure, Gone, Torn

TRIES = 5               # readings of the library's records before they count as unreadable


def look(pid, guess=False, least=None):
    """A Snapshot of process `pid`. With `least`, the weight of another snapshot: None when this one weighs less, as
    soon as that is known."""
    why = "asked not to read the memory of the process"
    for attempt in range(0 if guess else TRIES):
        if attempt:
            time.sleep(0.002)
        with proc.Process(pid) as process:
            process.check_whole()
            address = layout.locate(process)
            if not address:
                why = "the library of this process is not readable, it may have been replaced since (root can read it)"
                break
            try:
                return _measured(process, layout.exact(process, address), "arenal", True, [], least)
            except PermissionError:
                why = f"the kernel does not permit reading the memory of this process ({facts.root_may()}; see ptrace(2))"
                break
            except Torn as torn:
                why = f"the records that Arenal keeps in the process are not readable: {torn}"
    with proc.Process(pid) as process:
        process.check_whole()
        if layout.has_library(process) or layout.locate(process):
            name, notes = "arenal", [f"guessed from the memory map alone: {why}"]
        else:
            name, notes = layout.allocator(process), []
        return _measured(process, layout.guessed(process, name == "arenal"), name, False, notes, least)


def _measured(process, ranges, allocator, exact, notes, least):
    if least and (exact, sum(r.mapped for r in ranges if r.kind != "foreign")) < least[:2]:
        return None
    rows = [(r, process.residency(r.start, r.end, picture.CELLS)) for r in ranges]
    estimated = process.residency_is_estimated
    if estimated:
        notes = notes + ["where pages are resident is partly an estimate: the kernel only told sums"]
    snapshot = picture.Snapshot(process.pid, process.name, allocator, exact, estimated, notes, rows)
    return None if least and weight(snapshot) < least else snapshot


def weight(snapshot):
    """Snapshots are compared by this to find the peak: real figures count more than guesses."""
    sums = picture.totals(snapshot)["all"]
    return snapshot.exact, sums["mapped"], sums["resident"]


class Output:
    """Where pictures go, and how they are written."""

    def __init__(self, path, json, default):
        self.json, self.path = json, path
        self.unicode = picture.utf8_locale()
        if path and not files.follows(path):
            raise Failure(f"{path} is another user's link")
        try:
            self.stream = open(path, "w", encoding="utf-8") if path else default
        except OSError as error:
            raise Failure(f"{path}: {error.strerror}") from error
        self.stream.reconfigure(encoding="utf-8", errors="backslashreplace")

    def show(self, snapshot, heading="", **extra):
        if self.json:
            text = picture.as_json(snapshot, **extra)
        else:
            text = picture.table(snapshot, self.unicode, heading)
        try:
            self.stream.write(text)
            self.stream.flush()
        except OSError as error:
            error.filename = error.filename or self.path
            raise

    def give_up(self):
        """Nothing is written any more: what is in its buffer, which could not be, is not complained about at the end."""
        if self.path:
            with contextlib.suppress(OSError):
                self.stream.close()


def not_on_arenal(snapshot):
    return f"process {snapshot.pid} ({snapshot.name}) is not on Arenal: it seems to be on {snapshot.allocator}"


def show_process(pid, output, every=None, guess=False):
    """`arenal maps PID`: once, or every so many seconds until the process ends."""
    shown = 0
    while True:
        try:
            snapshot = look(pid, guess)
        except Gone:
            if shown:
                return 0
            raise
        output.show(snapshot)
        shown += 1
        if snapshot.allocator != "arenal":
            raise Failure(not_on_arenal(snapshot))
        if not every:
            return 0
        time.sleep(every)
