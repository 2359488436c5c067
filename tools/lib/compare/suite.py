"""A public suite that somebody has built already: mimalloc-bench (https://github.com/daanx/mimalloc-bench), whose programs
are run as its bench.sh does, but interleaved and several times. `--suite DIR` names its checkout, where
`./build-bench-env.sh bench` has built out/bench."""

import os
import re
from dataclasses import dataclass

from compare import allocators
from compare.cases import Case
from compare.results import Failed, Run

N = len(os.sched_getaffinity(0))
PROGRAMS = os.path.join("out", "bench")


@dataclass(frozen=True)
class Test:
    """A line of bench.sh: the words after ./, and what its time is, where that is not how long the process takes."""

    name: str
    words: str
    threads: int = 1
    stdin: str = None       # a file of the suite's
    pattern: str = None     # of a number in the output
    rate: float = None      # that number is a rate: the time is this many by it

    @property
    def program(self):
        return self.words.split()[0]


LARSON = r" time: ([0-9.]+)"
TESTS = [
    Test("cfrac", "cfrac 17545186520507317056371138836327483792789528"),
    Test("espresso", "espresso ../../bench/espresso/largest.espresso"),
    Test("barnes", "barnes", stdin="bench/barnes/input"),
    Test("larsonN", f"larson 5 8 1000 5000 100 4141 {N}", N, pattern=LARSON),
    Test("larson16", "larson 5 8 1000 5000 100 4141 16", 16, pattern=LARSON),
    Test("larsonN-sized", f"larson-sized 5 8 1000 5000 100 4141 {N}", N, pattern=LARSON),
    Test("mstressN", f"mstress {N} 50 25", N),
    Test("mstress16", "mstress 16 50 8", 16),
    Test("rptestN", f"rptest {N} 0 1 2 500 1000 100 8 16000", N, pattern=r"\.\.\.([0-9]+) memory ops", rate=2e6),
    Test("rptest16", "rptest 16 0 1 2 500 1000 100 8 16000", 16, pattern=r"\.\.\.([0-9]+) memory ops", rate=2e6),
    Test("alloc-test1", "alloc-test 1"),
    Test("alloc-testN", f"alloc-test {min(N, 16)}", N),
    Test("sh6benchN", f"sh6bench {2 * N}", 2 * N),
    Test("sh8benchN", f"sh8bench {2 * N}", 2 * N),
    Test("xmalloc-testN", f"xmalloc-test -w {N} -t 5 -s 64", N, pattern=r"rtime: ([0-9.]+)"),
    Test("cache-scratch1", f"cache-scratch 1 1000 1 2000000 {N}"),
    Test("cache-scratchN", f"cache-scratch {N} 1000 1 2000000 {N}", N),
    Test("cache-thrash1", f"cache-thrash 1 1000 1 2000000 {N}"),
    Test("cache-thrashN", f"cache-thrash {N} 1000 1 2000000 {N}", N),
    Test("glibc-simple", "glibc-simple"),
    Test("glibc-thread", f"glibc-thread {N}", N, pattern=r"([0-9.]+)", rate=1e9),
    Test("malloc-large", "malloc-large"),
    Test("mleak10", "mleak 5"),
    Test("mleak100", "mleak 50"),
    # Not lines of bench.sh: many more threads than CPUs.
    Test("larson64", "larson 5 8 1000 5000 100 4141 64", 64, pattern=LARSON),
    Test("mstress64", "mstress 64 50 4", 64),
]


class SuiteCase(Case):
    group = "suite"
    unit = "s"
    seconds = 5
    timeout = 300

    def __init__(self, test, root):
        self.test, self.root = test, root
        self.name = self.family = f"suite/{test.name}"
        self.title = test.words
        self.about = f"mimalloc-bench: {test.words}"
        self.threads = test.threads

    def measure(self, launcher, settings):
        folder = os.path.join(self.root, PROGRAMS)
        program, *arguments = self.test.words.split()
        done = launcher.run([os.path.join(folder, program), *arguments], timeout=self.timeout, cwd=folder,
                            input=self._input())
        return [(self.name, Run(metrics={"time": self._time(done), "peak_rss": done.peak_rss}))]

    def _input(self):
        if not self.test.stdin:
            return None
        try:
            with open(os.path.join(self.root, self.test.stdin), "rb") as file:
                return file.read()
        except OSError as error:
            raise Failed(f"cannot read the suite's {self.test.stdin}: {error.strerror}") from None

    def _time(self, done):
        if not self.test.pattern:
            return done.seconds
        found = re.findall(self.test.pattern, done.output)
        value = float(found[0 if self.test.program == "glibc-thread" else -1]) if found else 0
        if value <= 0:
            raise Failed(f"{self.test.program} printed no result")
        return self.test.rate / value if self.test.rate else value


def cases(root):
    """Those whose programs are built."""
    folder = os.path.join(root, PROGRAMS)
    if not os.path.isdir(folder):
        raise Failed(f"{folder} is missing: --suite takes a checkout of mimalloc-bench, in which ./build-bench-env.sh bench "
                     "was run")
    found = [SuiteCase(test, os.path.abspath(root)) for test in TESTS
             if os.access(os.path.join(folder, test.program), os.X_OK)]
    if not found:
        raise Failed(f"{folder} has none of the suite's programs: ./build-bench-env.sh bench builds them")
    return found


def describe(root):
    """Which version of the suite, and which of its tests are not there: what the report says about it."""
    built = {case.test.name for case in cases(root)}
    return {"name": "mimalloc-bench", "version": allocators.revision(root) or "of unknown revision",
            "missing": [test.name for test in TESTS if test.name not in built]}
