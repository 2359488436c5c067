"""Tests of what `arenal ctl PID open` says where it opens no window, and of whom it leaves alone."""

import argparse
import os
import signal
import sys
import time
import unittest
from unittest import mock

from open_support import HERE, SLEEPER, YAMA, OpenTest
from support import FAKE_LAYOUT, TOOL, WORKLOAD, Freezer, as_nobody
from test_places import IS_ROOT, NO_NAMESPACES, ROOT, UNSHARE

from arenal import door, facts, look, proc, ptrace, window_file
from arenal.commands import ps
from arenal.errors import Failure

# A process that holds another one, as a debugger does, and says so.
DEBUGGER = f"""
import sys
sys.path.insert(0, {os.path.join(os.path.dirname(TOOL), "lib")!r})
from arenal import ptrace
ptrace._ptrace(ptrace.SEIZE, int(sys.argv[1]))
print("ready", flush=True)
sys.stdin.read()
"""

LOCKED_IN = """
import ctypes, sys
keep = [bytes(1000) for _ in range(1000)]
assert ctypes.CDLL(None).prctl(38, 1, 0, 0, 0) == 0
print("ready", flush=True)
sys.stdin.read()
"""


def ps_options(pid):
    return argparse.Namespace(pid=pid, resident=False, json=False)


class Sentences(OpenTest):
    def refuses(self, pid, *words, **more):
        done = self.arenal("ctl", str(pid), "open", **more)
        self.assert_sentence(done, *words)

    def test_there_is_one(self):
        process = self.on_arenal(WORKLOAD, "1", "0", "0", "0")
        done = self.arenal("ctl", str(process.pid), "open")
        self.assertEqual((done.returncode, done.stdout), (0, f"process {process.pid} has a window already\n"))

    def test_by_a_knock(self):
        """A process at work hears it without being stopped, on every machine."""
        can, ptrace.CAN = ptrace.CAN, False
        self.addCleanup(setattr, ptrace, "CAN", can)
        for changes in ({}, {"ARENAL_HARDEN": "1"}):
            process = self.sleeper("threads", **changes)
            self.assertFalse(door.open_window(process.pid))
            self.is_unharmed(process, "threads")
        process = self.sleeper("read")
        with self.assertRaisesRegex(Failure, "has no window yet.*was asked"):
            door.open_window(process.pid)
        self.is_unharmed(process, "read")

    def test_not_on_arenal(self):
        process = self.start([SLEEPER, "read"])
        self.refuses(process.pid, "not on Arenal", "glibc")
        self.is_unharmed_without(process)
        process = self.start([FAKE_LAYOUT, "magic"])            # and linked statically
        self.refuses(process.pid, "process")
        self.refuses(2147483647, "there is no process")

    def test_a_map_that_is_too_long(self):
        """What is behind the part that is read may be Arenal: so it is not said that it is not."""
        for process in (self.sleeper("read"), self.start([SLEEPER, "read"])):
            with mock.patch.object(proc, "MAPS_LIMIT", 300), mock.patch.object(ps, "MAPS_LIMIT", 300):
                for look_at in (door.open_window, window_file.find, look.look, lambda pid: ps.main(ps_options(pid), [])):
                    self.assertRaisesRegex(Failure, "map of process .* is longer .*: what it has is not known", look_at, process.pid)
            self.is_unharmed_without(process)

    def is_unharmed_without(self, process):
        self.assertIsNone(process.poll())

    def test_a_zombie(self):
        process = self.sleeper("read")
        process.stdin.close()
        self.await_(lambda: facts.thread_state(process.pid, process.pid) == "Z", "it does not end")
        self.refuses(process.pid, "ended")

    def test_it_was_told_never_to(self):
        process = self.sleeper("read", ARENAL_WINDOW="0")
        if HERE:
            self.refuses(process.pid, "told never to")
        process = self.sleeper("threads", ARENAL_WINDOW="0")
        self.refuses(process.pid, "told never to")
        self.is_unharmed(process, "threads")

    def test_locked_in(self):
        process = self.on_arenal_without(sys.executable, "-c", LOCKED_IN)
        self.refuses(process.pid, "locked itself in")
        self.assertNotIn(window_file.NAME, window_file.threads_of_arenal(process.pid))

    def test_stopped(self):
        process = self.sleeper("read")
        os.kill(process.pid, signal.SIGSTOP)
        self.await_(lambda: facts.thread_state(process.pid, process.pid) == "T", "it does not stop")
        self.refuses(process.pid, "is stopped")
        self.assertEqual(facts.thread_state(process.pid, process.pid), "T")
        os.kill(process.pid, signal.SIGCONT)
        if HERE:
            self.opens(process)
        self.is_unharmed(process, "read")

    def test_traced(self):
        process = self.sleeper("read")
        debugger = self.start([sys.executable, "-B", "-c", DEBUGGER, str(process.pid)])
        self.refuses(process.pid, f"is traced by process {debugger.pid}")
        self.stop(debugger)
        if HERE:
            self.opens(process)
        self.is_unharmed(process, "read")

    def test_frozen(self):
        cgroup = Freezer(self)
        process = self.sleeper("read")

        def clear():
            cgroup.thaw()
            self.stop(process)
        self.addCleanup(clear)
        cgroup.put(process)
        cgroup.freeze()
        started = time.monotonic()
        self.await_(lambda: "is frozen" in self.arenal("ctl", str(process.pid), "open").stderr, "it is not said to be frozen")
        self.assertLess(time.monotonic() - started, 10)
        cgroup.thaw()
        self.await_(lambda: self.arenal("ctl", str(process.pid), "open").returncode == 0, "no window afterwards")
        self.is_unharmed(process, "read")

    def theirs(self):
        return self.on_arenal_without(SLEEPER, "read", prefix=as_nobody())

    @unittest.skipUnless(IS_ROOT, "becoming another user takes root")
    def test_another_user(self):
        ours = self.sleeper("read")
        self.refuses(ours.pid, "not permitted", prefix=as_nobody())
        self.is_unharmed(ours, "read")
        theirs = self.theirs()
        if HERE:
            self.opens(theirs)
        self.is_unharmed(theirs, "read")

    @unittest.skipUnless(os.path.exists(YAMA) and open(YAMA, encoding="ascii").read().strip() in "123",    # pylint: disable=consider-using-with
                         "yama is not here, or lets everybody")
    def test_yama(self):
        theirs = self.theirs()
        self.refuses(theirs.pid, "kernel.yama.ptrace_scope", prefix=as_nobody())
        self.is_unharmed(theirs, "read")

    def test_what_yama_forbids(self):
        for scope, user, words in ((b"1\n", 1000, "ptrace_scope=0"), (b"2\n", 1000, "become root"), (b"3\n", 0, "until the next boot"),
                                   (b"0\n", 1000, "become its user, or root"), (b"1\n", 0, "not permitted")):
            with mock.patch.object(door.files, "head", lambda path, limit, scope=scope: scope), \
                    mock.patch.object(os, "geteuid", lambda user=user: user):
                self.assertIn(words, str(door._refused(1, PermissionError())))      # pylint: disable=protected-access

    @unittest.skipIf(NO_NAMESPACES or not HERE, "user namespaces are not permitted here")
    def test_in_namespaces(self):
        process = self.on_arenal_without(SLEEPER, "read", prefix=["unshare", "-U", "-r"])
        self.opens(process)
        self.is_unharmed(process, "read")
        jail = os.path.join(self.folder, "jail")
        os.mkdir(jail)
        process = self.on_arenal_without(SLEEPER, "epoll", prefix=[*UNSHARE, "sh", "-c", ROOT, "sh", jail])
        self.opens(process)
        self.is_unharmed(process, "epoll")

    def test_a_door_that_is_none(self):
        """Of a library that was loaded from another file than that which has its name now, nothing is written to."""
        process = self.sleeper("read")
        found = door._find                      # pylint: disable=protected-access
        with door._Now(process.pid) as now:     # pylint: disable=protected-access
            place = found(now)[1]
            for at, data in ((0, b"x"), (8, b"\7"), (16, b"\1"), (24, b"\xff" * 8), (24, bytes(8)), (32, b"\xff" * 8), (32, bytes(8))):
                before = now.read(place + at, len(data))
                now.write(place + at, data)
                self.refuses(process.pid, "opens no window from outside")
                now.write(place + at, before)
            self.assertEqual(found(now)[1], place)
        self.is_unharmed(process, "read")


if __name__ == "__main__":
    unittest.main()
