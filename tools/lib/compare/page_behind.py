"""Where our own allocator loses: the table at the top of the page, worst first, and the sentence above it."""

from compare import numbers
from compare.page_allocators import called
from compare.page_format import count, mebibytes, ratio, short, span
from compare.page_ratios import METRICS

SHOWN = 10          # rows before the rest has to be opened


def losses(results, own):
    """(case, metric, its word, peer, ratio) of every median ratio above 1; clear ones first, then noise."""
    found = []
    for case in results["cases"]:
        for metric, word, _ in METRICS:
            peer = numbers.best_peer(results, case, metric)
            compared = peer and numbers.ratio(case, metric, own, peer)
            if compared and compared.median > 1:
                found.append((case, metric, word, peer, compared))
    return sorted(found, key=lambda one: (one[4].inside_noise, -one[4].median))


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
    columns = [{"text": "case"}, {"text": f"{own} / best peer"}, {"text": "noise", "class": "words"}, {"text": own},
               {"text": "best peer"}]
    return {"caption": caption, "columns": columns, "rows": rows}


def loss_row(case, metric, word, peer, compared, own):
    noise = {"text": "inside the noise", "class": "words muted"} if compared.inside_noise else \
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
    clear = sum(not one[4].inside_noise for one in found)
    text = (f"{count(clear, 'figure')} clearly behind the best peer, {len(found) - clear} more inside the noise: the "
            "ratios of the rounds lie on both sides of 1. Worst first." if rows else "In no case, in no figure.")
    return {"title": title, "text": text, "table": table(f"{title}, worst first", rows[:SHOWN], own),
            "more": table("The rest of them", rows[SHOWN:], own)}
