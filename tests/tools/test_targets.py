"""Tests of units, containers and names in place of a process ID: which processes are meant, and their sums."""

import contextlib
import importlib.machinery
import importlib.util
import io
import json
import os
import re
import signal
import subprocess
import sys
import unittest

from prometheus_client.openmetrics.parser import text_string_to_metric_families

from support import LIBRARY, TOOL, WORKLOAD, ToolTest, environment, thread_names

from arenal import proc, targets, together
from arenal.errors import Failure
from arenal.profile import dump, merged

PROFILED = os.environ["TEST_PROFILED"]
ID, OTHER = "ab" * 32, "abc" + "d" * 61
WORDS = ["4", "1", "1", "0"]           # 4 MiB in small blocks, a thread with 1 MiB


def seen(pid, *paths, names=("a program",)):
    return targets.Seen(pid, set(names), list(paths))


class CommandTest(ToolTest):
    """Commands are called here, without a process of their own each: that is most of their time."""

    @classmethod
    def setUpClass(cls):
        loader = importlib.machinery.SourceFileLoader("arenal_command", TOOL)
        cls.tool = importlib.util.module_from_spec(importlib.util.spec_from_loader("arenal_command", loader))
        loader.exec_module(cls.tool)

    def arenal(self, *arguments, **_):
        out, errors = io.StringIO(), io.StringIO()
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(errors):
            try:
                status = self.tool.main(arguments)
            except Failure as failure:
                status = failure.status
                print(f"arenal: {failure}", file=sys.stderr)
            except SystemExit as ended:
                status = ended.code
        return subprocess.CompletedProcess(arguments, status, out.getvalue(), errors.getvalue())

    def preloaded(self, *command, window="1", **changes):
        """Without `arenal run`, for the same reason."""
        process = self.start(command, env=environment(LD_PRELOAD=LIBRARY, ARENAL_WINDOW=window, **changes))
        self.await_(lambda: window != "1" or "arenal-window\n" in thread_names(process.pid), f"{command} has no window")
        return process


class Meant(unittest.TestCase):
    """Of processes that are made up."""

    def finds(self, word, processes, kind, name, pids):
        self.assertEqual(targets.find(word, processes), targets.Target(kind, name, pids), word)

    def refuses(self, word, processes, *patterns):
        with self.assertRaises(Failure) as caught:
            targets.find(word, processes)
        said = str(caught.exception)
        self.assertTrue(said.isprintable(), said)
        for pattern in patterns:
            self.assertRegex(said, pattern)

    def test_a_number_is_a_process(self):
        self.assertEqual(targets.find(17), ("process", "17", (17,)))

    def test_units(self):
        processes = [seen(3, "/system.slice/redis.service"), seen(2, "/system.slice/redis.service/sub"),
                     seen(4, "/system.slice/redis.services"), seen(5, "/system.slice/other.service"), seen(6, "/")]
        for word in ("redis.service", "unit:redis.service", "unit:redis", "unit:/system.slice/redis.service"):
            self.finds(word, processes, "unit", "/system.slice/redis.service", (2, 3))
        self.finds("system.slice", processes, "unit", "/system.slice", (2, 3, 4, 5))
        self.refuses("redis", processes, "nothing is called redis", "unit:redis")
        self.refuses("unit:redi", processes, r"no process is in a unit redi: none of the paths in /proc/PID/cgroup")

    def test_units_of_one_name(self):
        processes = [seen(1, "/user.slice/user-1.slice/x.service"), seen(2, "/user.slice/user-2.slice/x.service")]
        self.refuses("x.service", processes, r"write unit:/user.slice/user-1.slice/x.service \(1 process\) or unit:/user.slice/user-2")
        self.finds("unit:/user.slice/user-2.slice/x.service", processes, "unit", "/user.slice/user-2.slice/x.service", (2,))

    def test_containers(self):
        for path in (f"/docker/{ID}", f"/system.slice/docker-{ID}.scope", f"/machine.slice/libpod-{ID}.scope/container",
                     f"/kubepods.slice/kubepods-pod1.slice/cri-containerd-{ID}.scope", f"/kubepods/besteffort/pod1/{ID}",
                     f"/kubepods.slice/crio-{ID}.scope", f"/docker/{ID}/docker/{'9' * 64}"):
            for word in (ID, ID[:12], f"container:{ID[:2]}"):
                self.finds(word, [seen(7, "/", path), seen(8, "/docker/" + "c" * 64)], "container", ID, (7,))
        for path, name in (("/lxc/web", "web"), ("/lxc.payload.web/init.scope", "web"), ("/lxc.payload/web", "web"),
                           ("/machine.slice/machine-my\\x2dweb.scope", "my-web")):
            self.finds(f"container:{name}", [seen(7, path), seen(8, "/lxc.monitor.web")], "container", name, (7,))
        self.refuses("container:ff", [seen(1, f"/docker/{ID}")], "no process is in a container ff: none of the paths")

    def test_several_containers(self):
        processes = [seen(1, f"/docker/{ID}"), seen(2, f"/docker/{OTHER}")]
        self.refuses("container:ab", processes, r"container:abababababab \(1 process\) or container:abcdddddd")
        self.finds("container:abc", processes, "container", OTHER, (2,))
        self.refuses("abc", processes, "nothing is called abc")         # too short without a kind

    def test_names(self):
        processes = [seen(1, "/", names={"redis-server"}), seen(2, "/", names={"io-thread", "redis-server"}),
                     seen(3, "/", names={"a-very-long-nam"}), seen(4, "/", names={"a-very-long-nam", "a-very-long-name-2"})]
        self.finds("redis-server", processes, "name", "redis-server", (1, 2))
        self.finds("a-very-long-name-1", processes, "name", "a-very-long-name-1", (3,))
        self.finds("a-very-long-name-2", processes, "name", "a-very-long-name-2", (3, 4))
        self.refuses("name:redis", processes, "no process is called redis: neither")

    def test_several_kinds(self):
        both = [seen(1, f"/docker/{ID}", names={"abab"}), seen(2, f"/docker/{ID}", names={"sh"}), seen(3, "/", names={"abab"})]
        self.refuses("abab", both, r"write container:abababababab \(2 processes\) or name:abab \(2 processes\)")
        self.finds("name:abab", both, "name", "abab", (1, 3))
        same = [seen(1, "/system.slice/x.service", names={"x.service"})]
        self.finds("x.service", same, "unit", "/system.slice/x.service", (1,))      # whichever it is

    def test_names_that_mean_harm(self):
        evil = "\x1b[2J\n\u202eevil.service"
        self.refuses(evil, [], r"nothing is called \?\[2J\?\?evil.service")
        self.refuses(evil, [seen(1, f"/a/{evil}"), seen(2, f"/b/{evil}")], r"unit:/a/\?\[2J")
        self.refuses("name:" + "x" * 100000, [], "^.{0,600}$")
        for path in ("", "/", "//", "/docker/", "/lxc/", "/machine-.scope", "/lxc.payload."):
            self.refuses("unit:/", [seen(1, path)], "no process")
            self.refuses("container:x", [seen(1, path)], "no process")


class Merged(unittest.TestCase):
    """Profiles of processes that have the same files elsewhere."""

    @staticmethod
    def dump(pid, stacks, *maps, objects=()):
        lines = ["arenal-heap-profile 2", "sample 4096", f"pid {pid}", "time 5", *(f"stack {s}" for s in stacks),
                 *(f"object {o}" for o in objects), "maps", *maps, "end", ""]
        return dump.parse("\n".join(lines), "it")

    def stacks(self, *dumps):
        found = merged.merge(list(enumerate(dumps, 100)))
        again = dump.parse(merged.text(found).decode(), "it")
        self.assertEqual((again.pid, again.sample, again.time), (100, 4096, 5))
        return again, {stack.frames: stack.counts for stack in again.stacks}

    def test_the_same_file_elsewhere(self):
        one = self.dump(1, ["1 10 2 20 1010 5010"], "1000-3000 r-xp 00000000 08:01 7 /a", "5000-6000 r-xp 00001000 08:01 8 /b")
        two = self.dump(2, ["1 1 1 1 8010 2010", "4 4 4 4 0"], "8000-a000 r-xp 00000000 08:01 7 /a", "2000-3000 r-xp 00001000 08:01 8 /b")
        again, stacks = self.stacks(one, two)
        self.assertEqual(stacks, {(0x1010, 0x5010): (2, 11, 3, 21), (0,): (4, 4, 4, 4)})
        self.assertEqual([m.path for m in again.mappings], ["/a", "/b"])

    def test_a_file_that_the_first_has_not(self):
        one = self.dump(1, ["1 1 1 1 1010"], "1000-3000 r-xp 00000000 08:01 7 /a")
        two = self.dump(2, ["2 2 2 2 1010 9"], "1000-2000 r-xp 00000000 08:01 9 /c", "2000-3000 rw-p 00001000 08:01 9 /c", objects=["1000 0102"])
        again, stacks = self.stacks(one, two)
        self.assertEqual(stacks[0x1010,], (1, 1, 1, 1))
        (address, nowhere), = (frames for frames in stacks if len(frames) == 2)
        mapping = next(m for m in again.mappings if m.start <= address < m.end)
        self.assertEqual((mapping.path, address - mapping.start, again.objects[mapping.start]), ("/c", 0x10, "0102"))
        self.assertFalse(any(m.start <= nowhere < m.end for m in again.mappings))

    def test_another_file_of_the_same_name(self):
        """By its build ID: it gets no names."""
        one = self.dump(1, ["1 1 1 1 1010"], "1000-3000 r-xp 00000000 08:01 7 /a", objects=["1000 01"])
        two = self.dump(2, ["1 1 1 1 1010"], "1000-3000 r-xp 00000000 08:01 7 /a", objects=["1000 02"])
        again, stacks = self.stacks(one, two)
        self.assertEqual(len(stacks), 2)
        self.assertEqual(sorted(m.path for m in again.mappings), ["", "/a"])

    def test_one_that_makes_everything_up(self):
        maps = [f"{start:x}-{start + 0x1000:x} r-xp {offset:08x} 08:01 {start} /x" for start, offset in
                ((1 << 63, 0), (0x1000, 1 << 60), (0x5000, 0), ((1 << 47) - 0x2000, 0))]
        two = self.dump(2, [f"1 1 1 1 {(1 << 64) - 1:x} {1 << 63:x} 5001 1001"], *maps)
        one = self.dump(1, ["1 1 1 1 1010"], "1000-3000 r-xp 00000000 08:01 7 /a")
        self.stacks(one, *[two] * 20)


class Together(CommandTest):
    """Two processes of one name that nobody else has."""

    def setUp(self):
        super().setUp()
        self.name = f"together-{os.getpid() % 100000}"
        self.program = os.path.join(self.folder, self.name)
        os.symlink(WORKLOAD, self.program)
        self.processes = [self.preloaded(self.program, *WORDS) for _ in range(2)]
        self.pids = sorted(process.pid for process in self.processes)

    def says(self, *words, errors="", **options):
        done = self.arenal(*words, **options)
        self.assertEqual((done.returncode, done.stderr), (0, errors), done)
        return done.stdout

    def test_stats(self):
        found = json.loads(self.says("stats", self.name, "--json"))
        self.assertEqual(found["target"], {"kind": "name", "name": self.name})
        self.assertEqual([(p["pid"], p["command"]) for p in found["processes"]], [(pid, self.name) for pid in self.pids])
        for key, value in found["stats"].items():
            if key not in together.LARGEST and "ratio" not in key:
                self.assertEqual(value, sum(p["stats"][key] for p in found["processes"]), key)
        self.assertEqual(found["left_out"], [])
        one = json.loads(self.says("stats", str(self.pids[0]), "--json"))
        spans = {c["size"]: c["spans"] for c in found["classes"]}
        self.assertEqual(spans[416], 2 * next(c["spans"] for c in one["classes"] if c["size"] == 416))
        text = self.says("stats", f"name:{self.name}")
        self.assertRegex(text, rf"^arenal statistics of program {self.name}: 2 processes\n")
        self.assertRegex(text, rf"(?m)^ +{self.pids[1]} +5\.\d MiB +5\.\d MiB +\S+ MiB  {self.name}$")
        families = {f.name: f for f in text_string_to_metric_families(self.says("stats", self.name, "--openmetrics"))}
        self.assertEqual({s.labels["pid"] for s in families["arenal_allocated_bytes"].samples}, set(map(str, self.pids)))

    def test_who_is_left_out(self):
        without = self.preloaded(self.program, *WORDS, window="0")
        plain = self.start([self.program, *WORDS])
        os.kill(self.pids[1], signal.SIGSTOP)
        self.await_(lambda: all(state == "T" for state in states(self.pids[1])), "it does not stop")
        words = sorted([(without.pid, "no window"), (self.pids[1], "no answer")])
        done = self.arenal("stats", self.name, "--json")
        said = "; ".join(f"process {pid} ({self.name}): {why}" for pid, why in words)
        self.assertEqual((done.returncode, done.stderr), (0, f"arenal: left out: {said}\n"))
        found = json.loads(done.stdout)
        self.assertEqual([p["pid"] for p in found["processes"]], [self.pids[0]])
        self.assertEqual([(p["pid"], p["reason"]) for p in found["left_out"]], words)
        done = self.arenal("ctl", self.name, "get", "decay")
        self.assertEqual((done.returncode, done.stdout), (1, f"process {self.pids[0]} ({self.name}): 1000\n"))
        self.assertEqual(len(done.stderr.splitlines()), 2, done.stderr)
        for process in (*self.processes, without):
            self.stop(process)
        self.assert_sentence(self.arenal("stats", self.name), "none of its processes is on Arenal (1 process)")
        self.stop(plain)
        self.assert_sentence(self.arenal("stats", self.name), f"nothing is called {self.name}")

    def test_one_that_ends_meanwhile(self):
        def work(window):
            if window.pid == self.pids[0]:
                self.stop(next(process for process in self.processes if process.pid == window.pid))
            return window.get("decay")
        with together.Group(self.name) as group:
            looked = group.each(work)
            self.assertEqual([(pid, value) for pid, _, value in looked.done], [(self.pids[1], 1000)])
            self.assertRegex(together.left_out(looked), rf"^left out: process {self.pids[0]}\b.*: ended meanwhile$")
            self.assertEqual(together.left_out(group.each(work)), "")

    def test_ctl(self):
        def lines(text):
            return "".join(f"process {pid} ({self.name}): {text}\n" for pid in self.pids)
        self.assertEqual(self.says("ctl", self.name, "set", "decay", "700"), lines("decay is 700"))
        self.assertEqual(self.says("ctl", self.name, "get", "decay"), lines("700"))
        self.assertEqual(len(re.findall("(?m)^decay +700 ", self.says("ctl", self.name, "get"))), 2)
        self.assertRegex(self.says("ctl", self.name, "purge"), lines("at most [0-9]+ bytes given back").replace("(", r"\(").replace(")", r"\)"))
        self.assertEqual(self.says("ctl", self.name, "open"), "".join(f"process {pid} has a window already\n" for pid in self.pids))
        done = self.arenal("ctl", self.name, "set", "decay", "-7")
        self.assertEqual((done.returncode, done.stdout), (1, ""))
        self.assertRegex(done.stderr, rf"^arenal: program {self.name}: process {self.pids[0]}: .*range")
        # One of several that refuses is named.
        self.says("ctl", str(self.pids[1]), "trace", "start", os.path.join(self.folder, "one"))
        done = self.arenal("ctl", self.name, "trace", "stop")
        self.assertEqual((done.returncode, done.stderr), (1, f"arenal: process {self.pids[0]}: its calls are not recorded\n"))
        self.assertEqual(self.arenal("ctl", "", "get").returncode, 2)
        self.assertEqual(self.arenal("ctl", "unit:", "get").returncode, 2)
        self.assertEqual(self.arenal("ctl", "0", "get").returncode, 2)

    def test_ps_and_top(self):
        rows = json.loads(self.says("ps", self.name, "--json"))
        self.assertEqual([row["pid"] for row in rows], self.pids)
        self.assertRegex(self.says("ps", self.name), rf"(?m)^ +all +1\d\.\d MiB .* program {self.name}$")
        text = self.says("top", "--batch", "-n", "2", "-d", "0.05", self.name)
        self.assertRegex(text, rf"arenal top: program {self.name} \(2 processes\)")
        self.assertRegex(text, r"allocated +1[01]\.\dM ")
        for pid in self.pids:
            self.assertRegex(text, rf"(?m)^ +{pid} +5\.\dM +5\.\dM .* {self.name}$")
        self.assert_sentence(self.arenal("top", "--batch", "no such program"), "nothing is called no such program")

    def test_a_unit(self):
        folder = self.unit("one.service")
        for process in self.processes:
            with open(os.path.join(folder, "cgroup.procs"), "w", encoding="ascii") as file:
                file.write(str(process.pid))
        found = json.loads(self.says("stats", f"arenal-test-{os.getpid()}-one.service", "--json"))
        self.assertEqual([p["pid"] for p in found["processes"]], self.pids)
        self.assertEqual(found["target"]["kind"], "unit")
        found = json.loads(self.says("ps", f"unit:arenal-test-{os.getpid()}-one", "--json"))
        self.assertEqual([row["pid"] for row in found], self.pids)

    def unit(self, name):
        for top in ("/sys/fs/cgroup/systemd", "/sys/fs/cgroup/unified", "/sys/fs/cgroup"):
            folder = os.path.join(top, f"arenal-test-{os.getpid()}-{name}")
            with contextlib.suppress(OSError):
                os.mkdir(folder)
                if os.path.exists(os.path.join(folder, "cgroup.procs")):
                    self.addCleanup(self.await_, lambda: self.removed(folder), "the cgroup stays")
                    self.addCleanup(lambda: [self.stop(process) for process in self.processes])
                    return folder
                os.rmdir(folder)
        return self.skipTest("no cgroup of systemd's, or of v2, may be made")

    @staticmethod
    def removed(folder):
        with contextlib.suppress(OSError):
            os.rmdir(folder)
        return not os.path.exists(folder)


class Profiles(CommandTest):
    def test_of_several_processes(self):
        name = f"profiled-{os.getpid() % 100000}"
        program = os.path.join(self.folder, name)
        os.symlink(PROFILED, program)
        for _ in range(2):
            process = self.preloaded(program, "wait", ARENAL_PROFILE="1", ARENAL_PROFILE_SAMPLE="1", ARENAL_PROFILE_FILE="/dev/null")
        heap, one = os.path.join(self.folder, "heap"), os.path.join(self.folder, "one")
        done = self.arenal("ctl", name, "profile", "dump", heap)
        self.assertEqual((done.returncode, done.stderr), (0, ""))
        self.assertEqual(len(re.findall(r"(?m)^process \d+ \(profiled-\d+\): is in the profile$", done.stdout)), 2)
        self.assertEqual(self.arenal("ctl", str(process.pid), "profile", "dump", one).returncode, 0)

        def rows(path):
            text = self.arenal("profile", path, "--pid", name if path == heap else str(process.pid)).stdout
            return {row[-1]: int(row[2].replace(",", "")) for row in map(str.split, text.splitlines()[2:]) if len(row) == 6}
        of_one, of_both = rows(one), rows(heap)
        self.assertGreater(len(of_one), 2)
        self.assertEqual(of_both, {function: 2 * blocks for function, blocks in of_one.items()})


def states(pid):
    with proc.Process(pid):
        return [open_stat(pid, thread) for thread in os.listdir(f"/proc/{pid}/task")]


def open_stat(pid, thread):
    with open(f"/proc/{pid}/task/{thread}/stat", encoding="ascii") as file:
        return file.read().rpartition(") ")[2][0]


if __name__ == "__main__":
    unittest.main()
