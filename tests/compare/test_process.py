"""Tests of the processes under an allocator: preloading, environment, memory, ends of all kinds."""

import os
import resource
import shutil
import signal
import tempfile
import time
import unittest
from unittest import mock

from support import ABORTING, BUILD, HANGING, MIB, PROGRAMS, TOUCHER
from compare import allocators
from compare.process import Launcher
from compare.results import Failed

OWN_MALLOC = os.path.join(PROGRAMS, "compare_own_malloc")


class ProcessTest(unittest.TestCase):
    def setUp(self):
        self.folder = tempfile.mkdtemp(prefix="compare-test-")
        self.addCleanup(shutil.rmtree, self.folder, ignore_errors=True)

    def launcher(self, name="arenal"):
        allocator, = allocators.find([name], BUILD, self.folder)
        self.assertIsNone(allocator.problem)
        return Launcher(allocator, self.folder, BUILD)

    def assert_fails(self, pattern, *command, launcher=None, timeout=30, **options):
        with self.assertRaisesRegex(Failed, pattern):
            (launcher or self.launcher()).run(command, timeout=timeout, **options)

    def test_peak_is_the_programs_own(self):
        # Python itself shall be bigger than the small one: a child would inherit that.
        ballast = bytearray(80 * MIB)
        self.assertGreater(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024, len(ballast))
        for name in ("glibc", "arenal"):
            with self.subTest(name):
                small = self.launcher(name).run([TOUCHER, 5], timeout=30).peak_rss
                large = self.launcher(name).run([TOUCHER, 50], timeout=30).peak_rss
                self.assertTrue(5 * MIB <= small <= 20 * MIB, small)
                self.assertTrue(43 * MIB <= large - small <= 47 * MIB, (small, large))

    def test_memory_over_time_is_that_of_the_whole_tree(self):
        script = f"'{TOUCHER}' 20 600 & '{TOUCHER}' 30 600 & wait"
        done = self.launcher().run(["sh", "-c", script], timeout=30, series=True)
        self.assertGreater(len(done.series), 5)
        self.assertGreater(max(resident for _, resident in done.series), 50 * MIB)
        self.assertLess(done.peak_rss, 45 * MIB, "of the biggest process alone")
        seconds = [moment for moment, _ in done.series]
        self.assertEqual(seconds, sorted(seconds))
        self.assertLess(seconds[-1], done.seconds)

    def test_the_time_is_the_programs(self):
        self.assertTrue(0.3 <= self.launcher().run([TOUCHER, 1, 300], timeout=30).seconds < 1)

    def test_environment(self):
        leaks = {"ARENAL_CONF": "1", "MALLOC_ARENA_MAX": "1", "LD_PRELOAD": "", "LD_LIBRARY_PATH": "/x", "LD_DEBUG": "help",
                 "TCMALLOC_RELEASE_RATE": "9", "MIMALLOC_VERBOSE": "0", "KEPT": "yes"}
        with mock.patch.dict(os.environ, leaks):
            launcher = self.launcher()
            lines = launcher.run(["env"], timeout=30, env={"MALLOC_ARENA_MAX": "2"}).output.splitlines()
        found = dict(line.split("=", 1) for line in lines)
        self.assertEqual(found["MALLOC_ARENA_MAX"], "2", "set on purpose")
        self.assertEqual(found["LD_PRELOAD"], launcher.allocator.preload)
        self.assertEqual(found["KEPT"], "yes")
        self.assertFalse(found.keys() & {"ARENAL_CONF", "LD_LIBRARY_PATH", "LD_DEBUG", "TCMALLOC_RELEASE_RATE",
                                         "MIMALLOC_VERBOSE"})
        self.assertNotIn("LD_PRELOAD", launcher.run(["env"], timeout=30, preload=False).output)

    def test_variables_of_an_allocator(self):
        """They are what was asked for, and reach what is measured alone."""
        entries = allocators.entries("ARENAL_DECAY=-1 arenal,arenal,X='a,b c' MALLOC_ARENA_MAX=1 glibc, ./no such.so")
        found = allocators.find(entries, BUILD, self.folder)
        self.assertEqual([one.name for one in found],
                         ["ARENAL_DECAY=-1 arenal", "arenal", "X=a,b c MALLOC_ARENA_MAX=1 glibc", "no such.so"])
        self.assertEqual([one.own for one in found], [True, False, False, False], "the first Arenal, the others are peers")
        launcher = Launcher(found[2], self.folder, BUILD)
        with mock.patch.dict(os.environ, MALLOC_ARENA_MAX="8"):
            lines = launcher.run(["env"], timeout=30).output.splitlines()
            helper = launcher.run(["env"], timeout=30, preload=False).output
            with launcher.start(["env"]) as service:
                service.process.wait()
                log = service.log()
        for words in (lines, log.splitlines()):
            self.assertIn("X=a,b c", words)
            self.assertIn("MALLOC_ARENA_MAX=1", words)
        self.assertNotIn("MALLOC_ARENA_MAX", helper)
        self.assertEqual(allocators.entries("a,"), ["a", ""])

    def test_input_output_and_folder(self):
        done = self.launcher().run(["sh", "-c", "cat; pwd; echo to stderr >&2"], timeout=30, input="words\n", cwd="/")
        self.assertEqual((done.output, done.errors), ("words\n/\n", "to stderr\n"))
        self.assertEqual(self.launcher().run(["echo", "x"], timeout=30, output=False).output, "")

    def test_ends(self):
        self.assert_fails(r"^ended with status 3: the reason$", "sh", "-c", "echo first; echo the reason >&2; exit 3")
        self.assert_fails(r"^crashed: SIGSEGV after 0\.\d s$", "sh", "-c", "kill -SEGV $$")
        self.assert_fails(r"^nosuchprogram is not installed$", "nosuchprogram")
        self.assert_fails(r"^/nosuch/program is missing$", "/nosuch/program")
        self.assert_fails(r"^/tmp cannot be executed$", "/tmp")

    def test_failing_allocators(self):
        self.assert_fails(r"^crashed: SIGABRT after \d+\.\d s: aborting\.so: too large$", TOUCHER, 1,
                          launcher=self.launcher(ABORTING))
        start = time.monotonic()
        self.assert_fails(r"^hung: killed after 0\.5 s$", TOUCHER, 1, launcher=self.launcher(HANGING), timeout=0.5)
        self.assertLess(time.monotonic() - start, 10)

    def test_a_hang_is_killed_with_all_its_descendants(self):
        pids = os.path.join(self.folder, "pids")
        script = f"sleep 1000 & echo $! >'{pids}'; setsid sleep 1000 & echo $! >>'{pids}'; echo $$ >>'{pids}'; wait"
        self.assert_fails("^hung", "sh", "-c", script, timeout=1)
        with open(pids, encoding="ascii") as file:
            numbers = [int(line) for line in file]
        self.assertEqual(len(numbers), 3)
        self.assert_end(numbers)

    def test_what_a_program_leaves_behind_is_killed_and_not_waited_for(self):
        done = self.launcher().run(["sh", "-c", "sleep 1000 & echo $!"], timeout=30)
        self.assertLess(done.seconds, 10)
        self.assert_end([int(done.output)])

    def assert_end(self, pids):
        """What was killed a moment ago may need one to end."""
        deadline = time.monotonic() + 30
        while any(is_running(pid) for pid in pids) and time.monotonic() < deadline:
            time.sleep(0.02)
        self.assertEqual([pid for pid in pids if is_running(pid)], [])

    def test_a_shorter_limit_of_the_schedule(self):
        launcher = self.launcher()
        launcher.timeout = 0.3
        self.assert_fails(r"^hung: killed after 0\.3 s$", "sleep", "100", launcher=launcher)

    def test_a_program_that_ignores_the_preload(self):
        self.assert_fails("own_malloc does not use arenal: it is linked with a malloc of its own", OWN_MALLOC)
        # As if the dynamic linker had ignored it, which it does for set-user-ID programs.
        launcher = self.launcher()
        launcher.allocator.preload = None
        self.assert_fails("^compare_toucher does not use arenal: it ignores LD_PRELOAD", TOUCHER, 1, 500, launcher=launcher)
        with launcher.start([TOUCHER, 1, 60000]) as service:
            with self.assertRaisesRegex(Failed, "^compare_toucher does not use arenal"):
                service.wait_for(lambda: False, 5)
        wrong = os.path.join(self.folder, "wrong.so")       # of another machine
        shutil.copy(os.path.join(BUILD, "src", "libarenal.so"), wrong)
        with open(wrong, "r+b") as file:
            file.seek(18)
            file.write(b"\x01\x00")
        self.assert_fails("^wrong.so cannot be preloaded: ", TOUCHER, 1, launcher=self.launcher(wrong))

    def test_a_library_whose_path_cannot_be_preloaded(self):
        folder = os.path.join(self.folder, "a folder: $ORIGIN")
        os.mkdir(folder)
        library = os.path.join(folder, "lib other.so")
        shutil.copy(os.path.join(BUILD, "src", "libarenal.so"), library)
        launcher = self.launcher(library)
        self.assertEqual(launcher.allocator.name, "lib other.so")
        maps = launcher.run(["cat", "/proc/self/maps"], timeout=30).output
        self.assertIn(library, maps)

    def test_pinning(self):
        launcher = self.launcher()
        count = len(os.sched_getaffinity(0))
        self.assertEqual(launcher.run(["nproc"], timeout=30).output.strip(), str(count))
        launcher.cpu = max(os.sched_getaffinity(0))
        self.assertEqual(launcher.run(["nproc"], timeout=30).output.strip(), "1")

    def test_service(self):
        with self.launcher().start([TOUCHER, 20, 60000]) as service:
            service.wait_for(lambda: service.rss() > 20 * MIB, 10)
            self.assertGreaterEqual(service.peak_rss(), service.rss() // 2)
            self.assertGreater(service.tree_rss(), 20 * MIB)
            pid = service.pid
            self.assertTrue(is_running(pid))
        self.assertFalse(is_running(pid))

    def test_a_service_that_ends_says_how(self):
        with self.launcher().start(["sh", "-c", "echo no port left >&2; exit 7"]) as service:
            with self.assertRaisesRegex(Failed, r"^the server ended with status 7: no port left$"):
                service.wait_for(lambda: False, 10)
        with self.launcher().start(["sleep", "100"]) as service:
            with self.assertRaisesRegex(Failed, r"^the server did not get ready within 0\.2 s$"):
                service.wait_for(lambda: False, 0.2)
            os.kill(service.pid, signal.SIGKILL)
            time.sleep(0.1)
            with self.assertRaisesRegex(Failed, r"^the server crashed: SIGKILL"):
                service.rss()

    def test_a_service_that_ignores_term(self):
        with self.launcher().start(["sh", "-c", "trap '' TERM; echo ready; while :; do sleep 0.1; done"]) as service:
            service.wait_for(lambda: "ready" in service.log(), 10)
            pid = service.pid
        self.assertFalse(is_running(pid))


def is_running(pid):
    try:
        with open(f"/proc/{pid}/stat", encoding="utf-8") as stat:
            return stat.read().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


if __name__ == "__main__":
    unittest.main()
