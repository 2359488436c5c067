"""A snapshot of a process as text for people and as JSON."""

import json

from arenal import window_format

# What is written as JSON says this number first. It changes when a name goes, or means something else; new names leave it as it is.
# FIGURES.md lists them.
SCHEMA = 1

# Of how many calls one is timed, of each figure in window_format.TIMES.
ONE_OF = {name: 1 if name in ("lock_wait", "purge") else 16 for name in window_format.TIMES}

# What ARENAL_STATS=1 prints, with the same words.
MEMORY = (
    ("allocated", "in blocks that the program holds"),
    ("cached", "free, in caches"),
    ("active", "in spans, runs and huge blocks, without their holes"),
    ("dirty", "free, kept for reuse"),
    ("resident", "backed by memory, as far as Arenal knows: at most"),
    ("in_memory", "backed by memory, says the kernel"),
    ("mapped", "address space for blocks"),
    ("metadata", "address space for Arenal's own records"),
    ("purged_total", "given back to the kernel since the start"),
)


def human(count):
    """12.3 MiB, rounded down as the library does."""
    units = ["B", "KiB", "MiB", "GiB", "TiB"]
    tenths = count * 10
    while tenths >= 10240 and len(units) > 1:
        tenths //= 1024
        units.pop(0)
    return f"{count} B" if units[0] == "B" else f"{tenths // 10}.{tenths % 10} {units[0]}"


def values(snapshot):
    """All figures of the whole process, by name."""
    stats = snapshot.stats
    # Libraries before this figure: what they know to be in memory.
    found = {"resident": stats["active"] + stats["dirty"], **stats}
    found["fragmentation_ratio"] = round(max(0, 1 - found["allocated"] / found["resident"]), 4) if found["resident"] else 0
    return found if snapshot.resident is None else {**found, "in_memory": snapshot.resident}


def _bytes(label, count, meaning):
    return f"  {label:<10} {human(count):>12} {count:>16}  {meaning}"


def table(snapshot, heading):
    figures = values(snapshot)
    lines = [heading]
    for name, meaning in MEMORY:
        if name not in figures:
            continue            # in memory: where nobody asked for it
        lines.append(_bytes(name.replace("_total", "").replace("_", " "), figures[name], meaning))
    lines += [
        _bytes("brk heap", figures["brk_bytes"], "in all of them" if snapshot.brk_end is None else
               f"at {snapshot.brk_start:#x}, break at {snapshot.brk_end:#x}"),
        _bytes("huge", figures["huge_bytes"], f"in {figures['huge_blocks']} direct mappings"),
        f"  regions    {figures['regions']:>12} {'':>16}  of 64 MiB",
        f"  threads    {figures['threads']:>12} {'':>16}  with a cache",
        f"  guarded    {figures['guarded']:>12} {'':>16}  blocks between inaccessible pages, {figures['guarded_total']} "
        "since the start",
    ]
    if snapshot.arenas:
        lines.append("arena      prefers  threads    spans   blocks out")
    for number, arena in enumerate(snapshot.arenas):
        lines.append(f"{number:>5} {kind(arena).split()[0]:>12} {arena.threads:>8} {arena.spans:>8} "
                     f"{human(arena.bytes):>12}")
    lines.append(" size      spans   blocks out        bytes    fill      refills      flushes")
    for c in snapshot.classes:
        room = c.spans * c.span_blocks
        lines.append(f"{c.size:>5} {c.spans:>10} {c.blocks_out:>12} {human(c.blocks_out * c.size):>12} "
                     f"{c.blocks_out * 100 // room if room else 0:>6}% {c.refills:>12} {c.flushes:>12}")
    return "\n".join(lines + _times(snapshot.times)) + "\n"


def human_time(nanoseconds):
    """8.1 us, rounded down as the library does."""
    units, tenths = ["ns", "us", "ms", "s"], nanoseconds * 10
    while tenths >= 10000 and len(units) > 1:
        tenths //= 1000
        units.pop(0)
    return f"{nanoseconds} ns" if units[0] == "ns" else f"{tenths // 10}.{tenths % 10} {units[0]}"


def at_most(times, percent):
    """The nanoseconds that so many percent of the times did not exceed, up to a factor of two; None: more than the last limit."""
    count, seen = sum(times.counts), 0
    for limit, found in zip(window_format.LIMITS, times.counts):
        seen += found
        if seen * 100 >= count * percent:
            return limit
    return None


def _times(all_of_them):
    """The lines of a table, or none."""
    def limit(times, percent):
        found = at_most(times, percent)
        return "more" if found is None else human_time(found)
    lines = [f"{name:<13} {ONE_OF[name]:>7} {sum(t.counts):>12} {limit(t, 50):>15} {limit(t, 99):>15} {limit(t, 100):>15} {human_time(t.nanoseconds):>14}"
             for name, t in all_of_them.items() if sum(t.counts)]
    return [f"{'times of':<13} {'one of':>7} {'timed':>12} {'half, up to':>15} {'99%, up to':>15} {'all, up to':>15} {'total':>14}"] + lines if lines else []


def times_as_json(all_of_them):
    return {name: {"one_of": ONE_OF[name], "count": sum(times.counts), "nanoseconds_total": times.nanoseconds,
                   "buckets": [{"at_most": limit, "count": count} for limit, count in zip(window_format.LIMITS, times.counts)]}
            for name, times in all_of_them.items()}


def as_json(snapshot, **more):
    return json.dumps({
        "schema": SCHEMA,
        **more,
        "stats": values(snapshot),
        "brk_start": snapshot.brk_start,
        "brk_end": snapshot.brk_end,
        "times": times_as_json(snapshot.times),
        "classes": [c._asdict() for c in snapshot.classes],
        "arenas": [{**arena._asdict(), "kind": kind(arena)} for arena in snapshot.arenas],
        "regions": [{**region._asdict(), "kind": kind(region)} for region in snapshot.regions],
        "tunables": {tunable.name: tunable.value for tunable in snapshot.tunables},
    }) + "\n"


def kind(record):
    return window_format.KINDS[record.kind] if record.kind < len(window_format.KINDS) else str(record.kind)
