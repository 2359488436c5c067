"""Snapshots for Prometheus: as OpenMetrics text, version 1.0, or as the older text format, version 0.0.4, which is all that node_exporter's
textfile collector reads: there a counter is called by the name of its samples, and there are no units. FIGURES.md lists the names, which
stay as they are."""

import itertools
import os
from collections import namedtuple

from arenal import figures, window_format

NANOSECONDS = ("purge_nanoseconds_total", "lock_wait_nanoseconds_total")     # Prometheus wants seconds

CONTENT_TYPE = "application/openmetrics-text; version=1.0.0; charset=utf-8"
OLD_CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

# Figure of the whole process: name of the metric, type, unit, help.
PROCESS = {
    "allocated": ("allocated_bytes", "gauge", "bytes", "In blocks that the program holds."),
    "cached": ("cached_bytes", "gauge", "bytes", "In thread caches, or waiting for other threads."),
    "active": ("active_bytes", "gauge", "bytes", "In spans, slice runs and huge mappings in use."),
    "dirty": ("dirty_bytes", "gauge", "bytes", "Free, but still backed by memory."),
    "resident": ("resident_bytes", "gauge", "bytes", "Memory for blocks that the kernel may back now."),
    "in_memory": ("in_memory_bytes", "gauge", "bytes", "Memory for blocks that the kernel backs now."),
    "fragmentation_ratio": ("fragmentation_ratio", "gauge", "", "Part of the resident bytes that is in no block of the program, 0 to 1."),
    "mapped": ("mapped_bytes", "gauge", "bytes", "Address space for blocks."),
    "metadata": ("metadata_bytes", "gauge", "bytes", "Address space for the allocator's own records."),
    "brk_bytes": ("brk_bytes", "gauge", "bytes", "Part of the mapped bytes that lies in the brk heap."),
    "huge_bytes": ("huge_bytes", "gauge", "bytes", "Part of the mapped bytes in direct mappings."),
    "huge_blocks": ("huge_blocks", "gauge", "", "Direct mappings."),
    "regions": ("regions", "gauge", "", "Regions of 64 MiB."),
    "arenas": ("arenas", "gauge", "", "Arenas, the main arena included."),
    "threads": ("threads", "gauge", "", "Threads that have a cache."),
    "guarded": ("guarded_blocks", "gauge", "", "Blocks between inaccessible pages."),
    "purged_total": ("purged_bytes", "counter", "bytes", "Given back to the kernel."),
    "refills": ("refills", "counter", "", "Batches that thread caches took from arenas, or from what waits for other threads."),
    "flushes": ("flushes", "counter", "", "Batches that thread caches gave back to arenas, or left for other threads."),
    "purges_total": ("purges", "counter", "", "Times that the kernel took memory back by madvise."),
    "purge_nanoseconds_total": ("purge_seconds", "counter", "seconds", "Time that this took, of all threads together."),
    "failures_total": ("failures", "counter", "", "Allocations that there was no memory for."),
    "pressure": ("pressure", "gauge", "", "1: near the memory limit, or the system is short of memory; 2: nearly there; 0: neither."),
    "lock_waits_total": ("lock_waits", "counter", "", "Times that a thread slept for a lock of the allocator's."),
    "lock_wait_nanoseconds_total": ("lock_wait_seconds", "counter", "seconds", "Time that these waits took, of all threads together."),
    "sampling": ("sampling_bytes", "gauge", "bytes", "The heap profile is on, and samples one byte in so many; 0: it is off."),
    "cap": ("cap_bytes", "gauge", "bytes", "Allocations fail beyond so many bytes; 0: there is no cap."),
    "cap_used": ("cap_used_bytes", "gauge", "bytes", "What counts for the cap."),
    "guarded_total": ("guarded", "counter", "", "Blocks that were put between inaccessible pages."),
}

# Metric of histograms: help, and figures by the labels that tell them apart.
TIMES = {
    "lock_wait_duration_seconds": ("Each time that a thread slept for a lock of the allocator's.", {"": "lock_wait"}),
    "purge_duration_seconds": ("Each call of madvise that asked the kernel to take memory back.", {"": "purge"}),
    "slow_call_duration_seconds": ("Calls that the thread's cache could not serve: one of 16 of each thread is timed, and only those count here.",
                                   {f',call="{name}"': name for name in window_format.TIMES[2:]}),
}
LIMITS = [repr(limit / 10 ** 9) for limit in window_format.LIMITS[1:-1:2]] + ["+Inf"]       # as labels, in seconds

ARENA = (
    ("arena_threads", "gauge", "", "Threads that use the arena.", lambda a: a.threads),
    ("arena_spans", "gauge", "", "Spans of small blocks.", lambda a: a.spans),
    ("arena_bytes", "gauge", "bytes", "In small blocks with the program and in thread caches.",
     lambda a: a.bytes),
    ("arena_refills", "counter", "", "Batches taken from the arena.", lambda a: a.refills),
    ("arena_flushes", "counter", "", "Batches given back to the arena.", lambda a: a.flushes),
)

CLASS = (
    ("class_spans", "gauge", "", "Spans of the size class.", lambda c: c.spans),
    ("class_spans_bytes", "gauge", "bytes", "Bytes of these spans.", lambda c: c.spans * c.span_bytes),
    ("class_blocks_out", "gauge", "", "Blocks with the program, in thread caches, or waiting for other threads.", lambda c: c.blocks_out),
    ("class_blocks_cached", "gauge", "", "Of these, blocks in thread caches, or waiting for other threads.", lambda c: c.blocks_cached),
    ("class_refills", "counter", "", "Batches taken from arenas, or from what waits for other threads.", lambda c: c.refills),
    ("class_flushes", "counter", "", "Batches given back to arenas, or left for other threads.", lambda c: c.flushes),
)

# What a process runs; its value is 1.
BUILD = ("build", "info", "", "The library of the process.")

# A process: its labels, without braces, and those of its library; what it holds.
Process = namedtuple("Process", "labels build snapshot")


def escaped(value):
    return str(value).replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


def labels(**pairs):
    """Without braces. What is not known, None, is no label."""
    return ",".join(f'{name}="{escaped(value)}"' for name, value in pairs.items() if value is not None)


def process(snapshot, own, library, build_id=None):
    """`own`: its labels."""
    build = labels(**own, version=library, build_id=build_id, page_size=os.sysconf("SC_PAGE_SIZE"))
    return Process(labels(**own), build, snapshot)


def head(title, kind, unit, text, old):
    """The lines before a metric's samples."""
    lines = [f"# HELP {title} {text}", f"# TYPE {title} {'gauge' if old and kind == 'info' else kind}"]
    return lines + [f"# UNIT {title} {unit}"] if unit and not old else lines


def family(name, kind, unit, text, samples, old):
    """The lines of one metric; samples are pairs of labels and value."""
    name = f"arenal_{name}"
    sample = f"{name}_total" if kind == "counter" else f"{name}_info" if kind == "info" else name
    lines = head(sample if old else name, kind, unit, text, old)
    return lines + [f"{sample}{{{pairs}}} {value}" if pairs else f"{sample} {value}" for pairs, value in samples]


def seconds(nanoseconds):
    return f"{nanoseconds // 10 ** 9}.{nanoseconds % 10 ** 9:09}"


def histograms(processes, old):
    """The lines of those that processes know, with every second bucket: the others are in these."""
    for name, (meaning, members) in TIMES.items():
        known = [(one.labels, one.snapshot.times) for one in processes if not one.snapshot.times.keys().isdisjoint(members.values())]
        title = f"arenal_{name}"
        if known:
            yield from head(title, "histogram", "seconds", meaning, old)
        ends = [(figure, more, [f'{more},le="{limit}"}}' for limit in LIMITS]) for more, figure in members.items()]
        for pairs, times in known:
            begin = f"{title}_bucket{{{pairs}"
            for figure, more, limits in ends:
                if figure not in times:
                    continue            # of an older library, or what its window says is cut
                seen = list(itertools.accumulate(times[figure].counts))[1::2]
                for limit, count in zip(limits, seen):
                    yield f"{begin}{limit} {count}"
                yield f"{title}_sum{{{pairs}{more}}} {seconds(times[figure].nanoseconds)}"
                yield f"{title}_count{{{pairs}{more}}} {seen[-1]}"


def families(processes, old, details=True):
    """The lines of all metrics of these Processes; with `details`, also of their arenas and size classes."""
    found = [(one.labels, figures.values(one.snapshot)) for one in processes]
    lines = family(*BUILD, [(one.build, 1) for one in processes], old)
    for field, (name, kind, unit, meaning) in PROCESS.items():
        samples = [(pairs, values[field]) for pairs, values in found if field in values]
        if field in NANOSECONDS:
            samples = [(pairs, seconds(value)) for pairs, value in samples]
        if samples:
            lines += family(name, kind, unit, meaning, samples, old)
    lines += histograms(processes, old)
    if not details:
        return lines
    arenas = [(f'{one.labels},{labels(arena=number, kind=figures.kind(a))}', a)
              for one in processes for number, a in enumerate(one.snapshot.arenas)]
    for name, kind, unit, meaning, value in ARENA:
        lines += family(name, kind, unit, meaning, [(pairs, value(a)) for pairs, a in arenas], old)
    classes = [(f'{one.labels},{labels(**{"class": c.size})}', c) for one in processes for c in one.snapshot.classes]
    for name, kind, unit, meaning, value in CLASS:
        lines += family(name, kind, unit, meaning, [(pairs, value(c)) for pairs, c in classes], old)
    return lines


def text(snapshot, pid, command, where=None, old=False, library=None):
    """Of one process. `where`: more labels. `old`: as version 0.0.4."""
    return finished(families([process(snapshot, {"pid": pid, "command": command, **(where or {})}, library)], old), old)


def finished(lines, old):
    return "\n".join(lines + ([] if old else ["# EOF"])) + "\n"
