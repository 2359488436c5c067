"""Tests of `arenal top`: what stands on the screen of a terminal, which pyte plays here, and what keys do."""

import fcntl
import os
import pty
import re
import select
import signal
import struct
import subprocess
import sys
import termios
import time
import unittest

import pyte

from support import DEADLINE, TOOL, WORKLOAD, ToolTest, environment

KEYS = "q quit"


class Terminal:
    """A terminal with `arenal top` in it."""

    def __init__(self, words, columns=80, rows=24, **changes):
        self.ours, theirs = pty.openpty()
        self.screen = pyte.Screen(columns, rows)
        self.stream = pyte.ByteStream(self.screen)
        self.resize(columns, rows, theirs)
        self.written = b""
        self.process = subprocess.Popen([sys.executable, "-B", TOOL, "top", "-d", "0.1", *words], stdin=theirs, stdout=theirs,
                                        stderr=theirs, start_new_session=True,
                                        env=environment(**{"TERM": "xterm", "LC_ALL": "C.UTF-8", **changes}))
        os.close(theirs)

    def resize(self, columns, rows, file=None):
        fcntl.ioctl(self.ours if file is None else file, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
        if file is None:
            self.screen.resize(rows, columns)
            self.process.send_signal(signal.SIGWINCH)

    def read(self, seconds):
        """Whether there was anything to read."""
        if not select.select([self.ours], [], [], seconds)[0]:
            return False
        try:
            data = os.read(self.ours, 65536)
        except OSError:                 # the other side is closed, and all of it was read
            return False
        self.written += data
        self.stream.feed(data)
        return True

    def press(self, keys):
        os.write(self.ours, keys.encode())

    def text(self):
        return "\n".join(line.rstrip() for line in self.screen.display)

    def close(self):
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        os.close(self.ours)


class Top(ToolTest):
    def top(self, *words, **options):
        terminal = Terminal([str(word) for word in words], **options)
        self.addCleanup(terminal.close)
        return terminal

    def press_until(self, terminal, key, pattern):
        """Others run on this machine: the process that the key leads to may just have ended, and the list stays."""
        until = time.monotonic() + DEADLINE
        while re.search(pattern, terminal.text()) is None and time.monotonic() < until:
            terminal.press(key)
            answer = time.monotonic() + 2       # each key gets its time: a process that is asked may be silent
            while re.search(pattern, terminal.text()) is None and time.monotonic() < answer:
                terminal.read(0.1)
        self.wait(terminal, pattern)

    def wait(self, terminal, pattern, absent=False):
        """Until the pattern is on the screen, or no more."""
        until = time.monotonic() + DEADLINE
        while (re.search(pattern, terminal.text()) is None) != absent:
            if time.monotonic() > until:
                self.fail(f"no {pattern!r}{' less' if absent else ''} in\n{terminal.text()}")
            terminal.read(0.2)
        return re.search(pattern, terminal.text())

    def end(self, terminal):
        until = time.monotonic() + DEADLINE
        while terminal.process.poll() is None:
            self.assertLess(time.monotonic(), until, terminal.text())
            terminal.read(0.1)
        while terminal.read(0):
            pass
        return terminal.process.returncode

    def quit(self, terminal):
        terminal.press("q")
        self.assertEqual(self.end(terminal), 0)
        self.assertTrue(b"\x1b[?1049l" in terminal.written, "the screen is not as it was before")

    def workload(self, *words):
        return self.on_arenal(WORKLOAD, *(words or ("20", "2", "4", "64")))

    def test_figures(self):
        process = self.workload()
        terminal = self.top(process.pid)
        found = self.wait(terminal, r"allocated +([0-9.]+)M ")
        self.assertTrue(92 <= float(found[1]) < 97, found[0])
        for pattern in (rf"process {process.pid}", r"threads +3 ", r"1 huge block, 64\.0M", r"(?m)^ +416 +\d+ +5\d{4} ",
                        r"100% █", rf"{KEYS}[^\n]*$"):
            self.wait(terminal, pattern)
        self.quit(terminal)

    def test_keys(self):
        terminal = self.top(self.workload().pid)
        self.wait(terminal, r"\*BYTES")
        terminal.press(">")
        self.wait(terminal, r"\*WASTE")
        terminal.press("<<")
        self.wait(terminal, r"\*CACHED")
        terminal.press("<<<r")
        self.wait(terminal, r"\*SIZE[^\n]*\n +\d{2,3} [^\n]*\n +416 ")           # smallest first
        terminal.press("\t")
        self.wait(terminal, r"PREFERS[^\n]*\n +0 brk")
        terminal.press("\t")
        self.wait(terminal, r"REGION +KIND")
        terminal.press("h")
        self.wait(terminal, r"arenal top: help")
        terminal.press("x")
        self.wait(terminal, r"REGION +KIND")
        terminal.press("p")
        self.wait(terminal, "paused")
        terminal.press(" ")
        self.wait(terminal, "paused", absent=True)
        terminal.press("P")
        self.wait(terminal, r"\(y\)")
        terminal.press("n")
        self.wait(terminal, "not purged")
        terminal.press("Py")
        self.wait(terminal, r"at most [0-9.]+[KM] given back")
        self.quit(terminal)

    def test_sizes(self):
        terminal = self.top(self.workload().pid, columns=200, rows=50)
        self.wait(terminal, r"FLUSHES/S +ARENA +PREFERS")
        for columns, rows in ((80, 24), (30, 8), (10, 2), (1, 1), (200, 20)):
            terminal.resize(columns, rows)
            terminal.read(0.2)
            self.assertIsNone(terminal.process.poll())
        self.wait(terminal, r"FLUSHES/S +ARENA +PREFERS")
        terminal.resize(80, 24)
        self.wait(terminal, r"allocated +9\d\.\dM[^\n]*\n")
        self.wait(terminal, "PREFERS", absent=True)
        self.quit(terminal)

    def test_stopped_and_ended(self):
        process = self.workload()
        terminal = self.top(process.pid, columns=200)
        self.wait(terminal, r"allocated +9\d")
        os.kill(process.pid, signal.SIGSTOP)
        self.wait(terminal, r"it is stopped .*; figures are \d+ s old")
        self.wait(terminal, r"allocated +9\d")
        os.kill(process.pid, signal.SIGCONT)
        self.wait(terminal, "figures are", absent=True)
        self.stop(process)
        self.wait(terminal, r"has ended; figures are \d+ s old")
        self.wait(terminal, r"allocated +9\d")
        self.quit(terminal)

    def test_other_processes(self):
        first, second = sorted((self.workload("1", "1", "0", "0"), self.workload("2", "1", "0", "0")), key=lambda p: p.pid)
        terminal = self.top(rows=100)
        self.wait(terminal, rf"(?m)^ +{first.pid} .*(\n.*)*^ +{second.pid} ")
        self.press_until(terminal, "n", r"\(process \d+\)")
        terminal.press("l")
        self.wait(terminal, "processes on Arenal")
        self.press_until(terminal, "\n", r"\(process \d+\)")
        self.quit(terminal)
        terminal = self.top(first.pid)
        self.wait(terminal, rf"process {first.pid}")
        until, shown = time.monotonic() + DEADLINE, first.pid
        while shown != second.pid:      # any number of others may run on this machine
            self.assertLess(time.monotonic(), until, terminal.text())
            terminal.press("n")
            answer = time.monotonic() + 2
            while (found := re.search(r"\(process (\d+)\)", terminal.text())) is None or int(found[1]) == shown:
                if time.monotonic() > answer:
                    break               # that one has ended just now
                terminal.read(0.1)
            shown = int(found[1]) if found else shown
        terminal.press("N")
        self.wait(terminal, rf"process (?!{second.pid}\b)\d+")
        self.quit(terminal)

    def test_killed(self):
        process = self.workload()
        for number, status in ((signal.SIGKILL, -signal.SIGKILL), (signal.SIGTERM, 128 + signal.SIGTERM)):
            terminal = self.top(process.pid)
            self.wait(terminal, "allocated")
            terminal.process.send_signal(number)
            self.assertEqual(self.end(terminal), status)
            self.assertEqual(self.arenal("stats", str(process.pid)).returncode, 0)
        self.assertTrue(b"\x1b[?1049l" in terminal.written, "the screen is not as it was before")

    def test_ascii(self):
        terminal = self.top(self.workload().pid, LC_ALL="C")
        self.wait(terminal, r"100% #")
        self.assertTrue(terminal.written.isascii())
        self.quit(terminal)

    def test_a_locale_that_is_not_installed(self):
        pid = self.workload("1", "0", "0", "0").pid
        for changes in ({"LC_ALL": "xx_YY.UTF-8"}, {"LC_ALL": None, "LANG": "xx_YY.UTF-8"}, {"LC_ALL": "xx_YY.ISO-8859-1"}):
            terminal = self.top(pid, **changes)
            self.wait(terminal, r"100% [#█▁▂▃▄▅▆▇.:]")
            self.quit(terminal)

    def test_keys_while_a_process_is_silent(self):
        process = self.fake_window("silent")
        terminal = self.top(process.pid, columns=200)
        self.wait(terminal, "does not answer")
        terminal.press("Py")
        self.wait(terminal, "giving memory back|does not answer within [0-9.]+ s *$")
        terminal.press("h")
        self.wait(terminal, "arenal top: help")
        terminal.press("xq")
        self.assertEqual(self.end(terminal), 0)

    def test_terminals_that_will_not_do(self):
        for kind, words in (("dumb", "--batch"), ("no-such-terminal", "--batch")):
            terminal = self.top(self.workload("1", "0", "0", "0").pid, TERM=kind, columns=200)
            self.assertEqual(self.end(terminal), 1)
            self.wait(terminal, words)
            self.assertNotIn("Traceback", terminal.text())
        self.assert_sentence(self.arenal("top", stdin=subprocess.DEVNULL), "--batch")
        terminal = self.top(2147483647)
        self.assertEqual(self.end(terminal), 1)
        self.wait(terminal, "there is no process")

    def test_batch(self):
        process = self.workload()
        done = self.arenal("top", "--batch", "-n", "2", "-d", "0.05", str(process.pid), env=environment(LC_ALL="C"))
        self.assertEqual((done.returncode, done.stderr), (0, ""))
        self.assertEqual(len(re.findall(r"(?m)^arenal top: ", done.stdout)), 2)
        self.assertEqual(len(re.findall(r"allocated +9\d\.\dM", done.stdout)), 2)
        self.assertTrue(done.stdout.isascii())
        self.assertNotIn("\x1b", done.stdout)
        for table in ("SIZE", "ARENA", "REGION"):
            self.assertIn(table, done.stdout)
        self.assert_sentence(self.arenal("top", "--batch", "2147483647"), "there is no process")
        self.assertEqual(self.arenal("top", "--batch").returncode, 2)
        self.assertEqual(self.arenal("top", "-n", "1", str(process.pid)).returncode, 2)
        # Its end is the end of the looks.
        with subprocess.Popen([sys.executable, "-B", TOOL, "top", "--batch", "-d", "0.05", str(process.pid)], text=True,
                              stdout=subprocess.PIPE, env=environment()) as watching:
            self.assertIn("arenal top", watching.stdout.readline())
            self.stop(process)
            watching.communicate(timeout=DEADLINE)
        self.assertEqual(watching.returncode, 0)

    def test_rates(self):
        process = self.on_arenal(WORKLOAD, "1", "1", "0", "0", "churn")
        self.assertEqual(self.arenal("ctl", str(process.pid), "set", "tcache_max", "16K").returncode, 0)  # it needs many
        done = self.arenal("top", "--batch", "-n", "3", "-d", "0.3", str(process.pid))
        rates = [int(text.replace(",", "")) for text in re.findall(r"refills/s +([\d,]+)", done.stdout)]
        self.assertEqual(rates[0], 0)
        self.assertGreater(min(rates[1:]), 10)


if __name__ == "__main__":
    unittest.main()
