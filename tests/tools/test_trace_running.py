"""Tests of `arenal ctl PID trace`: a process is recorded that runs, whose threads are in the middle of things."""

import collections
import contextlib
import os
import re
import signal
import subprocess
import unittest

from support import LIBRARY, TOOL, as_nobody, environment, thread_names
from test_trace import CHUNK, TraceTest

from arenal import trace, window
from arenal.errors import Failure

RUNNING = os.environ["TEST_RUNNING"]
THREADS = 4
ROUND = {1000 + k: 100 for k in range(THREADS)}         # blocks by size, of a round
SECOND = 1000                                           # milliseconds


SOON = 50_000           # nanoseconds: longer than the clocks of two CPUs differ, and a load from another CPU takes


def known(events):
    """Blocks that are live after the events, by address, and how many frees and moves were of blocks that are not known. Fails when an
    address was handed out twice: a free was missed. By the clocks of two CPUs, a free may seem to come just before the malloc in another
    thread that the block is of."""
    live, unknown, moving, early = collections.Counter(), 0, set(), {}
    for event in events:
        moved = event.op == "realloc" and event.thread in moving
        if event.op in ("free", "move", "realloc") and not moved:
            if live[event.address] == 0:
                unknown += 1
                early[event.address] = event
            live[event.address] -= live[event.address] > 0
        if event.op == "move":
            moving.add(event.thread)
        elif event.op not in ("free", "failed"):
            moving.discard(event.thread)
            freed = early.pop(event.address, None)
            if freed and freed.thread != event.thread and event.ns - freed.ns < SOON:
                unknown -= 1
            else:
                live[event.address] += 1
    assert max(live.values(), default=0) <= 1, live.most_common(10)
    return +live, unknown


class RunningTest(TraceTest):
    def running(self, **changes):
        env = environment(LD_PRELOAD=LIBRARY, ARENAL_WINDOW="1", **{"ARENAL_GUARD_SAMPLE": "0", **changes})
        process = self.start([RUNNING], env=env, stderr=subprocess.PIPE)
        self.await_(lambda: "arenal-window\n" in thread_names(process.pid), "no window")
        return process

    def does(self, process, *lines):
        for line in lines:
            process.stdin.write(f"{line}\n")
            process.stdin.flush()
            self.assertEqual(process.stdout.readline(), "done\n", line)

    def ends(self, process, status=3):
        out, errors = process.communicate(timeout=30)
        self.assertEqual((process.returncode, out), (status, ""))
        return errors

    def ctl(self, process, *words):
        done = self.arenal("ctl", str(process.pid), "trace", *words)
        self.assertEqual((done.returncode, done.stderr), (0, ""), done)
        return done.stdout


class Recording(RunningTest):
    def test_each_call_from_then_on_and_no_other(self):
        process = self.running()
        with window.Window(process.pid) as opened:
            for number in range(3):
                self.trace = os.path.join(self.folder, f"trace {number}")
                self.does(process, "round")
                self.assertTrue(opened.trace_start(self.trace, 1 << 30, 0).is_on)
                self.does(process, "round", "round")
                state = opened.trace_stop()
                self.assertEqual((state.is_on, state.path), (False, self.trace))
                self.does(process, "round")
                events = self.events()
                sizes = collections.Counter(event.size for event in events if event.op == "malloc")
                self.assertEqual(sizes, {size: 2 * count for size, count in ROUND.items()})
                live, unknown = known(events)
                # Of the rounds before: a block that was freed, and one that was resized.
                self.assertEqual(unknown, 2 * THREADS)
                self.assertEqual(len(live), 2 * THREADS)
                summary = self.summary()
                self.assertEqual((summary["state"], summary["late"], summary["damaged"], summary["threads"]), (4, 1, 0, THREADS))
                self.assertEqual(os.stat(self.trace).st_size, CHUNK * (THREADS + 1))
                self.assertEqual(os.stat(self.trace).st_mode & 0o777, 0o600)
        self.assertEqual(self.ends(process), "")

    def test_by_the_command(self):
        process = self.running()
        self.assertEqual(self.ctl(process, "status"), "its calls are not recorded\n")
        name = re.escape(self.trace)
        self.assertRegex(self.ctl(process, "start", self.trace, "--max", "2M"), rf"^recording into {name}: 0.\d s, 64.0 KiB so far\n$")
        self.does(process, "round")
        self.assert_sentence(self.arenal("ctl", str(process.pid), "trace", "start", f"{self.trace}2"), "recorded already")
        self.assertRegex(self.ctl(process, "status"), rf"^recording into {name}: \d+\.\d s, 320.0 KiB so far\n$")
        self.assertRegex(self.ctl(process, "stop"), rf"^recorded into {name}: \d+\.\d s, 320.0 KiB\n$")
        self.assert_sentence(self.arenal("ctl", str(process.pid), "trace", "stop"), "its calls are not recorded")
        self.assertEqual(self.arenal("ctl", str(process.pid), "trace", "start", "x", "--max", "1K").returncode, 2)
        self.assertEqual(trace.notes(trace.ask(TOOL, "summary", self.trace))[:2],
                         ["Recording began while the process ran: what it held then is not known.",
                          "Recording was stopped, by hand or after a time, before the program ended."])
        done = self.arenal("replay", self.trace, "--allocator", "glibc", "--rounds", "1", "--rest", "0")
        self.assertEqual((done.returncode, done.stderr), (0, ""))
        self.assertIn(f"{2 * THREADS} blocks from before the recording were freed or moved", done.stdout)

    def test_on_and_off_while_threads_race(self):
        """No free is missed, whatever they are in the middle of."""
        for changes in ({}, {"ARENAL_PROFILE": "1", "ARENAL_PROFILE_FILE": "/dev/null"}, {"ARENAL_GUARD_SAMPLE": "50"}):
            process = self.running(**changes)
            self.does(process, "race")
            threads = set()
            with window.Window(process.pid) as opened:
                for number in range(50):                # on a busy machine, one thread alone may fill a short recording
                    if number >= (1 if changes else 3) and len(threads) > 1:
                        break
                    self.trace = os.path.join(self.folder, f"{len(changes)} {len(os.listdir(self.folder))}")
                    opened.trace_start(self.trace, 1 << 20, 0)      # short, for what follows takes its time
                    self.await_(lambda: opened.trace_state().bytes > 6 * CHUNK, "nothing is recorded")
                    with contextlib.suppress(Failure):              # it is as long as it may be
                        opened.trace_stop()
                    self.assertEqual(self.summary()["damaged"], 0)
                    events = self.events()
                    threads |= {event.thread for event in events}
                    live, unknown = known(events)
                    self.assertGreater(len(events), 10000)
                    self.assertLess(unknown, 1000, number)
                    self.assertLess(len(live), 1000, number)
            self.assertGreater(len(threads), 1)
            self.does(process, "end of the race")
            self.ends(process)

    def test_children(self):
        """As from the start. One that goes on when its parent is told to stop stops with its chunk."""
        process = self.running()
        with window.Window(process.pid) as opened:
            opened.trace_start(self.trace, 1 << 30, 0)
            self.does(process, "fork")
            child, = (pid for pid, *_ in self.summary()["processes"] if pid != process.pid)
            self.assertEqual(self.sizes(child), {1000: 100})
            opened.trace_stop()
            self.does(process, "go on")
            summary = self.summary()
            self.assertEqual((summary["state"], summary["damaged"]), (4, 0))
            self.assertTrue(100 <= self.sizes(child)[1000] < 20000, self.sizes(child))
            opened.trace_start(f"{self.trace}2", 1 << 30, 0)
            self.does(process, "fork", "go on")
        self.trace += "2"
        child, = (pid for pid, *_ in self.summary()["processes"] if pid != process.pid)
        self.assertEqual(self.sizes(child), {1000: 301 * 100})
        self.ends(process)

    def test_the_process_exits_meanwhile(self):
        process = self.running()
        with window.Window(process.pid) as opened:
            opened.trace_start(self.trace, 1 << 30, 0)
            self.does(process, "round")
            self.ends(process)
        summary = self.summary()
        self.assertEqual([(row[0], *row[2:]) for row in summary["processes"]], [(process.pid, 1, 3)])
        self.assertEqual((summary["state"], os.stat(self.trace).st_size), (1, CHUNK * summary["chunks"]))
        self.assertEqual(summary["name"], "tools_trace_run")

    def test_it_is_killed(self):
        process = self.running()
        self.does(process, "race")
        with window.Window(process.pid) as opened:
            opened.trace_start(self.trace, 1 << 30, 0)
            self.await_(lambda: opened.trace_state().bytes > 6 * CHUNK, "nothing is recorded")
            process.send_signal(signal.SIGKILL)
            self.ends(process, -signal.SIGKILL)
        self.assertEqual(trace.ask(TOOL, "summary", self.trace)["damaged"], 0)
        known(self.events())


class Limits(RunningTest):
    def test_a_time(self):
        process = self.running()
        self.does(process, "race")
        with window.Window(process.pid) as opened:
            state = opened.trace_start(self.trace, 1 << 30, SECOND // 4)
            self.assertTrue(0 < state.left <= SECOND // 4)
            self.await_(lambda: not opened.trace_state().is_on, "it goes on")
            self.assertGreaterEqual(opened.trace_state().milliseconds, SECOND // 4)
        self.assertEqual(self.summary()["state"], 4)
        self.assertRegex(self.ctl(process, "status"), "^recorded into ")
        self.does(process, "end of the race")
        self.assertEqual(self.ends(process), "")

    def test_a_length(self):
        process = self.running()
        self.does(process, "race")
        with window.Window(process.pid) as opened:
            opened.trace_start(self.trace, 1 << 20, 0)
            self.await_(lambda: not opened.trace_state().is_on, "it goes on")
            self.does(process, "end of the race")
            self.assertRegex(self.ctl(process, "status"), "its greatest length\n$")
            self.does(process, "round")
            opened.trace_start(f"{self.trace}2", 1 << 20, 0)
            self.does(process, "round")
            opened.trace_stop()
        self.assertEqual((self.summary()["state"], self.summary()["damaged"], os.stat(self.trace).st_size), (3, 0, 1 << 20))
        known(self.events())
        self.trace += "2"
        self.assertEqual(self.sizes(), ROUND)
        self.assertRegex(self.ends(process), "^arenal: .* has its greatest length of 1048576 bytes: calls are not recorded any more\n$")

    @unittest.skipUnless(os.getuid() == 0, "only root mounts a small disk")
    def test_a_full_disk(self):
        place = os.path.join(self.folder, "small")
        os.mkdir(place)
        if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1M", "tmpfs", place], check=False).returncode:
            self.skipTest("no tmpfs may be mounted")
        self.addCleanup(subprocess.run, ["umount", "-l", place], check=True)
        self.trace = os.path.join(place, "trace")
        process = self.running()
        self.does(process, "race")
        with window.Window(process.pid) as opened:
            opened.trace_start(self.trace, 1 << 30, 0)
            self.await_(lambda: not opened.trace_state().is_on, "it goes on")
            self.does(process, "end of the race", "round")
            opened.trace_start(os.path.join(self.folder, "other"), 1 << 30, 0)
            self.does(process, "round")
            with self.assertRaisesRegex(Failure, "recorded already"):
                opened.trace_start(f"{self.trace}2", 1 << 30, 0)
            opened.trace_stop()
            with self.assertRaisesRegex(Failure, "there is no room for"):
                opened.trace_start(f"{self.trace}2", 1 << 30, 0)
        self.assertEqual(os.listdir(place), ["trace"])
        self.assertEqual(self.summary()["state"], 2)
        self.assertRegex(self.ends(process), "^arenal: there is no room for .*: calls are not recorded any more\n$")


class Refused(RunningTest):
    def refuses(self, process, path, words):
        with window.Window(process.pid) as opened:
            with self.assertRaisesRegex(Failure, words):
                opened.trace_start(path, 1 << 30, 0)
            self.assertFalse(opened.trace_state().is_on)
        self.does(process, "round")

    def test_places(self):
        process = self.running()
        link, old = os.path.join(self.folder, "link"), os.path.join(self.folder, "old")
        os.symlink(old, link)
        with open(old, "w", encoding="ascii") as file:
            file.write("old")
        for path, words in ((old, "exists already"), (link, "exists already"), ("/nowhere/x", "No such file"), ("/proc/x", "cannot make"),
                            ("/" + "x" * 4000, "name too long"), ("relative", "too short"), ("/" + "x" * 5000, "too long")):
            self.refuses(process, path, words)
        with open(old, encoding="ascii") as file:
            self.assertEqual(file.read(), "old")
        self.assertEqual(self.ends(process), "")

    def test_hardened(self):
        self.refuses(self.running(ARENAL_HARDEN="1"), self.trace, "no trace in hardened mode")

    def test_heaps_and_counts_of_its_own(self):
        for what in ("heap", "count"):
            with self.subTest(what):
                process = self.running()
                self.does(process, what)
                self.refuses(process, self.trace, "hardened mode, nor, unless .* from its start.* made heaps or arenas, or asked")
                self.assertFalse(os.path.exists(self.trace))
                process = self.running(ARENAL_TRACE_FILE=f"{self.trace} {what}")
                self.does(process, what, "round")
                self.ends(process)
        all_sizes = collections.Counter({**{size: 2 * count for size, count in ROUND.items()}, 3000: THREADS})
        for what in ("heap", "count"):
            self.trace = os.path.join(self.folder, f"a trace {what}")
            self.assertEqual(self.sizes() & all_sizes, all_sizes)

    def test_recorded_from_the_start(self):
        process = self.running(ARENAL_TRACE_FILE=self.trace)
        with window.Window(process.pid) as opened:
            with self.assertRaisesRegex(Failure, "recorded already"):
                opened.trace_start(f"{self.trace}2", 1 << 30, 0)
            self.assertTrue(opened.trace_state().is_on)
            self.does(process, "round")
            opened.trace_stop()
            self.does(process, "round")
            opened.trace_start(f"{self.trace}2", 1 << 30, 0)
            self.does(process, "round")
        self.assertEqual(self.sizes(), {**{size: 2 * count for size, count in ROUND.items()}, 3000: THREADS})
        self.assertEqual((self.summary()["state"], self.summary()["late"]), (4, 0))
        self.ends(process)
        self.trace += "2"
        self.assertEqual(self.sizes(), ROUND)

    def test_its_user_may_not_write_there(self):
        if not as_nobody():
            self.skipTest("only root has another user")
        env = environment(LD_PRELOAD=LIBRARY, ARENAL_WINDOW="1")
        process = self.start([*as_nobody(), RUNNING], env=env, stderr=subprocess.PIPE)
        self.await_(lambda: "arenal-window\n" in thread_names(process.pid), "no window")
        self.refuses(process, self.trace, "Permission denied")
        self.assertFalse(os.path.exists(self.trace))


if __name__ == "__main__":
    unittest.main()
