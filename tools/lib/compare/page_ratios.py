"""The dot plots of ratios: a row for each case, and one for each group. The best peer in each case stands at 1."""

from compare import numbers
from compare.page_format import ABSENT, marked, positive, ratio, span

ROWS = 40           # of one chart; a phone's browser cannot hold a picture of any height
GROUPS = (("micro", "Micro-benchmarks"), ("workload", "Workloads"), ("latency", "Single calls"),
          ("stalls", "Longest calls"), ("program", "Real programs"), ("suite", "mimalloc-bench"), ("command", "Your command"))
METRICS = (("time", "time", "Time"), ("peak_rss", "peak memory", "Peak memory"),
           ("rest_rss", "memory at rest", "Memory at rest"))


def group_title(group):
    return dict(GROUPS).get(group, group)


def groups_of(results):
    """The names of the groups that have cases, known ones first."""
    known = [name for name, _ in GROUPS]
    found = {case["group"] for case in results["cases"]}
    return [name for name in known if name in found] + sorted(found - set(known))


def short_name(case):
    """A case's name without its group, which the chart's title says."""
    return case["name"].removeprefix(case["group"] + "/")


def row_of(results, case, metric, allocators):
    """For each allocator a ratio to the best peer, or None."""
    return [numbers.ratio_to_best(results, case, metric, one["name"]) for one in allocators]


def dot_plot(title, caption, labels, rows, allocators, first):
    """`rows` hold for each label what row_of returned."""
    sets = []
    for index, _ in enumerate(allocators):
        column = [row[index] for row in rows]
        column = [one if one and all(map(positive, (one.median, one.low, one.high))) else None for one in column]
        if any(column):
            sets.append({"allocator": index, "points": [one and one.median for one in column],
                         "ranges": [[one.low, one.high] if one and one.high > one.low else None for one in column]})
    if not sets:
        return None
    extent = [value for one in sets for value in one["points"] if value]
    extent += [value for one in sets for pair in one["ranges"] if pair for value in pair]
    cells = [[{"text": label}] + [{"text": marked(rows[row][one["allocator"]]) if one["points"][row] else ABSENT,
                                   "note": span(*one["ranges"][row], ratio) if one["ranges"][row] else None}
                                  for one in sets] for row, label in enumerate(labels)]
    names = [{"text": allocators[one["allocator"]]["name"]} for one in sets]
    return {"kind": "ratio", "title": title, "caption": caption, "labels": labels, "sets": sets, "x": "",
            "low": min(0.8, min(extent) / 1.06), "high": max(1.25, max(extent) * 1.06),
            "table": {"caption": f"{title}, ratio to the best peer; ~ may be chance", "columns": [{"text": first}, *names],
                      "rows": cells}}


def case_plots(results, metric, group, allocators):
    """The charts of a group: as many as its rows need."""
    rows = [(short_name(case), row) for case in results["cases"] if case["group"] == group
            if any(row := row_of(results, case, metric, allocators))]
    parts = -(-len(rows) // ROWS)
    for part in range(parts):
        some = rows[part * ROWS:(part + 1) * ROWS]
        title = group_title(group) + (f" ({part + 1} of {parts})" if parts > 1 else "")
        yield dot_plot(title, "Left of 1: less than the best peer.", [label for label, _ in some],
                       [row for _, row in some], allocators, "case")


def summary_plot(results, metric, word, allocators):
    """A row for each group: the geometric mean over its cases."""
    labels, rows = [], []
    groups = groups_of(results)
    for label, chosen in [("all cases", None)] + [(group_title(group), group) for group in groups]:
        cases = [case for case in results["cases"] if chosen in (None, case["group"])]
        if chosen is None and len(groups) < 2:
            continue
        row = [numbers.geometric_mean_ratio(results, cases, metric, one["name"]) for one in allocators]
        if any(row):
            rows.append(row)
            labels.append(label)
    return dot_plot("Groups", f"Geometric mean of the ratios of {word}, over the cases that all have that have one.", labels,
                    rows, allocators, "group")


def sections(results, allocators):
    made = []
    for metric, word, title in METRICS:
        charts = [summary_plot(results, metric, word, allocators)]
        for group in groups_of(results):
            charts += case_plots(results, metric, group, allocators)
        charts = [chart for chart in charts if chart]
        if charts:
            made.append({"id": metric, "short": title, "title": f"{title}, relative to the best peer",
                         "text": "The best peer of a case stands at 1; left of it is better. Dots are medians of the "
                                 "ratios in each round, bars reach from the lowest round to the highest.",
                         "charts": charts})
    return made
