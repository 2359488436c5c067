"""The user's own program as a case: `tools/compare -- COMMAND ARG...`."""

import os
import shlex
import statistics

from compare.cases import Case
from compare.process_life import no_orphans
from compare.results import Run


REST_SECONDS = 0.1      # a command that rests for less at its end does not rest
REST_LOOKS = 4
REST_SPREAD = 1.02      # of what is resident meanwhile
REST_CPU = 0.1          # of a CPU; who uses more works, though its memory stays


def resting(series, used):
    """What a command has in memory while it rests at its end; None when it does not, but works until then: what one look
    happens to see says nothing. The very last look may have seen it, or a part of the tree, being torn down. `used` are
    the seconds of CPU that it had used at each look."""
    looks = [(at, resident, cpu) for (at, resident), cpu in zip(series, used)][:-1]
    since = next((at for at in range(len(looks), 0, -1) if not _alike(looks[at - 1:])), 0)
    rest = looks[since:]
    if len(rest) < REST_LOOKS or rest[-1][0] - rest[0][0] < REST_SECONDS:
        return None
    return statistics.median(resident for _, resident, _ in rest)


def _alike(looks):
    """Memory that stays, and no more CPU time than a timer takes now and then; it is counted in hundredths of a second."""
    resident, (first, _, before), (last, _, after) = [one for _, one, _ in looks], looks[0], looks[-1]
    return max(resident) <= min(resident) * REST_SPREAD and after - before <= (last - first) * REST_CPU + 0.0101


class CommandCase(Case):
    name = family = group = "command"
    unit = "s"
    timeout = 24 * 3600  # it may take as long as it wants, unless --timeout says otherwise
    pinned = False
    threads = 1

    def __init__(self, words):
        self.words = words
        self.title = shlex.join(words)
        if len(self.title) > 100:
            self.title = self.title[:97] + "..."
        self.about = "Wall time, memory of the process and its descendants together over time, and at its end if it rests then."
        # Of all that is kept from a program for the sake of clean measurements, this may be needed to start it.
        path = os.environ.get("LD_LIBRARY_PATH")
        self.environment = {"LD_LIBRARY_PATH": path} if path else {}
        for name in ("LC_ALL",):
            if name in os.environ:
                self.environment[name] = os.environ[name]

    def measure(self, launcher, settings):
        with no_orphans():
            done = launcher.run(self.words, timeout=self.timeout, cwd=os.getcwd(), env=self.environment, series=True,
                                output=False)
        # The sum of the tree's processes may be larger than the biggest one, which is what GNU time knows of.
        peak = max([done.peak_rss] + [resident for _, resident in done.series])
        metrics = {"time": done.seconds, "peak_rss": peak}
        rest = resting(done.series, done.used)
        if rest is not None:
            metrics["rest_rss"] = rest
        return [(self.name, Run(metrics=metrics, series=done.series))]
