"""The words and the tables of the page."""

from compare import numbers, paired
from compare.page_allocators import called
from compare.page_behind import behind
from compare.page_format import ABSENT, count, marked, mebibytes, ratio, short, span, usable
from compare.page_ratios import METRICS, group_title, groups_of

KNOWN_METRICS = {name for name, _, _ in METRICS}


def answer(results, own):
    if own is None:
        return "Arenal was not measured: this page compares the others with each other."
    cases = results["cases"]
    parts = []
    for metric, word in (("time", "time"), ("peak_rss", "peak memory")):
        best = numbers.geometric_mean_ratio(results, cases, metric, own)
        glibc = numbers.geometric_mean_ratio(results, cases, metric, own, "glibc")
        peers = ((best, f"the best peer's {word}"), (glibc, "glibc's"))
        against = [f"{marked(one)} of {whose}" for one, whose in peers if one]
        parts.append(" and ".join(against))
    parts = [part for part in parts if part]
    if not parts:
        return f"{called(own)} was compared with nobody."
    compared = [numbers.ratio_to_best(results, case, "time", own) for case in cases]
    compared = [one for one in compared if one]
    slower = [one for one in compared if one.median > 1]
    chance = sum(one.may_be_chance for one in slower)
    text = (f"{called(own)} takes {', and '.join(parts)} (geometric means over the cases that all have that have one; ~ may "
            f"be chance); it is slower than the best peer in {len(slower)} of {count(len(compared), 'case')}")
    return text + (f", which may be chance in {chance} of them." if chance else ".")


def notices(results):
    made = []
    if results.get("interrupted"):
        made.append("The measuring was interrupted: what is shown is what was measured until then.")
    load = results.get("other_load")
    if usable(load) and load > 0.05:
        made.append(f"Other programs used {100 * load:.0f}% of the machine meanwhile: the figures are less certain "
                    "than usual.")
    if usable(results.get("rounds")) and results["rounds"] < paired.LEAST_PAIRS:
        made.append(f"So few rounds ({results['rounds']}) cannot tell a difference from chance; it takes {paired.LEAST_PAIRS}.")
    return made


def facts(results):
    machine, suite = results.get("machine") or {}, results.get("suite")
    memory = machine.get("memory_bytes")
    shown = [("processor", machine.get("cpu")), ("cores", machine.get("cores")),
             ("memory", f"{memory / (1 << 30):.1f} GiB" if usable(memory) else None), ("kernel", machine.get("kernel")),
             ("suite", " ".join(map(str, (suite["name"], suite["version"]))) if suite else None),
             ("libc", machine.get("libc")), ("compiler", machine.get("compiler")),
             ("transparent huge pages", machine.get("transparent_hugepages")),
             ("frequency governor", machine.get("governor")), ("started", results.get("started")),
             ("rounds", results.get("rounds")),
             ("took", f"{results['seconds']:,.0f} s" if usable(results.get("seconds")) else None)]
    return [(name, str(value)) for name, value in shown if value is not None]


def machine_line(results):
    machine = results.get("machine") or {}
    cores = machine.get("cores")
    parts = [machine.get("cpu"), count(cores, "core") if usable(cores) else None, machine.get("libc"),
             count(results["rounds"], "round") if usable(results.get("rounds")) else None, results.get("started")]
    return ", ".join(str(part) for part in parts if part)


def allocator_table(allocators):
    rows = [[{"text": one["name"]}, {"text": one.get("version") or ABSENT, "class": "words", "note": " ".join(
                 f"{name}={value}" for name, value in (one.get("environment") or {}).items()) or None},
             {"text": one["problem"], "class": "failed"} if one.get("problem") else
             {"text": one.get("library") or "the program's own libc", "class": "words"}] for one in allocators]
    columns = [{"text": text, "class": "words"} for text in ("name", "version", "library")]
    return {"caption": "Allocators", "columns": columns, "rows": rows}


def figure_cell(case, name, metric, show, best):
    result = case["results"].get(name)
    if not result or not result.get("runs"):
        failure = (result or {}).get("failure")
        return {"text": failure, "class": "failed"} if failure else {"text": ABSENT}
    value = numbers.median(case, name, metric)
    low, high = numbers.spread(case, name, metric) or (None, None)
    note = span(low, high, show) if high != low else None
    return {"text": show(value), "note": note, "class": "best" if best == name else ""}


def ratio_cells(results, case, metric, own):
    compared = numbers.ratio_to_best(results, case, metric, own)
    if not compared:
        return [{"text": ABSENT}, {"text": ""}]
    verdict = "may be chance" if compared.may_be_chance else "ahead" if compared.median < 1 else "behind"
    return [{"text": ratio(compared.median), "note": span(compared.low, compared.high, ratio)},
            {"text": verdict, "note": f"best peer: {compared.peer}",
             "class": {"ahead": "words good", "behind": "words bad"}.get(verdict, "words muted")}]


def metric_table(results, cases, metric, title, allocators, own):
    """A row for each case that has this figure, or failed under every allocator. What is clearly best is in bold."""
    rows = []
    for case in cases:
        values = [numbers.median(case, one["name"], metric) for one in allocators]
        values = [value for value in values if usable(value)]
        if not values and (metric != "time" or not case["results"]):
            continue
        show = short if metric == "time" else mebibytes
        best = numbers.clear_best(case, metric, [one["name"] for one in allocators])
        note = f"{case['title']}, {case['unit']}" if metric == "time" else case["title"]
        rows.append([{"text": case["name"], "note": note}] +
                    (ratio_cells(results, case, metric, own) if own else []) +
                    [figure_cell(case, one["name"], metric, show, best) for one in allocators])
    columns = [{"text": "case"}]
    if own:
        columns += [{"text": f"{own} / best peer"}, {"text": "verdict", "class": "words"}]
    columns += [{"text": one["name"]} for one in allocators]
    caption = title[0].upper() + title[1:] if metric == "time" else f"{title}, MiB"
    return {"caption": f"{caption}: median, and the lowest to the highest round", "columns": columns, "rows": rows}


def other_table(cases, allocators):
    """What cases say beyond time and memory: requests per second, p99, threads created."""
    rows = []
    for case in cases:
        runs = [run for result in case["results"].values() for run in result.get("runs") or []]
        names = {name for run in runs for name in run["metrics"]}
        if case["unit"].startswith("ns/"):
            names.discard("operations_per_second")      # the time, said in another way
        for metric in sorted(names - KNOWN_METRICS):
            show, unit = (mebibytes, ", MiB") if numbers.is_bytes(metric) else (short, "")
            rows.append([{"text": case["name"], "note": metric.replace("_", " ") + unit}] +
                        [figure_cell(case, one["name"], metric, show, None) for one in allocators])
    return {"caption": "Other figures: median, and the lowest to the highest round",
            "columns": [{"text": text} for text in ["case", *(one["name"] for one in allocators)]], "rows": rows}


def split(cases, metric, title):
    """[(title of a table, its cases)]: one clock in a table of times."""
    if metric != "time":
        return [(title, cases)]
    clocks = dict.fromkeys(map(numbers.clock, cases))
    return [(f"{clock} time", [case for case in cases if numbers.clock(case) == clock]) for clock in sorted(clocks)]


def groups(results, allocators, own):
    shown = [one for one in allocators if one["measured"] or not one.get("problem")]
    made = []
    for group in groups_of(results):
        cases = [case for case in results["cases"] if case["group"] == group]
        tables = [metric_table(results, some, metric, shown_title, shown, own) for metric, _, title in METRICS
                  for shown_title, some in split(cases, metric, title)]
        tables.append(other_table(cases, shown))
        title = group_title(group)
        made.append({"id": f"group-{len(made)}", "title": f"{title}: all figures", "short": title, "cases": cases,
                     "tables": [one for one in tables if one["rows"]]})
    return made


def content(results, allocators):
    own = numbers.own(results)
    return {"title": "Arenal and its peers" if own else "Allocators compared", "answer": answer(results, own),
            "notices": notices(results), "command": results.get("command") or "tools/compare", "facts": facts(results),
            "machine": machine_line(results),
            "allocator_table": allocator_table(allocators), "behind": behind(results, own),
            "groups": groups(results, allocators, own)}
