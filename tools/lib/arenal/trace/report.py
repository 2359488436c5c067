"""`arenal report`: one HTML page about a trace."""

import os
from datetime import datetime, timezone

from arenal import files, html, trace
from arenal.errors import Failure
from arenal.text import printable

FOLDER = os.path.join(os.path.dirname(os.path.abspath(__file__)), "page")
SCRIPTS = ("charts.js", "heap_map.js")
UNITS = ((1 << 40, "TiB"), (1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB"))
TIMES = ((1e9, "s"), (1e6, "ms"), (1e3, "µs"))
SHOWN = 15              # THREADS_SHOWN of tools/trace/digest.c: threads with a row of their own; the next is for all others


def size(count):
    for unit, name in UNITS:
        if count >= unit:
            return f"{count / unit:,.3g} {name}" if count / unit < 1000 else f"{count / unit:,.0f} {name}"
    return f"{count:,} B"


def duration(ns):
    for unit, name in TIMES:
        if ns >= unit:
            return f"{ns / unit:.3g} {name}" if ns / unit < 1000 else f"{ns / unit:,.0f} {name}"
    return f"{ns:.0f} ns"


def share(part, whole):
    return f"{100 * part / whole:.1f}%" if whole else "-"


def lifetime_names():
    limits = [100 * 10 ** (step // 2) * (3.2 if step % 2 else 1) for step in range(22)]
    return [f"< {duration(limit)}" for limit in limits] + ["longer", "never freed"]


def thread_names(digest):
    """Of the rows: the threads that did most, and all others together."""
    names = [f"{one['name'] or '?'} {one['tid']}" for one in digest["threads"][:SHOWN]]
    return names + (["others"] if len(digest["threads"]) > SHOWN else [])


def cell(text, note="", style=""):
    return {"text": str(text), "note": note, "class": style}


def row(*texts):
    return [cell(text) for text in texts]


def size_table(digest):
    calls, peak = digest["allocated"][0], digest["peak"]["bytes"]
    rows = [row(f"to {one['to']:,} B", f"{one['all'][0]:,}", share(one["all"][0], calls), size(one["all"][1]), f"{one['peak'][0]:,}",
                size(one["peak"][1]), share(one["peak"][1], peak), duration(one["lifetime"]) if one["lifetime"] >= 0 else "never freed")
            for one in digest["sizes"]]
    return {"caption": "Sizes, as the program asked for them", "rows": rows,
            "columns": row("size", "allocations", "share", "bytes in all", "blocks at the peak", "bytes at the peak", "share of the peak",
                           "mean life")}


def thread_table(digest):
    rows = [row(f"{one['name'] or '?'} {one['tid']}", f"{one['allocated']:,}", size(one["bytes"]), f"{one['freed']:,}",
                f"{one['foreign']:,}", size(one["peak"][1]), "yes" if one["ended"] else "no") for one in digest["threads"]]
    return {"caption": "Threads", "rows": rows,
            "columns": row("thread", "allocations", "bytes in all", "frees", "of which other threads' blocks", "held at the peak", "ended")}


def crossing_table(digest):
    names = thread_names(digest)
    rows = [row(f"allocated by {name}", *(f"{digest['crossings'][i][k]:,}" for k in range(len(names)))) for i, name in enumerate(names)]
    return {"caption": "Who frees whose blocks", "columns": row("", *(f"freed by {name}" for name in names)), "rows": rows}


def holder_table(digest):
    names, peak = thread_names(digest), digest["peak"]["bytes"]
    held = [(one["by"][k], f"to {one['to']:,} B", names[k]) for one in digest["sizes"] for k in range(len(names)) if one["by"][k]]
    rows = [row(label, name, size(count), share(count, peak)) for count, label, name in sorted(held, reverse=True)[:30]]
    return {"caption": "The largest holders at the peak", "columns": row("size", "allocated by", "bytes", "share"), "rows": rows}


def life_table(digest):
    rows = [row(name, f"{calls:,}", size(count)) for name, (calls, count) in zip(lifetime_names(), digest["lifetimes"]) if calls]
    return {"caption": "Lifetimes", "columns": row("lived", "blocks", "bytes"), "rows": rows}


def content(digest):
    summary, ops, peak, end = digest["summary"], digest["ops"], digest["peak"], digest["end"]
    name = printable(summary["name"])
    allocated = digest["allocated"]
    answer = (f"At its peak, {duration(peak['ns'])} after the start, {name} held {size(peak['bytes'])} in {peak['blocks']:,} blocks; at the "
              f"end {size(end[1])} in {end[0]:,}. In {duration(summary['ns'])} it allocated {size(allocated[1])} in {allocated[0]:,} calls.")
    notices = trace.notes(summary)
    if digest["unknown"]:
        notices.append(f"{digest['unknown']:,} blocks were freed that the trace has not seen allocated: from before its start, or of the "
                       "process that this one was forked from.")
    started = datetime.fromtimestamp(min(summary["date"] / 1e9, 4e9), timezone.utc)
    facts = [("program", f"{name}, process {summary['chosen']}"), ("started", f"{started:%Y-%m-%d %H:%M:%S} UTC"),
             ("recorded", duration(summary["ns"])), ("end", " ".join(trace.told(summary))), ("threads", f"{summary['threads']:,}"),
             ("calls", ", ".join(f"{what} {count:,}" for what, count in ops.items())),
             ("blocks freed by another thread", f"{digest['foreign']:,} ({share(digest['foreign'], allocated[0])})"),
             ("bytes of trace for each call", f"{summary['bytes'] / max(summary['calls'], 1):.1f}")]
    return {"title": f"What {name} allocated", "answer": answer, "notices": notices, "facts": facts,
            "tables": {"sizes": size_table(digest), "threads": thread_table(digest), "crossings": crossing_table(digest),
                       "holders": holder_table(digest), "lives": life_table(digest)}}


def drawn(digest):
    """What the scripts need."""
    names = thread_names(digest)
    return {"ns": digest["summary"]["ns"], "steps": digest["steps"], "map": digest["map"], "threads": names,
            "sizes": [{"to": size(one["to"]), "calls": one["all"][0], "bytes": one["peak"][1], "by": one["by"][:len(names)]}
                      for one in digest["sizes"]],
            "lives": [[name, *counts] for name, counts in zip(lifetime_names(), digest["lifetimes"])]}


def page(digest):
    library = html.chart_library()
    shown = content(digest)
    if not library:
        shown["notices"].append("The charts are missing: they need the Debian package libjs-chart.js.")
    scripts = [library, html.read(f"{html.FOLDER}/theme.js"), *(html.read(f"{FOLDER}/{name}") for name in SCRIPTS)] if library else []
    return html.environment(FOLDER).get_template("report.html.j2").render(
        shown, style=html.read(f"{html.FOLDER}/page.css") + html.read(f"{FOLDER}/report.css"), charts=bool(library),
        data=html.as_data(drawn(digest)), scripts=[html.inside_script(text) for text in scripts])


def write(tool, path, process, output):
    digest = trace.ask(tool, "digest", path, process or 0)
    if not digest["allocated"][0]:
        raise Failure(f"{path} has no allocation")
    files.replace(output or f"{path}.html", page(digest), named=bool(output))
    print(output or f"{path}.html")
