"""Tests of `arenal trace` and `arenal replay`, and of what the library writes."""

import collections
import glob
import json
import os
import random
import resource
import shutil
import signal
import struct
import subprocess
import unittest

from support import LIBRARY, WORKLOAD, ToolTest, cgroup, environment

CALLS = os.environ["TEST_CALLS"]
READER = os.environ["TEST_READER"]
THREADS = 4
CHUNK = 64 << 10

Event = collections.namedtuple("Event", "ns thread op address size align family")


def expected(k, count):
    """(call, size, alignment) of the worker k of trace_calls.c, but for its last frees; realloc as it is recorded."""
    calls = []
    for i in range(count):
        big = 5000 + 100 * i
        calls += [("malloc", 16 + i + k, 0), ("calloc", 2 * (i + 1), 0), ("aligned", 100 + i, 256), ("move", 0, 0),
                  ("realloc", big, 0), ("move", 0, 0), ("realloc", big - 10, 0), ("free", 0, 0), ("free", 0, 0)]
    return calls + [("malloc", 0, 0), ("free", 0, 0)] + [("free", 0, 0)] * count


def account(events):
    """Blocks and bytes that are live after the events, and the most bytes at one time. Fails when a block is freed that is not
    there, or allocated where one is."""
    live, peak, moving, most, now = {}, 0, {}, 0, 0
    for event in events:
        if event.op in ("free", "move"):
            size = live.pop(event.address)
            if event.op == "move":
                moving[event.thread] = size
            else:
                now -= size
        elif event.op != "failed":
            if event.op == "realloc":
                now -= moving.pop(event.thread) if event.thread in moving else live.pop(event.address)
            assert event.address not in live, event
            live[event.address] = event.size
            now += event.size
            peak = max(peak, now)
        most = max(most, len(live))
    return live, now, peak


class TraceTest(ToolTest):
    def setUp(self):
        super().setUp()
        self.trace = os.path.join(self.folder, "a trace")

    def record(self, mode, count, status=0, **options):
        """Runs trace_calls with the library alone, as a service would."""
        env = environment(LD_PRELOAD=LIBRARY, ARENAL_TRACE_FILE=self.trace, ARENAL_GUARD_SAMPLE="0")
        done = subprocess.run([CALLS, mode, str(count)], env={**env, **options.pop("env", {})}, stdout=subprocess.PIPE,
                              stderr=subprocess.PIPE, text=True, check=False, timeout=60, **options)
        self.assertEqual(done.returncode, status, done)
        return done

    def on_a_disk(self, size):
        """The trace is to lie on a small one."""
        if os.getuid() != 0:
            self.skipTest("only root can make a small file system")
        disk = os.path.join(self.folder, "disk")
        os.mkdir(disk)
        if subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "none", disk], check=False, stderr=subprocess.DEVNULL).returncode:
            self.skipTest("no file system can be mounted here")
        self.addCleanup(subprocess.run, ["umount", "-l", disk], check=False)
        self.trace = os.path.join(disk, "trace")

    def read(self, what, *more, path=None, status=0):
        done = subprocess.run([READER, what, path or self.trace, *map(str, more or (0,))], stdout=subprocess.PIPE,
                              stderr=subprocess.PIPE, text=True, check=False, timeout=60)
        self.assertEqual(done.returncode, status, done)
        return done.stdout if status == 0 else done.stderr

    def summary(self):
        return json.loads(self.read("summary"))

    def events(self, process=0):
        words = (line.split() for line in self.read("events", process).splitlines())
        return [Event(int(one[0]), int(one[1]), one[2], int(one[3], 16), *map(int, one[4:])) for one in words]

    def sizes(self, process=0):
        return collections.Counter(event.size for event in self.events(process) if event.op == "malloc")


class Recording(TraceTest):
    def test_every_call_is_there_in_order(self):
        done = self.record("known", 200)
        events = self.events()
        for line in done.stdout.splitlines():
            k, tid = map(int, line.split())
            own = [(event.op, event.size, event.align) for event in events if event.thread == tid]
            self.assertEqual(own, expected(k, 200))
        live, now, _ = account(events)     # raises when the order of threads is impossible
        self.assertEqual(now, sum(live.values()))
        self.assertEqual([event.ns for event in events], sorted(event.ns for event in events))
        summary = self.summary()
        self.assertEqual((summary["state"], summary["damaged"], summary["threads"]), (1, 0, THREADS + 1))
        self.assertLess(summary["bytes"] / summary["calls"], 10)
        self.assertEqual(os.stat(self.trace).st_size % CHUNK, 0)
        self.assertLess(os.stat(self.trace).st_size, 20 * CHUNK)

    def test_a_thread_without_cache_is_recorded(self):
        self.record("late", 1)
        events = self.events()
        block = next(event for event in events if event.size == 666)
        last = next(event for event in events if event.size == 777)
        freed = [event for event in events if event.op == "free" and event.address in (block.address, last.address) and
                 event.ns >= block.ns]
        self.assertEqual({event.thread for event in [*freed, last]}, {block.thread})
        self.assertEqual(len(freed), 2)

    def test_a_crash_keeps_what_was_before(self):
        for mode, number in (("kill", signal.SIGKILL), ("abort", signal.SIGABRT), ("segv", signal.SIGSEGV)):
            with self.subTest(mode):
                self.record(mode, 30000, -number)
                self.assertEqual(self.sizes()[1234], 30000)
                self.assertEqual(self.summary()["state"], 0)
                os.unlink(self.trace)

    def test_the_call_that_ends_the_program_is_its_last_event(self):
        done = self.record("misuse", 10, -signal.SIGABRT)
        self.assertIn("0x1230", done.stderr)
        self.assertEqual(self.events()[-1][2:4], ("free", 0x1230))

    def test_a_call_that_fails(self):
        self.record("fails", 1)
        self.assertEqual([event.size for event in self.events() if event.op == "failed"], [1 << 62])

    def test_closed_descriptors_do_no_harm(self):
        self.record("closed", 100000)
        self.assertEqual(self.sizes()[1234], 100000)

    def test_forked_processes_have_chunks_of_their_own(self):
        self.record("fork", 20000)
        processes = [pid for pid, *_ in self.summary()["processes"]]
        self.assertEqual(len(processes), 3)
        found = sorted(tuple(self.sizes(pid)[size] for size in (111, 222, 333, 444)) for pid in processes)
        self.assertEqual(found, [(0, 0, 60000, 0), (0, 40000, 0, 0), (20000, 0, 0, 20000)])

    def test_a_child_by_clone_does_not_end_the_trace_of_its_parent(self):
        self.record("clone", 50000)
        processes = [pid for pid, *_ in self.summary()["processes"]]
        found = sorted(tuple(self.sizes(pid)[size] for size in (111, 222, 444)) for pid in processes)
        self.assertEqual(found, [(0, 50000, 0), (50000, 0, 50000)])

    def test_a_daemon_goes_on_after_its_parent_has_ended(self):
        self.record("daemon", 50000)        # waits for its output to end, which the daemon holds, too
        self.assertEqual(sum((self.sizes(pid) for pid, *_ in self.summary()["processes"]), collections.Counter())[555], 50000)

    def test_memory_does_not_grow_with_the_trace(self):
        peaks = []
        for count in (1000, 2000000):
            with open(os.path.join(self.folder, "time"), "w+", encoding="ascii") as file:
                subprocess.run(["/usr/bin/time", "-o", file.name, "-f", "%M", CALLS, "plain", str(count)], check=True, env=environment(
                    LD_PRELOAD=LIBRARY, ARENAL_TRACE_FILE=self.trace), stderr=subprocess.DEVNULL)
                peaks.append(int(file.read()))
        self.assertLess(peaks[1] - peaks[0], 2048)          # KiB; the trace has 16 MiB


class Refusals(TraceTest):
    def plain(self, words, **options):
        done = self.record("plain", 3000, **options)
        self.assertEqual(len(done.stderr.splitlines()), 1, done.stderr)
        for word in words:
            self.assertIn(word, done.stderr)

    def test_a_place_that_cannot_be_written(self):
        self.trace = os.path.join(self.folder, "nowhere", "trace")
        self.plain(["not recorded", "no such directory"])

    def test_hardened_mode(self):
        self.plain(["not recorded", "hardened"], env={"ARENAL_HARDEN": "1"})
        self.assertFalse(os.path.exists(self.trace))

    def test_nothing_is_overwritten_and_no_link_followed(self):
        target = os.path.join(self.folder, "precious")
        with open(target, "w", encoding="ascii") as file:
            file.write("precious")
        os.symlink(target, self.trace)
        self.record("plain", 10)
        with open(target, encoding="ascii") as file:
            self.assertEqual(file.read(), "precious")
        beside = glob.glob(glob.escape(self.trace) + ".*")
        self.assertEqual(len(beside), 1)
        os.unlink(self.trace)
        os.rename(beside[0], self.trace)
        self.assertEqual(self.sizes()[1234], 10)

    def test_a_limit_on_the_length_of_files(self):
        done = self.record("plain", 1000000, preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (4 << 20, 4 << 20)))
        self.assertIn("greatest length", done.stderr)
        self.assertEqual(len(done.stderr.splitlines()), 1)
        self.assertEqual(self.summary()["state"], 3)
        self.assertGreater(self.sizes()[1234], 300000)

    def test_a_limit_on_address_space(self):
        limit = 1 << 30
        self.record("plain", 1000, preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_AS, (limit, limit)))
        self.assertEqual(self.sizes()[1234], 1000)

    def test_a_full_disk(self):
        self.on_a_disk("2m")
        done = self.record("plain", 1000000)
        self.assertIn("no room", done.stderr)
        self.assertEqual(len(done.stderr.splitlines()), 1)
        self.assertEqual(self.summary()["state"], 2)
        self.assertGreater(self.sizes()[1234], 100000)


class Tool(TraceTest):
    def test_trace_tells_what_it_recorded(self):
        done = self.arenal("trace", "--output", self.trace, "--", CALLS, "plain", "5000")
        self.assertEqual(done.returncode, 0, done)
        for word in (self.trace, "bytes each", "1 thread", "10,0"):
            self.assertIn(word, done.stderr)
        self.assert_sentence(self.arenal("trace", "--output", self.trace, "--", CALLS, "plain", "1"), "exists already")

    def test_trace_gives_the_commands_code_and_cuts_what_a_crash_leaves(self):
        done = self.arenal("trace", "--", CALLS, "kill", "10", cwd=self.folder)
        self.assertEqual(done.returncode, -signal.SIGKILL)
        self.trace, = glob.glob(os.path.join(self.folder, "arenal.*.trace"))
        self.assertEqual(os.stat(self.trace).st_size, 2 * CHUNK)
        self.assertEqual(self.arenal("trace", "--", os.path.join(self.folder, "none")).returncode, 127)

    def test_trace_gives_the_commands_code_when_the_disk_is_full(self):
        self.on_a_disk("32k")
        done = self.arenal("trace", "--output", self.trace, "--", "/bin/sh", "-c", "exit 7")
        self.assertEqual(done.returncode, 7, done)
        self.assertEqual(done.stderr.count("there is no room for it"), 1, done)
        self.assertEqual(len(done.stderr.splitlines()), 2, done)
        self.assertIn("nothing was recorded", done.stderr)
        self.assertEqual(os.listdir(os.path.dirname(self.trace)), [])

    def test_trace_gives_the_commands_code_when_it_spoilt_the_file(self):
        done = self.arenal("trace", "--output", self.trace, "--", "/bin/sh", "-c", 'rm "$0"; echo nonsense > "$0"; exit 7', self.trace)
        self.assertEqual(done.returncode, 7, done)
        self.assertEqual(done.stderr.count("is not a trace"), 1, done)

    def test_a_command_that_is_not_there_is_one_sentence(self):
        self.assert_sentence(self.arenal("trace", "--output", self.trace, "--", "no-such-command"), "no such command", status=127)
        self.assert_sentence(self.arenal("trace", "--output", self.trace, "--", "/etc/passwd"), "not an executable", status=126)
        bad = os.path.join(self.folder, "bad")
        with open(bad, "wb") as file:
            file.write(b"\x7fELF nonsense")
        os.chmod(bad, 0o755)
        done = self.arenal("trace", "--output", self.trace, "--", bad)
        self.assertNotIn("nothing was recorded", done.stderr)

    def test_names_are_shown_as_they_are(self):
        odd = os.path.join(self.folder, "Prüfung✓")
        shutil.copy(CALLS, odd)
        done = self.arenal("trace", "--output", self.trace, "--", odd, "plain", "100")
        self.assertIn(": Prüfung✓, ", done.stderr)

    def test_chunks_of_another_size_are_not_a_matter_of_the_version(self):
        self.record("plain", 100)
        with open(self.trace, "r+b") as file:
            file.seek(12)
            file.write(struct.pack("<I", 1 << 20))
        done = self.arenal("report", self.trace)
        self.assert_sentence(done, "chunks")
        self.assertNotIn("version", done.stderr)

    def test_programs_that_are_started_have_files_of_their_own(self):
        done = self.arenal("trace", "--output", self.trace, "--", "/bin/sh", "-c", f'"{CALLS}" plain 300; true')
        self.assertEqual(done.returncode, 0, done)
        self.trace, = glob.glob(glob.escape(self.trace) + ".*")
        self.assertEqual(self.sizes()[1234], 300)

    def test_a_replay_does_what_the_trace_says(self):
        self.record("known", 300)
        events = self.events()
        live, now, peak = account(events)
        calls = collections.Counter(event.op for event in events)
        done = self.arenal("replay", "--rounds", "1", "--rest", "0", "--json", "--allocator", "glibc", "--allocator", "arenal", self.trace)
        self.assertEqual(done.returncode, 0, done)
        runs = json.loads(done.stdout)["runs"]
        self.assertEqual(list(runs), ["glibc", "arenal"])
        for run, in runs.values():
            made = calls["malloc"] + calls["calloc"] + calls["aligned"] + calls["realloc"]
            self.assertEqual((run["allocations"], run["frees"]), (made, calls["free"] + calls["realloc"]))
            self.assertEqual((run["live"], run["peak_live"]), (now, peak))
            self.assertEqual(run["threads"], THREADS + 1)
            self.assertGreater(run["peak_rss"], run["peak_live"])
        self.assertNotEqual(runs["glibc"][0]["peak_rss"], runs["arenal"][0]["peak_rss"])
        self.assertEqual(len(live), run["allocations"] - run["frees"])

    def test_a_replay_that_has_no_room_in_its_cgroup_says_so(self):
        found = cgroup(self, "memory", ("memory.limit_in_bytes", "memory.max"))
        if not found:
            self.skipTest("no cgroup whose memory may be limited")
        folder, file = found
        with open(file, "w", encoding="ascii") as limit:
            limit.write(str(128 << 20))
        done = self.arenal("trace", "--output", self.trace, "--", WORKLOAD, "0", "0", "0", "400", stdin=subprocess.DEVNULL)
        self.assertEqual(done.returncode, 0, done)
        inside = ["sh", "-c", 'echo $$ > "$0/cgroup.procs" && exec "$@"', folder]
        done = self.arenal("replay", "--rounds", "1", "--rest", "0", "--allocator", "glibc", self.trace, prefix=inside)
        self.assert_sentence(done, "needs 400 MiB at its peak")

    def test_replay_prints_a_table(self):
        self.record("plain", 100)
        done = self.arenal("replay", "--rounds", "1", "--rest", "0", "--allocator", "glibc", "--allocator", LIBRARY, self.trace)
        self.assertEqual(done.returncode, 0, done)
        self.assertIn("1.00", done.stdout)
        self.assertIn(os.path.basename(LIBRARY), done.stdout)
        self.assert_sentence(self.arenal("replay", "--allocator", "none", self.trace), "none is neither")


class Damage(TraceTest):
    def test_what_is_no_trace_is_a_sentence(self):
        for content in (b"", b"ARENALTR", b"ARENALTR" + b"\xff" * 5000, b"\0" * 200000, b"text" * 1000):
            with open(self.trace, "wb") as file:
                file.write(content)
            for command in ("report", "replay"):
                self.assert_sentence(self.arenal(command, self.trace), "a trace")
        pipe = os.path.join(self.folder, "pipe")
        os.mkfifo(pipe)
        for command in ("report", "replay"):
            self.assert_sentence(self.arenal(command, self.folder), "no plain file")
            self.assert_sentence(self.arenal(command, pipe), "no plain file")
        none = os.path.join(self.folder, "none")
        for command in ("report", "replay"):
            self.assertEqual(self.arenal(command, none).stderr, f"arenal: {none}: No such file or directory\n")

    def test_a_trace_that_is_cut_is_read_up_to_there(self):
        self.record("plain", 30000)
        whole = self.events()
        os.truncate(self.trace, 2 * CHUNK + 1234)
        part = self.events()
        self.assertGreater(len(part), 1000)
        self.assertEqual(part, whole[:len(part)])

    def test_damage_ends_a_chunk_or_the_reading_but_no_more(self):
        self.record("known", 100)
        with open(self.trace, "rb") as file:
            whole = file.read()
        rng = random.Random(1)
        for turn in range(150):
            spoilt = bytearray(whole)
            for _ in range(rng.choice((1, 30, 3000))):
                spoilt[rng.randrange(8 if turn % 3 else CHUNK, len(spoilt))] = rng.randrange(256)
            with open(self.trace, "wb") as file:
                file.write(spoilt)
            done = subprocess.run(["prlimit", f"--as={1 << 30}", READER, "digest", self.trace, "0"], stdout=subprocess.PIPE,
                                  stderr=subprocess.PIPE, check=False, timeout=20)
            self.assertIn(done.returncode, (0, 1), done.stderr)
            if done.returncode == 0:
                json.loads(done.stdout)


if __name__ == "__main__":
    unittest.main()
