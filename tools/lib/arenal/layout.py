"""Which memory of a process is Arenal's: exactly, from the records that the library keeps in the process, or guessed
from the memory map alone."""

import os
import re
import struct
from collections import namedtuple

from arenal import elf
from arenal.errors import Torn
from arenal.proc import PAGE

# struct arenal_layout: magic, version, slice_shift, region_shift, huge_capacity, heap_start, heap_end, regions,
# huge_table, kept_table, kept_capacity; of hardened mode's large blocks hard_table, hard_kept_table, hard_capacity, hard_kept_capacity,
# hard_stride, hard_kept_stride. Exported by the library for this tool; struct region below is the start of the
# library's own.
LAYOUT = struct.Struct("<8sIIIIQQQQQQQQIIII")
REGION = struct.Struct("<QQIIII")           # next, base, kind, slices_total, slices_used, slices_dirty
HUGE = struct.Struct("<QQ")                 # address, size: what entries of all tables of blocks start with
MAGIC, VERSION = b"ARENAL\0\0", 3
REGION_FROM_MMAP, WINDOW_OVER_HEAP = 0, 1
HUGE_FREE, HUGE_DELETED = 0, 1

# The records are read while the process goes on changing them, and it may be damaged: nothing read is believed without
# these limits: 8 TiB of regions, and more huge blocks than the kernel allows mappings, by default.
REGIONS_LIMIT = 1 << 17
HUGE_LIMIT = 1 << 20
STRIDE_LIMIT = 64

LIBRARIES_LIMIT = 4     # files that are called so and looked into
REGION_SIZE = 64 << 20
BIG = 1 << 20           # smaller anonymous mappings are not worth a line when guessing

# A range of addresses and what it holds. `used` and `dirty` are bytes, or None where only the library could tell.
Range = namedtuple("Range", "kind start end mapped used dirty")

ALLOCATORS = (
    (r"libjemalloc", "jemalloc"), (r"libtcmalloc", "tcmalloc"), (r"libmimalloc", "mimalloc"),
    (r"libsnmalloc", "snmalloc"), (r"librpmalloc", "rpmalloc"), (r"libhardened_malloc", "hardened_malloc"),
    (r"libscudo", "scudo"), (r"lib[at]san", "a sanitizer's malloc"), (r"ld-musl", "musl's malloc"),
    (r"libc\.so\.6|libc-2", "glibc's malloc"),
)
LOADING = "no malloc yet, for its libraries are still being loaded"     # the loader is there, and libc is not


def locate(process, symbol="arenal_layout"):
    """The address of arenal_layout (or another symbol of the library's) in the process, or None when it is not on Arenal: in the mapped libarenal.so, else
    in the program itself, which may be linked with libarenal.a."""
    seen = set()
    libraries = [m for m in process.mappings if os.path.basename(m.path).startswith("libarenal")]
    for first in libraries:
        if first.offset == 0 and first.path not in seen and len(seen) < LIBRARIES_LIMIT:
            seen.add(first.path)
            for name in process.file_of(first):
                address = _symbol_address(name, first.start, symbol)
                if address:
                    return address
    program = process.executable()
    for first in process.mappings:
        if first.offset == 0 and first.path == program:
            return _symbol_address(f"{process.root}/exe", first.start, symbol)
    return None


def symbol_in(process, first, symbol):
    """Whether the file of a mapping defines the symbol."""
    for name in process.file_of(first):
        try:
            return elf.symbol(name, symbol) is not None
        except OSError:
            continue
        except elf.NotElf:
            return False
    return False


def _symbol_address(path, start, symbol):
    """Where the symbol lies in memory, when the first byte of its file lies at `start`."""
    try:
        found = elf.symbol(path, symbol)
    except (elf.NotElf, OSError):
        return None
    return found and start - found[1] + found[0]


def has_library(process):
    return any(os.path.basename(m.path).startswith("libarenal") for m in process.mappings)


def exact(process, address):
    """The ranges that the library's own records list. Raises Torn when they make no sense (now), PermissionError when
    they cannot be read."""
    magic, version, slice_shift, region_shift, capacity, heap_start, heap_end, first, table, kept, kept_capacity, \
        hard, hard_kept, hard_capacity, hard_kept_capacity, hard_stride, hard_kept_stride = LAYOUT.unpack(process.read(address, LAYOUT.size))
    if magic != MAGIC:
        raise Torn("not initialised yet")
    if version != VERSION:
        raise Torn(f"they have version {version}, and this tool knows version {VERSION}")
    if not 12 <= slice_shift <= region_shift <= 40 or heap_start > heap_end:
        raise Torn("sizes out of range")
    ranges = _regions(process, first, slice_shift, region_shift, heap_start, heap_end)
    ranges += _rest_of_heap(process, ranges, heap_start, heap_end)
    ranges += _mappings(process, table, capacity, HUGE.size, False)
    ranges += _mappings(process, kept, kept_capacity, HUGE.size, True)
    ranges += _mappings(process, hard, hard_capacity, hard_stride, False)
    ranges += _mappings(process, hard_kept, hard_kept_capacity, hard_kept_stride, True)
    return _without_overlaps(sorted(ranges, key=lambda r: r.start))


def _without_overlaps(ranges):
    """A mapping may change tables, or be cut, between the reading of one table and of the next: it is shown once."""
    shown = []
    for r in ranges:
        if r.kind != "huge" or not shown or r.start >= shown[-1].end:
            shown.append(r)
    return shown


def _regions(process, address, slice_shift, region_shift, heap_start, heap_end):
    ranges, seen, bases = [], set(), set()
    while address:
        if address in seen or len(seen) >= REGIONS_LIMIT:
            raise Torn("the list of regions runs in a circle")
        seen.add(address)
        address, base, kind, total, used, dirty = REGION.unpack(process.read(address, REGION.size))
        end = base + (1 << region_shift)
        if base in bases:
            raise Torn("two regions in one place")
        bases.add(base)
        if base & ((1 << region_shift) - 1) or max(total, used + dirty) > 1 << (region_shift - slice_shift):
            raise Torn("a region with impossible figures")
        if kind == WINDOW_OVER_HEAP:
            name, start, end = "heap", max(base, heap_start), min(end, heap_end)
        else:
            name, start = "region", base
        mapped = process.mapped(start, end) if start < end else 0
        if mapped and (total or name == "heap"):    # a region's record outlives its memory
            ranges.append(Range(name, start, end, mapped, used << slice_shift, dirty << slice_shift))
    return ranges


def _rest_of_heap(process, ranges, heap_start, heap_end):
    """Parts of the brk heap that no window describes: heap that was taken this moment, and, outside heap_start and
    heap_end, what other users of sbrk hold."""
    gaps = []
    for piece in (m for m in process.mappings if m.path == "[heap]"):
        at = piece.start
        for known in sorted(r for r in ranges if r.kind == "heap"):
            if known.start < piece.end and known.end > at:
                gaps.append((at, known.start))
                at = known.end
        gaps.append((at, piece.end))
    rest = []
    for start, end in gaps:
        if start >= end:
            continue            # no gap, or the break moved between the reading of the map and that of the records
        cuts = sorted({start, end} | {cut for cut in (heap_start, heap_end) if start < cut < end})
        for low, high in zip(cuts, cuts[1:]):
            ours = heap_start <= low and high <= heap_end
            rest.append(Range("heap" if ours else "foreign", low, high, high - low, 0 if ours else None,
                              0 if ours else None))
    return rest


def _mappings(process, table, capacity, stride, kept):
    """Huge blocks, or freed mappings that the library keeps for the next one: those are dirty, and none of it is used."""
    if capacity == 0:
        return []
    if capacity > HUGE_LIMIT or not HUGE.size <= stride <= STRIDE_LIMIT:
        raise Torn("a table of huge blocks with an impossible size")
    ranges, table = [], process.read(table, capacity * stride)
    for at in range(0, capacity * stride, stride):
        address, size = HUGE.unpack_from(table, at)
        size = -(-size // PAGE) * PAGE      # of hardened blocks, what was asked for
        if address in (HUGE_FREE, HUGE_DELETED) or size == 0:
            continue
        # An entry may be half written. What is not mapped is not shown; a real block always is.
        mapped = process.mapped(address, address + size)
        if mapped:
            ours = min(size, mapped)
            ranges.append(Range("huge", address, address + size, mapped, 0 if kept else ours, ours if kept else 0))
    return ranges


# Guessing

def _anonymous(process):
    """Neighbouring anonymous mappings as (start, end), whatever their protection: allocators protect single pages."""
    runs = []
    for m in process.mappings:
        if m.inode == 0 and (m.path == "" or m.path.startswith("[anon")):
            if runs and runs[-1][1] == m.start:
                runs[-1][1] = m.end
            else:
                runs.append([m.start, m.end])
    return runs


def guessed(process, arenal):
    """What the memory map alone shows: [heap], and the big anonymous mappings. When the process is known to be on
    Arenal, every whole, aligned 64 MiB of them is taken for a region, since the kernel joins neighbouring mappings."""
    ranges = [Range("heap", m.start, m.end, m.end - m.start, None, None)
              for m in process.mappings if m.path == "[heap]"]
    for start, end in _anonymous(process):
        if not arenal:
            pieces = [("anon", start, end)]
        else:
            low, high = -(-start // REGION_SIZE) * REGION_SIZE, end // REGION_SIZE * REGION_SIZE
            if low >= high:
                pieces = [("huge", start, end)]
            else:
                pieces = [("huge", start, low), ("huge", high, end)]
                pieces += [("region", base, base + REGION_SIZE) for base in range(low, high, REGION_SIZE)]
        ranges += [Range(kind, a, b, process.mapped(a, b), None, None) for kind, a, b in pieces if b - a >= BIG]
    return sorted(ranges, key=lambda r: r.start)


def allocator(process):
    """A name for the allocator of a process that is not on Arenal."""
    names = {os.path.basename(m.path) for m in process.mappings if m.path.startswith("/")}
    for pattern, name in ALLOCATORS:
        if any(re.match(pattern, n) for n in names):
            return name
    if any(n.startswith(("ld-linux", "ld-2")) for n in names):
        return LOADING
    return "a malloc of its own, linked statically"
