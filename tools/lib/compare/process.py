"""Runs processes under one allocator: preloading, the environment, time limits, and that it was used.

A process is started in a session of its own, so that all of its descendants can be killed with it, and so
that the terminal's ctrl-C goes to tools/compare alone."""

import os
import re
import subprocess
import tempfile
import time
from dataclasses import dataclass, field

from compare.process_life import how_it_ended, kill_all, memory_file, read_back, uninterrupted
from compare.process_watch import Watch, wait
from compare.program_files import locate, tool
from compare.results import Failed
from compare.service import Service

PRELOAD_ERROR = re.compile(r"^ERROR: ld\.so: object '.*' from LD_PRELOAD cannot be preloaded \((.*?)\)", re.MULTILINE)
# What steers an allocator or the dynamic linker, and is set in somebody's shell, must not leak into what is
# measured.
STEERING = re.compile(r"(ARENAL|MALLOC|LD|TCMALLOC|MIMALLOC|JEMALLOC|TBB|GLIBC|RPMALLOC|SCUDO|SNMALLOC)_|"
                      r"MALLOC_|HEAPPROFILE$|HEAPCHECK$")


@dataclass
class Finished:
    """A process that has ended well."""

    output: str
    errors: str
    seconds: float      # from its start to its end
    peak_rss: int       # bytes, of the biggest process of the tree
    series: list = field(default_factory=list)  # [[seconds, bytes of the whole tree], ...]
    used: list = field(default_factory=list)    # seconds of CPU of the tree until then, for each of these


def clean_environment(extra=None):
    """The environment without what steers allocators, plus what is set on purpose."""
    environment = {name: value for name, value in os.environ.items() if not STEERING.match(name)}
    environment["LC_ALL"] = "C"
    environment.update(extra or {})
    return environment


class Launcher:
    """Runs processes under one allocator. `scratch` is a fresh directory for this run, `build_dir` has
    benchmarks/..."""

    def __init__(self, allocator, scratch, build_dir):
        self.allocator = allocator
        self.scratch = str(scratch)
        self.build_dir = str(build_dir)
        self.cpu = None     # the CPU that run() ties its processes to; None: all of them
        self.timeout = None  # a shorter limit than the cases', when the schedule has one

    def run(self, command, *, timeout, cwd=None, env=None, series=False, preload=True, input=None, output=True):
        """Runs a command to its end, see Finished. Raises Failed when it does not end well. `preload` is
        False for programs that only help to measure; `output` is False for what may print very much that
        nobody wants."""
        command = [str(word) for word in command]
        program = locate(command[0], cwd, self.allocator if preload else None)
        timeout = min(timeout, self.timeout) if self.timeout else timeout
        report = tempfile.mkstemp(prefix="time-", dir=self.scratch)[1]
        # GNU time, because a child that Python starts inherits Python's own peak: the kernel keeps ru_maxrss
        # over exec. `time` is small, and what it starts begins at its size. `env` sets LD_PRELOAD for the
        # command alone.
        words = [tool("time"), "-o", report, "-f", "%M"]
        if self.cpu is not None:
            words += [tool("taskset"), "-c", str(self.cpu)]
        words += [tool("env"), *self._environment_words(preload), program, *command[1:]]

        stdin = memory_file("stdin", input or "")
        stdout = memory_file("stdout") if output else os.open(os.devnull, os.O_WRONLY)
        stderr = memory_file("stderr")
        try:
            watch = Watch(self.allocator if preload else None, series)
            start = time.monotonic()
            process = None
            try:
                with uninterrupted():
                    process = subprocess.Popen(words, stdin=stdin, stdout=stdout, stderr=stderr,
                                               cwd=cwd or self.scratch, env=clean_environment(env), start_new_session=True)
                ended = wait(process.pid, start, timeout, watch)
                seconds = time.monotonic() - start
            finally:
                if process:
                    kill_all(process)
            text = read_back(stdout) if output else ""
            errors = read_back(stderr)
        finally:
            for descriptor in (stdin, stdout, stderr):
                os.close(descriptor)

        if not ended:
            raise Failed(f"hung: killed after {timeout:g} s")
        peak = _check_end(report, process.returncode, seconds, errors)
        if preload:
            self._check_library(watch, errors, command[0])
        return Finished(text, errors, seconds, peak, watch.series, watch.used)

    def start(self, command, *, cwd=None, env=None, preload=True):
        """Starts a server, see Service."""
        command = [str(word) for word in command]
        environment = clean_environment(env)
        if preload:
            environment.update(word.split("=", 1) for word in self._environment_words(preload))
        command[0] = locate(command[0], cwd, self.allocator if preload else None)
        return Service(command, cwd or self.scratch, environment, self.allocator if preload else None)

    def _environment_words(self, preload):
        """What is set for the measured program alone, not for what helps to measure."""
        if not preload:
            return []
        words = [f"{name}={value}" for name, value in self.allocator.environment.items()]
        return words + ([f"LD_PRELOAD={self.allocator.preload}"] if self.allocator.preload else [])

    def _check_library(self, watch, errors, program):
        """That the process ran on the allocator, as far as it can be told: a very short one may have ended
        unseen."""
        refused = PRELOAD_ERROR.search(errors)
        if refused:
            raise Failed(f"{self.allocator.name} cannot be preloaded: {refused.group(1)}")
        if watch.unused and not watch.seen:
            raise Failed(f"{os.path.basename(program)} does not use {self.allocator.name}: it ignores LD_PRELOAD")


def _check_end(report, status, seconds, errors):
    """The peak in bytes that GNU time wrote; its words about a process that did not end well raise Failed."""
    with open(report, encoding="utf-8", errors="replace") as file:
        lines = file.read().splitlines()
    os.unlink(report)
    killed = re.match(r"Command terminated by signal (\d+)", lines[0]) if lines else None
    if killed:
        status = -int(killed.group(1))
    if status != 0:
        raise Failed(how_it_ended(status, seconds, errors))
    if not lines or not lines[-1].isdigit():
        raise Failed("its peak memory is not known: GNU time could not write it down")  # a full disk
    return int(lines[-1]) * 1024
