"""Time and memory of two builds of Arenal on workloads. Runs alternate between the builds, see paired.py."""

import os
import shutil
import tempfile
from dataclasses import dataclass

from compare import paired
from compare.allocators import Allocator
from compare.builds import CannotCompare
from compare.cases import Settings, collect
from compare.process import Launcher
from compare.results import Failed

# A choice of what reacts to the fast paths, to blocks that change threads, to threads that end, and to lasting data.
CASES = ["micro/pair/size:64/threads:1", "workload/session_churn", "workload/producer_consumer", "workload/interpreter",
         "workload/key_value", "workload/short_threads"]

PAIRS = paired.LEAST_PAIRS

# What is smaller than this is not worth an alarm, even if it is certain: moving code about changes as much.
LIMITS = {"time": 1.02, "peak_rss": 1.03}       # not every case has both


@dataclass
class Verdict:
    """About one metric of one case. `failure` is a sentence, when a build could not do the case."""
    case: str
    metric: str
    difference: paired.Difference = None
    regression: bool = False
    failure: str = None


def settings_for(build_dir):
    """Not the quick mode, which leaves some of CASES out. The seed is fixed."""
    return Settings(quick=False, seed=1, build_dir=build_dir)


def find_cases(names, build_dir):
    """[(name, case)]; each case is narrowed down to the one result."""
    settings = settings_for(build_dir)
    everything = collect(settings)
    found = []
    for name in names:
        narrowed = [case.narrowed(lambda known, name=name: known == name, settings) for case in everything]
        case = next(filter(None, narrowed), None)
        if case is None:
            raise CannotCompare(f"there is no case called {name}")
        found.append((name, case))
    return found


def target(name):
    """What has to be built for a case."""
    return "arenal_micro" if name.startswith("micro/") else "arenal_workload_" + name.split("/")[1]


def program(name):
    """The file that comes of it, in the build's folder of benchmarks."""
    return "micro/arenal_micro" if name.startswith("micro/") else "workloads/" + name.split("/")[1]


def measure_once(name, case, build, build_dir, directory):
    """The metrics of one run."""
    scratch = tempfile.mkdtemp(dir=directory)
    try:
        library = os.path.realpath(build.library)
        launcher = Launcher(Allocator("arenal", library, own=True, preload=library), scratch, build_dir)
        if case.pinned:
            launcher.cpu = max(os.sched_getaffinity(0))     # interrupts tend to be handled by the first
        result = dict(case.measure(launcher, settings_for(build_dir)))[name]
        if isinstance(result, Failed):
            raise result
        return result.metrics
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def series(name, case, builds, build_dir, directory):
    """{metric: [values of the old build, values of the new one]} of PAIRS pairs."""
    values = {}
    for pair in range(PAIRS):
        # The order changes from pair to pair, so that going first is neither's advantage.
        for which in ((0, 1) if pair % 2 == 0 else (1, 0)):
            try:
                metrics = measure_once(name, case, builds[which], build_dir, directory)
            except Failed as failure:
                failure.build = which
                raise
            for metric in filter(metrics.__contains__, LIMITS):
                values.setdefault(metric, ([], []))[which].append(metrics[metric])
    return values


def judge(name, case, builds, build_dir, directory):
    """A list of Verdicts. What looks like a regression is measured a second time, all of it anew, and only counts when
    that says the same: a dozen tests of 5% each would raise an alarm in every other run of the gate otherwise."""
    try:
        found = {metric: paired.difference(*values)
                 for metric, values in series(name, case, builds, build_dir, directory).items()}
        suspects = [metric for metric, difference in found.items() if difference.is_regression(LIMITS[metric])]
        again = series(name, case, builds, build_dir, directory) if suspects else {}
        for metric in suspects:
            found[metric] = paired.difference(*again[metric])
    except Failed as failure:
        # What only the old build cannot do is no regression.
        return [Verdict(name, "run", regression=failure.build == 1,
                        failure=f"{('old', 'new')[failure.build]} build {failure}")]
    return [Verdict(name, metric, difference, metric in suspects and difference.is_regression(LIMITS[metric]))
            for metric, difference in found.items()]
