"""`--tables RESULTS.json`: writes the tables of README.md and benchmarks/README.md anew, from a file of results. What is
between

    <!-- tables: NAME -->
    <!-- end of tables -->

is replaced; the words around it are a person's. Tables of the public suite are named ...:suite; they come from results of
--suite, all others from results of --full."""

import os
import re

from arenal import files, text as words
from compare import numbers, paired, tables
from compare.results import Failed
from preparing import ROOT

PAGES = [os.path.join(ROOT, "README.md"), os.path.join(ROOT, "benchmarks", "README.md")]
BLOCK = re.compile(r"(<!-- tables: (\S+) -->\n)(.*?)(<!-- end of tables -->\n)", re.DOTALL)
METRICS = ("time", "peak_rss", "rest_rss")
CALLS = ("malloc", "free", "realloc")
REFERENCE = "glibc"


def write(results, paths=None):
    """The names of the tables that were written. All are made before the first page is written to."""
    if results.get("interrupted") or results.get("mode") not in ("full", "suite"):
        raise Failed("the pages' tables are of whole runs of --full or --suite, which these results are not")
    texts, written = {}, []
    for path in paths or PAGES:
        with open(path, encoding="utf-8") as file:
            old = file.read()
        names = [match[2] for match in BLOCK.finditer(old)]
        if not names:
            raise Failed(f"{path} has no place for tables")
        mine = {name: block(name, results) for name in names if is_of(name, results)}
        texts[path] = BLOCK.sub(lambda match, mine=mine: match[1] + mine.get(match[2], match[3]) + match[4], old)
        written += mine
    for path, text in texts.items():
        files.replace(path, text)
    return written


def is_of(name, results):
    """Whether the table is one that such results are for."""
    return (name.partition(":")[2] == "suite") == (results.get("mode") == "suite")


def block(name, results):
    """The text of one of them."""
    whole = {"run": _run, "run:suite": _run, "behind": _behind, "summary": _summary, "latency": _latency, "calls": _calls,
             "means:suite": _means}
    if name in whole:
        return whole[name](results)
    metric, _, group = name.partition(":")
    if metric not in METRICS:
        raise Failed(f"there are no tables called {name}")
    if all(case["group"] != group for case in results["cases"]):
        raise Failed(f"these results have no cases of the group {group}: tools/compare --full has all")
    return _cases(results, metric, group)


def short(name):
    """As a row is called: without its group, and without what most have."""
    return name.partition("/")[2].removesuffix("/threads:1")


def grid(head, rows, names=1, remark=True):
    """The first columns are names, the last one is a remark; the others are numbers."""
    lines = [head, ["---"] * names + ["---:"] * (len(head) - names - remark) + ["---"] * remark, *rows]
    return "".join("| " + " | ".join(line) + " |\n" for line in lines)


def _run(results):
    machine = results["machine"]
    versions = ", ".join(f"{one['name']} {one['version'] or 'of unknown version'}" for one in results["allocators"]
                         if not one["problem"])
    memory = f"{machine['memory_bytes'] / 2**30:.0f} GiB, " if machine.get("memory_bytes") else ""
    text = (f"`{results['command']}`, {results['started'][:10]}: {machine['cpu']}, {machine['cores']} cores, {memory}"
            f"Linux {machine['kernel']}, {machine['libc']}, {machine['compiler']}, transparent huge pages: "
            f"{machine.get('transparent_hugepages') or 'unknown'}. {results['rounds']} rounds in "
            f"{results['seconds'] / 60:.0f} minutes, other programs used {results['other_load'] or 0:.0%} of the CPUs. "
            f"{versions}. `~`: may be chance; in brackets: lowest and highest round.")
    if results["rounds"] < paired.LEAST_PAIRS:
        text += f" It takes {paired.LEAST_PAIRS} rounds to tell a difference from chance."
    if results.get("suite"):
        missing = results["suite"]["missing"]
        text += f" {results['suite']['name']} {results['suite']['version']}"
        text += f", without {', '.join(missing)}." if missing else ", all tests."
    return text + "\n"


def _ratio(ratio):
    if ratio is None:
        return "-"
    return f"{ratio.median:.2f}{'~' if ratio.may_be_chance else ''} ({ratio.low:.2f}..{ratio.high:.2f})"


def _value(case, name, metric):
    value = numbers.median(case, name, metric)
    return tables.figure(value if metric == "time" or value is None else value / tables.MIB)


def _cases(results, metric, group):
    own, names = numbers.own(results), tables.measured_names(results)
    made = {}
    for case in results["cases"]:
        if case["group"] == group and any(numbers.median(case, name, metric) is not None for name in names):
            unit = f", {case['unit']}" if metric == "time" else ""
            clock = f"{numbers.clock(case)} time" if metric == "time" else "case"
            made.setdefault(clock, []).append([short(case["name"]) + unit, *[_value(case, name, metric) for name in names],
                                               _ratio(numbers.ratio_to_best(results, case, metric, own) if own else None)])
    return "\n".join(grid([clock, *names, "ratio"], rows) for clock, rows in made.items())


def _behind(results):
    own, found = numbers.own(results), tables.losses(results)
    rows = []
    for ratio, case, metric in found:
        if not ratio.may_be_chance:
            unit = case["unit"] if metric == "time" else "MiB"
            rows.append([case["name"].removesuffix("/threads:1"), tables.METRIC_TITLES[metric],
                         f"{_value(case, own, metric)} {unit}", f"{_value(case, ratio.peer, metric)} {unit}, {ratio.peer}",
                         _ratio(ratio)])
    text = f"Beyond chance, worst first; {len(found) - len(rows)} more figures may be chance.\n"
    return text + ("\n" + grid(["case", "what", "Arenal", "best peer", "ratio"], rows, names=2) if rows else "")


def _summary(results):
    names, rows = tables.measured_names(results), []
    for group in tables.groups(results):
        cases = [case for case in results["cases"] if case["group"] == group]
        for metric in METRICS:
            means = [numbers.geometric_mean_ratio(results, cases, metric, name) for name in names]
            if any(means):
                rows.append([group, tables.METRIC_TITLES[metric], str(len(numbers.common_cases(results, cases, metric))),
                             *(_mean(one) for one in means)])
    return grid(["group", "figure", "cases", *names], rows, names=2, remark=False)


def _mean(ratio):
    return "-" if ratio is None else f"{ratio.median:.2f}{'~' if ratio.may_be_chance else ''}"


def _latency(results):
    rows = []
    for case in results["cases"]:
        for name in tables.measured_names(results):
            for call in CALLS:
                shown = [numbers.median_latency(case, name, call, percentile) for percentile in tables.PERCENTILES]
                if any(value is not None for value in shown):
                    rows.append([short(case["name"]), call, name,
                                 *("-" if value is None else f"{value:,.0f}" for value in shown)])
    return grid(["workload", "call", "allocator", *tables.PERCENTILES], rows, names=3, remark=False)


def _means(results):
    """By how much the means over the suite are those of glibc."""
    group = [case for case in results["cases"] if case["group"] == "suite"]
    rows = []
    for name in tables.measured_names(results):
        time, peak = (numbers.geometric_mean_ratio(results, group, metric, name, REFERENCE) for metric in METRICS[:2])
        count = len(numbers.common_cases(results, group, "time"))
        failed = numbers.failures(group, name)
        shown = ["1", "1"] if name == REFERENCE else [_mean(time), _mean(peak)]
        rows.append([name, *shown, f"failed in {failed}" if failed else f"{count} tests"])
    if all(row[0] != REFERENCE for row in rows):
        raise Failed(f"these results are without {REFERENCE}, by which the means are taken")
    return grid(["mimalloc-bench", "time, of glibc's", "peak RSS, of glibc's", ""], rows)


def _calls(results):
    """What one call in a thousand takes longer than: geometric means over the workloads in which all make such calls."""
    names, group = tables.measured_names(results), [case for case in results["cases"] if case["group"] == "latency"]
    rows = []
    for call in CALLS:
        of_case = [[numbers.median_latency(case, name, call, "p99.9") for name in names] for case in group]
        whole = [figures for figures in of_case if all(figures)]
        means = [f"{numbers.geometric_mean(column):,.0f}" for column in zip(*whole)]
        rows.append([f"slowest thousandth of `{call}`, ns", *(means or ["-"] * len(names)), words.counted(len(whole), "workload")])
    return grid(["", *names, ""], rows)
