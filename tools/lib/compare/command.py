"""The user's own program as a case: `tools/compare -- COMMAND ARG...`."""

import os
import shlex

from compare.cases import Case
from compare.results import Run


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
        self.about = "Wall time, memory of the process and its descendants together over time, and at its end."
        # Of all that is kept from a program for the sake of clean measurements, this may be needed to start it.
        path = os.environ.get("LD_LIBRARY_PATH")
        self.environment = {"LD_LIBRARY_PATH": path} if path else {}
        for name in ("LC_ALL",):
            if name in os.environ:
                self.environment[name] = os.environ[name]

    def measure(self, launcher, settings):
        done = launcher.run(self.words, timeout=self.timeout, cwd=os.getcwd(), env=self.environment, series=True,
                            output=False)
        # The sum of the tree's processes may be larger than the biggest one, which is what GNU time knows of.
        peak = max([done.peak_rss] + [resident for _, resident in done.series])
        metrics = {"time": done.seconds, "peak_rss": peak}
        if done.series:
            # What it has at its end. The very last look may have seen it, or a part of the tree, being torn down.
            metrics["rest_rss"] = max(resident for _, resident in done.series[-3:])
        return [(self.name, Run(metrics=metrics, series=done.series))]
