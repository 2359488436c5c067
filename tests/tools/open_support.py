"""What the tests of `arenal ctl PID open` share: processes without a window, which must go on as if nobody had come by."""

import os
import platform
import signal
import subprocess
import sys

from support import LIBRARY, TOOL, ToolTest, environment

from arenal import door, window, window_file

SLEEPER = os.environ["TEST_SLEEPER"]
WORKS = ("loop", "loops", "registers-loop", "malloc")
STACKS = ("pops", "low-stack")         # whose stack pointer points to what must stay as it is
STUCK = ("handler-loop", "coroutine-loop", "qsort")
PARTS = ("socket-least", "terminal-least", "events-least")      # that a stop would end early,
CLOSED = ("accept-closed", "epoll-closed")                      # and that would not be found again after it
BY_SIGNAL = (*PARTS, *CLOSED, "recv-ticks", "epoll-interrupted", "read-interrupted", "sigsuspend", "sigtimedwait", "threads", "zeros", *STACKS, *WORKS, *STUCK)
HANDLERS = ("handler", "handler-b8", "handler-6a")
SLEEPS = ("read", "poll", "select", "epoll", "epoll-interrupted", "read-interrupted", "sigsuspend", "sigtimedwait", "futex", "wait", "registers")
HERE = platform.machine() == "x86_64"
YAMA = "/proc/sys/kernel/yama/ptrace_scope"


class OpenTest(ToolTest):
    def on_arenal_without(self, *command, prefix=(), **changes):
        """A program on Arenal that has no window."""
        process = self.start([*prefix, sys.executable, "-B", TOOL, "run", "--", *command], env=environment(**{"ARENAL_WINDOW": "-1", **changes}),
                             stderr=subprocess.PIPE)
        self.assertNotIn(window_file.NAME, window_file.threads_of_arenal(process.pid))
        return process

    def sleeper(self, what, threads=0, before="", **changes):
        """Without the tool, which takes its time."""
        process = self.start([SLEEPER, what, str(threads)], stderr=subprocess.PIPE,
                             env=environment(**{"LD_PRELOAD": f"{before}{LIBRARY}", **changes}))
        self.assertNotIn(window_file.NAME, window_file.threads_of_arenal(process.pid))
        return process

    def opens(self, process, least=10 ** 6, tool=False):
        """Opens the window, right away, and looks in."""
        if tool:
            done = self.arenal("ctl", str(process.pid), "open")
            self.assertEqual((done.returncode, done.stdout, done.stderr), (0, "", ""), done)
        else:
            self.assertFalse(door.open_window(process.pid))
        with window.Window(process.pid) as opened:
            self.assertGreaterEqual(opened.snapshot().stats["allocated"], least)

    def is_unharmed(self, process, what):
        """It ends as it should. Returns what it has written."""
        if what in BY_SIGNAL:
            process.send_signal(signal.SIGUSR1)
        if "interrupted" in what:
            process.wait(30)            # before there is something to read
        out, errors = process.communicate(timeout=30)
        self.assertEqual((process.returncode, errors), (0, ""))
        return out
