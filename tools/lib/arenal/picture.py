"""Shows a snapshot of a process's memory: as a table with bars for people, as JSON for programs."""

import json
from collections import namedtuple

from arenal import library
from arenal import proc
from arenal.figures import SCHEMA

CELLS = 32
KINDS = ("heap", "region", "huge", "anon", "foreign")
MEANING = {
    "heap": "main arena, grown with brk",
    "region": "64 MiB regions of the other arenas",
    "huge": "mapped directly",
    "anon": "anonymous mappings of 1 MiB and more",
    "foreign": "brk heap outside the arena",
}
SHADES = {"unicode": " ░▒▓█", "ascii": " .:+#"}

# A snapshot: `rows` are pairs of a Range and its Residency. `allocator` is "arenal" or what the process runs on
# instead; `exact` says whether the ranges are the library's own records; `notes` are sentences for the reader.
Snapshot = namedtuple("Snapshot", "pid name allocator exact estimated notes rows")


def utf8_locale():
    """Whether the user's locale is UTF-8. Python's own idea of it is no help: it pretends UTF-8 in a C locale."""
    env = library.inherited_environment()
    value = next((env[name] for name in (b"LC_ALL", b"LC_CTYPE", b"LANG") if env.get(name)), b"")
    return b"utf8" in value.lower().replace(b"-", b"")


def size(count):
    """At most six characters: 812K, 64.0M, 1.3G."""
    if count is None:
        return "-"
    value, unit = count / 1024, "K"
    for larger in "MGTPE":
        if value < 1000:
            break
        value, unit = value / 1024, larger
    return f"{value:.0f}{unit}" if unit == "K" else f"{value:.1f}{unit}"


def percent(part, whole):
    return "-" if part is None or not whole else f"{100 * part / whole:.0f}%"


def bar(cells, shades):
    """A cell is blank only when nothing is resident there, and solid only when everything is."""
    steps = len(shades) - 1
    def shade(share):
        if share <= 0:
            return shades[0]
        return shades[steps] if share >= 1 else shades[1 + min(steps - 2, int(share * (steps - 1)))]
    return "".join(shade(share) for share in cells)


def totals(snapshot):
    """Sums per kind, in the order of KINDS, and "all" of them that belong to the allocator."""
    sums = {}
    for kind in KINDS + ("all",):
        mine = [(r, res) for r, res in snapshot.rows if r.kind == kind or (kind == "all" and r.kind != "foreign")]
        if mine or kind == "all":
            known = snapshot.exact and kind != "foreign"
            sums[kind] = {
                "count": len(mine),
                "mapped": sum(r.mapped for r, _ in mine),
                "used": sum(r.used or 0 for r, _ in mine) if known else None,
                "dirty": sum(r.dirty or 0 for r, _ in mine) if known else None,
                "resident": sum(res.resident for _, res in mine),
                "swapped": sum(res.swapped for _, res in mine),
            }
    return sums


_ROW = "{:<8}{:<26}{:>7}{:>7}{:>6}{:>7}{:>9}{:>6}  {}"


def table(snapshot, unicode=True, heading=""):
    """The picture as text, with a newline at its end."""
    shades = SHADES["unicode" if unicode else "ascii"]
    on = "on Arenal" if snapshot.allocator == "arenal" else f"on {snapshot.allocator}"
    lines = [f"{snapshot.name} (process {snapshot.pid}) {on}{heading}"]
    lines += [f"note: {note}" for note in snapshot.notes]
    lines.append(_ROW.format("kind", "addresses", "mapped", "used", "", "dirty", "resident", "", "where it is resident"))
    for r, res in snapshot.rows:
        lines.append(_ROW.format(
            r.kind, f"{r.start:x}-{r.end:x}", size(r.mapped), size(r.used), percent(r.used, r.mapped), size(r.dirty),
            size(res.resident), percent(res.resident, r.mapped), f"|{bar(res.cells, shades)}|"))
    for kind, sums in totals(snapshot).items():
        label = "total" if kind == "all" else kind
        lines.append(_ROW.format(
            label, f"{sums['count']} range" + "s" * (sums["count"] != 1), size(sums["mapped"]), size(sums["used"]),
            percent(sums["used"], sums["mapped"]), size(sums["dirty"]), size(sums["resident"]),
            percent(sums["resident"], sums["mapped"]), _remark(kind, sums)))
    return "\n".join(line.rstrip() for line in lines) + "\n"


def _remark(kind, sums):
    remark = MEANING.get(kind, "")
    if sums["swapped"]:
        remark += f"{', ' if remark else ''}{size(sums['swapped'])} swapped out"
    return remark


def as_json(snapshot, **extra):
    """One line of JSON: addresses and sizes in bytes; unknown figures are null; `cells` is the resident share of each
    1/32 of the range."""
    return json.dumps({
        "schema": SCHEMA, "pid": snapshot.pid, "command": snapshot.name, "allocator": snapshot.allocator, "exact": snapshot.exact,
        "page_size": proc.PAGE, "residency_estimated": snapshot.estimated, "notes": list(snapshot.notes),
        **extra,
        "ranges": [{"kind": r.kind, "start": r.start, "end": r.end, "mapped": r.mapped, "used": r.used,
                    "dirty": r.dirty, "in_memory": res.resident, "swapped": res.swapped,
                    "cells": [round(share, 4) for share in res.cells]} for r, res in snapshot.rows],
        "totals": {kind: {"in_memory" if name == "resident" else name: value for name, value in sums.items()}
                   for kind, sums in totals(snapshot).items()},
    }) + "\n"
