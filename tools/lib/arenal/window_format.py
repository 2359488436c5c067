"""The contents of a window: what stands where in its file, and a snapshot of the statistics in it.

src/observe/window.h and include/arenal/arenal.h are the other side. The file may be anybody's: nothing in it
is believed."""

import struct
from collections import namedtuple

from arenal import text

MAGIC, VERSION = b"ARENALW\0", 1
HEADER = struct.Struct("<8sIIiI32sI4x")         # magic, version, size, pid, answer, library, trace
REQUEST = struct.Struct("<Iq48s")               # kind, value, name; behind the number
NUMBER_AT, REQUEST_AT = HEADER.size, HEADER.size + 4
# Number, error, value, milliseconds, resident, brk_start, brk_end, tables.
ANSWER = struct.Struct("<IiqQQQQ" + "IIII" * 5)
(HELLO, SNAPSHOT, GET, SET, PURGE, PROFILE_START, PROFILE_STOP, _PROFILE_DUMP_IN_MEMORY,
 PROFILE_DUMP) = range(9)
TRACE_START, TRACE_STOP, TRACE_STATE = range(32, 35)
# Bytes, milliseconds, left, state, is_on; the path follows.
TRACE, TRACE_PATH = struct.Struct("<QQQII"), 4096
RUNNING, ENDED, NO_SPACE, FULL, STOPPED = range(5)      # enum trace_state
RESIDENT = 1

# Histograms: struct arenal_times of include/arenal/arenal.h.
TIMES = ("lock_wait", "purge", "malloc_small", "free_small", "malloc_large", "free_large", "realloc_large")
Times = namedtuple("Times", "counts nanoseconds")
# The most nanoseconds that each of its counts is for. The last one is for all that took longer.
LIMITS = [128 << i for i in range(23)] + [None]

# struct arenal_stats, in its order: what is not in TIMES has 8 bytes. What a newer library appends is not
# read.
STATS = ("allocated", "cached", "active", "dirty", "mapped", "metadata", "brk_bytes", "huge_bytes",
         "huge_blocks", "regions", "arenas", "threads", "purged_total", "refills", "flushes", "guarded",
         "guarded_total", "resident", "failures_total", "purges_total", "purge_nanoseconds_total", "pressure",
         "lock_waits_total", "lock_wait_nanoseconds_total", "sampling", "cap", "cap_used", *TIMES)
FIRST_STATS = 17                # of the first libraries

Class = namedtuple("Class", "size span_bytes span_blocks spans blocks_out refills flushes blocks_cached")
Arena = namedtuple("Arena", "kind threads spans bytes refills flushes")
Region = namedtuple("Region", "base kind slices used dirty")
Tunable = namedtuple("Tunable", "name value min max live")
KINDS = ("regions", "brk", "guarded regions")
Trace = namedtuple("Trace", "bytes milliseconds left state is_on path")

_CLASS = struct.Struct("<III4xQQQQQ")
_ARENA = struct.Struct("<IIQQQQ")
_REGION = struct.Struct("<QIIII")
_TUNABLE = struct.Struct("<32sqqqI4x")
# Of stats, classes, arenas, regions, tunables: the least stride, and the most records.
_TABLES = ((8 * FIRST_STATS, 1), (_CLASS.size, 1024), (_ARENA.size, 4096), (_REGION.size, 16384),
           (_TUNABLE.size, 1024))
_STRIDE_MAX = 4096


class Snapshot:
    """One look. `stats` has a key for each name in STATS that the library knows, or `times`, if it is in TIMES.
    Raises ValueError when it makes no sense."""

    def __init__(self, answer, page):
        (_number, _error, _value, self.milliseconds, self.resident, self.brk_start, self.brk_end,
         *tables) = answer
        # Only what is there is copied: pages of the file that nobody touched are no memory.
        copies = []
        for (offset, stride, count, _), (least, most) in zip(zip(*[iter(tables)] * 4), _TABLES):
            if not least <= stride <= _STRIDE_MAX or stride % 8 or count > most or \
                    offset + stride * count > len(page):
                raise ValueError("a table has an impossible place or size")
            copies.append((page[offset:offset + stride * count], stride))
        (stats, stride), self._classes, self._arenas, self._regions, self._tunables = copies
        if not stats:
            raise ValueError("it has no statistics")
        words, at, self.stats, self.times = struct.unpack_from(f"<{stride // 8}Q", stats), 0, {}, {}
        for name in STATS:
            end = at + (len(LIMITS) + 1 if name in TIMES else 1)
            if end > len(words):
                break
            if name in TIMES:
                self.times[name] = Times(words[at:end - 1], words[end - 1])
            else:
                self.stats[name] = words[at]
            at = end
        sizes = [c.size for c in self.classes]
        if sizes != sorted(set(sizes)):
            raise ValueError("its size classes are in no order")

    @staticmethod
    def _records(table, kind, record):
        data, stride = table
        if stride == kind.size:
            return [record._make(found) for found in kind.iter_unpack(data)]
        return [record._make(kind.unpack_from(data, at)) for at in range(0, len(data), stride)]

    @property
    def classes(self):
        """Size classes in use, smallest first."""
        return self._records(self._classes, _CLASS, Class)

    @property
    def arenas(self):
        return self._records(self._arenas, _ARENA, Arena)

    @property
    def regions(self):
        return self._records(self._regions, _REGION, Region)

    @property
    def tunables(self):
        found = self._records(self._tunables, _TUNABLE, Tunable)
        return [t._replace(name=text.field(t.name), live=bool(t.live)) for t in found]
