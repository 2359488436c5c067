"""The micro-benchmarks: one case per family, which runs all benchmarks of the family in one process of arenal_micro."""

import copy
import functools
import json
import os
import re
import subprocess

from compare import process_life
from compare.process import clean_environment
from compare.cases import Case
from compare.results import Absent, Failed, Run

MIN_SECONDS = {True: 0.02, False: 0.04}     # how long a benchmark is measured at least, in quick mode and otherwise
OVERHEAD = 2.5                              # of finding out how many iterations that takes, and of what is not measured

# In quick mode: of each family what tells most. Not free_sized, which hardly any other allocator has yet.
QUICK = (
    "pair/size:64/threads:1",
    "pair/size:64/threads:4",
    "batch/random/blocks:400/size:64/threads:1",
    "replace/slots:16384/threads:1",
    "replace/slots:1000/threads:4",
    "calloc/size:65536/touch:1/threads:1",
    "realloc/append/limit:65536/threads:1",
    "aligned/aligned_alloc/alignment:64/size:64/threads:1",
    "cross/producers:1/consumers:1/size:64/threads:2",
    "threads/churn/parallel:8/blocks:10/threads:1",
    "large/replace/touch:1/threads:1",
    "sized/free/pareto/threads:1",
    "sized/delete/pareto/threads:1",
)

# What is measured with 1 to 64 threads.
SERIES = ("micro/pair/size:64", "micro/replace/slots:1000")


class MicroCase(Case):
    group = "micro"
    packages = ["libbenchmark-dev"]
    seconds = 0.5

    def __init__(self, kind, about, threads=1):
        self.kind = kind
        self.name = f"micro/{kind}"
        self.family = self.name
        self.title = kind
        self.about = about
        self.threads = threads  # of the benchmark that has most
        self.only = None        # the results that are wanted; None: all

    def names(self, settings):
        """What the program says it has. Where that is nothing there is the family, whose measure() says why."""
        try:
            return self._benchmarks(settings.build_dir, settings)
        except Failed:
            return [self.name]

    def narrowed(self, matches, settings):
        chosen = copy.copy(self)
        chosen.only = frozenset(name for name in self.names(settings) if matches(name))
        if self.kind != "threads":  # which starts threads of its own
            chosen.threads = max((split_threads(name)[1] for name in chosen.only), default=1)
        return chosen if chosen.only else None

    def measure(self, launcher, settings):
        benchmarks = self._benchmarks(launcher.build_dir, settings)
        least = MIN_SECONDS[settings.quick]
        done = launcher.run([program(launcher.build_dir), "--benchmark_format=json", f"--benchmark_min_time={least}",
                             f"--benchmark_filter=^({'|'.join(name.removeprefix('micro/') for name in benchmarks)})$"],
                            timeout=max(self.timeout, 20 * len(benchmarks) * least * OVERHEAD))
        results = parse(done.output)
        return [(name, results.get(name, Failed("the benchmark gave no result"))) for name in benchmarks]

    def describe(self, name):
        series, threads = split_threads(name)
        if series == self.name:
            return super().describe(name)
        # A single thread's processor time knows nothing of who else had the processor. That of several threads together
        # would leave out that they wait for each other. The family "threads" starts some of its own.
        clock = "CPU" if threads == 1 and self.kind != "threads" else "wall"
        return {"name": name, "group": self.group, "family": series, "title": title(series), "about": self.about,
                "unit": self.unit, "clock": clock, "threads": threads}

    def _benchmarks(self, build_dir, settings):
        """The names of those that are wanted; at least one."""
        names = (f"micro/{name}" for name in listed(program(build_dir)) if name.startswith(self.kind + "/"))
        found = [name for name in names if _chosen(name, settings) and (self.only is None or name in self.only)]
        if not found:
            raise Failed("it has no benchmark for this number of threads: there are powers of two up to 64")
        return found


def _chosen(name, settings):
    """By the mode, and by --threads, which chooses from what is measured for several numbers of threads."""
    series, threads = split_threads(name)
    if series in SERIES and settings.threads:
        return threads in settings.threads
    return not settings.quick or name.removeprefix("micro/") in QUICK


def program(build_dir):
    return os.path.join(build_dir, "benchmarks", "micro", "arenal_micro")


@functools.lru_cache
def listed(path):
    """All benchmarks of the program, as it calls them."""
    if not os.path.exists(path):
        raise Failed("the micro-benchmarks are not built: they need libbenchmark-dev")
    done = subprocess.run([path, "--benchmark_list_tests"], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                          stderr=subprocess.PIPE, text=True, env=clean_environment(), timeout=60, check=False)
    if done.returncode != 0:
        raise Failed(f"arenal_micro cannot list its benchmarks: {process_life.last_line(done.stderr)}")
    return tuple(done.stdout.split())


def split_threads(name):
    """("micro/pair/size:64", 8) of "micro/pair/size:64/threads:8"; one thread where the name says nothing."""
    series, _, threads = name.partition("/threads:")
    return series, int(threads or 1)


def title(series):
    """"large pair, size 64 KiB, untouched" of "micro/large/pair/size:65536/touch:0"."""
    words, arguments = [], []
    for part in series.split("/")[1:]:
        key, colon, value = part.partition(":")
        if not colon:
            words.append("append in turn" if key == "append_in_turn" else key)
        elif key == "touch":
            arguments.append("touched" if value == "1" else "untouched")
        elif key in ("size", "limit", "alignment"):
            arguments.append(f"{key} {_bytes(int(value))}")
        else:
            arguments.append(f"{value} {key if value != '1' else re.sub('s$', '', key)}")
    return ", ".join([" ".join(words), *arguments])


def _bytes(count):
    for shift, unit in ((20, "MiB"), (10, "KiB")):
        if count >> shift and count % (1 << shift) == 0:
            return f"{count >> shift} {unit}"
    return f"{count} B"


def parse(text):
    """{name: Run or Failed} of Google Benchmark's JSON."""
    try:
        benchmarks = json.loads(text)["benchmarks"]
    except (ValueError, KeyError, TypeError):
        raise Failed("arenal_micro did not print its results") from None
    results = {}
    for benchmark in benchmarks:
        if benchmark.get("error_occurred"):
            reason = benchmark["error_message"]
            result = (Absent if reason.startswith("the allocator has no ") else Failed)(reason)
        else:
            # Every micro-benchmark counts its operations, of which an iteration may do many.
            rate = benchmark["items_per_second"]
            result = Run(metrics={"time": 1e9 / rate, "operations_per_second": rate})
        results[f"micro/{benchmark['name']}"] = result
    return results


CASES = [
    MicroCase("pair", "malloc and the free of the same block, by size and by threads.", threads=64),
    MicroCase("batch", "A batch of blocks is allocated, then freed: last first, first first or in random order."),
    MicroCase("replace", "Random blocks of a full table are replaced, with Pareto distributed sizes.", threads=64),
    MicroCase("calloc", "calloc and free, with and without touching the pages."),
    MicroCase("realloc", "A block grows by doubling or by 16 bytes at a time; the time is that of a realloc."),
    MicroCase("aligned", "Aligned blocks are allocated, 16 at a time, and freed."),
    MicroCase("cross", "Blocks that one thread allocates and another frees.", threads=5),
    MicroCase("threads", "Threads come and go, and allocate in between; the time is that of a thread.", threads=8),
    MicroCase("large", "Blocks of 64 KiB to 4 MiB, with and without touching the pages."),
    MicroCase("sized", "free, free_sized and C++'s sized delete on the same blocks, in random order."),
]
