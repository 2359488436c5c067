"""What `arenal top` shows: samples of one process, and the lines of a screen made of them. Nothing here knows a terminal."""

import threading
import time
from collections import deque, namedtuple

from arenal import figures, targets, together
from arenal.errors import Failure, Gone
from arenal.picture import percent, size
from arenal.facts import command_name, folder
from arenal.proc import PAGE
from arenal.text import counted
from arenal.window import Window

PATIENCE = 0.3                  # seconds that an answer may take
HISTORY = 600                   # samples that the graph remembers
GRAPH_ROWS = 3
WIDE = 130                      # columns from which on the tables stand side by side
LEFT = 78                       # columns of the table on the left then
BLOCKS, ASCII = " ▁▂▃▄▅▆▇█", " .:#"

Line = namedtuple("Line", "text style", defaults=("",))         # style: "", "bold", "reverse"
Column = namedtuple("Column", "title width value show")

CLASSES = (
    Column("SIZE", 6, lambda r: r["size"], str),
    Column("SPANS", 7, lambda r: r["spans"], str),
    Column("BLOCKS", 10, lambda r: r["blocks"], str),
    Column("CACHED", 9, lambda r: r["cached"], str),
    Column("BYTES", 8, lambda r: r["bytes"], size),
    Column("WASTE", 8, lambda r: r["waste"], size),
    Column("FILL", 6, lambda r: r["fill"], lambda v: f"{100 * v:.0f}%"),
    Column("REFILLS/S", 10, lambda r: r["refills"], lambda v: f"{v:,.0f}"),
    Column("FLUSHES/S", 10, lambda r: r["flushes"], lambda v: f"{v:,.0f}"),
)
BY_BYTES = 4

KEYS = "q quit  h help  p pause  Tab table  < > r sort  n N process  l list  P purge"
HELP = """\
allocated  in blocks that the program holds    cached    free, in caches
active     spans, runs, huge blocks: no holes  dirty     free, kept for reuse
resident   backed by memory: at most           returned  mapped, without memory
mapped     address space for blocks            RSS       all of the process
The graph is allocated / resident: the higher, the less memory is free.
FILL       blocks of a size with the program and in caches, of all in its spans
WASTE      bytes of the others

q         quit                           < >   column to sort sizes by
p, space  pause, and go on               r     the other way round
Tab       size classes, others           n, N  next, previous process
l         list of processes              P     give free memory back now: purge
h, ?      this help; any key ends it"""


class Sampler:
    """Looks at one process again and again. `last` stays when it does not answer; `problem` says why then."""

    def __init__(self, pid):
        self.window = Window(pid, PATIENCE)
        self.title, self.subject = f"{command_name(pid)} (process {pid})", f"process {pid}"
        self._begin(pid)

    @property
    def tables(self):
        """Functions that make the lines of one each."""
        return _class_lines, _arena_lines, _region_lines

    def _begin(self, pid):
        self.pid = pid
        self.lock = threading.Lock()        # of the window: one thread asks at a time
        self.last = self.before = None      # pairs of a Snapshot and its time
        self.problem = None
        self.ended = False
        self.rss = None
        self.history = deque(maxlen=HISTORY)

    def close(self):
        with self.lock:
            self.window.close()

    def measure(self):
        """One look, by any thread. What `take` is given."""
        with self.lock:
            return self.window.snapshot(), _rss(self.pid), time.monotonic()

    def purge(self):
        with self.lock:
            return self.window.purge()

    def take(self, found):
        """One sample; or why there is none, a Failure."""
        if isinstance(found, Gone):
            self.problem, self.ended = f"process {self.pid} has ended", True
        elif isinstance(found, Failure):
            self.problem = str(found)
        else:
            snapshot, self.rss, when = found
            self.problem = None
            self.before, self.last = self.last, (snapshot, when)
            self.history.append(snapshot.stats["allocated"] / max(1, figures.values(snapshot)["resident"]))

    def look(self):
        if not self.ended:
            try:
                self.take(self.measure())
            except Failure as failure:
                self.take(failure)

    def age(self):
        return time.monotonic() - self.last[1] if self.last else 0.0

    def rate(self, now, before):
        """How many each second, of a figure that only grows."""
        if self.before is None:
            return 0.0
        seconds = (self.last[0].milliseconds - self.before[0].milliseconds) / 1000
        return max(0, now - before) / seconds if seconds > 0 else 0.0

    def rates(self, records):
        """Refills and flushes each second of arenas or size classes, by their key."""
        earlier = {k: r for k, r in records(self.before[0])} if self.before else {}
        return {k: (self.rate(r.refills, earlier[k].refills), self.rate(r.flushes, earlier[k].flushes)) if k in earlier
                else (0.0, 0.0) for k, r in records(self.last[0])}


class Several(Sampler):
    """The same of all processes of a unit, a container or a name: their sum."""

    def __init__(self, word):       # pylint: disable=super-init-not-called
        self.group = together.Group(word)
        self.group.each(lambda window: None)        # says so at once where nobody can be looked into
        self.title = self.subject = self.group.label
        self.rows = []              # process, name, snapshot, resident set
        self._begin(0)

    @property
    def tables(self):
        return _class_lines, _process_lines

    def close(self):
        with self.lock:
            self.group.close()

    def measure(self):
        with self.lock:
            try:
                return self.group.each(lambda window: (window.snapshot(), _rss(window.pid))), None, time.monotonic()
            except targets.Nothing as nothing:
                raise Gone(0, str(nothing)) from nothing

    def purge(self):
        with self.lock:
            return sum(given for _, _, given in self.group.each(lambda window: window.purge(), True).done)

    def take(self, found):
        if isinstance(found, Failure):
            self.problem, self.ended = str(found), isinstance(found, Gone)
            return
        looked, _, when = found
        earlier = {(pid, name): snapshot for pid, name, snapshot, _ in self.rows}
        self.rows = [(pid, name, *result) for pid, name, result in looked.done]
        self.title = f"{self.group.label} ({targets.count_of(len(self.rows))})"
        self.problem = together.left_out(looked)
        # Who is new has done nothing so far, and who has left is not counted any more.
        before = together.Sum((earlier.get((pid, name), snapshot) for pid, name, snapshot, _ in self.rows),
                              int(1000 * (self.last[1] if self.last else when)))
        self.before = (before, self.last[1]) if self.last else None
        self.last = together.Sum((snapshot for _, _, snapshot, _ in self.rows), int(1000 * when)), when
        self.rss = sum(rss or 0 for _, _, _, rss in self.rows)
        self.history.append(self.last[0].stats["allocated"] / max(1, self.last[0].stats["resident"]))


def sampler(word):
    """Of a process, or of several. Raises Failure."""
    return Sampler(word) if isinstance(word, int) else Several(word)


def _rss(pid):
    try:
        with open(f"{folder(pid)}/statm", "rb") as file:
            return int(file.read().split()[1]) * PAGE
    except (OSError, IndexError):
        return None


class View:
    """What the reader chose to see."""

    def __init__(self, unicode):
        self.unicode = unicode
        self.sort, self.reverse = BY_BYTES, False
        self.table = 0
        self.paused = False

    def move_sort(self, by):
        self.sort = (self.sort + by) % len(CLASSES)


def frame(sampler, view, width, height=None):
    """The lines of a screen. Without a height, as many as there are."""
    lines = [_title(sampler, view)]
    if sampler.last is None:
        return lines + [Line("no figures yet")]
    lines += [Line(text) for text in _figures(sampler, width)]
    lines += _graph(sampler, view, width)
    room = None if height is None else max(0, height - len(lines) - 1)
    lines += _tables(sampler, view, width, room)
    return lines if height is None else lines[:max(0, height)]


def _title(sampler, view):
    text = f"arenal top: {sampler.title}, {time.strftime('%H:%M:%S')}"
    if sampler.problem:
        text += f"  {sampler.problem}"
        if sampler.last and sampler.age() >= 1:
            text += f"; figures are {sampler.age():.0f} s old"
    elif view.paused:
        text += "  paused"
    return Line(text, "reverse")


def _figures(sampler, width):
    snapshot = sampler.last[0]
    now = figures.values(snapshot)
    before = sampler.before[0].stats if sampler.before else now
    returned = max(0, now["mapped"] - now["resident"])
    purged = sampler.rate(now["purged_total"], before["purged_total"])
    items = [
        ("allocated", size(now["allocated"])), ("active", size(now["active"])), ("resident", size(now["resident"])),
        ("mapped", size(now["mapped"])), ("RSS", size(sampler.rss)),
        ("cached", size(now["cached"])), ("dirty", size(now["dirty"])), ("returned", size(returned)),
        ("metadata", size(now["metadata"])), ("purged/s", size(purged)),
        ("refills/s", f"{sampler.rate(now['refills'], before['refills']):,.0f}"),
        ("flushes/s", f"{sampler.rate(now['flushes'], before['flushes']):,.0f}"),
        ("threads", now["threads"]), ("arenas", now["arenas"]), ("guarded", now["guarded"]),
    ]
    columns = min(8, max(1, width // 20))
    for at in range(0, len(items), columns):
        yield "".join(f"{name} {value:>{16 - len(name)}}   " for name, value in items[at:at + columns])
    heap = f"{size(now['brk_bytes'])} in brk heaps" if snapshot.brk_end is None else \
        f"break at {snapshot.brk_end:#x}, {size(now['brk_bytes'])} below it"
    yield (f"{heap}; {counted(now['regions'], 'region')}; "
           f"{counted(now['huge_blocks'], 'huge block')}, {size(now['huge_bytes'])}")


def _graph(sampler, view, width):
    shown = list(sampler.history)[-max(1, width - 5):]
    steps = BLOCKS if view.unicode else ASCII
    full = len(steps) - 1
    yield Line(f"allocated / resident: {100 * sampler.history[-1]:.0f}%", "bold")
    for row in range(GRAPH_ROWS - 1, -1, -1):
        label = {GRAPH_ROWS - 1: "100%", 0: "  0%"}.get(row, "    ")
        cells = (min(full, max(0, round(value * GRAPH_ROWS * full) - row * full)) for value in shown)
        yield Line(f"{label} " + "".join(steps[cell] for cell in cells))


def _tables(sampler, view, width, room):
    makers = sampler.tables
    if width < WIDE and room is not None:
        return makers[view.table % len(makers)](sampler, view)[:room]
    if width < WIDE:
        return [line for maker in makers for line in maker(sampler, view)]
    left = makers[0](sampler, view)
    right = [line for maker in makers[1:] for line in maker(sampler, view)]
    count = max(len(left), len(right))
    count = count if room is None else min(count, room)
    empty = Line("")
    both = []
    for i in range(count):
        a = left[i] if i < len(left) else empty
        b = right[i] if i < len(right) else empty
        both.append(Line(f"{a.text:<{LEFT}}{b.text}".rstrip(), a.style))
    return both


def class_rows(sampler):
    rates = sampler.rates(lambda s: [(c.size, c) for c in s.classes])
    rows = []
    for c in sampler.last[0].classes:
        blocks = c.spans * c.span_blocks
        refills, flushes = rates[c.size]
        rows.append({"size": c.size, "spans": c.spans, "blocks": c.blocks_out - min(c.blocks_out, c.blocks_cached),
                     "cached": c.blocks_cached, "bytes": c.blocks_out * c.size,
                     "waste": max(0, c.spans * c.span_bytes - c.blocks_out * c.size),
                     "fill": c.blocks_out / blocks if blocks else 0, "refills": refills, "flushes": flushes})
    return rows


def _class_lines(sampler, view):
    chosen = CLASSES[view.sort]
    head = "".join(f"{'*' + c.title if c is chosen else c.title:>{c.width}}" for c in CLASSES)
    rows = sorted(class_rows(sampler), key=chosen.value, reverse=not view.reverse)
    return [Line(head, "bold")] + [Line("".join(f"{c.show(c.value(row)):>{c.width}}" for c in CLASSES)) for row in rows]


def _arena_lines(sampler, _view):
    rates = sampler.rates(lambda s: list(enumerate(s.arenas)))
    lines = [Line(f"{'ARENA':>5} {'PREFERS':<8}{'THREADS':>8}{'SPANS':>8}{'BYTES':>8}{'REFILLS/S':>11}{'FLUSHES/S':>11}", "bold")]
    for number, arena in enumerate(sampler.last[0].arenas):
        refills, flushes = rates[number]
        lines.append(Line(f"{number:>5} {figures.kind(arena)[:8]:<8}{arena.threads:>8}{arena.spans:>8}{size(arena.bytes):>8}"
                          f"{refills:>11,.0f}{flushes:>11,.0f}"))
    return lines


def _region_lines(sampler, _view):
    lines = [Line(f"{'REGION':>14} {'KIND':<8}{'MAPPED':>8}{'USED':>8}{'':>5}{'DIRTY':>8}", "bold")]
    for r in sorted(sampler.last[0].regions):
        mapped, used = r.slices << 16, r.used << 16
        if mapped:
            lines.append(Line(f"{r.base:>14x} {figures.kind(r)[:8]:<8}{size(mapped):>8}{size(used):>8}"
                              f"{percent(used, mapped):>5}{size(r.dirty << 16):>8}"))
    return lines


def _process_lines(sampler, _view):
    lines = [Line(f"{'PROCESS':>9} {'ALLOCATED':>9}{'RESIDENT':>9}{'MAPPED':>8}{'RSS':>8}  COMMAND", "bold")]
    for pid, name, snapshot, rss in sorted(sampler.rows, key=lambda row: -row[2].stats["allocated"]):
        found = figures.values(snapshot)
        lines.append(Line(f"{pid:>9} {size(found['allocated']):>9}{size(found['resident']):>9}{size(found['mapped']):>8}{size(rss):>8}  {name}"))
    return lines
