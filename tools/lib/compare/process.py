"""Runs processes under one allocator: preloading, the environment, time limits, peak and course of the memory.

A process is started in a session of its own, so that all of its descendants can be killed with it, and so that the
terminal's ctrl-C goes to tools/compare alone.
"""

import contextlib
import functools
import glob
import os
import re
import select
import shutil
import signal
import subprocess
import tempfile
import threading
import time
from dataclasses import dataclass, field

from arenal import elf
from compare import process_tree
from compare.results import Failed

SAMPLE_SECONDS = 0.02   # between two looks at the memory
MOST_SAMPLES = 2000     # then every other one is dropped, and looks are twice as far apart
PEEK_SECONDS = 0.001    # between two looks at the libraries, until the allocator is seen
PEEKING_SECONDS = 0.1   # later, it is not looked for so often
PRELOAD_ERROR = re.compile(r"^ERROR: ld\.so: object '.*' from LD_PRELOAD cannot be preloaded \((.*?)\)", re.MULTILINE)
# What steers an allocator or the dynamic linker, and is set in somebody's shell, must not leak into what is measured.
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


def clean_environment(extra=None):
    """The environment without what steers allocators, plus what is set on purpose."""
    environment = {name: value for name, value in os.environ.items() if not STEERING.match(name)}
    environment["LC_ALL"] = "C"
    environment.update(extra or {})
    return environment


class Launcher:
    """Runs processes under one allocator. `scratch` is a fresh directory for this run, `build_dir` has benchmarks/..."""

    def __init__(self, allocator, scratch, build_dir):
        self.allocator = allocator
        self.scratch = str(scratch)
        self.build_dir = str(build_dir)
        self.cpu = None     # the CPU that run() ties its processes to; None: all of them
        self.timeout = None  # a shorter limit than the cases', when the schedule has one

    def run(self, command, *, timeout, cwd=None, env=None, series=False, preload=True, input=None, output=True):
        """Runs a command to its end, see Finished. Raises Failed when it does not end well. `preload` is False for
        programs that only help to measure; `output` is False for what may print very much that nobody wants."""
        command = [str(word) for word in command]
        program = locate(command[0], cwd, self.allocator if preload else None)
        timeout = min(timeout, self.timeout) if self.timeout else timeout
        report = tempfile.mkstemp(prefix="time-", dir=self.scratch)[1]
        # GNU time, because a child that Python starts inherits Python's own peak: the kernel keeps ru_maxrss over
        # exec. `time` is small, and what it starts begins at its size. `env` sets LD_PRELOAD for the command alone.
        words = [_tool("time"), "-o", report, "-f", "%M"]
        if self.cpu is not None:
            words += [_tool("taskset"), "-c", str(self.cpu)]
        words += [_tool("env"), *self._environment_words(preload), program, *command[1:]]

        stdin = _memory_file("stdin", input or "")
        stdout = _memory_file("stdout") if output else os.open(os.devnull, os.O_WRONLY)
        stderr = _memory_file("stderr")
        try:
            watch = _Watch(self.allocator if preload else None, series)
            start = time.monotonic()
            process = None
            try:
                with _uninterrupted():
                    process = subprocess.Popen(words, stdin=stdin, stdout=stdout, stderr=stderr,
                                               cwd=cwd or self.scratch, env=clean_environment(env), start_new_session=True)
                ended = _wait(process.pid, start, timeout, watch)
                seconds = time.monotonic() - start
            finally:
                if process:
                    kill_all(process)
            text = _read_back(stdout) if output else ""
            errors = _read_back(stderr)
        finally:
            for descriptor in (stdin, stdout, stderr):
                os.close(descriptor)

        if not ended:
            raise Failed(f"hung: killed after {timeout:g} s")
        peak = _check_end(report, process.returncode, seconds, errors)
        if preload:
            self._check_library(watch, errors, command[0])
        return Finished(text, errors, seconds, peak, watch.series)

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
        """That the process ran on the allocator, as far as it can be told: a very short one may have ended unseen."""
        refused = PRELOAD_ERROR.search(errors)
        if refused:
            raise Failed(f"{self.allocator.name} cannot be preloaded: {refused.group(1)}")
        if watch.unused and not watch.seen:
            raise Failed(f"{os.path.basename(program)} does not use {self.allocator.name}: it ignores LD_PRELOAD")


class Service:
    """A running server. A context manager: it is stopped at the end of the block."""

    def __init__(self, command, cwd, environment, allocator):
        self.allocator = allocator
        self.program = os.path.basename(command[0])
        self._log = _memory_file("log")
        self.process = None
        try:
            with open(os.devnull, "rb") as nothing, _uninterrupted():
                self.process = subprocess.Popen(command, stdin=nothing, stdout=self._log, stderr=self._log, cwd=cwd,
                                                env=environment, start_new_session=True)
        except BaseException:
            if self.process:
                kill_all(self.process)
            os.close(self._log)
            raise
        self.started = time.monotonic()
        self.pid = self.process.pid
        self._seen = allocator is None

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.stop()

    def rss(self):
        return self._memory("VmRSS")

    def peak_rss(self):
        return self._memory("VmHWM")

    def cpu_seconds(self):
        """The processor time that its threads have used."""
        self.check_alive()
        try:
            total = 0
            for path in glob.glob(f"/proc/{self.pid}/task/*/schedstat"):
                with open(path, encoding="ascii") as file:
                    total += int(file.read().split()[0])
        except (OSError, IndexError, ValueError):
            total = 0
        if not total:
            self.check_alive()
            raise Failed("this kernel does not say how much processor time a thread has used (/proc/PID/task/*/schedstat)")
        return total / 1e9

    def tree_rss(self):
        """What the server and its descendants have in memory together."""
        self.check_alive()
        return process_tree.rss(process_tree.processes(self.pid))

    def log(self):
        """What it has printed so far."""
        return _read_back(self._log)

    def check_alive(self):
        """Raises Failed when the server has ended, or runs on another malloc."""
        if self.process.returncode is None and _has_ended(self.pid):
            kill_all(self.process)  # not poll(), which reaps it: its workers, which may live on, could not be found then
        status = self.process.returncode
        if status is not None:
            raise Failed(f"the server {_how_it_ended(status, time.monotonic() - self.started, self.log())}")
        if not self._seen:
            uses = process_tree.uses_library(self.pid, self.allocator.library)
            self._seen = uses is True
            if uses is False:
                raise Failed(f"{self.program} does not use {self.allocator.name}: it ignores LD_PRELOAD")

    def wait_for(self, condition, seconds):
        """Polls until condition() returns something true, as long as the server lives; returns that."""
        deadline = time.monotonic() + seconds
        while True:
            self.check_alive()
            found = condition()
            if found:
                return found
            if time.monotonic() > deadline:
                raise Failed(f"the server did not get ready within {seconds:g} s")
            time.sleep(0.01)

    def stop(self):
        """TERM, then KILL; nothing that it started stays."""
        if self._log is None:
            return
        try:
            if self.process.returncode is None and not _has_ended(self.pid):
                os.kill(self.pid, signal.SIGTERM)  # not terminate(), which reaps it when it has just ended
                deadline = time.monotonic() + 5
                while not _has_ended(self.pid) and time.monotonic() < deadline:
                    time.sleep(0.01)
        finally:
            kill_all(self.process)
            os.close(self._log)
            self._log = None

    def _memory(self, name):
        self.check_alive()
        try:
            with open(f"/proc/{self.pid}/status", encoding="ascii", errors="replace") as status:
                for line in status:
                    if line.startswith(name + ":"):
                        return int(line.split()[1]) * 1024
        except OSError:
            pass
        self.check_alive()  # says how it ended
        raise Failed(f"the server's memory cannot be read from /proc/{self.pid}/status")


@contextlib.contextmanager
def _uninterrupted():
    """Puts signals off until a process that is being started is known: otherwise nobody would end it."""
    if threading.current_thread() is not threading.main_thread():
        yield  # signals are handled in the main thread
        return
    pending = []
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    for number, handler in handlers.items():
        if callable(handler):
            signal.signal(number, lambda number, _: pending.append(number))
    try:
        yield
    finally:
        for number, handler in handlers.items():
            if callable(handler):
                signal.signal(number, handler)
        if pending:
            signal.raise_signal(pending[0])


HELPERS = ("time", "taskset", "env")    # they start the program, which they become


class _Watch:
    """What is looked at while a process runs: whether it has mapped the allocator, and its memory."""

    def __init__(self, allocator, wants_series):
        self.library = allocator.library if allocator else None
        self.seen = self.library is None
        self.unused = False     # a process was seen that could have mapped it, and has not
        self.helpers = {os.path.realpath(_tool(name)) for name in HELPERS}
        self.wants_series = wants_series
        self.series = []
        self.pause = SAMPLE_SECONDS

    def look(self, pid, seconds):
        """Returns the seconds until the next look is due; None when there is nothing more to see."""
        tree = process_tree.processes(pid)[1:]  # without `time` itself
        if not self.seen:
            # In this order: a helper becomes the program, but no program becomes a helper.
            measured = [child for child in tree if not process_tree.is_program(child, self.helpers)]
            uses = {process_tree.uses_library(child, self.library) for child in measured}
            self.seen = True in uses
            self.unused |= False in uses
        if self.wants_series and (not self.series or seconds - self.series[-1][0] >= self.pause * 0.9):
            resident = process_tree.rss(tree)
            if resident:
                self.series.append([round(seconds, 4), resident])
            if len(self.series) >= MOST_SAMPLES:
                del self.series[1::2]
                self.pause *= 2
        if not self.seen:
            return PEEK_SECONDS if seconds < PEEKING_SECONDS else self.pause
        return self.pause if self.wants_series else None


def _wait(pid, start, timeout, watch):
    """Until the process has ended, which True says, or the time is over. Leaves it to be waited for."""
    # Waiting by a pidfd wakes at once, however long the looks are apart: the time measured depends on that.
    with os.fdopen(os.pidfd_open(pid), "rb", buffering=0) as handle:
        poll = select.poll()
        poll.register(handle, select.POLLIN)
        while True:
            seconds = time.monotonic() - start
            if seconds >= timeout:
                return _has_ended(pid)
            pause = watch.look(pid, seconds)
            left = timeout - (time.monotonic() - start)
            if poll.poll(max(0, min(left, left if pause is None else pause)) * 1000 + 0.5):
                return True


def _has_ended(pid):
    return os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None


def kill_all(process):
    """Kills the process's session and what its descendants are, then reaps it: before, no other process can have its
    number."""
    if process.returncode is None:
        tree = process_tree.processes(process.pid)
        try:
            os.killpg(process.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        for child in tree[1:]:  # those that moved to groups of their own
            try:
                os.kill(child, signal.SIGKILL)
            except ProcessLookupError:
                pass
    process.wait()


def _check_end(report, status, seconds, errors):
    """The peak in bytes that GNU time wrote; its words about a process that did not end well raise Failed."""
    with open(report, encoding="utf-8", errors="replace") as file:
        lines = file.read().splitlines()
    os.unlink(report)
    killed = re.match(r"Command terminated by signal (\d+)", lines[0]) if lines else None
    if killed:
        status = -int(killed.group(1))
    if status != 0:
        raise Failed(_how_it_ended(status, seconds, errors))
    if not lines or not lines[-1].isdigit():
        raise Failed("its peak memory is not known: GNU time could not write it down")  # a full disk
    return int(lines[-1]) * 1024


def _how_it_ended(status, seconds, errors):
    reason = last_line(errors)
    reason = f": {reason}" if reason else ""
    if status < 0:
        return f"crashed: {signal_name(-status)} after {seconds:.1f} s{reason}"
    return f"ended with status {status}{reason}"


def last_line(text, limit=200):
    lines = [line for line in text.splitlines() if line.strip()]
    return "".join(c if c.isprintable() else "?" for c in lines[-1].strip()[:limit]) if lines else ""


def signal_name(number):
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def find_program(name):
    """The path of a program; servers live in sbin, which an ordinary user's PATH may lack."""
    path = shutil.which(name, path=os.environ.get("PATH", "") + ":/usr/bin:/usr/sbin")
    if not path:
        raise Failed(f"{name} is not installed" if "/" not in name else f"{name} is missing")
    return path


_tools = {}


def _tool(name):
    if name not in _tools:
        _tools[name] = find_program(name)
    return _tools[name]


def locate(name, cwd, allocator=None):
    """Its path, looked up here rather than by `env`, whose words about a missing one are about itself."""
    path = find_program(name) if "/" not in name else os.path.join(cwd or os.getcwd(), name)
    if not os.path.exists(path):
        raise Failed(f"{name} is missing")
    if os.path.isdir(path) or not os.access(path, os.X_OK):
        raise Failed(f"{name} cannot be executed")
    if allocator and _brings_malloc(path):
        raise Failed(f"{os.path.basename(path)} does not use {allocator.name}: it is linked with a malloc of its own")
    return path


@functools.lru_cache(None)
def _brings_malloc(path):
    """Whether a program cannot be made to use another malloc, as it defines one or never sees the dynamic linker."""
    try:
        return elf.is_static_program(path) or elf.symbol(path, "malloc") is not None
    except (elf.NotElf, OSError):
        return False  # a script


def _memory_file(name, text=""):
    """Neither a pipe, which somebody had to empty, nor a file, whose disk may be full."""
    descriptor = os.memfd_create(f"compare-{name}")
    if text:
        os.write(descriptor, text if isinstance(text, bytes) else text.encode())
        os.lseek(descriptor, 0, os.SEEK_SET)
    return descriptor


def _read_back(descriptor):
    size = os.fstat(descriptor).st_size
    return os.pread(descriptor, size, 0).decode(errors="replace")
