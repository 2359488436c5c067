"""Is the new build slower, or is it noise? For measurements in pairs: old and new, one right after the other.

Pairs, because the machine's speed drifts: what two neighbours have in common cancels out in their ratio. The median of the
ratios says how large the difference is, for one disturbed run does not move it. Wilcoxon's signed-rank test (1945) says
whether chance could have done it. It looks at ranks only, and is exact for few pairs: no assumption about the shape of the
noise, no random numbers, the same verdict every time."""

import math
import statistics
from dataclasses import dataclass

SIGNIFICANCE = 0.05     # how often two equal things may be called different
# No claim is made from fewer pairs. If all of 6 agree, chance does that in 2 of 64 cases, and one disturbed run hides any
# difference; of 7, two may say the opposite, if they hardly differ.
LEAST_PAIRS = 7
MOST_EXACT = 60         # pairs whose signs are counted; of more, the sum of ranks is as good as normally distributed


@dataclass
class Difference:
    ratio: float        # median of new / old
    chance: float       # that the ratios lie so far above 1 if the builds were equal

    def is_regression(self, limit):
        return self.ratio > limit and self.chance <= SIGNIFICANCE


def median(values):
    ordered = sorted(values)
    middle = len(ordered) // 2
    return ordered[middle] if len(ordered) % 2 else (ordered[middle - 1] + ordered[middle]) / 2


def ranks_doubled(values):
    """Each value's rank among all by size, 1 for the smallest, times 2: values that are equal share the mean of their
    ranks, which is a half at worst."""
    ordered = sorted(values)
    return [2 * ordered.index(value) + ordered.count(value) + 1 for value in values]


def chance_of(ratios):
    """Wilcoxon's signed-rank test, one-sided: how often the ratios above 1 would outweigh those below 1 as much as they
    do, or more, if each were as likely to be above as below. Ratios of exactly 1 say nothing and are left out."""
    logs = [round(math.log(ratio), 9) for ratio in ratios if ratio != 1]   # rounded, for 5/4 is as far from 1 as 4/5
    ranks = ranks_doubled([abs(log) for log in logs])
    observed = sum(rank for rank, log in zip(ranks, logs) if log > 0)
    if len(ranks) > MOST_EXACT:
        spread = math.sqrt(sum(rank * rank for rank in ranks)) / 2
        return 1 - statistics.NormalDist(sum(ranks) / 2, spread).cdf(observed)
    # ways[s]: of all the choices of signs, how many let the positive ranks add up to s
    ways = {0: 1}
    for rank in ranks:
        for total, number in list(ways.items()):
            ways[total + rank] = ways.get(total + rank, 0) + number
    return sum(number for total, number in ways.items() if total >= observed) / 2 ** len(ranks)


def difference(old, new):
    """Of two lists of measurements, pair by pair."""
    ratios = [after / before for before, after in zip(old, new, strict=True)]
    return Difference(median(ratios), chance_of(ratios))
