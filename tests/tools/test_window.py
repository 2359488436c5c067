"""Tests of the window into a running process: what the library answers, whom, and when."""

import mmap
import os
import random
import re
import signal
import subprocess
import sys
import threading
import time
import unittest
from unittest import mock

from support import MIB, NOBODY, TOOL, WORKLOAD, ToolTest, as_nobody, environment

sys.path.insert(0, os.path.join(os.path.dirname(TOOL), "lib"))
from arenal import facts, proc, window, window_file, window_format      # noqa: E402
from arenal.errors import Failure, Gone         # noqa: E402

HEADER = os.path.join(os.path.dirname(os.path.dirname(TOOL)), "include", "arenal", "arenal.h")
WORDS = [WORKLOAD, "4", "0", "0", "2"]         # 4 MiB in small blocks, no threads, one block of 2 MiB
IS_ROOT = os.getuid() == 0

# A program of the tests: takes memory, does what it is told, says "ready", and waits.
PROGRAM = """
import os, sys
keep = [bytes(100_000) for i in range(80)]
{}
keep += [bytes(100_000) for i in range({})]
for i in range(2000):
    bytearray(2000 + i)
print("ready", flush=True)
sys.stdin.read()
"""

FORK = """
if os.fork():
    print("ready", flush=True)
    os.wait()
import io
sys.stdout = io.StringIO()      # the child says nothing
"""


def allocated(pid):
    with window.Window(pid) as opened:
        return opened.snapshot().stats["allocated"]


class Refused(unittest.TestCase):
    def test_root_is_not_told_to_become_root(self):
        refused = PermissionError(1, "Operation not permitted")
        for user, word, other in ((1000, "become its user, or root", "refuses"), (0, "the kernel refuses", "become")):
            with mock.patch.object(os, "geteuid", return_value=user):
                with proc.Process(os.getpid()) as process:
                    said = str(process._failure(refused, "the memory")), str(window_file.failure(1, refused))
            for sentence in said:
                self.assertIn(word, sentence)
                self.assertNotIn(other, sentence)

    def test_what_ends_is_nobody_elses(self):
        refused = PermissionError(13, "Permission denied")
        with subprocess.Popen(["true"]) as process:
            os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)       # it has ended, and is not gone
            self.assertIsInstance(window_file.failure(process.pid, refused), Gone)
        self.assertIsInstance(window_file.failure(process.pid, refused), Gone)
        self.assertIsInstance(window_file.failure(os.getpid(), refused), window_file.NotPermitted)


class WindowTest(ToolTest):
    def python(self, words="", more=0, **changes):
        """Runs PROGRAM with these words in it."""
        command = [sys.executable, "-B", TOOL, "run", "--", sys.executable, "-c", PROGRAM.format(words, more)]
        return self.start(command, env=environment(**changes))

    def halt(self, process):
        """Stops it, and waits until its window's thread has noticed."""
        os.kill(process.pid, signal.SIGSTOP)
        thread = window_file.find(process.pid)[0]
        self.await_(lambda: facts.thread_state(process.pid, thread) == "T", "the process does not stop")

    def child_of(self, process):
        with open(f"/proc/{process.pid}/task/{process.pid}/children", encoding="utf-8") as file:
            return int(file.read())


# Runs a command under a filter that kills for mincore and pidfd_getfd, as the units of services do.
FILTERED = """
import ctypes, os, struct, sys
numbers = {"x86_64": (27, 438), "aarch64": (232, 438)}[os.uname().machine]
load, kill, allow = (0x20, 0, 0, 0), (0x06, 0, 0, 0x80000000), (0x06, 0, 0, 0x7fff0000)
code = [load, (0x15, 1, 0, numbers[0]), (0x15, 0, 1, numbers[1]), kill, allow]
filter = ctypes.create_string_buffer(b"".join(struct.pack("<HBBI", *word) for word in code))
program = struct.pack("<HxxxxxxQ", len(code), ctypes.addressof(filter))
prctl = ctypes.CDLL(None).prctl
assert prctl(38, 1, 0, 0, 0) == 0 and prctl(22, 2, program) == 0
os.execv(sys.argv[1], sys.argv[1:])
"""


class Answers(WindowTest):
    def test_a_filter_that_kills(self):
        """Nobody is ended for being looked at."""
        for sandbox, word in ((None, "a filter of system calls"), ("0", None)):
            prefix = [sys.executable, "-c", FILTERED] if sandbox is None else []
            process = self.start([*prefix, sys.executable, "-B", TOOL, "run", "--", WORKLOAD, "1", "1", "1", "0"],
                                 env=environment(ARENAL_SANDBOX=sandbox))
            pid = str(process.pid)
            done = self.arenal("stats", "--resident", pid)
            if word:
                self.assert_sentence(done, word)
            else:
                self.assertEqual(done.returncode, 0)
            for words in (["stats", pid], ["ctl", pid, "profile", "start", "1"], ["ctl", pid, "profile", "dump", f"{self.folder}/heap"],
                          ["ctl", pid, "purge"]):
                self.assertEqual(self.arenal(*words).returncode, 0, words)
            self.assertIsNone(process.poll())

    def test_an_idle_process_answers_at_once(self):
        process = self.on_arenal(*WORDS)
        with window.Window(process.pid) as opened:
            start = time.monotonic()
            snapshot = opened.snapshot()
            self.assertLess(time.monotonic() - start, 0.5)
        self.assertGreater(snapshot.stats["allocated"], 4 * MIB)
        self.assertEqual(snapshot.stats["huge_blocks"], 1)
        self.assertEqual(snapshot.stats["threads"], 1)
        blocks = next(c for c in snapshot.classes if c.size == 416)
        self.assertGreaterEqual((blocks.blocks_out - blocks.blocks_cached) * 400, 3.9 * MIB)      # some are guarded

    def test_figures_fit_together(self):
        process = self.on_arenal(WORKLOAD, "4", "3", "4", "0")
        with window.Window(process.pid) as opened:
            snapshot = opened.snapshot(resident=True)
        stats = snapshot.stats
        self.assertEqual(len(snapshot.arenas), stats["arenas"])
        self.assertEqual(sum(a.threads for a in snapshot.arenas), 4)
        self.assertEqual(sum(a.bytes for a in snapshot.arenas), sum(c.blocks_out * c.size for c in snapshot.classes))
        self.assertEqual(sum(c.refills for c in snapshot.classes), stats["refills"])
        self.assertEqual(sum(r.kind == 0 for r in snapshot.regions), stats["regions"])
        self.assertEqual(sum(r.dirty for r in snapshot.regions) << 16, stats["dirty"])
        self.assertEqual(snapshot.brk_end - snapshot.brk_start, stats["brk_bytes"])
        self.assertGreater(snapshot.resident, 16 * MIB)
        self.assertLess(snapshot.resident, stats["mapped"] + MIB)

    def test_large_blocks_are_in_memory_in_each_mode(self):
        for mode in ("0", "1"):
            process = self.start([sys.executable, "-B", TOOL, "run", "--", WORKLOAD, "0", "1", "8", "40"], env=environment(ARENAL_HARDEN=mode))
            with window.Window(process.pid) as opened:
                snapshot = opened.snapshot(resident=True)
            # Half of the block is touched, and all of the others.
            self.assertTrue(28 * MIB <= snapshot.resident <= 33 * MIB, (mode, snapshot.resident))
            self.assertLessEqual(snapshot.resident, snapshot.stats["mapped"])

    def test_names_of_the_statistics_are_those_of_the_header(self):
        with open(HEADER, encoding="utf-8") as file:
            header = file.read()
        fields = re.search(r"struct arenal_stats \{(.*?)\};", header, re.S)[1]
        declared = re.findall(r"^\t(size_t|uint64_t|struct arenal_times) (\w+(?:, \w+)*);", fields, re.M)
        names = {name: kind for kind, some in declared for name in some.split(", ")}
        self.assertEqual(list(names), list(window_format.STATS))
        self.assertEqual([name for name, kind in names.items() if kind == "struct arenal_times"], list(window_format.TIMES))
        self.assertEqual(int(re.search(r"#define ARENAL_TIMES (\d+)", header)[1]), len(window_format.LIMITS))

    def test_a_snapshot_costs_little(self):
        process = self.on_arenal(*WORDS)
        with window.Window(process.pid) as opened:
            start = time.process_time()
            for _ in range(100):
                self.assertTrue(opened.snapshot().classes)
            self.assertLess(time.process_time() - start, 0.3)           # 3 ms each; it takes 0.1
        self.assertEqual(os.stat(f"/proc/{process.pid}").st_uid, os.getuid())

    def test_processes_with_threads_have_one_by_default(self):
        process = self.start([sys.executable, "-B", TOOL, "run", "--", WORKLOAD, "4", "4", "8", "0", "churn"],
                             env=environment(ARENAL_WINDOW="-1"))
        self.await_(lambda: window_file.NAME in window_file.threads_of_arenal(process.pid), "no window")
        self.assertGreater(allocated(process.pid), 4 * MIB)

    def test_each_process_of_a_fork_has_its_own(self):
        # The parent's 8 MB are the child's, too; the child takes 20 MB more.
        process = self.python(FORK, 200)
        child = self.child_of(process)
        self.await_(lambda: window_file.NAME in window_file.threads_of_arenal(child), "the child has no window")
        self.await_(lambda: allocated(child) > 28e6, "the child's figures are not its own")
        self.assertTrue(8e6 < allocated(process.pid) < 20e6)

    def test_after_exec(self):
        process = self.python(f"os.execv({WORKLOAD!r}, {[*WORDS]!r})")
        self.assertTrue(6 * MIB < allocated(process.pid) < 7 * MIB)

    def test_stopped_and_continued(self):
        process = self.on_arenal(*WORDS)
        with window.Window(process.pid) as opened:
            self.halt(process)
            with self.assertRaisesRegex(window.Silent, "it is stopped"):
                opened.snapshot()
            os.kill(process.pid, signal.SIGCONT)
            self.assertGreater(opened.snapshot().stats["allocated"], 4 * MIB)
        self.halt(process)
        self.assert_sentence(self.arenal("stats", str(process.pid)), "stopped")
        os.kill(process.pid, signal.SIGCONT)
        self.assertEqual(self.arenal("stats", str(process.pid)).returncode, 0)

    def test_a_process_that_ends_meanwhile(self):
        process = self.on_arenal(*WORDS)
        with window.Window(process.pid) as opened:
            self.stop(process)
            self.assertFalse(opened.alive())
            with self.assertRaisesRegex(Failure, "ended"):
                opened.snapshot()


class Sentences(WindowTest):
    def test_no_window(self):
        process = self.start([sys.executable, "-B", TOOL, "run", "--set", "window=0", "--", *WORDS], env=environment())
        for words in (["stats", str(process.pid)], ["ctl", str(process.pid), "get"]):
            self.assert_sentence(self.arenal(*words), "has no window", "ARENAL_WINDOW=1")

    def test_a_window_whose_thread_has_no_name_yet(self):
        process = self.on_arenal(*WORDS)
        self.assertGreater(allocated(process.pid), 4 * MIB)     # there is one
        looks, threads_of_arenal = [], window_file.threads_of_arenal
        with mock.patch.object(window_file, "threads_of_arenal",
                               lambda pid: looks.append(pid) or ({} if len(looks) < 4 else threads_of_arenal(pid))):
            self.assertGreater(allocated(process.pid), 4 * MIB)
        self.assertEqual(len(looks), 4)

    def test_not_on_arenal(self):
        process = self.start(WORDS)
        self.assert_sentence(self.arenal("stats", str(process.pid)), "not on Arenal", "glibc")

    def test_no_such_process(self):
        self.assert_sentence(self.arenal("stats", "2147483647"), "there is no process 2147483647")

    def test_another_version_of_the_layout(self):
        process = self.on_arenal(*WORDS)
        with open(window_file.find(process.pid)[1], "r+b") as file:
            file.seek(8)
            file.write((77).to_bytes(4, "little"))
        # The tool believes nothing but what the library says now.
        self.assertEqual(self.arenal("stats", str(process.pid)).returncode, 0)
        earlier = window.VERSION
        self.addCleanup(setattr, window, "VERSION", earlier)
        window.VERSION = 77
        with self.assertRaisesRegex(Failure, f"layout version {earlier}, and this tool knows version 77"):
            window.Window(process.pid)


class Hostile(WindowTest):
    """Whoever may open the window may write to the page what he likes."""

    def test_a_client_that_dies_in_the_middle(self):
        process = self.on_arenal(*WORDS)
        for number in (0, 12345):
            client = subprocess.Popen([sys.executable, "-c", f"""
import fcntl, struct, sys
file = open({window_file.find(process.pid)[1]!r}, "r+b", buffering=0)
fcntl.flock(file, fcntl.LOCK_EX)
file.seek({window_format.NUMBER_AT})
file.write(struct.pack("<IIq48s", {number}, 3, 1 << 62, b"decay" * 9))
print("ready", flush=True)
sys.stdin.read()"""], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
            self.addCleanup(self.stop, client)
            self.assertEqual(client.stdout.readline(), "ready\n")
            with window.Window(process.pid, 0.2) as opened, self.assertRaisesRegex(window.Silent, "somebody else"):
                opened.snapshot()
            client.kill()
            client.wait()
            self.assertGreater(allocated(process.pid), 4 * MIB)
        with window.Window(process.pid) as opened:
            self.assertEqual(opened.get("decay"), 1000)

    def test_a_scribbled_page(self):
        process = self.on_arenal(*WORDS)
        file = os.open(window_file.find(process.pid)[1], os.O_RDWR)
        self.addCleanup(os.close, file)
        size = os.fstat(file).st_size
        page = mmap.mmap(file, size)
        self.addCleanup(page.close)
        over = threading.Event()

        def ask():
            while not over.is_set():
                try:
                    with window.Window(process.pid, 0.05) as opened:
                        opened.snapshot()
                        opened.purge()
                except Failure:
                    pass
        asking = threading.Thread(target=ask)
        asking.start()
        source = random.Random(1)
        until = time.monotonic() + 1
        while time.monotonic() < until:
            page[:] = b"\xff" * size
            at = source.randrange(0, 8192)
            page[at:at + 512] = source.getrandbits(8 * 512).to_bytes(512, "little")
            page[window_format.NUMBER_AT:window_format.NUMBER_AT + 64] = source.getrandbits(8 * 64).to_bytes(64, "little")
            page[:] = bytes(source.randrange(256) for _ in range(64)) + page[64:]
        over.set()
        asking.join()
        # What does not begin as a window is none, and nothing is written to it. The library itself is well.
        page[:8] = b"x" * 8
        self.assert_sentence(self.arenal("stats", str(process.pid)), "does not begin")
        page[:8] = window_format.MAGIC
        self.assertIsNone(process.poll())
        self.assertTrue(6 * MIB < allocated(process.pid) < 7 * MIB)
        self.assertEqual(self.arenal("stats", str(process.pid)).returncode, 0)

    def test_the_file_cannot_change_its_size(self):
        process = self.on_arenal(*WORDS)
        with open(window_file.find(process.pid)[1], "r+b") as file:
            for size in (0, 1 << 30):
                with self.assertRaises(PermissionError):
                    os.truncate(file.fileno(), size)

    @unittest.skipUnless(IS_ROOT, "becoming another user takes root")
    def test_other_users_may_not_look_in_but_root_may(self):
        ours = self.on_arenal(*WORDS)
        for words in (["stats"], ["ctl", "get"]):
            done = self.arenal(words[0], str(ours.pid), *words[1:], prefix=as_nobody())
            self.assert_sentence(done, "not permitted")
        listed = self.arenal("ps", prefix=as_nobody())
        self.assertRegex(listed.stdout, rf"(?m)^ *{ours.pid} .* not permitted ")
        theirs = self.start([*as_nobody(), sys.executable, "-B", TOOL, "run", "--", *WORDS], env=environment())
        self.assertGreater(allocated(theirs.pid), 4 * MIB)
        done = self.arenal("stats", str(theirs.pid), prefix=as_nobody())
        self.assertEqual((done.returncode, done.stderr), (0, ""))

    @unittest.skipUnless(IS_ROOT, "becoming another user takes root")
    def test_a_process_that_became_another_user(self):
        # The kernel keeps its new user away from what it knew as root. Its threads change together: the window's, too.
        process = self.python(f"os.setgid({NOBODY}); os.setuid({NOBODY})")
        self.assert_sentence(self.arenal("stats", str(process.pid), prefix=as_nobody()), "not permitted")
        self.assertGreater(allocated(process.pid), 8e6)
        for task in os.listdir(f"/proc/{process.pid}/task"):
            with open(f"/proc/{process.pid}/task/{task}/status", encoding="utf-8") as file:
                self.assertRegex(file.read(), rf"(?m)^Uid:\t{NOBODY}\t{NOBODY}")


class Unseen(WindowTest):
    """The program does not notice."""

    def test_a_daemon_that_closes_all_descriptors(self):
        # What it sees before and after; the window stays, and so does the rule that open() returns the lowest number.
        process = self.python("""
before = sorted(map(int, os.listdir("/proc/self/fd")))[:-1]     # the last is the listing's own
os.closerange(3, 65536)
assert sorted(map(int, os.listdir("/proc/self/fd"))) == [0, 1, 2, 3]
assert before == [0, 1, 2], before
assert os.open("/dev/null", os.O_RDONLY) == 3""")
        self.assertGreater(allocated(process.pid), 8e6)
        with window.Window(process.pid) as opened:
            opened.purge()
        self.assertEqual(sorted(os.listdir(f"/proc/{process.pid}/fd")), ["0", "1", "2", "3"])

    def test_a_pipe_is_not_held_open(self):
        process = self.on_arenal(*WORDS)
        with window.Window(process.pid):
            thread = window_file.find(process.pid)[0]
            self.assertEqual(len(os.listdir(f"/proc/{process.pid}/task/{thread}/fd")), 1)

    @unittest.skipUnless(IS_ROOT, "chroot takes root")
    def test_in_a_chroot_without_proc(self):
        process = self.python(f"os.chroot({self.folder!r}); os.chdir('/')\n{FORK}", 200)
        child = self.child_of(process)
        self.await_(lambda: window_file.NAME in window_file.threads_of_arenal(child), "the child has no window")
        self.assertGreater(allocated(process.pid), 8e6)
        self.assertGreater(allocated(child), 8e6)


if __name__ == "__main__":
    unittest.main()
