"""What can be measured: the base class of cases, and all cases that the modules beside this one define."""

import copy
import glob
import importlib
import os
import re
from dataclasses import dataclass, field

from compare.results import Failed

HERE = os.path.dirname(os.path.abspath(__file__))


@dataclass
class Settings:
    """What the options say about how to measure; handed to every case."""

    quick: bool = True
    seed: int = 1
    threads: list = field(default_factory=list)  # thread counts wished by --threads; empty: each case's own choice
    build_dir: str = ""


class Case:
    """One thing to measure. Most cases yield one result that has the case's name. When one run yields several, they are
    `parts`; a case that runs many benchmarks in one process overrides names(), describe() and narrowed().

    A module defines CASES, a list of them, or cases(settings), which returns such a list.
    """

    name = ""           # "workload/session_churn"
    group = ""          # micro, workload, latency, stalls, program or command
    family = ""         # what cases have in common that differ in the number of threads only
    title = ""
    about = ""          # one sentence
    unit = "ns/op"
    clock = "wall"      # or "CPU": what its time is of
    threads = 1
    packages = []       # of Debian; what the case needs beside Arenal's own build
    seconds = 1.5       # what a run takes, about; a guess until the first one was measured
    timeout = 60        # after so many seconds a run hangs
    long = False        # takes so much time that only the first round has it, unless rounds were asked for
    parts = {}          # {last word of the result's name: (title, about)}
    wanted = None       # names of results; None: all of them

    @property
    def pinned(self):
        """Whether runs are tied to one CPU: what has a single thread does not profit from being moved about."""
        return self.threads == 1 and self.group in ("micro", "workload")

    def measure(self, launcher, settings):
        """Runs the case once; returns [(name of the result, Run), ...]. Raises Failed."""
        raise NotImplementedError

    def names(self, settings):
        """The names of its results, for --list and --only."""
        return [f"{self.name}/{part}" for part in self.parts] or [self.name]

    def narrowed(self, matches, settings):
        """What is left of the case when only results are wanted whose name matches(); None when nothing is."""
        wanted = [name for name in self.names(settings) if matches(name)]
        if not wanted or not self.parts:
            return self if wanted else None
        narrow = copy.copy(self)
        narrow.wanted = wanted
        return narrow

    def selected(self, results):
        """Of all results of a run, [(name, Run), ...], those that are wanted."""
        return [(name, run) for name, run in results if self.wanted is None or name in self.wanted]

    def describe(self, name):
        """What the results file says about the result of this name."""
        title, about, family = self.title, self.about, self.family
        if self.parts:
            part = name.rsplit("/", 1)[1]
            title, about = self.parts[part]
            family = family and f"{family}/{part}"
        return {"name": name, "group": self.group, "family": family or name, "title": title or name, "about": about,
                "unit": self.unit, "clock": self.clock, "threads": self.threads}


def collect(settings):
    """Every case there is."""
    found = []
    for name in _modules():
        module = importlib.import_module(f"compare.{name}")
        found += module.cases(settings) if hasattr(module, "cases") else module.CASES
    names = [case.name for case in found]
    doubles = {name for name in names if names.count(name) > 1}
    if doubles:
        raise Failed(f"several cases are called {', '.join(sorted(doubles))}")
    return found


def _modules():
    """The modules that define cases. The folder of programs also holds scripts that are the programs' work, which must
    not be imported: hence the look at the text."""
    paths = [os.path.join(HERE, name + ".py") for name in ("micro", "workloads")]
    paths += sorted(glob.glob(os.path.join(glob.escape(HERE), "programs", "*.py")))
    for path in paths:
        if os.path.exists(path):
            with open(path, encoding="utf-8") as file:
                if re.search(r"^(CASES\b|def cases\()", file.read(), re.MULTILINE):
                    yield os.path.relpath(path, HERE)[:-3].replace(os.sep, ".")
