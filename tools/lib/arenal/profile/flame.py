"""`arenal profile --html`: one page with a flame graph of a heap profile, or of what changed between two."""

import os

from arenal import html
from arenal.profile import difference, stacks
from arenal.profile.dump import ZERO

FOLDER = os.path.join(os.path.dirname(os.path.abspath(__file__)), "page")
NODES = 500_000                 # boxes of the graph; stacks beyond that are cut
ROWS = 50                       # of the table
KINDS = ("blocks in use", "bytes in use", "blocks allocated since the start", "bytes allocated since the start")


def tree(pairs):
    """The graph as flat lists, for stacks may be deeper than what recursion reaches: names; for each node but the root (0) its parent, which
    comes before it, and its name; and where stacks end, a node with its Counts before and now. And whether anything was cut."""
    names, nodes, ends, cut = {}, {}, {}, False
    for functions, (before, now) in pairs:
        at = 0
        for function in functions:
            key = at, names.setdefault(function, len(names))
            if key not in nodes and len(nodes) >= NODES:
                cut = True
                break
            at = nodes.setdefault(key, len(nodes) + 1)
        ends[at] = [a + b for a, b in zip(ends.get(at, [0] * 2 * len(ZERO)), (*before, *now))]
    return {"names": list(names), "nodes": [part for key in nodes for part in key],
            "ends": [[at, *counts] for at, counts in ends.items()]}, cut


def _table(pairs, total, is_difference):
    """By function, what it asked for itself: the largest, or what changed most."""
    flat = {}
    for functions, (before, now) in pairs:
        one = flat.setdefault(functions[-1], [0, 0])
        one[0] += stacks.value(before, total)[1]
        one[1] += stacks.value(now, total)[1]
    found = sorted(flat.items(), key=lambda one: (-abs(one[1][1] - one[1][0]), one[0]))[:ROWS]
    columns = ("function", "change", "before", "now") if is_difference else ("function", "bytes")
    rows = [(name, difference.signed(now - before), stacks.size(before), stacks.size(now)) if is_difference else (name, stacks.size(now))
            for name, (before, now) in found if now or before]
    return {"caption": "Functions that allocate", "columns": _cells(columns), "rows": [_cells(row) for row in rows]}


def _cells(texts):
    return [{"text": text, "note": "", "class": ""} for text in texts]


def _answer(pairs, profile, old, total):
    sums = [sum(stacks.value(pair[place], total)[1] for _, pair in pairs) for place in (0, 1)]
    what = "was allocated since the start" if total else "is in use"
    if old:
        return f"{difference.signed(sums[1] - sums[0])}: {stacks.size(sums[1])} {what} at the end, {stacks.size(sums[0])} at the beginning."
    return f"About {stacks.size(sums[1])} {what}."


def _who(profile):
    return f"process {profile.dump.pid}, {stacks.when(profile.dump)}, one byte in {stacks.size(profile.dump.sample)} sampled"


def page(profile, old, total):
    """The page as text."""
    if old:
        pairs = list(difference.by_stack(old, profile).items())
    else:
        pairs = [(stacks.names(profile, frames), (ZERO, counts)) for counts, frames in profile.stacks]
    graph, cut = tree(pairs)
    notices = ["This profile has more stacks than a page can show; the innermost functions of some are left out."] if cut else []
    title = "What changed in the heap" if old else "Where the memory comes from"
    facts = [("before", _who(old)), ("now", _who(profile))] if old else [("profile", _who(profile))]
    data = {**graph, "kinds": KINDS, "kind": 3 if total else 1, "difference": bool(old)}
    scripts = [html.inside_script(html.read(f"{FOLDER}/flame.js"))]
    return html.environment(FOLDER).get_template("flame.html.j2").render(
        title=title, answer=_answer(pairs, profile, old, total), notices=notices, facts=facts, kinds=KINDS, kind=data["kind"],
        table_of=_table(pairs, total, bool(old)), is_difference=bool(old), data=html.as_data(data), scripts=scripts,
        style=html.read(f"{html.FOLDER}/page.css") + html.read(f"{FOLDER}/flame.css"))
