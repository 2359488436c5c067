"""Derived numbers: medians, spreads, and ratios to the best peer.

A ratio is taken pair by pair inside each round, where the two runs were next to each other in time: what slows the
machine for a while slows both. A peer is every allocator that is not our own.
"""

import math
import statistics
from dataclasses import dataclass

from compare.results import runs_of

METRICS = ("time", "peak_rss", "rest_rss")


@dataclass(frozen=True)
class Ratio:
    median: float
    low: float      # of the rounds
    high: float
    rounds: int

    @property
    def inside_noise(self):
        """Whether the difference may be chance. One round alone cannot tell."""
        return self.rounds < 2 or self.low <= 1 <= self.high


def is_bytes(metric):
    return metric.endswith("_bytes") or "rss" in metric.split("_") and not metric.endswith("_per_live_byte")


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


def ratio(case, metric, allocator, peer):
    found = paired_ratios(case, metric, allocator, peer).values()
    return Ratio(statistics.median(found), min(found), max(found), len(found)) if found else None


def geometric_mean(numbers):
    return math.exp(statistics.fmean(math.log(number) for number in numbers))


def geometric_mean_ratio(results, cases, metric, allocator, peer=None):
    """The geometric mean over cases of the ratios to the best peer of each case, or to a given one: of their medians;
    and the lowest and highest of the rounds' own means. None when there is nothing to compare."""
    medians, by_round = [], {}
    for case in cases:
        other = peer or best_peer(results, case, metric)
        ratios = paired_ratios(case, metric, allocator, other) if other else {}
        if ratios:
            medians.append(statistics.median(ratios.values()))
            for number, one in ratios.items():
                by_round.setdefault(number, []).append(one)
    if not medians:
        return None
    # A round that lacks a case (it was interrupted, or the allocator crashed) is a mean of something else.
    whole = [geometric_mean(ratios) for ratios in by_round.values() if len(ratios) == len(medians)]
    middle = geometric_mean(medians)
    # The mean of the medians need not lie between the rounds' means.
    return Ratio(middle, min(whole + [middle]), max(whole + [middle]), len(whole))


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


def agreements(before, now):
    """Every ratio that both results have, with its spreads."""
    earlier = {case["name"]: case for case in before["cases"]}
    found = []
    for case in now["cases"]:
        old = earlier.get(case["name"])
        for metric in METRICS if old else ():
            peer = best_peer(now, case, metric)
            for allocator in [one["name"] for one in now["allocators"] if one["name"] != peer] if peer else ():
                one, two = ratio(old, metric, allocator, peer), ratio(case, metric, allocator, peer)
                if one and two and min(one.rounds, two.rounds) > 1:
                    found.append(Agreement(case["name"], metric, allocator, peer, one, two))
    return found
