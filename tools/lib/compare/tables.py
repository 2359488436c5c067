"""The report as plain text: it reads the same on a terminal, in a log and in a mail."""

import shutil
import textwrap

from compare import numbers, paired
from compare.results import runs_of

WIDTH = 100         # of sentences
TABLE_WIDTH = 120   # where there is no terminal to ask
MIB = 1024 * 1024
BEHIND_SHOWN = 15
PERCENTILES = ("p50", "p90", "p99", "p99.9", "p99.99", "max")
# What only some cases have, and the reader of a report on memory wants. Which of them are bytes, their names say.
OTHER_MEMORY = {"rest_rss_1s": "resting RSS after 1 s", "floor_bytes": "pages that live blocks lie on",
                "rest_rss_per_live_byte": "resting RSS per live byte", "growth": "RSS late by early in the run",
                "huge_page_bytes": "on huge pages"}
METRIC_TITLES = {"time": "time", "peak_rss": "peak RSS", "rest_rss": "resting RSS"}


def report(results):
    """All tables, one after the other."""
    parts = [_summary, _behind, _times, _memory, _other_memory, _latencies, _failures, _notes]
    return "\n".join(text for text in (part(results) for part in parts) if text)


def grid(rows):
    """Columns as wide as they need be; the first one to the left, the others to the right. Where that is wider than the
    terminal, the first column gets lines of its own above the others."""
    columns = max(len(row) for row in rows)
    widths = [max(len(row[column]) for row in rows if column < len(row)) for column in range(columns)]
    if sum(widths) + 2 * (columns - 1) <= shutil.get_terminal_size((TABLE_WIDTH, 24)).columns:
        lines = [[row[0].ljust(widths[0])] + [cell.rjust(width) for cell, width in zip(row[1:], widths[1:])]
                 for row in rows]
        return "".join("  ".join(line).rstrip() + "\n" for line in lines)
    lines = []
    for row in rows:
        lines.append(row[0])
        if len(row) > 1:
            lines.append("  " + " ".join(cell.rjust(width) for cell, width in zip(row[1:], widths[1:])))
    return "".join(line.rstrip() + "\n" for line in lines)


def figure(value):
    """Three digits that count."""
    if value is None:
        return "-"
    if value >= 1000:
        return f"{value:,.0f}"
    return f"{value:.{0 if value >= 100 else 1 if value >= 10 else 2}f}" if value >= 1 else f"{value:.3g}"


def mebibytes(value):
    return "-" if value is None else f"{value / MIB:,.1f}"


def ratio_text(ratio):
    """A ratio; ~ marks one that may be chance."""
    return "-" if ratio is None else f"{ratio.median:.2f}" + _mark(ratio)


def range_text(ratio):
    return f"{ratio.median:.3f} ({ratio.low:.2f}..{ratio.high:.2f}){_mark(ratio)}"


def _mark(ratio):
    return "~" if ratio.may_be_chance else " "


def measured_names(results):
    return [one["name"] for one in results["allocators"] if not one["problem"]]


def groups(results):
    found = []
    for case in results["cases"]:
        if case["group"] not in found:
            found.append(case["group"])
    return found


def _summary(results):
    """Per group and allocator the geometric mean of the ratios to the best peer."""
    if not results["cases"]:
        return ""
    text = textwrap.fill("Ratio to the best peer, geometric means over the cases that all have that have one (below 1 is "
                         "better than every peer in each case; ~ may be chance):", WIDTH) + "\n\n"
    rows = [["", *(f"{title} " for title in METRIC_TITLES.values()), "cases"]]
    for group in groups(results):
        cases = [case for case in results["cases"] if case["group"] == group]
        rows.append([group])
        for name in measured_names(results):
            ratios = [numbers.geometric_mean_ratio(results, cases, metric, name) for metric in METRIC_TITLES]
            failed = numbers.failures(cases, name)
            counts = [len(numbers.common_cases(results, cases, metric)) for metric in METRIC_TITLES]
            while len(counts) > 1 and counts[-1] in (0, counts[-2]):
                counts.pop()    # as many as of the figure before, or no such figure
            count = f"failed in {failed}" if failed else "/".join(map(str, counts))
            rows.append(["  " + name, *[range_text(one) if one else "- " for one in ratios], count])
    text += grid(rows)
    for one in results["allocators"]:
        if one["problem"]:
            text += f"  {one['name']}: {one['problem']}\n"
    return text


def losses(results):
    """[(Ratio, case, metric)] where our own allocator's median is behind, worst first; those that may be chance last."""
    own, found = numbers.own(results), []
    for case in results["cases"] if own else ():
        for metric in METRIC_TITLES:
            ratio = numbers.ratio_to_best(results, case, metric, own)
            if ratio and ratio.median > 1:
                found.append((ratio, case, metric))
    return sorted(found, key=lambda one: (one[0].may_be_chance, -one[0].median))


def _behind(results):
    if not numbers.own(results) or not results["cases"]:
        return ""
    found = losses(results)
    if not any(numbers.best_peer(results, case, "time") for case in results["cases"]):
        return ""  # nothing that could be behind
    if not found:
        return "Where Arenal is behind: in no case, in no figure.\n"
    clear = sum(not ratio.may_be_chance for ratio, *_ in found)
    rows = [["case", "what", "best peer", "ratio (lowest..highest) "]]
    for ratio, case, metric in found[:BEHIND_SHOWN]:
        rows.append([case["name"], METRIC_TITLES[metric], ratio.peer, range_text(ratio)])
    text = f"{clear} beyond chance, worst first; {len(found) - clear} more that may be chance, marked ~"
    return textwrap.fill(f"Where Arenal is behind: {text}.", WIDTH) + "\n\n" + grid(rows) + (
        f"and {len(found) - BEHIND_SHOWN} more\n" if len(found) > BEHIND_SHOWN else "")


def _times(results):
    names, own = measured_names(results), numbers.own(results)
    tables = {}
    for case in results["cases"]:
        if any(numbers.median(case, name, "time") is not None for name in names):
            medians = [figure(numbers.median(case, name, "time")) for name in names]
            row = [f"{case['name']}, {case['unit']}", *medians, *_own_ratio(results, case, "time", own)]
            tables.setdefault(numbers.clock(case), []).append(row)
    if not tables:
        return ""
    text = "Medians of the rounds."
    if own:
        text += f" Ratio: {own} to the best peer, lowest and highest round; ~ marks a difference that may be chance."
    return textwrap.fill(text, WIDTH) + "\n\n" + "\n".join(
        grid([[f"{clock} time", *names, *_ratio_head(own)], *rows]) for clock, rows in tables.items())


def _ratio_head(own):
    return ["ratio ", "spread"] if own else []


def _own_ratio(results, case, metric, own):
    if not own:
        return []
    ratio = numbers.ratio_to_best(results, case, metric, own)
    return [ratio_text(ratio), f"{ratio.low:.2f}..{ratio.high:.2f}"] if ratio else ["-", ""]


def _memory(results):
    names, own = measured_names(results), numbers.own(results)
    text = ""
    for metric in ("peak_rss", "rest_rss"):
        rows = []
        for case in results["cases"]:
            medians = [numbers.median(case, name, metric) for name in names]
            if any(value is not None for value in medians):
                rows.append([case["name"], *map(mebibytes, medians), *_own_ratio(results, case, metric, own)])
        if rows:
            head = [f"{METRIC_TITLES[metric]}, MiB", *names, *_ratio_head(own)]
            text += ("\n" if text else "") + grid([head, *rows])
    return text


def _other_memory(results):
    names = measured_names(results)
    rows = []
    for metric, title in OTHER_MEMORY.items():
        show, unit = (mebibytes, ", MiB") if numbers.is_bytes(metric) else (figure, "")
        for case in results["cases"]:
            medians = [numbers.median(case, name, metric) for name in names]
            if any(value is not None for value in medians):
                rows.append([f"{case['name']}: {title}{unit}", *map(show, medians)])
    return grid([["more about memory", *names], *rows]) if rows else ""


def _latencies(results):
    text = ""
    for case in results["cases"]:
        for call in _calls(case):
            rows = []
            for name in measured_names(results):
                medians = [numbers.median_latency(case, name, call, percentile) for percentile in PERCENTILES]
                if any(value is not None for value in medians):
                    rows.append([name, *map(_nanoseconds, medians)])
            if rows:
                text += ("\n" if text else "") + grid([[f"{case['name']}: {call}, ns", *PERCENTILES], *rows])
    return text


def _nanoseconds(value):
    return "-" if value is None else f"{value:,.0f}"


def _calls(case):
    found = []
    for result in case["results"].values():
        for run in result["runs"]:
            found += [call for call in run.get("latency") or () if call not in found]
    return found


def _failures(results):
    """What went wrong: one line for what went wrong under every allocator alike."""
    rows = []
    for case in results["cases"]:
        failures = {name: result["failure"] for name, result in case["results"].items() if result["failure"]}
        if len(failures) == len(case["results"]) > 1 and len(set(failures.values())) == 1:
            failures = {"every allocator": next(iter(failures.values()))}
        rows += [f"  {case['name']} under {name}: {failure}" for name, failure in failures.items()]
    if rows and any(case["group"] == "command" for case in results["cases"]):
        rows.append("  A command is measured if it ends with status 0.")
    return "Failures:\n" + "\n".join(rows) + "\n" if rows else ""


def _notes(results):
    machine = results["machine"]
    rounds = "1 round" if results["rounds"] == 1 else f"{results['rounds']} rounds"
    load = results["other_load"]
    lines = [*map(_allocator_line, (one for one in results["allocators"] if not one["problem"]))]
    suite = results.get("suite")
    if suite:
        missing = f"; not built there: {', '.join(suite['missing'])}" if suite["missing"] else ""
        lines.append(f"{suite['name']} {suite['version']}{missing}.")
    lines += [f"{rounds} in {results['seconds']:.0f} s on {machine['cpu']}, {machine['cores']} cores, "
             f"{machine['libc']}, Linux {machine['kernel']}."]
    if results["rounds"] < paired.LEAST_PAIRS and any(runs_of(case, name) for case in results["cases"] for name in case["results"]):
        lines.append(f"So few rounds cannot tell a difference from chance, and every ratio is marked ~. "
                     f"--rounds {paired.LEAST_PAIRS} tells more.")
    lines += [sentence[0].upper() + sentence[1:] + "." for sentence in results.get("left_out", [])]
    if load is not None and load >= 0.05:
        lines.append(f"Other programs used {load:.0%} of the CPUs meanwhile: expect other figures on a quiet machine.")
    return "\n".join(textwrap.fill(line, WIDTH) for line in lines) + "\n"


def _allocator_line(one):
    settings = " ".join(f"{name}={value}" for name, value in (one.get("environment") or {}).items())
    return f"{one['name']}: {one['version'] or 'of unknown version'}" + (f", {settings}" if settings else "") + "."


def agreement_report(found, path):
    """What --against says."""
    if not found:
        return f"Nothing to compare with {path}: it takes the same cases, allocators, and four rounds or more in both.\n"
    differing = [one for one in found if not one.agrees]
    rows = [[one.case, METRIC_TITLES[one.metric], f"{one.allocator}/{one.peer}",
             f"{one.before.low:.3f}..{one.before.high:.3f}", f"{one.now.low:.3f}..{one.now.high:.3f}"] for one in differing]
    text = (f"Against {path}: {len(found) - len(differing)} of {len(found)} ratios "
            f"({(len(found) - len(differing)) / len(found):.1%}) agree: their spreads overlap.\n")
    return text + ("These differ:\n\n" + grid([["case", "what", "ratio", "before", "now"], *rows]) if rows else "")
