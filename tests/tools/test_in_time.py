"""Tests of heap profiles that a process writes while it runs: when, into which files, and that nothing else changes for the program."""

import contextlib
import os
import re
import signal
import subprocess
import unittest

from profile_support import ProfileTest, words
from support import LIBRARY, MIB, as_nobody, cgroup, environment, thread_names

GROWS = os.environ["TEST_GROWS"]
UNSHARE = ["unshare", "-U", "-m", "-r", "--propagation", "private"]
NO_NAMESPACES = subprocess.run([*UNSHARE, "true"], stderr=subprocess.DEVNULL, check=False).returncode != 0


class InTimeTest(ProfileTest):
    def setUp(self):
        super().setUp()
        self.heaps = self.path("heaps")
        os.mkdir(self.heaps)
        os.chmod(self.heaps, 0o777)

    def grows(self, prefix=(), pattern="heap.%p.%n", preload=LIBRARY, **tunables):
        """The program, with profiles in time as the tunables say; one byte in 4 KiB is sampled."""
        settings = {"LD_PRELOAD": preload, "ARENAL_PROFILE_SAMPLE": "4K", "ARENAL_PROFILE_FILE": os.path.join(self.heaps, pattern),
                    **{f"ARENAL_{name.upper()}": value for name, value in tunables.items()}}
        with open(self.path("stderr"), "w", encoding="utf-8") as stderr:
            return self.start([*prefix, "env", *(f"{name}={value}" for name, value in settings.items()), GROWS], env=environment(),
                              stderr=stderr)

    def tell(self, process, line):
        process.stdin.write(line + "\n")
        process.stdin.flush()
        return process.stdout.readline().strip()

    def said(self):
        with open(self.path("stderr"), encoding="utf-8") as file:
            return file.read()

    def names(self):
        return sorted(os.listdir(self.heaps))

    def some(self, count=1):
        return lambda: len(self.names()) >= count and self.names()

    def newest(self):
        paths = [os.path.join(self.heaps, name) for name in self.names()]
        return max(paths, key=lambda path: os.stat(path).st_mtime_ns)

    def bytes_of(self, function, path):
        """What the profile says that the function holds."""
        done = self.arenal("profile", path)
        self.assertEqual(done.returncode, 0, done.stderr)
        flat = self.rows(done.stdout).get(function, ("0B",))[0]
        return float(flat[:-1]) * {"B": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30}[flat[-1]]

    def have_begun(self, process):
        self.await_(lambda: "arenal-profile\n" in thread_names(process.pid), "nobody writes profiles")


class When(InTimeTest):
    def test_at_a_new_peak(self):
        """A process that is killed leaves what it held not long before, and nothing that is half written."""
        process = self.grows(profile_growth="10", profile_keep="4")
        process.stdin.write("for ever\n")
        process.stdin.flush()
        self.await_(lambda: self.names() and self.bytes_of("grow_here", self.newest()) > 30 * MIB, "no profile tells of 30 MiB")
        process.kill()
        process.wait()
        self.assertRegex(" ".join(self.names()), rf"^(heap\.{process.pid}\.[1-4] ?)+$")
        self.assertEqual(self.said(), "")
        held = sorted(self.bytes_of("grow_here", os.path.join(self.heaps, name)) for name in self.names())
        self.assertEqual(len(held), 4)
        for smaller, larger in zip(held, held[1:]):
            self.assertGreater(larger, 1.05 * smaller)

    def test_a_cgroup_kills_it(self):
        limited = cgroup(self, "memory", ("memory.limit_in_bytes", "memory.max"))
        if not limited:
            self.skipTest("no cgroup whose memory may be limited")
        folder, limit = limited
        with open(limit, "w", encoding="ascii") as file:
            file.write(str(96 * MIB))
        for name in ("memory.swap.max", "memory.memsw.limit_in_bytes"):
            with contextlib.suppress(OSError), open(os.path.join(folder, name), "w", encoding="ascii") as file:
                file.write("0" if name == "memory.swap.max" else str(96 * MIB))
        process = self.grows(profile_growth="10")
        with open(f"{folder}/cgroup.procs", "w", encoding="ascii") as file:
            file.write(str(process.pid))
        process.stdin.write("for ever\n")
        process.stdin.flush()
        self.assertEqual(process.wait(30), -signal.SIGKILL)
        self.assertGreater(self.bytes_of("grow_here", self.newest()), 60 * MIB)

    def test_each_so_many_bytes(self):
        process = self.grows(profile_bytes="8M")
        self.have_begun(process)
        self.tell(process, f"use {4 * MIB}")
        self.assertEqual(self.names(), [])
        self.tell(process, f"use {8 * MIB}")
        self.await_(self.some(), "no profile after 12 MiB")
        self.assertLessEqual(self.bytes_of("use_here", self.newest()), 64 << 10)     # the one that is being used

    def test_each_so_many_seconds(self):
        """Set in the running process, where the profile is on."""
        process = self.grows(profile="1", window="1")
        self.tell(process, f"grow {4 * MIB}")
        self.assertNotIn("arenal-profile\n", thread_names(process.pid))
        done = self.arenal("ctl", str(process.pid), "set", "profile_seconds", "1")
        self.assertEqual(done.returncode, 0, done)
        self.tell(process, f"grow {4 * MIB}")           # a moment at which a thread may be started
        self.await_(self.some(2), "no two profiles in time")
        self.assertAlmostEqual(self.bytes_of("grow_here", self.newest()), 8 * MIB, delta=MIB)
        self.assertEqual(self.arenal("ctl", str(process.pid), "set", "profile_seconds", "0").returncode, 0)
        self.await_(lambda: "arenal-profile\n" not in thread_names(process.pid), "the thread goes on for nobody")

    def test_at_a_signal(self):
        process = self.grows(profile_signal=str(int(signal.SIGUSR2)))
        self.tell(process, f"grow {4 * MIB}")
        self.have_begun(process)
        for count in (1, 2):
            process.send_signal(signal.SIGUSR2)
            self.await_(self.some(count), "no profile at a signal")
        self.assertEqual(self.tell(process, "term").split()[:2], ["default", "default"])    # and it is so from now on
        process.send_signal(signal.SIGUSR2)
        self.assertEqual(process.wait(30), -signal.SIGUSR2)
        self.assertEqual(len(self.names()), 2)

    def test_the_process_ends_without_it(self):
        """It does not live on for our thread's sake."""
        process = self.grows(profile_seconds="1000")
        self.tell(process, f"grow {MIB}")
        self.have_begun(process)
        process.stdin.write("leave\n")
        process.stdin.flush()
        self.assertEqual(process.wait(30), 0)

    def test_in_children(self):
        process = self.grows(profile_growth="10")
        self.tell(process, f"grow {4 * MIB}")
        child = int(self.tell(process, "fork"))
        try:
            self.await_(lambda: any(name.startswith(f"heap.{child}.") and self.bytes_of("grow_here", os.path.join(self.heaps, name))
                                    for name in self.names()), "no profile of the child")
        finally:
            os.kill(child, signal.SIGKILL)


class Sigterm(InTimeTest):
    def test_before_the_end(self):
        process = self.grows(profile_term="1")
        self.tell(process, f"grow {4 * MIB}")
        self.have_begun(process)
        self.assertEqual(self.names(), [])
        process.terminate()
        self.assertEqual(process.wait(30), -signal.SIGTERM)
        self.assertEqual(self.names(), [f"heap.{process.pid}.1"])
        self.assertAlmostEqual(self.bytes_of("grow_here", self.newest()), 4 * MIB, delta=MIB)

    def test_before_there_is_anything(self):
        process = self.grows(profile_term="1", pattern="%p")
        process.terminate()
        self.assertEqual(process.wait(30), -signal.SIGTERM)

    def test_the_program_sees_nothing_of_it(self):
        tunables = {"profile_term": "1", "profile_signal": str(int(signal.SIGUSR2))}
        process = self.grows(**tunables)
        self.assertEqual(self.tell(process, "term"), "default default no flags default ignored")
        process = self.grows(**tunables)
        self.assertEqual(self.tell(process, "handle"), "handled")
        process.send_signal(signal.SIGUSR2)
        self.await_(lambda: self.tell(process, "count") == "1", "its handler is not called")
        process.terminate()
        self.assertEqual(process.wait(30), 7)
        self.assertEqual(len(self.names()), 1)          # at exit

    def test_the_program_waits_for_it(self):
        process = self.grows(profile_term="1")
        self.assertEqual(self.tell(process, "wait"), "waiting")
        process.terminate()
        self.assertEqual(process.stdout.readline(), f"got {int(signal.SIGTERM)}\n")
        self.assertEqual(self.names(), [])

    def test_it_is_ignored(self):
        process = self.grows(prefix=["sh", "-c", 'trap "" TERM; exec "$@"', "sh"], profile_term="1")
        self.assertEqual(self.said(), f"arenal: signal {int(signal.SIGTERM)} is not free: no heap profile is written for it\n")
        process.terminate()
        self.assertEqual(self.tell(process, "term").split()[0], "ignored")

    def test_signals_that_are_others(self):
        for number in (signal.SIGSEGV, signal.SIGKILL, signal.SIGCHLD, 33):
            process = self.grows(profile_signal=str(int(number)))
            self.assertIn(f"arenal: signal {int(number)} is not free", self.said())
            process.stdin.close()
            self.assertEqual(process.wait(30), 3)


class Files(InTimeTest):
    def write(self, process, count):
        for _ in range(count):
            before = {name: os.stat(os.path.join(self.heaps, name)).st_ino for name in self.names()}
            process.send_signal(signal.SIGUSR2)
            self.await_(lambda: {name: os.stat(os.path.join(self.heaps, name)).st_ino for name in self.names()} not in ({}, before),
                        "no other profile")

    def signalled(self, **more):
        process = self.grows(profile_signal=str(int(signal.SIGUSR2)), profile_keep="3", **more)
        self.tell(process, f"grow {MIB}")
        self.have_begun(process)
        return process

    def times(self):
        return {name: os.stat(os.path.join(self.heaps, name)).st_mtime_ns for name in self.names()}

    def test_so_many_are_kept(self):
        """Also of earlier processes of the same name, as in a container that was restarted; the oldest goes first."""
        process = self.signalled(pattern="heap")
        self.write(process, 4)
        process.kill()
        process.wait()
        before = self.times()
        self.assertEqual(list(before), ["heap.1", "heap.2", "heap.3"])
        self.assertLess(before["heap.2"], before["heap.1"])
        self.write(self.signalled(pattern="heap"), 1)
        after = self.times()
        self.assertEqual([name for name in after if after[name] != before[name]], ["heap.2"])
        self.assertEqual(self.said(), "")

    def test_what_is_not_ours(self):
        """Neither links nor what they lead to, nor pipes, nor what belongs to others."""
        victim = self.path("victim")
        with open(victim, "w", encoding="ascii") as file:
            file.write("old")
        os.symlink(victim, os.path.join(self.heaps, "heap.1"))
        os.mkfifo(os.path.join(self.heaps, "heap.2"))
        process = self.signalled(pattern="heap")
        self.write(process, 2)
        self.assertTrue(os.path.islink(os.path.join(self.heaps, "heap.1")))
        with open(victim, encoding="ascii") as file:
            self.assertEqual(file.read(), "old")
        self.assertEqual(os.stat(os.path.join(self.heaps, "heap.3")).st_mode & 0o777, 0o600)
        self.assertGreater(self.bytes_of("grow_here", os.path.join(self.heaps, "heap.3")), MIB / 2)
        self.assertEqual(self.said(), "")

    @unittest.skipUnless(as_nobody(), "the tests are not run by root")
    def test_another_user_s_file(self):
        with open(os.path.join(self.heaps, "heap.1"), "w", encoding="ascii") as file:
            file.write("root's")
        process = self.signalled(pattern="heap", prefix=as_nobody())
        self.write(process, 1)
        with open(os.path.join(self.heaps, "heap.1"), encoding="ascii") as file:
            self.assertEqual(file.read(), "root's")

    def test_it_cannot_be_written(self):
        """One sentence, however often, and the program goes on."""
        process = self.signalled(pattern="nowhere/heap")
        for _ in range(3):
            process.send_signal(signal.SIGUSR2)
            self.await_(lambda: self.said().endswith("\n"), "nothing is said")
        self.assertRegex(self.said(), r"^arenal: the heap profile could not be written \(No such file or directory\): .*/nowhere/heap\.1\n$")
        self.assertEqual(self.tell(process, f"grow {MIB}"), "grown")

    @unittest.skipIf(NO_NAMESPACES, "user namespaces are not permitted here")
    def test_a_full_disk(self):
        script = f"mount -t tmpfs -o size=64k none '{self.heaps}'; head -c 1M /dev/zero 2> /dev/null > '{self.heaps}/fill'; exec \"$@\""
        process = self.signalled(prefix=[*UNSHARE, "sh", "-c", script, "sh"])
        process.send_signal(signal.SIGUSR2)
        self.await_(lambda: "(No space left on device)" in self.said(), "nothing is said of the disk")
        self.assertEqual(os.listdir(f"/proc/{process.pid}/root{self.heaps}"), ["fill"])
        self.assertEqual(self.tell(process, f"grow {MIB}"), "grown")

    def test_no_file_is_named(self):
        done = subprocess.run([GROWS], input="", stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, check=False,
                              env=words(ARENAL_PROFILE_SECONDS="1"))
        self.assertEqual(done.returncode, 3)
        self.assertEqual(done.stderr, "arenal: no heap profiles while the process runs: ARENAL_PROFILE_FILE names no file\n")

    def test_no_file_is_named_later(self):
        process = self.on_arenal(GROWS, stderr=subprocess.PIPE)
        self.assertEqual(self.arenal("ctl", str(process.pid), "set", "profile_seconds", "1").returncode, 0)
        self.assertIn("ARENAL_PROFILE_FILE names no file", process.stderr.readline())

    def test_the_program_s_descriptors_are_its_own(self):
        process = self.signalled()
        before = sorted(os.listdir(f"/proc/{process.pid}/fd"))
        self.write(process, 2)
        self.assertEqual(sorted(os.listdir(f"/proc/{process.pid}/fd")), before)
        process.stdin.close()
        self.assertEqual(process.wait(30), 3)
        self.assertEqual(len([name for name in self.names() if re.fullmatch(rf"heap\.{process.pid}\.[1-3]", name)]), 3)


if __name__ == "__main__":
    unittest.main()
