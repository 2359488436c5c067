"""Snapshots for Prometheus: as OpenMetrics text, version 1.0, or as the older text format, version 0.0.4, which is all that node_exporter's
textfile collector reads: there a counter is called by the name of its samples, and there are no units."""

from arenal import figures

CONTENT_TYPE = "application/openmetrics-text; version=1.0.0; charset=utf-8"

# Figure of the whole process: name of the metric, type, unit, help.
PROCESS = {
    "allocated": ("allocated_bytes", "gauge", "bytes", "In blocks that the program holds."),
    "cached": ("cached_bytes", "gauge", "bytes", "In thread caches."),
    "active": ("active_bytes", "gauge", "bytes", "In spans, slice runs and huge mappings in use."),
    "dirty": ("dirty_bytes", "gauge", "bytes", "Free, but still backed by memory."),
    "resident": ("resident_bytes", "gauge", "bytes", "Memory for blocks that the kernel may back now."),
    "in_memory": ("in_memory_bytes", "gauge", "bytes", "Memory for blocks that the kernel backs now."),
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
    "refills": ("refills", "counter", "", "Batches that thread caches took from arenas."),
    "flushes": ("flushes", "counter", "", "Batches that thread caches gave back to arenas."),
    "guarded_total": ("guardings", "counter", "", "Blocks that were put between inaccessible pages."),
}

ARENA = (
    ("arena_threads", "gauge", "", "Threads that use the arena.", lambda a: a.threads),
    ("arena_spans", "gauge", "", "Spans of small blocks.", lambda a: a.spans),
    ("arena_small_bytes", "gauge", "bytes", "In small blocks with the program and in thread caches.",
     lambda a: a.bytes),
    ("arena_refills", "counter", "", "Batches taken from the arena.", lambda a: a.refills),
    ("arena_flushes", "counter", "", "Batches given back to the arena.", lambda a: a.flushes),
)

CLASS = (
    ("class_spans", "gauge", "", "Spans of the size class.", lambda c: c.spans),
    ("class_span_bytes", "gauge", "bytes", "Bytes of these spans.", lambda c: c.spans * c.span_bytes),
    ("class_blocks", "gauge", "", "Blocks with the program and in thread caches.", lambda c: c.blocks_out),
    ("class_cached_blocks", "gauge", "", "Of these, blocks in thread caches.", lambda c: c.blocks_cached),
    ("class_refills", "counter", "", "Batches taken from arenas.", lambda c: c.refills),
    ("class_flushes", "counter", "", "Batches given back to arenas.", lambda c: c.flushes),
)


def escaped(value):
    return str(value).replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


def labels(**pairs):
    """What is not known, None, is no label."""
    pairs = {name: value for name, value in pairs.items() if value is not None}
    return "{" + ",".join(f'{name}="{escaped(value)}"' for name, value in pairs.items()) + "}"


def _family(name, kind, unit, text, samples, old):
    """The lines of one metric; samples are pairs of labels and value."""
    name = f"arenal_{name}"
    sample = f"{name}_total" if kind == "counter" else name
    title = sample if old else name
    lines = [f"# HELP {title} {text}", f"# TYPE {title} {kind}"]
    if unit and not old:
        lines.append(f"# UNIT {title} {unit}")
    return lines + [f"{sample}{pairs} {value}" for pairs, value in samples]


def text(snapshot, pid, command, where=None, old=False):
    """`where`: more labels. `old`: as version 0.0.4."""
    own = {"pid": pid, "command": command, **(where or {})}
    found = figures.values(snapshot)
    lines = []
    for field, (name, kind, unit, meaning) in PROCESS.items():
        if field in found:
            lines += _family(name, kind, unit, meaning, [(labels(**own), found[field])], old)
    arenas = [(labels(**own, arena=number, kind=figures.kind(a)), a) for number, a in enumerate(snapshot.arenas)]
    for name, kind, unit, meaning, value in ARENA:
        lines += _family(name, kind, unit, meaning, [(pairs, value(a)) for pairs, a in arenas], old)
    classes = [(labels(**own, **{"class": c.size}), c) for c in snapshot.classes]
    for name, kind, unit, meaning, value in CLASS:
        lines += _family(name, kind, unit, meaning, [(pairs, value(c)) for pairs, c in classes], old)
    return "\n".join(lines + ([] if old else ["# EOF"])) + "\n"
