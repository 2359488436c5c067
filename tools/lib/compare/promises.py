"""What the README promises beyond speed, each with a limit: memory that goes back, a small idle process, no long calls,
misuse that is found. The gate wants all of them of a build, whatever the one before did.

Memory, counts and processor time, so that a busy machine changes little."""

import contextlib
import json
import os
import re
import subprocess
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from compare.builds import CannotCompare, clean_environment

MIB = 1 << 20
PAGE = os.sysconf("SC_PAGESIZE")
PROGRAMS = {"arenal_promises": "counts/arenal_promises", "burst_idle": "workloads/burst_idle", "key_value": "workloads/key_value"}
TARGETS = ["arenal_promises", "arenal_workload_burst_idle", "arenal_workload_key_value"]     # what builds them
KINDS = ["free_twice", "free_inside", "free_stack", "overflow", "use_after_free"]
SECONDS = 60    # that any of these may take


@dataclass(frozen=True)
class Promise:
    name: str
    words: str      # what the figure is
    limit: float    # more than this is a promise that is broken
    unit: str

    def text(self, value):
        return f"{value:,.2f} {self.unit}"


# What is measured today stands beside the limit. A page more or less for each of a hundred spans must not be an alarm.
PROMISES = [
    Promise("rest_1s", "resting RSS 1 s after a burst of 240 MB", 22, "MiB"),               # 16 to 18
    Promise("rest_10s", "resting RSS 10 s after it", 20, "MiB"),                            # 16 to 18
    Promise("peak", "peak RSS of a key-value store, by glibc's", 1.09, "times"),            # 1.04
    Promise("idle", "memory that an idle process has more than under glibc", 170, "KiB"),   # 132 to 152
    Promise("idle_space", "address space that it has more", 6, "MiB"),                      # 4.2
    Promise("limited", "what blocks of 200 B get of 20 MiB of address space, less than all", 8, "%"),   # 1 to 5
    Promise("worst_call", "processor time of the worst malloc or free", 10, "ms"),          # 2
    Promise("misuse", f"kinds of misuse, of {len(KINDS)}, that are not found", 0, "kinds"),
]


def program_paths(build_dir):
    return {name: os.path.join(build_dir, "benchmarks", path) for name, path in PROGRAMS.items()}


def measure(library, build_dir, wanted=lambda name: True, environment=None):
    """{name: value} of the promises that are wanted. `environment` is what a test breaks one with."""
    measuring = _Measuring(library, program_paths(build_dir), environment or {})
    groups = {("rest_1s", "rest_10s"): measuring.burst, ("peak",): measuring.peak, ("idle", "idle_space"): measuring.idle,
              ("limited",): measuring.limited, ("worst_call",): measuring.worst_call, ("misuse",): measuring.misuse}
    chosen = [run for names, run in groups.items() if any(map(wanted, names))]
    # The burst mostly rests, and the others have time meanwhile.
    with ThreadPoolExecutor(2) as pool:
        found = dict(pair for part in list(pool.map(lambda run: run(), chosen)) for pair in part.items())
    return {promise.name: found[promise.name] for promise in PROMISES if wanted(promise.name)}


def judge(*arguments, wanted=lambda name: True, **options):
    """The same; what seems broken is measured once more, and the better figure counts: a busy machine may have kept the
    thread that gives memory back from its work."""
    found = measure(*arguments, wanted=wanted, **options)
    suspects = {promise.name for promise in broken(found)}
    again = measure(*arguments, wanted=suspects.__contains__, **options) if suspects else {}
    return {name: min(value, again.get(name, value)) for name, value in found.items()}


def broken(found):
    return [promise for promise in PROMISES if found.get(promise.name, 0) > promise.limit]


class _Measuring:
    def __init__(self, library, programs, environment):
        self.programs = programs
        self.preloaded = {**clean_environment(), "LD_PRELOAD": os.path.realpath(library), **environment}

    def run(self, name, *arguments, preload=True, check=True):
        """The output; or, without `check`, (how it ended, its errors)."""
        try:
            done = subprocess.run([self.programs[name], *arguments], env=self.preloaded if preload else clean_environment(),
                                  stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                                  errors="replace", timeout=SECONDS, check=False)
        except subprocess.TimeoutExpired:
            raise CannotCompare(f"{name} {' '.join(arguments)} hangs") from None
        except OSError as error:
            raise CannotCompare(f"cannot run {name}: {error.strerror}") from None
        if not check:
            return done.returncode, done.stderr
        if done.returncode != 0:
            raise CannotCompare(f"{name} {' '.join(arguments)} ended with status {done.returncode}")
        return done.stdout

    def burst(self):
        found = json.loads(self.run("burst_idle", "--threads=4", "--operations=88000", "--rest=10"))
        return {"rest_1s": found["rest_rss_1s_bytes"] / MIB, "rest_10s": found["rest_rss_bytes"] / MIB}

    def peak(self):
        ours, theirs = (json.loads(self.run("key_value", "--operations=300000", preload=preload))["peak_rss_bytes"]
                        for preload in (True, False))
        return {"peak": ours / theirs}

    def idle(self):
        ours, theirs = self.look_at_idle(self.preloaded), self.look_at_idle(clean_environment())
        # The pages of the library's code are everybody's who uses it; what is written to is its own.
        return {"idle": (ours[0] - theirs[0]) / 1024 * 4096 / PAGE, "idle_space": (ours[1] - theirs[1]) / MIB}

    def look_at_idle(self, environment):
        """(bytes that only it has written to, its address space)."""
        process = subprocess.Popen([self.programs["arenal_promises"], "idle"], env=environment, stdin=subprocess.PIPE,
                                   stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
        try:
            if process.stdout.readline() != b"ready\n":
                raise CannotCompare("arenal_promises idle does not get ready")
            # Not Private_Dirty: of a library that was just built, that has the pages of code, too, which the disk has not got yet.
            return (_kilobytes(process.pid, "smaps_rollup", "Anonymous"), _kilobytes(process.pid, "status", "VmSize"))
        finally:
            with contextlib.suppress(BrokenPipeError):
                process.communicate()

    def limited(self):
        return {"limited": 100 - 100 * int(self.run("arenal_promises", "limited", "20")) / (20 * MIB)}

    def worst_call(self):
        return {"worst_call": max(map(int, self.run("arenal_promises", "worst").split())) / 1e6}

    def misuse(self):
        """Found is what ended the program with a word about it."""
        ends = [self.run("arenal_promises", "misuse", kind, check=False) for kind in KINDS]
        return {"misuse": sum(status >= 0 or not errors.startswith("arenal: ") for status, errors in ends)}


def _kilobytes(pid, name, field):
    with open(f"/proc/{pid}/{name}", encoding="ascii", errors="replace") as file:
        found = re.search(rf"^{field}:\s+(\d+) kB$", file.read(), re.M)
    if not found:
        raise CannotCompare(f"this kernel does not say {field} of a process")
    return int(found[1]) * 1024
