"""The page that `arenal serve` shows at /: the processes, with links. It needs no script and no network, and fits a phone."""

import html
import os
import time
from urllib.parse import quote

from arenal import figures
from arenal.html import FOLDER, read
from arenal.serve import Response
from arenal.text import printable

STYLE = """\
main { min-width: 0; }
thead th { min-width: 0; overflow-wrap: normal; }
td.links { white-space: normal; min-width: 14rem; text-align: left; }
ul.links { display: flex; flex-wrap: wrap; gap: 0.25rem 1.1rem; list-style: none; padding: 0; }
td a { display: inline-block; padding: 0.2rem 0.4rem 0.2rem 0; }
"""
WHY = {
    "busy": "somebody else has been looking into it all the time",
    "damaged": "what it calls a window is none, or of another version",
    "frozen": "its cgroup is frozen (a paused container)",
    "no_window": "it has no window: arenal ctl {pid} open opens one",
    "not_permitted": "not permitted: it belongs to somebody else",
    "silent": "it did not answer in time",
    "stopped": "it is stopped",
    "too_many": "there are more processes than this one looks into",
}
WORDS, TEXTS = ' class="words"', ("unit or container", "profiles", "why")
COLUMNS = ("process", "unit or container", "allocated", "resident", "mapped", "fragmentation", "profiles")
# Every byte of it is in the page: whatever a process is called, nothing else is fetched or run.
HEADERS = (("Content-Security-Policy", "default-src 'none'; img-src data:; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"),
           ("Cache-Control", "no-store"))


def _where(labels):
    return labels.get("unit") or labels.get("container") or ""


def _row(look, profiles):
    labels, values = look.target.labels, figures.values(look.snapshot)
    cells = [f'<th scope="row">{html.escape(labels["command"])} <span class="note">{labels["pid"]}, Arenal {html.escape(look.target.window.library)}</span></th>',
             f'<td class="words">{html.escape(_where(labels))}</td>']
    cells += [f"<td>{figures.human(values[name])}</td>" for name in ("allocated", "resident", "mapped")]
    cells.append(f'<td>{values["fragmentation_ratio"]:.0%}</td>')
    pid = labels["pid"]
    links = [(f"/debug/pprof/heap?pid={pid}", "heap"), (f"/debug/pprof/heap?pid={pid}&seconds=30", "heap, 30 s"),
             (f"/debug/pprof/allocs?pid={pid}&seconds=30", "allocs, 30 s")]
    if profiles:
        cells.append('<td class="links">' + "".join(f'<a href="{html.escape(url)}" download>{name}</a> ' for url, name in links) + "</td>")
    return f"<tr>{''.join(cells)}</tr>"


def _unit(unit, group, units):
    """Its name; of several of one name, their paths."""
    return printable(group) if [name for name, _ in units].count(unit) > 1 else unit


def _failed(one, reason):
    labels = one.labels
    why = WHY[reason].format(pid=labels["pid"])
    return (f'<tr><th scope="row">{html.escape(labels["command"])} <span class="note">{labels["pid"]}</span></th>'
            f'<td class="words">{html.escape(_where(labels))}</td><td class="words">{html.escape(why)}</td></tr>')


def _table(name, columns, rows):
    heads = "".join(f'<th scope="col"{WORDS if column in TEXTS else ""}>{column}</th>' for column in columns)
    return (f'<div class="scroll" role="region" tabindex="0" aria-label="{name}"><table aria-label="{name}"><thead><tr>{heads}</tr></thead>'
            f'<tbody>{"".join(rows)}</tbody></table></div>')


def page(seen, version, profiles):
    units = sorted({(look.target.labels["unit"], look.target.group) for look in seen.looks if "unit" in look.target.labels})
    parts = [f'<p class="answer">{len(seen.looks)} process{"es" * (len(seen.looks) != 1)} answered' +
             (f", {len(seen.failed)} did not" if seen.failed else "") + f". Looked at {time.strftime('%H:%M:%S')}.</p>",
             '<ul class="links"><li><a href="/metrics">/metrics</a></li><li><a href="/metrics?details=1">/metrics with arenas and size classes</a>'
             '</li><li><a href="/healthz">/healthz</a></li></ul>']
    if seen.looks:
        columns = COLUMNS if profiles else COLUMNS[:-1]
        parts.append("<h2>Processes</h2>" + _table("Processes", columns, [_row(look, profiles) for look in seen.looks]))
    if profiles:
        parts.append("<p>A profile is for <code>go tool pprof</code>, which takes such an address too. Where no profile is on, "
                     "<code>seconds=</code> starts one for so long.</p>")
        if units:
            parts.append('<h2>Units</h2><ul class="links">' + "".join(
                f'<li><a href="/debug/pprof/heap?unit={html.escape(quote(group))}&amp;seconds=30">{html.escape(_unit(unit, group, units))}, 30 s</a></li>'
                for unit, group in units) + "</ul>")
    if seen.failed:
        rows = [_failed(one, reason) for one, reason in sorted(seen.failed.items(), key=lambda pair: pair[0].pid)]
        parts.append("<h2>Without an answer</h2>" + _table("Without an answer", ("process", "unit or container", "why"), rows))
    whole = (f'<!DOCTYPE html><html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">'
            f'<link rel="icon" href="data:,"><title>Arenal on {html.escape(os.uname().nodename)}</title>'
            f'<style>{read(os.path.join(FOLDER, "page.css"))}{STYLE}</style></head><body><main>'
            f'<h1>Arenal on {html.escape(os.uname().nodename)}</h1>{"".join(parts)}'
            f'<p class="muted">arenal serve {html.escape(version)}</p></main></body></html>\n')
    return Response(whole, "text/html; charset=utf-8", headers=HEADERS)
