"""The allocators as the page shows them: each has its colour and its shape, the same on every page."""

# Index into the colours of page.css; the shapes tell lines apart where colours do not.
COLOURS = {"glibc": 1, "jemalloc": 2, "mimalloc": 3, "tcmalloc": 4, "tbbmalloc": 5}
OWN = 0
OTHERS = (6, 7, 5, 4, 3, 2, 1)
SHAPES = (("circle", "M6 1.5a4.5 4.5 0 1 0 .01 0z"), ("rect", "M2.5 2.5h7v7h-7z"), ("triangle", "M6 2l4.5 8h-9z"),
          ("rectRot", "M6 1l5 5-5 5-5-5z"), ("cross", "M6 1.5v9M1.5 6h9"), ("crossRot", "M2.5 2.5l7 7M9.5 2.5l-7 7"),
          ("star", "M6 1.5v9M1.5 6h9M2.8 2.8l6.4 6.4M9.2 2.8l-6.4 6.4"), ("rectRounded", "M2.5 2.5h7v7h-7z"))


def listed(results):
    """The allocators of the results, each with colour, shape, and whether anything was measured under it."""
    found = results.get("allocators") or []
    taken = {COLOURS[one["name"]] for one in found if one["name"] in COLOURS and not one.get("own")}
    free = [colour for colour in OTHERS if colour not in taken] or [1]
    own = others = 0
    made = []
    for one in found:
        name = one["name"]
        if one.get("own") and not own:
            own, colour = 1, OWN
        elif name in COLOURS and not one.get("own"):
            colour = COLOURS[name]
        else:
            colour, others = free[others % len(free)], others + 1
        shape, path = SHAPES[colour]
        measured = any((case["results"].get(name) or {}).get("runs") for case in results.get("cases") or [])
        made.append({**one, "own": bool(one.get("own")), "colour": colour, "shape": shape, "path": path,
                     "measured": measured})
    return made


def called(own):
    """How sentences call it."""
    return "Arenal" if own in (None, "arenal") else own
