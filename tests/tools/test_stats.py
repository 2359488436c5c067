"""Tests of the commands that look in and steer: `arenal ps`, `stats` and `ctl`."""

import contextlib
import json
import os
import re
import resource
import select
import signal
import socket
import stat
import subprocess
import sys
import time
import unittest
from unittest import mock

from prometheus_client.openmetrics.parser import text_string_to_metric_families
from prometheus_client.parser import text_string_to_metric_families as old_families

from support import DEADLINE, MIB, TOOL, WORKLOAD, ToolTest, environment, listens

from arenal import facts, files, openmetrics, window_format

WORDS = [WORKLOAD, "4", "2", "2", "2"]


class Steered(ToolTest):
    def setUp(self):
        super().setUp()
        self.process = self.on_arenal(*WORDS)
        self.pid = str(self.process.pid)

    def arenal_says(self, *words, **options):
        done = self.arenal(*words, **options)
        self.assertEqual((done.returncode, done.stderr), (0, ""), done)
        return done.stdout

    def background(self, *words):
        tool = subprocess.Popen([sys.executable, "-B", TOOL, *words], stderr=subprocess.PIPE, text=True, env=environment())
        self.addCleanup(self.stop, tool)
        return tool

    def await_(self, condition, what):
        until = time.monotonic() + DEADLINE
        while not condition():
            if time.monotonic() > until:
                self.fail(what)
            time.sleep(0.01)


class Ctl(Steered):
    def test_get_and_set(self):
        self.assertEqual(self.arenal_says("ctl", self.pid, "get", "dirty_max"), "-1\n")
        self.assertEqual(self.arenal_says("ctl", self.pid, "set", "dirty_max", "64M"), "")
        self.assertEqual(self.arenal_says("ctl", self.pid, "get", "dirty_max"), f"{64 * MIB}\n")
        self.arenal_says("ctl", self.pid, "set", "dirty_max", "-1")
        self.assertEqual(self.arenal_says("ctl", self.pid, "set", "misuse_size", "report"), "")
        self.assertEqual(self.arenal_says("ctl", self.pid, "get", "misuse_size"), "report\n")
        self.assertRegex(self.arenal_says("ctl", self.pid, "get"),
                         r"(?m)^misuse_size +report  -1 to 2: ignore, report, end are 0 to 2$")
        self.arenal_says("ctl", self.pid, "set", "misuse_size", "-1")
        listed = self.arenal_says("ctl", self.pid, "get")
        self.assertRegex(listed, r"(?m)^dirty_max +-1  -1 to \d+$")
        self.assertRegex(listed, r"(?m)^harden +0  0 to 1, counts at the start only$")

    def test_refusals(self):
        for words, reason in ((["get", "nonsense"], "no tunable nonsense"), (["set", "n" * 100, "1"], "no tunable nnn"),
                              (["set", "decay", "-2"], "range"), (["set", "harden", "1"], "before the start")):
            self.assert_sentence(self.arenal("ctl", self.pid, *words), reason)
        for words in (["set", "decay", "1T"], ["set", "decay", "x"], ["set", "decay", "9999999999G"],
                      ["set", "decay", "end"], ["set", "misuse", "frob"], [], ["frob"]):
            self.assertEqual(self.arenal("ctl", self.pid, *words).returncode, 2)
        for words, reason in ((["decay"], "say what to set decay to"), (["dirty_max", "99999999999999999999"], "is too large"),
                              (["dirty_max", "-9223372036854775809"], "is too small"), (["decay", "1T"], "suffixes are K, M and G")):
            done = self.arenal("ctl", self.pid, "set", *words)
            self.assertEqual(done.returncode, 2)
            self.assertTrue(done.stderr.startswith("usage: arenal ctl PID set NAME VALUE\narenal ctl PID set: error: "), done.stderr)
            self.assertIn(reason, done.stderr)
        self.assertEqual(self.arenal_says("ctl", self.pid, "get", "decay"), "1000\n")

    def test_purge_gives_memory_back(self):
        program = """
import sys
blocks = [bytearray(b"x" * 500_000) for i in range(100)]
del blocks
print("ready", flush=True)
sys.stdin.read()"""
        keeps_all = environment(ARENAL_CONF="decay:-1,dirty_max:1G,trim_threshold:-1")
        pid = self.start([sys.executable, "-B", TOOL, "run", "--", sys.executable, "-c", program], env=keeps_all).pid

        def stats():
            return json.loads(self.arenal_says("stats", str(pid), "--json"))["stats"]
        before = stats()
        self.assertGreater(before["resident"], 40 * MIB)
        given = int(re.fullmatch(r"at most (\d+) bytes given back\n", self.arenal_says("ctl", str(pid), "purge"))[1])
        self.assertGreater(given, 40 * MIB)
        self.assertLess(stats()["resident"], before["resident"] - 40 * MIB)
        self.assertEqual(stats()["dirty"], 0)


class Stats(Steered):
    def test_text_is_the_library_s_own_table(self):
        text = self.arenal_says("stats", self.pid).splitlines()
        own = self.arenal("run", "--stats", "--", "true").stderr.splitlines()
        self.assertRegex(text[0], rf"^arenal [0-9.]+ statistics of process {self.pid} \(tools_workload\)$")

        def shape(lines):           # the same lines, up to the first size class
            end = next(i for i, line in enumerate(lines) if line.startswith(" size"))
            return [re.sub(r" *(0x)?[\da-f]+(\.\d)?( [KMGT]i?B| B)?(?=\b)", "#", line) for line in lines[1:end + 1]
                    if not re.match(r" +\d", line)]
        self.assertEqual(shape(text), shape(own))
        walked = shape(self.arenal_says("stats", self.pid, "--resident").splitlines())
        more = [line for line in walked if line not in shape(text)]
        self.assertEqual(len(more), 1)
        self.assertRegex(more[0], "^  in memory")
        self.assertEqual([line for line in walked if line not in more], shape(own))

    def test_large_blocks_of_hardened_mode_are_in_memory(self):
        process = self.on_arenal("env", "ARENAL_HARDEN=1", WORKLOAD, "1", "2", "20", "0")   # 40 MiB in blocks of 48 KiB
        found = json.loads(self.arenal_says("stats", str(process.pid), "--json", "--resident"))
        stats = found["stats"]
        self.assertGreaterEqual(stats["in_memory"], 40 * MIB)
        self.assertLessEqual(stats["allocated"], stats["active"])
        self.assertLessEqual(stats["active"], stats["mapped"])

    def test_json(self):
        found = json.loads(self.arenal_says("stats", self.pid, "--json"))
        self.assertEqual((found["pid"], found["command"]), (int(self.pid), "tools_workload"))
        self.assertGreater(found["stats"]["allocated"], 10 * MIB)
        self.assertEqual(found["stats"]["arenas"], len(found["arenas"]))
        self.assertEqual(found["tunables"]["decay"], 1000)
        self.assertTrue(found["classes"] and found["regions"] and found["brk_end"] > found["brk_start"])

    def test_openmetrics(self):
        odd = os.path.join(self.folder, 'a"b\\c')
        os.symlink(WORKLOAD, odd)
        process = self.on_arenal(odd, *WORDS[1:])
        text = self.arenal_says("stats", str(process.pid), "--openmetrics")
        families = {family.name: family for family in text_string_to_metric_families(text)}
        allocated = families["arenal_allocated_bytes"]
        self.assertEqual((allocated.type, allocated.unit), ("gauge", "bytes"))
        sample, = allocated.samples
        self.assertLessEqual({"pid": str(process.pid), "command": 'a"b\\c'}.items(), sample.labels.items())
        self.assertLessEqual(set(sample.labels), {"pid", "command", "unit", "container"})
        self.assertGreater(sample.value, 10 * MIB)
        self.assertEqual(families["arenal_refills"].type, "counter")
        self.assertEqual(families["arenal_refills"].samples[0].name, "arenal_refills_total")
        self.assertEqual(sum(s.value for s in families["arenal_class_refills"].samples),
                         families["arenal_refills"].samples[0].value)
        self.assertIn("416", {s.labels["class"] for s in families["arenal_class_blocks_out"].samples})
        self.assertIn(("0", "brk"), {(s.labels["arena"], s.labels["kind"]) for s in families["arenal_arena_spans"].samples})

    def test_histograms(self):
        """The same in JSON, in the table and in both formats of metrics, where every second limit is told."""
        process = self.on_arenal(WORKLOAD, "4", "2", "20", "2")
        pid = str(process.pid)
        times = json.loads(self.arenal_says("stats", pid, "--json"))["times"]
        self.assertEqual(list(times), list(window_format.TIMES))
        small = times["malloc_small"]
        self.assertGreater(small["count"], 0)
        self.assertEqual(small["count"], sum(bucket["count"] for bucket in small["buckets"]))
        limits = [bucket["at_most"] for bucket in small["buckets"]]
        self.assertEqual(limits, [128 * 2 ** i for i in range(23)] + [None])
        self.assertRegex(self.arenal_says("stats", pid), rf"(?m)^times of .*\n(.*\n)*malloc_small +16 +{small['count']} ")
        for words, families in ((["--openmetrics"], text_string_to_metric_families), (["--prometheus"], old_families)):
            found = {family.name: family for family in families(self.arenal_says("stats", pid, *words))}
            calls = found["arenal_slow_call_duration_seconds"]
            self.assertEqual(calls.type, "histogram")
            self.assertEqual({s.labels["call"] for s in calls.samples}, set(window_format.TIMES[2:]))
            told = {(s.name.rpartition("_")[2], s.labels.get("le")): s.value for s in calls.samples if s.labels["call"] == "malloc_small"}
            for limit in limits[1::2]:
                le = "+Inf" if limit is None else repr(limit / 1e9)
                below = sum(b["count"] for b in small["buckets"] if limit is None or (b["at_most"] or limit + 1) <= limit)
                self.assertEqual(told.pop(("bucket", le)), below, le)
            self.assertEqual(told, {("count", None): small["count"], ("sum", None): small["nanoseconds_total"] / 1e9})
            for name in "lock_wait", "purge":
                self.assertEqual(found[f"arenal_{name}_duration_seconds"].type, "histogram")

    def test_older_libraries_have_no_histograms(self):
        """What they do not know is left out: nothing is told as 0."""
        old = window_format.Snapshot.__new__(window_format.Snapshot)
        old.stats, old.times, old.resident = dict.fromkeys(window_format.STATS[:25], 1), {}, None
        old._classes = old._arenas = b"", 64           # pylint: disable=protected-access
        text = openmetrics.text(old, 1, "old")
        self.assertNotIn("duration", text)
        self.assertIn("arenal_lock_waits_total", text)

    def replaced(self, pid, *words):
        """A file that the tool writes again and again, and the tool."""
        path = os.path.join(self.folder, "arenal.prom")
        tool = self.background("stats", str(pid), *words, "--output", path, "--every", "0.05")
        self.await_(lambda: os.path.exists(path), "no file")
        first = os.stat(path).st_ino
        self.await_(lambda: os.stat(path).st_ino != first, "the file is not replaced")
        return path, tool

    def test_a_file_that_is_replaced(self):
        path, tool = self.replaced(self.pid, "--json")
        for _ in range(50):
            with open(path, encoding="utf-8") as file:
                self.assertEqual(json.loads(file.read())["pid"], int(self.pid))
        self.stop(self.process)
        self.assertEqual(tool.wait(DEADLINE), 0)
        self.assertEqual(os.listdir(self.folder), [], "the figures of a process that has ended stay for ever")
        self.assert_sentence(self.arenal("stats", str(os.getpid()), "--output", "/nowhere/file"), "not on Arenal")
        other = self.on_arenal(*WORDS)
        self.assert_sentence(self.arenal("stats", str(other.pid), "--output", "/nowhere/file"), "/nowhere/file")
        # Once is for good; what somebody else put there stays; who is told to end takes the file along.
        self.assertEqual(self.arenal_says("stats", str(other.pid), "--output", path), "")
        self.assertTrue(os.path.exists(path))
        path, tool = self.replaced(other.pid, "--prometheus")
        tool.terminate()
        tool.wait(DEADLINE)
        self.assertFalse(os.path.exists(path))

    def test_a_disk_that_is_full_for_a_while(self):
        path, tool = self.replaced(self.pid, "--prometheus")
        _, most = resource.getrlimit(resource.RLIMIT_FSIZE)
        for _ in range(2):
            resource.prlimit(tool.pid, resource.RLIMIT_FSIZE, (16, most))
            self.await_(lambda: not os.path.exists(path), "the figures of before stay while there are none of now")
            said = tool.stderr.readline()
            self.assertRegex(said, "^arenal: .*arenal.prom: File too large: .*again")
            time.sleep(0.2)             # some more tries, of which nothing is said
            resource.prlimit(tool.pid, resource.RLIMIT_FSIZE, (most, most))
            self.await_(lambda: os.path.exists(path), "it does not go on when there is room")
        self.assertEqual(os.listdir(self.folder), ["arenal.prom"])
        tool.terminate()
        self.assertEqual(tool.communicate(timeout=DEADLINE)[1], "", "it was said once")
        self.assertFalse(os.path.exists(path))

    def test_what_the_textfile_collector_reads(self):
        for words in (["--prometheus"], ["--openmetrics", "--output", os.path.join(self.folder, "a.prom")]):
            text = self.arenal_says("stats", self.pid, *words)
            if len(words) > 1:
                with open(words[-1], encoding="utf-8") as file:
                    text = file.read()
            families = {family.name: family for family in old_families(text)}
            self.assertEqual({family.type for family in families.values()}, {"gauge", "counter", "histogram"}, "all have a type")
            self.assertEqual(families["arenal_refills"].type, "counter")
            self.assertRegex(text, r"(?m)^# TYPE arenal_refills_total counter\narenal_refills_total\{")
            self.assertNotIn("# UNIT", text)
            self.assertNotIn("# EOF", text)

    def test_a_program_that_is_executed_by_the_process(self):
        program = """
import os, sys
keep = [bytes(100_000) for i in range(80)]
print("ready", flush=True)
sys.stdin.readline()
os.execv(sys.argv[1], sys.argv[1:])"""
        process = self.on_arenal(sys.executable, "-c", program, *WORDS)
        path, tool = self.replaced(process.pid, "--json")

        def seen():
            with open(path, encoding="utf-8") as file:
                return json.loads(file.read())["command"]
        self.assertNotEqual(seen(), "tools_workload")
        process.stdin.write("\n")
        process.stdin.flush()
        self.await_(lambda: seen() == "tools_workload", "it does not go on after exec")
        self.stop(process)
        self.assertEqual(tool.wait(DEADLINE), 0)

    def test_where_a_process_belongs(self):
        told = {"0::/system.slice/redis-server.service\n": {"unit": "redis-server.service"},
                f"0::/system.slice/docker-{'5' * 64}.scope\n": {"container": "5" * 12},
                f"12:memory:/docker/{'ab' * 32}\n1:name=systemd:/docker/{'ab' * 32}\n": {"container": "ab" * 6},
                f"0::/kubepods.slice/kubepods-pod1.slice/cri-containerd-{'c' * 64}.scope\n": {"container": "c" * 12},
                "4:memory:/\n1:name=systemd:/user.slice/user-0.slice/session-3.scope\n": {"unit": "session-3.scope"},
                "0::/\n": {}, "": {}, "nonsense\n\n": {}, "0::/a\x1b[2J.service\n": {"unit": "a?[2J.service"}}
        for lines, where in told.items():
            with mock.patch.object(files, "head", lambda *_, lines=lines: lines.encode()):
                self.assertEqual(facts.whereabouts(1), where, lines)

    def test_guarded_arenas_are_called_so(self):
        process = self.start([sys.executable, "-B", TOOL, "run", "--", *WORDS], env=environment(ARENAL_HARDEN="1"))
        kinds = {arena["kind"] for arena in json.loads(self.arenal_says("stats", str(process.pid), "--json"))["arenas"]}
        own = self.arenal("run", "--stats", "--", *WORDS, env=environment(ARENAL_HARDEN="1"), stdin=subprocess.DEVNULL).stderr
        for text in (self.arenal_says("stats", str(process.pid)), own):
            shown = set(re.findall(r"(?m)^ +\d+ +([a-z]+) +\d+ +\d+ +[\d.]+ [KMGTi]*B$", text))
            self.assertEqual(shown, {kind.split()[0] for kind in kinds})
            self.assertIn("guarded", shown)

    def test_a_slow_peer_keeps_nobody_waiting(self):
        path = os.path.join(self.folder, "socket")
        self.background("stats", self.pid, "--openmetrics", "--listen", path)
        self.await_(lambda: listens(path), "no socket")
        with contextlib.ExitStack() as open_ones:
            slow = [open_ones.enter_context(socket.socket(socket.AF_UNIX)) for _ in range(6)]
            for one in slow:
                one.settimeout(DEADLINE)
                one.connect(path)
                one.sendall(b"GET")
            with socket.socket(socket.AF_UNIX) as peer:
                peer.settimeout(DEADLINE)
                peer.connect(path)
                peer.sendall(b"GET / HTTP/1.0\r\n\r\n")
                self.assertTrue(peer.makefile("rb").read().endswith(b"# EOF\n"))
            # Nobody else was given up before: they are still waited for.
            self.assertEqual(select.select(slow, [], [], 0)[0], [])
            for one in slow:
                self.assertEqual(one.recv(1), b"", "one that says no more is left, in the end")

    def test_a_socket(self):
        path = os.path.join(self.folder, "socket")
        stale = socket.socket(socket.AF_UNIX)
        stale.bind(path)
        stale.close()           # nobody answers there
        tool = self.background("stats", self.pid, "--openmetrics", "--listen", path)

        def ask(request=b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n"):
            with socket.socket(socket.AF_UNIX) as peer:
                peer.connect(path)
                peer.sendall(request)
                return peer.makefile("rb").read().decode().partition("\r\n\r\n")

        def answers():
            try:
                return ask()
            except OSError:
                return None
        self.await_(answers, "nobody answers")
        head, _, body = ask()
        self.assertTrue(head.startswith("HTTP/1.0 200 OK\r\n"), head)
        self.assertIn("application/openmetrics-text; version=1.0.0", head)
        self.assertIn(f"Content-Length: {len(body)}", head)
        self.assertTrue(any(f.name == "arenal_mapped_bytes" for f in text_string_to_metric_families(body)))
        self.assertEqual(stat.S_IMODE(os.stat(path).st_mode), 0o600)
        second = self.arenal("stats", self.pid, "--openmetrics", "--listen", path)
        self.assert_sentence(second, "in use")
        tool.send_signal(signal.SIGTERM)
        self.assertNotIn("Traceback", tool.communicate(timeout=DEADLINE)[1])
        self.assertFalse(os.path.exists(path))
        plain = os.path.join(self.folder, "file")
        with open(plain, "w", encoding="utf-8"):
            pass
        self.assert_sentence(self.arenal("stats", self.pid, "--openmetrics", "--listen", plain), "in use")
        self.assertTrue(os.path.exists(plain))


class Ps(Steered):
    def test_processes_on_arenal_are_listed(self):
        without = self.start([sys.executable, "-B", TOOL, "run", "--set", "window=0", "--", *WORDS], env=environment())
        other = self.start(WORDS)
        halted = self.on_arenal(*WORDS)
        os.kill(halted.pid, signal.SIGSTOP)
        found = {row["pid"]: row for row in json.loads(self.arenal_says("ps", "--json"))}
        self.assertNotIn(other.pid, found)
        self.assertEqual((found[without.pid]["window"], found[without.pid]["allocated"]), ("none", None))
        self.assertEqual(found[halted.pid]["window"], "no answer")
        row = found[int(self.pid)]
        self.assertEqual((row["window"], row["tasks"], row["command_line"]), ("open", 4, " ".join(WORDS)))
        self.assertGreater(row["allocated"], 10 * MIB)
        self.assertGreater(row["rss"], 10 * MIB)
        self.assertRegex(self.arenal_says("ps"), rf"(?m)^ *{self.pid} \S+ +\d+\.\d MiB +\d+\.\d MiB +\d+\.\d MiB +4  open +{WORKLOAD}")


if __name__ == "__main__":
    unittest.main()
