"""Derived numbers: medians, spreads, and ratios to the best peer.

A ratio is taken pair by pair inside each round, where the two runs were next to each other in time: what slows the
machine for a while slows both. A peer is every allocator that is not our own.

Whether a ratio may be chance says Wilcoxon's test, see paired.py. Of several peers that are equally good, the one with
the lowest median is the luckiest, and everybody else seems to be behind it: so whether somebody is behind is asked about
the ratios to whoever was best in the rounds before, who had no luck yet in the round itself. Whether he is ahead is asked
about the ratios to the luckiest.
"""

import math
import statistics
from dataclasses import dataclass

from compare import paired
from compare.results import runs_of

METRICS = ("time", "peak_rss", "rest_rss")
SEVERAL = 3     # rounds


@dataclass(frozen=True)
class Ratio:
    median: float
    low: float      # of the rounds
    high: float
    rounds: int
    chance: float   # that equal allocators differ so much
    peer: str = ""

    @property
    def may_be_chance(self):
        return self.rounds < paired.LEAST_PAIRS or self.chance > paired.SIGNIFICANCE


def is_bytes(metric):
    return metric.endswith("_bytes") or "rss" in metric.split("_") and not metric.endswith("_per_live_byte")


def clock(case):
    """What its time is of: "CPU" or "wall"."""
    return case.get("clock", "wall")


def values(case, allocator, metric):
    """{round: value} of what was measured; a figure of nothing or less is none."""
    found = {}
    for run in runs_of(case, allocator):
        value = run["metrics"].get(metric)
        if value is not None and math.isfinite(value) and value > 0:
            found[run["round"]] = value
    return found


def median(case, allocator, metric):
    found = values(case, allocator, metric)
    return statistics.median(found.values()) if found else None


def spread(case, allocator, metric):
    """(lowest, highest) of the rounds."""
    found = values(case, allocator, metric).values()
    return (min(found), max(found)) if found else None


def median_latency(case, allocator, call, percentile):
    """Nanoseconds: the median over the rounds of, for example, the p99 of malloc."""
    found = [run["latency"][call][percentile] for run in runs_of(case, allocator)
             if run.get("latency", {}).get(call, {}).get(percentile) is not None]
    return statistics.median(found) if found else None


def peers(results):
    return [one["name"] for one in results["allocators"] if not one["own"]]


def own(results):
    """The name of our own allocator; None when it was not to be measured."""
    return next((one["name"] for one in results["allocators"] if one["own"]), None)


def best_peer(results, case, metric):
    """The peer with the lowest median; None when no peer was measured."""
    medians = {name: median(case, name, metric) for name in peers(results)}
    measured = [name for name in medians if medians[name] is not None]
    return min(measured, key=medians.get) if measured else None


def paired_ratios(case, metric, allocator, peer):
    """{round: ratio} of the rounds that have both."""
    mine, theirs = values(case, allocator, metric), values(case, peer, metric)
    return {number: mine[number] / theirs[number] for number in sorted(mine.keys() & theirs.keys())}


def fair_ratios(results, case, metric, allocator):
    """{round: ratio to the peer that had the lowest median until then}; the first round can only choose, if there is a
    choice."""
    mine = values(case, allocator, metric)
    theirs = {name: found for name in peers(results) if (found := values(case, name, metric))}
    found = {}
    for number in sorted(mine):
        before = {name: [value for earlier, value in known.items() if earlier < number]
                  for name, known in theirs.items() if number in known}
        medians = {name: statistics.median(known) if known else 0 for name, known in before.items()
                   if known or len(theirs) == 1}
        if medians:
            found[number] = mine[number] / theirs[min(medians, key=medians.get)][number]
    return found


def ratio(case, metric, allocator, peer):
    found = paired_ratios(case, metric, allocator, peer).values()
    return _ratio(found, found, peer) if found else None


def ratio_to_best(results, case, metric, allocator):
    peer = best_peer(results, case, metric)
    found = paired_ratios(case, metric, allocator, peer).values() if peer else ()
    return _ratio(found, fair_ratios(results, case, metric, allocator).values(), peer) if found else None


def clear_best(case, metric, names):
    """Who has the lowest median, if that is not by chance from whoever else; None otherwise."""
    medians = {name: median(case, name, metric) for name in names}
    names = [name for name in names if medians[name] is not None]
    best = min(names, key=medians.get, default=None)
    others = [ratio(case, metric, best, name) for name in names if name != best]
    return best if others and not any(one is None or one.may_be_chance for one in others) else None


def _ratio(found, fair, peer):
    return Ratio(statistics.median(found), min(found), max(found), len(found), _chance(found, fair), peer)


def _chance(found, fair):
    """Two-sided: of being behind, or ahead."""
    return min(1, 2 * min(paired.chance_of(fair), paired.chance_of([1 / one for one in found])))


def geometric_mean(numbers):
    return math.exp(statistics.fmean(math.log(number) for number in numbers))


def failures(cases, allocator):
    """How many of the cases it did not get through, though somebody did."""
    return sum(allocator in case["results"] and _failed(case["results"][allocator]) and
               any(runs_of(case, name) for name in case["results"]) for case in cases)


def _failed(result):
    return bool(result["failure"]) and not result.get("absent")


def rivals(results, cases):
    """Those that a mean over the cases can be compared of: who failed in one would have another, easier mean."""
    return [one["name"] for one in results["allocators"]
            if any(runs_of(case, one["name"]) for case in cases) and not failures(cases, one["name"])]


def common_cases(results, cases, metric):
    """The cases that all rivals have this figure of. Without those that were measured once only, for they take long, if
    others were measured several times: with these in it, no mean could be told from chance."""
    names = rivals(results, cases)
    found = [case for case in cases if names and all(values(case, name, metric) for name in names)]
    rounds = {case["name"]: min(len(values(case, name, metric)) for name in names) for case in found}
    once = 1 if max(rounds.values(), default=0) >= SEVERAL else 0
    return [case for case in found if rounds[case["name"]] > once]


def geometric_mean_ratio(results, cases, metric, allocator, peer=None):
    """The geometric mean over the cases that all rivals have of the ratios to the best peer of each case, or to a given
    one: of their medians; and the lowest and highest of the rounds' own means. None when there is nothing to compare."""
    names = rivals(results, cases)
    if allocator not in names or peer and peer not in names:
        return None
    medians, by_round, fair = [], {}, {}
    for case in common_cases(results, cases, metric):
        other = peer or best_peer(results, case, metric)
        ratios = paired_ratios(case, metric, allocator, other) if other else {}
        if ratios:
            medians.append(statistics.median(ratios.values()))
            _add(by_round, ratios)
            _add(fair, ratios if peer else fair_ratios(results, case, metric, allocator))
    if not medians:
        return None
    # A round that lacks a case (it was interrupted, for example) is a mean of something else.
    whole, fair = ([geometric_mean(ratios) for ratios in rounds.values() if len(ratios) == len(medians)]
                   for rounds in (by_round, fair))
    middle = geometric_mean(medians)
    # The mean of the medians need not lie between the rounds' means.
    return Ratio(middle, min(whole + [middle]), max(whole + [middle]), len(whole), _chance(whole, fair), peer or "")


def _add(by_round, ratios):
    for number, one in ratios.items():
        by_round.setdefault(number, []).append(one)


@dataclass(frozen=True)
class Agreement:
    """One figure of two runs of tools/compare: an allocator's ratio to the same peer."""

    case: str
    metric: str
    allocator: str
    peer: str
    before: Ratio
    now: Ratio

    @property
    def agrees(self):
        return self.before.low <= self.now.high and self.now.low <= self.before.high


def can_disagree(one, two):
    """Whether that ranges of so many rounds lie apart means anything: of all orders of the rounds' ratios, two keep them
    apart."""
    return 2 / math.comb(one.rounds + two.rounds, one.rounds) <= paired.SIGNIFICANCE


def agreements(before, now):
    """Every ratio that both results have, with its spreads."""
    earlier = {(case["name"], case["title"]): case for case in before["cases"]}
    found = []
    for case in now["cases"]:
        old = earlier.get((case["name"], case["title"]))    # any two commands have the same name
        for metric in METRICS if old else ():
            peer = best_peer(now, case, metric)
            for allocator in [one["name"] for one in now["allocators"] if one["name"] != peer] if peer else ():
                one, two = ratio(old, metric, allocator, peer), ratio(case, metric, allocator, peer)
                if one and two and can_disagree(one, two):
                    found.append(Agreement(case["name"], metric, allocator, peer, one, two))
    return found
