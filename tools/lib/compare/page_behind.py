"""Where our own allocator loses: the table at the top of the page, worst first, and the sentence above it."""

from compare import numbers, paired
from compare.page_allocators import called
from compare.page_format import count, mebibytes, ratio, short, span
from compare.page_ratios import METRICS

SHOWN = 10          # rows before the rest has to be opened


def losses(results, own):
    """(case, metric, its word, ratio) of every median ratio above 1; clear ones first, then those that may be chance."""
    found = []
    for case in results["cases"]:
        for metric, word, _ in METRICS:
            compared = numbers.ratio_to_best(results, case, metric, own)
            if compared and compared.median > 1:
                found.append((case, metric, word, compared))
    return sorted(found, key=lambda one: (one[3].may_be_chance, -one[3].median))


def failures(results, own):
    """Cases that our own allocator did not get through, but a peer did."""
    for case in results["cases"]:
        failure = (case["results"].get(own) or {}).get("failure")
        if failure and numbers.best_peer(results, case, "time"):
            yield case, failure


def value_text(case, name, metric):
    value = numbers.median(case, name, metric)
    return f"{short(value)} {case['unit']}" if metric == "time" else f"{mebibytes(value)} MiB"


def table(caption, rows, own):
    columns = [{"text": "case"}, {"text": f"{own} / best peer"}, {"text": "chance", "class": "words"}, {"text": own},
               {"text": "best peer"}]
    return {"caption": caption, "columns": columns, "rows": rows}


def loss_row(case, metric, word, compared, own):
    peer = compared.peer
    noise = {"text": "may be chance", "class": "words muted"} if compared.may_be_chance else \
            {"text": "clear", "class": "words bad"}
    note = "\n".join(filter(None, (word, span(compared.low, compared.high, ratio))))
    return [{"text": case["name"], "note": case["title"]},
            {"text": ratio(compared.median), "note": note, "class": "best"}, noise,
            {"text": value_text(case, own, metric)}, {"text": value_text(case, peer, metric), "note": peer}]


def behind(results, own):
    title = f"Where {called(own)} is behind"
    if own is None:
        return {"title": title, "text": "Arenal was not measured.", "table": table("", [], ""),
                "more": table("", [], "")}
    rows = [[{"text": case["name"], "note": case["title"]}, {"text": failure, "class": "failed"}] +
            [{"text": ""}] * 3 for case, failure in failures(results, own)]
    found = losses(results, own)
    rows += [loss_row(*one, own) for one in found]
    clear = sum(not one[3].may_be_chance for one in found)
    text = (f"{count(clear, 'figure')} clearly behind the best peer, {len(found) - clear} more that may be chance: equal "
            f"allocators differ so much in more than {paired.SIGNIFICANCE:.0%} of such figures, or there are fewer than "
            f"{paired.LEAST_PAIRS} rounds. Worst first." if rows else "In no case, in no figure.")
    return {"title": title, "text": text, "table": table(f"{title}, worst first", rows[:SHOWN], own),
            "more": table("The rest of them", rows[SHOWN:], own)}
