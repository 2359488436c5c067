"""Several processes looked at together: all at once, none of which waits for another, and their figures added
up. What a target is says targets.py."""

import collections
import json
import threading
import time

from arenal import facts, figures, targets
from arenal.errors import Failure, Gone
from arenal.text import printable
from arenal.window import LIMIT, Silent, WALK, Window
from arenal.window_file import NotPermitted, NoWindow

SLACK = 0.1             # seconds for what is said about who said nothing
RAMP = 0.005            # seconds without an answer after which twice as many are asked at once,
WORKERS = 2048          # but not more than these
LARGEST = ("pressure", "sampling")      # figures of which a sum means nothing
NAMED = 5               # processes that a sentence names

# `done`: triples of process, its short name, and what came of it. `left`: the same with the Failure.
# `others`: how many are not on Arenal.
Looked = collections.namedtuple("Looked", "done left others")


def side_by_side(work, items, patience):
    """What work(item) returns, by item, without those that had no end when none had one for so many seconds.
    Each is in a thread of ours, which is left behind then."""
    waiting, results, news = collections.deque(items), {}, threading.Condition()

    def run():
        while True:
            try:
                item = waiting.popleft()
            except IndexError:
                return
            result = work(item)
            with news:
                results[item] = result
                news.notify()
    workers, since = 0, time.monotonic()
    with news:
        while len(results) < len(items):
            before = len(results)
            news.wait(RAMP if workers else 0)
            if len(results) > before:
                since = time.monotonic()
            elif waiting and workers < WORKERS:
                for _ in range(min(max(1, workers), len(waiting))):
                    threading.Thread(target=run, daemon=True).start()
                    workers += 1
                since = time.monotonic()
            elif time.monotonic() - since > patience:
                break
        return dict(results)


class Group:
    """The processes of a unit, a container or a name, looked at again and again: who comes later belongs to it
    as well. A context manager: it keeps windows open."""

    def __init__(self, word):
        self.word = word
        self._windows = {}          # (process, its start): its Window
        self.target = targets.find(word)
        self.label = targets.label(self.target)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def close(self):
        for window in self._windows.values():
            window.close()
        self._windows = {}

    def each(self, work, walks=False):
        """What work(window) returns for each process on Arenal; `walks`: it may take as long as a walk over
        the heap. Raises Failure where there is none."""
        self.target = targets.find(self.word)
        members = [(pid, facts.started(pid)) for pid in self.target.processes]
        for gone in set(self._windows) - set(members):
            self._windows.pop(gone).close()
        found = side_by_side(lambda member: self._one(member, work), members,
                             (WALK if walks else 0) + LIMIT + SLACK)
        looked = Looked([], [], 0)
        for member in members:
            pid, name = member[0], facts.command_name(member[0])
            if member not in found:
                self._windows.pop(member, None)         # its thread still has it
                found[member] = Silent(f"process {pid} does not answer")
            result = found[member]
            if isinstance(result, NoWindow) and not result.on_arenal:
                looked = looked._replace(others=looked.others + 1)
            else:
                (looked.left if isinstance(result, Failure) else looked.done).append((pid, name, result))
        if not looked.done:
            raise self._nobody(looked)
        return looked

    def _one(self, member, work):
        pid, started = member
        try:
            if started is None:
                raise Gone(pid)
            if member in self._windows and not self._windows[member].alive():
                self._windows.pop(member).close()       # of before an exec
            if member not in self._windows:
                self._windows[member] = Window(pid)
            return work(self._windows[member])
        except Failure as failure:
            return failure
        except Exception as error:          # pylint: disable=broad-except
            return Failure(f"process {pid}: {error!r}")

    def _nobody(self, looked):
        if not looked.left:
            return Failure(f"{self.label}: none of its processes is on Arenal ({targets.count_of(looked.others)})")
        failures = [failure for _, _, failure in looked.left]
        if all(isinstance(failure, Gone) for failure in failures):
            return Gone(looked.left[0][0], f"{self.label}: all of its processes have ended")
        first, pid = str(failures[0]), looked.left[0][0]
        return Failure(f"{self.label}: {'' if f'process {pid}' in first else f'process {pid}: '}{first}" +
                       (f"; and {targets.count_of(len(failures) - 1)} more" if failures[1:] else ""))


def reason(failure):
    """Why a process was left out, in a few words."""
    for kind, words in ((Gone, "ended meanwhile"), (NoWindow, "no window"), (NotPermitted, "not permitted"),
                        (Silent, "no answer")):
        if isinstance(failure, kind):
            return words
    return str(failure)


def left_out(looked):
    """The sentence about them, or ""."""
    if not looked.left:
        return ""
    words = [f"process {pid} ({name}): {reason(failure)}" if name else f"process {pid}: {reason(failure)}"
             for pid, name, failure in looked.left[:NAMED]]
    more = f"; and {targets.count_of(len(looked.left) - NAMED)} more" if len(looked.left) > NAMED else ""
    return f"left out: {'; '.join(words)}{more}"


class Sum:
    """Snapshots of several processes as one: what can be added up. Each process counts what it shares with the
    others after a fork, too."""

    def __init__(self, snapshots, milliseconds=0):
        snapshots = list(snapshots)
        self.milliseconds = milliseconds
        self.brk_start = self.brk_end = None
        asked = [s.resident for s in snapshots if s.resident is not None]
        self.resident = sum(asked) if asked else None
        self.stats = {}
        for snapshot in snapshots:
            known = {**snapshot.stats, "resident": figures.values(snapshot)["resident"]}
            for name, value in known.items():
                before = self.stats.get(name, 0)
                self.stats[name] = max(before, value) if name in LARGEST else before + value
        self.times = {}
        for name, times in (pair for snapshot in snapshots for pair in snapshot.times.items()):
            old = self.times.get(name)
            self.times[name] = times if old is None else times._replace(
                counts=tuple(map(sum, zip(times.counts, old.counts))), nanoseconds=times.nanoseconds + old.nanoseconds)
        by_size = {}
        for c in (c for snapshot in snapshots for c in snapshot.classes):
            old = by_size.get(c.size)
            by_size[c.size] = c if old is None else c._replace(
                spans=c.spans + old.spans, blocks_out=c.blocks_out + old.blocks_out,
                refills=c.refills + old.refills, flushes=c.flushes + old.flushes,
                blocks_cached=c.blocks_cached + old.blocks_cached)
        self.classes = [by_size[size] for size in sorted(by_size)]
        self.arenas = self.regions = self.tunables = []


def table(looked):
    """The processes that were added up."""
    lines = [f"{'process':>10} {'allocated':>12} {'resident':>12} {'mapped':>12}  command"]
    for pid, name, snapshot in looked.done:
        found = figures.values(snapshot)
        sizes = " ".join(f"{figures.human(found[key]):>12}" for key in ("allocated", "resident", "mapped"))
        lines.append(f"{pid:>10} {sizes}  {name}")
    return "\n".join(lines) + "\n"


def as_json(target, looked, all_of_them):
    return json.dumps({
        "schema": figures.SCHEMA,
        "target": {"kind": target.kind, "name": printable(target.name)},
        "time": time.time(),
        "processes": [{"pid": pid, "command": name, "stats": figures.values(snapshot)}
                      for pid, name, snapshot in looked.done],
        "left_out": [{"pid": pid, "command": name, "reason": reason(failure)} for pid, name, failure in looked.left],
        "stats": figures.values(all_of_them),
        "times": figures.times_as_json(all_of_them.times),
        "classes": [c._asdict() for c in all_of_them.classes],
    }) + "\n"


def metrics(texts):
    """Several processes' metrics as one text: each family's samples stand together, as the formats want it."""
    families, ends = {}, False
    for text in texts:
        heads = ()
        for line in text.split("\n")[:-1]:
            if line == "# EOF":
                ends = True
            elif line.startswith("# HELP "):
                heads, samples = families.setdefault(line, ([], []))
            elif line.startswith("#"):
                if line not in heads:
                    heads.append(line)
            else:
                samples.append(line)
    lines = [line for title, parts in families.items() for line in (title, *parts[0], *parts[1])]
    return "\n".join(lines + ["# EOF"] * ends) + "\n"
