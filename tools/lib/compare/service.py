"""A server that runs under one allocator, until it is told to end: what it has in memory, what it has
printed, that it lives. process.py starts it."""

import glob
import os
import signal
import subprocess
import time

from compare import process_tree
from compare.process_life import has_ended, how_it_ended, kill_all, memory_file, read_back, uninterrupted
from compare.results import Failed


class Service:
    """A running server. A context manager: it is stopped at the end of the block."""

    def __init__(self, command, cwd, environment, allocator):
        self.allocator = allocator
        self.program = os.path.basename(command[0])
        self._log = memory_file("log")
        self.process = None
        try:
            with open(os.devnull, "rb") as nothing, uninterrupted():
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
        return read_back(self._log)

    def check_alive(self):
        """Raises Failed when the server has ended, or runs on another malloc."""
        if self.process.returncode is None and has_ended(self.pid):
            kill_all(self.process)  # not poll(), which reaps it: its workers, which may live on, could not be found then
        status = self.process.returncode
        if status is not None:
            raise Failed(f"the server {how_it_ended(status, time.monotonic() - self.started, self.log())}")
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
            if self.process.returncode is None and not has_ended(self.pid):
                os.kill(self.pid, signal.SIGTERM)  # not terminate(), which reaps it when it has just ended
                deadline = time.monotonic() + 5
                while not has_ended(self.pid) and time.monotonic() < deadline:
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
