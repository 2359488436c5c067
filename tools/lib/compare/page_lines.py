"""The charts with lines: memory over time, throughput against threads, latency curves. Each has its table."""

from compare import numbers
from compare.page_format import ABSENT, duration, positive, short, usable
from compare.results import runs_of

PERCENTILES = ("p50", "p90", "p99", "p99.9", "p99.99", "max")
MIB = 1 << 20
SCALES = ((1e6, "million "), (1e3, "thousand "), (0, ""))
TIMES = 12          # rows of the table beside a chart over time


def line_chart(title, caption, sets, table, **axes):
    return {"kind": "line", "title": title, "caption": caption, "sets": sets, "table": table, "labels": None,
            "log": False, "unit": "", "xUnit": "", **axes}


def names_of(allocators, sets):
    return [allocators[one["allocator"]]["name"] for one in sets]


def as_table(caption, first, names, rows):
    """Rows of a heading and one text for each name."""
    return {"caption": caption, "columns": [{"text": text} for text in [first, *names]],
            "rows": [[{"text": text} for text in row] for row in rows]}


def first_series(case, name):
    """The resident memory over time, of the first round that has it: a median of rounds would blur its steps."""
    for run in runs_of(case, name):
        points = [[point[0], point[1] / MIB] for point in run.get("series") or []
                  if len(point) == 2 and usable(point[0]) and usable(point[1])]
        if len(points) > 1:
            return points
    return None


def last_before(points, moment):
    """What a series showed at a moment; nothing after its end."""
    earlier = [value for time, value in points if time <= moment + 1e-9]
    return short(earlier[-1]) if earlier and moment <= points[-1][0] + 1e-9 else ABSENT


def memory_chart(case, allocators):
    sets = [{"allocator": index, "points": points} for index, one in enumerate(allocators)
            if (points := first_series(case, one["name"]))]
    if not sets:
        return None
    end = max(one["points"][-1][0] for one in sets)
    rows = []
    for step in range(TIMES + 1):
        moment = end * step / TIMES
        rows.append([f"{short(moment)} s", *(last_before(one["points"], moment) for one in sets)])
    table = as_table(f"Resident memory over time in MiB: {case['name']}", "time", names_of(allocators, sets), rows)
    return line_chart(case["name"], case["title"], sets, table, x="seconds", y="RSS, MiB", unit=" MiB", xUnit="s")


def latency_chart(case, call, allocators):
    sets = []
    for index, one in enumerate(allocators):
        points = [numbers.median_latency(case, one["name"], call, percentile) for percentile in PERCENTILES]
        points = [value if positive(value) else None for value in points]
        if any(points):
            sets.append({"allocator": index, "points": points})
    if not sets:
        return None
    rows = [[percentile, *(duration(one["points"][row]) for one in sets)]
            for row, percentile in enumerate(PERCENTILES)]
    table = as_table(f"Duration of single calls of {call}: {case['name']}", "percentile", names_of(allocators, sets),
                     rows)
    return line_chart(f"{case['name']}: {call}", case["title"], sets, table, labels=list(PERCENTILES), log=True,
                      x="percentile of calls", y="")


def throughput(case, name):
    """Operations per second, said by the case or following from its time for one of them."""
    for metric in ("operations_per_second", "requests_per_second"):
        value = numbers.median(case, name, metric)
        if positive(value):
            return value
    time = numbers.median(case, name, "time")
    return 1e9 / time if case["unit"].startswith("ns/") and positive(time) else None


def thread_chart(family, cases, allocators):
    cases = sorted(cases, key=lambda case: case["threads"])
    values = [[throughput(case, one["name"]) for case in cases] for one in allocators]
    highest = max((value for row in values for value in row if value), default=None)
    if highest is None:
        return None
    size, word = next((one for one in SCALES if highest >= one[0]))
    sets = [{"allocator": index, "points": [value and value / size for value in row]}
            for index, row in enumerate(values) if any(row)]
    unit = f"{word}operations/s"
    labels = [str(case["threads"]) for case in cases]
    rows = [[label, *(short(one["points"][row]) for one in sets)] for row, label in enumerate(labels)]
    table = as_table(f"Throughput in {unit}: {family}", "threads", names_of(allocators, sets), rows)
    return line_chart(family, cases[0]["about"], sets, table, labels=labels, x="threads", y=unit, unit=f" {unit}",
                      xUnit="threads")


def families(cases):
    """Cases that differ in the number of threads only, where there are several."""
    found = {}
    for case in cases:
        found.setdefault((case["group"], case["family"]), {})[case["threads"]] = case
    return {family if family.startswith(f"{group}/") else f"{group}/{family}": list(by_threads.values())
            for (group, family), by_threads in found.items() if len(by_threads) > 1}


def sections(results, allocators):
    cases = results["cases"]
    made = [
        {"id": "threads", "short": "Threads", "title": "Throughput against threads",
         "text": "Medians of the rounds; higher is better.",
         "charts": [thread_chart(name, several, allocators) for name, several in families(cases).items()]},
        {"id": "memory-over-time", "short": "RSS over time", "title": "Resident memory over time",
         "text": "The first round of each; lower is better.",
         "charts": [memory_chart(case, allocators) for case in cases]},
        {"id": "latency", "short": "Latency", "title": "Latency of single calls",
         "text": "How long single calls took, from the median to the longest; medians of the rounds, on a logarithmic "
                 "axis; lower is better.",
         "charts": [latency_chart(case, call, allocators) for case in cases
                    for call in ("malloc", "free", "cpu", "wall")]},
    ]
    for section in made:
        section["charts"] = [chart for chart in section["charts"] if chart]
    return [section for section in made if section["charts"]]
