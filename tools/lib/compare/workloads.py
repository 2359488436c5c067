"""The workloads: programs of benchmarks/workloads, each of which prints its result as one line of JSON."""

import json
import os
import sys
from dataclasses import dataclass, field

from compare.cases import Case
from compare.results import Failed, Run

LATENCY_TIME = ("malloc", "p99.9")  # what counts as the cost where durations of single calls are measured


@dataclass
class Workload:
    """One of the programs, and how much of it is run. Operations are those of all threads together, whatever their
    number: so memory and time stay about the same."""

    name: str
    title: str
    about: str
    operations: int                 # with --full; about a second under glibc on a slow machine with 2 cores
    quick: int = None               # operations with --quick; None: not in that mode
    threads: int = 4
    least_threads: int = 1
    has_its_threads: bool = False   # their number is what the workload is about, and --threads does not change it
    options: dict = field(default_factory=dict)         # of the program's own
    quick_options: dict = field(default_factory=dict)   # other values of them
    per_thread: dict = field(default_factory=dict)      # options that are divided by the number of threads
    latency: int = None             # operations of the case that measures single calls; None: there is none
    latency_is_quick: bool = False
    variant: str = ""               # of the program's name: the rest of the case's
    phases: dict = field(default_factory=dict)  # {name: (title, about)}: each is a result of its own, in seconds
    stalls: bool = False            # its phases' results are what the longest single calls of other threads took, in ns
    memory: int = 0                 # bytes that have to be available; 0: little
    long: bool = False

    def thread_counts(self, settings):
        """Those asked for that it can do."""
        return [count for count in settings.threads if count >= self.least_threads and not self.has_its_threads]

    def chosen(self, settings):
        """The options of its own."""
        return dict(self.options, **(self.quick_options if settings.quick else {}))

    def arguments(self, settings, threads, operations):
        options = self.chosen(settings)
        options.update((name, max(1, value // threads)) for name, value in self.per_thread.items())
        words = [f"--seed={settings.seed}", f"--threads={threads}", f"--operations={operations}"]
        return words + [f"--{name}={value}" for name, value in options.items()]


STALL_PHASES = (("build", "is built", "8 million blocks of 32-512 B are built"),
                ("halve", "is halved", "Every other one of 8 million blocks is freed"),
                ("thin", "is thinned", "Of 4 million blocks, 90% are freed"),
                ("rebuild", "is built again", "7.6 million blocks are built in their place"),
                ("drop", "is dropped", "8 million blocks are freed"))

WORKLOADS = [
    Workload("session_churn", "Sessions that outlive their threads",
             "Threads replace objects of sessions and hand the sessions on to others and to their successors (larson).",
             4_000_000, quick=1_500_000, latency=2_000_000),
    Workload("producer_consumer", "Producers and consumers",
             "Some threads allocate messages, others free them.",
             1_200_000, quick=600_000, least_threads=2, latency=600_000),
    Workload("phases", "Phases of growth and decay",
             "Groups of threads grow and decay in turn, and ask for other sizes in each phase.",
             4_000_000, threads=6, options={"rest": 0.5}),
    Workload("burst_idle", "A burst, then idle",
             "Threads build up memory, free all but 2% of it, and rest.",
             880_000, quick=352_000, per_thread={"blocks": 88_000},
             options={"rest": 5}, quick_options={"rest": 1}),
    Workload("fragmentation", "Long-run fragmentation",
             "64 MB in use all the time, while sizes drift and 5% of the blocks survive long.",
             3_000_000, per_thread={"day": 600_000}, options={"rest": 0.5}),
    Workload("idle_threads", "A thousand mostly idle threads",
             "A thousand threads sleep, and wake in turn for a burst of work.",
             2_000_000, threads=1000, has_its_threads=True),
    Workload("short_threads", "Many short-lived threads",
             "Each request has a thread of its own, whose objects partly outlive it.",
             12_000),
    Workload("interpreter", "An interpreter's strings and trees",
             "Documents are built, parsed, changed and printed by an interpreter that counts references.",
             1_000, quick=500, threads=1),
    Workload("key_value", "A key-value store",
             "A store evicts what was not used for long, and its values change their sizes over time.",
             1_500_000, latency=1_000_000, latency_is_quick=True),
    Workload("burst_idle", "One burst of 8 threads, then idle",
             "8 threads build 60 MB each, free all but a random 2%, and rest for 10 s.",
             176_000, variant="threads:8/survivors:2", threads=8, has_its_threads=True, long=True,
             options={"blocks": 22_000, "survivors": 2, "rest": 10}),
    Workload("burst_idle", "One burst of 8 threads, many survivors",
             "8 threads build 60 MB each, free all but a random 20%, and rest for 10 s.",
             176_000, variant="threads:8/survivors:20", threads=8, has_its_threads=True, long=True,
             options={"blocks": 22_000, "survivors": 20, "rest": 10}),
    Workload("burst_idle", "One burst of a process with one thread",
             "The first thread, which is the only one, builds 480 MB, frees all but a random 2%, and rests for 10 s.",
             176_000, variant="single", threads=1, has_its_threads=True, long=True,
             options={"blocks": 176_000, "survivors": 2, "rest": 10}),
    Workload("fragmentation", "An hour of drifting sizes",
             "200 MB in use all the time, for twenty days of sizes that drift up and down.",
             12_000_000, variant="live:200", has_its_threads=True, long=True,
             options={"live": 200, "day": 150_000, "rest": 1}),
    Workload("large_heap", "A large heap",
             "8 million blocks of 64-512 B, 2.4 GB together, by one thread.",
             32_000_000, threads=1, long=True, options={"blocks": 8_000_000}, memory=4 << 30,
             phases={"build": ("A large heap is built", "8 million blocks of 64-512 B, 2.4 GB together."),
                     "read": ("A large heap is read", "20 million reads of random blocks among 8 million."),
                     "replace": ("A large heap's blocks are replaced",
                                 "4 million random blocks are freed, each followed by one of another size.")}),
    *(Workload("stalls", f"The longest call beside a large heap, {others} beside",
               "One thread builds 2.2 GB of small blocks, thins, rebuilds and frees them; others replace their own, and each "
               "of their calls is timed.",
               31_200_000, variant=f"threads:{threads}", threads=threads, has_its_threads=True, long=True, stalls=True,
               options={"held": held, "pause": pause, "rest": 3}, memory=4 << 30,
               phases={phase: (f"The longest call while a heap {verb}, {others} beside", f"{what}, and 3 s of rest: CPU time of "
                               f"the longest single call of {others} beside.")
                       for phase, verb, what in STALL_PHASES})
      for threads, held, pause, others in ((2, 4000, 0, "1 thread"), (1000, 100, 200, "999 threads"))),
    Workload("fork_cow", "Fork and copy-on-write",
             "Snapshots by fork while the parent goes on writing; at rest: what they cost in memory.",
             200_000, threads=1, has_its_threads=True),
]


class WorkloadCase(Case):
    """A workload with one number of threads."""

    group = "workload"
    unit = "ns/op"

    def __init__(self, workload, threads, settings, named_by_threads=False):
        self.workload = workload
        self.threads = threads
        self.family = "/".join(filter(None, (self.group, workload.name, workload.variant)))
        self.name = f"{self.family}/threads:{threads}" if named_by_threads else self.family
        self.title = workload.title
        self.about = workload.about
        self.seconds = 1 + workload.chosen(settings).get("rest", 0)
        self.long = workload.long
        self.parts = workload.phases
        if self.parts:
            self.unit = "s"

    def operations(self, settings):
        return self.workload.quick if settings.quick and self.workload.quick else self.workload.operations

    def command(self, launcher, settings):
        program = os.path.join(launcher.build_dir, "benchmarks", "workloads", self.workload.name)
        return [program, *self.workload.arguments(settings, self.threads, self.operations(settings))]

    def measure(self, launcher, settings):
        if available_memory() < self.workload.memory:
            raise Failed(f"{self.workload.name} needs {self.workload.memory >> 30} GB of free memory")
        done = launcher.run(self.command(launcher, settings), timeout=self.timeout, series=True)
        result = parse(done.output)
        if not self.parts:
            return [(self.name, self.to_run(result, done))]
        try:
            return self.selected([(f"{self.name}/{part}", self.part_run(result["phases"][part], done))
                                  for part in self.parts])
        except KeyError as error:
            raise Failed(f"{self.workload.name} measured no {error.args[0]}") from None

    def part_run(self, phase, done):
        """The result of one phase. The series is the whole program's."""
        return Run(metrics={"time": phase["seconds"], "peak_rss": phase["peak_rss_bytes"],
                            "huge_page_bytes": phase["huge_page_bytes"]}, series=done.series)

    def to_run(self, result, done):
        metrics = {"time": result["ns_per_operation"], "operations_per_second": result["operations_per_second"],
                   # Counted page by page, where the kernel's counter for the peak lags behind.
                   "peak_rss": max(done.peak_rss, result.get("rest_rss_bytes", 0))}
        for name, key in (("rest_rss", "rest_rss_bytes"), ("live_bytes", "live_bytes"),
                          ("rest_rss_1s", "rest_rss_1s_bytes"), ("floor_bytes", "floor_bytes"),
                          ("rest_rss_per_live_byte", "rest_rss_per_live_byte"), ("growth", "growth")):
            if key in result:
                metrics[name] = result[key]
        return Run(metrics=metrics, latency=result.get("latency_ns", {}), series=done.series)


class StallCase(WorkloadCase):
    """The longest single calls of threads beside the one that works. Its time is their own CPU time: what the allocator
    made them do, however busy the machine is."""

    group = "stalls"

    def __init__(self, workload, threads, settings, named_by_threads=False):
        super().__init__(workload, threads, settings, named_by_threads)
        self.name = self.family = f"{self.group}/{workload.variant}"
        self.unit, self.clock = "ns", "CPU"
        self.seconds, self.timeout = 40, 300

    def part_run(self, phase, done):
        calls = {clock: phase[f"stall_{clock}_ns"] for clock in ("cpu", "wall", "nothing")}
        return Run(metrics={"time": calls["cpu"]["max"], "peak_rss": phase["peak_rss_bytes"]}, latency=calls,
                   series=done.series)


class LatencyCase(WorkloadCase):
    """The durations of a workload's single calls. Measuring them takes longer than the calls: what the workload costs as
    a whole is another case's."""

    group = "latency"
    unit = "ns"

    def __init__(self, workload, threads, settings, named_by_threads=False):
        super().__init__(workload, threads, settings, named_by_threads)
        self.title = f"{workload.title}: single calls"
        self.about = f"{workload.about} The cost is what one malloc in a thousand takes longer than."

    def operations(self, settings):
        return self.workload.latency

    def command(self, launcher, settings):
        return [*super().command(launcher, settings), "--latency"]

    def to_run(self, result, done):
        run = super().to_run(result, done)
        call, share = LATENCY_TIME
        if call not in run.latency:
            raise Failed(f"{self.workload.name} measured no {call}")
        run.metrics["time"] = run.latency[call][share]
        del run.metrics["operations_per_second"]
        return run


def available_memory():
    """What programs can have without that others are swapped out; as much as anybody wants where that is not known."""
    try:
        with open("/proc/meminfo", encoding="ascii") as lines:
            return next(int(line.split()[1]) << 10 for line in lines if line.startswith("MemAvailable:"))
    except (OSError, StopIteration):
        return sys.maxsize


def parse(output):
    """The line of JSON that a workload printed."""
    try:
        result = json.loads(output)
        if result["ns_per_operation"] > 0 and result["operations_per_second"] > 0:
            return result
    except (ValueError, KeyError, TypeError):
        pass
    raise Failed("the workload printed no result")


def cases(settings):
    """One case for each workload and number of threads, then those of single calls."""
    found = []
    for kind, wanted in ((WorkloadCase, lambda workload: not workload.stalls and (not settings.quick or workload.quick)),
                         (StallCase, lambda workload: workload.stalls and not settings.quick),
                         (LatencyCase, lambda workload: workload.latency_is_quick or
                          (workload.latency and not settings.quick))):
        for workload in filter(wanted, WORKLOADS):
            counts = workload.thread_counts(settings)
            found += [kind(workload, count, settings, named_by_threads=True) for count in counts]
            if not counts:
                found.append(kind(workload, workload.threads, settings))
    return found
