"""tools/compare --contention: what threads cost each other, counted rather than timed, so that a machine with two cores can tell
how the library would do with many.

The library that is preloaded is a build of its own (benchmarks/contention), and says on stderr what it counted. All figures are
for 1,000 calls of the program, and hardly differ between runs, nor with the number of CPUs."""

import json
import os
import re
import subprocess
from dataclasses import dataclass, replace

from arenal import files
from compare import builds, timings
from compare.builds import CannotCompare
from compare.cases import Settings
from compare.workloads import WORKLOADS

THREADS = [16, 64]
TARGETS = ["arenal_contention"]
LIBRARY = os.path.join("benchmarks", "contention", "libarenal_contention.so")
TIMEOUT = 120

# (key, head of the column, what it says). The lock of a thread's own cache is nobody else's, but when it is drained.
COLUMNS = [("cache", "own lock", "the lock of the thread's own cache was taken"),
           ("bin", "bins", "the lock of a size class of an arena was"),
           ("heap", "heap", "the page heap's lock was"),
           ("other", "other", "any other lock was"),
           ("lines", "lines", "a store went to a line of ours that another thread wrote last"),
           ("block_lines", "block lines", "the same, for the lines of blocks"),
           ("waits", "waits", "a lock was held by another thread: too few where there are few CPUs")]
JUDGED = [key for key, _, _ in COLUMNS if key != "waits"]

# Runs differ by up to 15%: of what is rare, by more.
RATIO = 1.3
DIFFERENCE = 1.0


@dataclass
class Case:
    """One workload with one number of threads."""
    name: str           # "session_churn/threads:16"
    full_name: str      # of the same in tools/compare --list
    arguments: list


def cases(threads, wanted):
    """Those workloads that can have any number of threads, as --full has them, but they rest for a moment only."""
    found = []
    for workload in WORKLOADS:
        if workload.variant or workload.has_its_threads or workload.phases:
            continue
        briefly = replace(workload, options={name: 0.1 if name == "rest" else value for name, value in workload.options.items()})
        for count in threads:
            name = f"{workload.name}/threads:{count}"
            found.append(Case(name, f"workload/{name}", briefly.arguments(Settings(quick=False), count, workload.operations)))
    chosen = [case for case in found if wanted(case.name)]
    wanted.check([case.name for case in found])
    return chosen


def targets(chosen):
    return TARGETS + list(dict.fromkeys(timings.target(case.full_name) for case in chosen))


def per_thousand(counted):
    """What the library counted, for each 1,000 calls: {column's key: figure}."""
    locks = dict(counted["locks"])
    found = {key: locks.pop(key) for key in ("cache", "bin", "heap")}
    found.update(other=sum(locks.values()), **{key: counted[key] for key in ("lines", "block_lines", "waits")})
    return {key: round(1000 * value / counted["calls"], 2) for key, value in found.items()}


def measure(case, build):
    program = os.path.join(build, "benchmarks", timings.program(case.full_name))
    library = os.path.join(build, LIBRARY)
    # Named from its directory: LD_PRELOAD takes no path with a space in it.
    env = {**builds.clean_environment(), "LD_PRELOAD": os.path.join(".", os.path.basename(library))}
    try:
        done = subprocess.run([program, *case.arguments], cwd=os.path.dirname(library), env=env, stdin=subprocess.DEVNULL,
                              stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, errors="replace",
                              timeout=TIMEOUT, check=False)
    except subprocess.TimeoutExpired:
        raise CannotCompare(f"{case.name} takes longer than {TIMEOUT} s") from None
    said = re.search(r"^contention (\{.*\})$", done.stderr, re.M)
    if done.returncode != 0 or said is None:
        raise CannotCompare(f"{case.name} ended with status {done.returncode}, and {'counts' if said else 'no counts'}")
    return per_thousand(json.loads(said[1]))


def table(rows):
    """Lines of text for {name: {key: figure}}."""
    width = max(map(len, rows)) + 2
    lines = ["for 1,000 calls".ljust(width) + "".join(f"{head:>13}" for _, head, _ in COLUMNS)]
    for name, figures in rows.items():
        lines.append(name.ljust(width) + "".join(f"{figures[key]:>13,.2f}" for key, _, _ in COLUMNS))
    lines.append("")
    lines += [f"{head}: {words}" for _, head, words in COLUMNS]
    return lines


def worse(old, new):
    """What became worse between two {name: {key: figure}}, in words."""
    found = []
    for name, after in new.items():
        for key, head, _ in COLUMNS:
            if key in JUDGED and after[key] > max(old[name][key] * RATIO, old[name][key] + DIFFERENCE):
                found.append(f"{name} has {after[key]:,.1f} in \"{head}\" for 1,000 calls, and had {old[name][key]:,.1f}")
    return found


def read_baseline(path):
    try:
        with open(path, encoding="utf-8") as file:
            return {name: {key: float(figures[key]) for key in JUDGED} for name, figures in json.load(file)["cases"].items()}
    except OSError as error:
        raise CannotCompare(f"cannot read {path}: {error.strerror}") from None
    except (ValueError, KeyError, TypeError, AttributeError):
        raise CannotCompare(f"{path} is not what --contention --update-baseline writes") from None


def write_baseline(path, rows):
    about = "What threads cost each other for 1,000 calls; written by tools/compare --contention --update-baseline."
    kept = {name: {key: figures[key] for key in JUDGED} for name, figures in rows.items()}
    files.replace(path, json.dumps({"about": about, "cases": kept}, indent=1) + "\n")
