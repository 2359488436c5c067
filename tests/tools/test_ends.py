"""Tests of how a trace ends: what each process says when it does, who cuts the file, and what is read while it is written."""

import contextlib
import fcntl
import glob
import os
import shutil
import signal
import struct
import subprocess
import sys
import unittest
import unittest.mock

from support import LIBRARY, TOOL, environment
from test_trace import CHUNK, TraceTest

from arenal import trace
from arenal.trace import ends

ENDS = os.environ["TEST_ENDS"]
COUNT = 8000
CHUNKS_AT = 80          # struct trace_header
NO_END, EXIT = range(2)
LONG = 1 << 30          # files that nobody cut are longer
LEFT = "ended without calling exit (_exit, another program, or a signal)"


class EndsTest(TraceTest):
    def run_ends(self, mode, status=0, **env):
        """Runs it, and returns what it and all its descendants printed."""
        done = subprocess.run([ENDS, mode], env=environment(LD_PRELOAD=LIBRARY, ARENAL_TRACE_FILE=self.trace, **env), check=False,
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=60, start_new_session=True)
        self.assertEqual(done.returncode, status, done)
        return done.stdout

    def ends(self):
        """{size of blocks: (how, status)} of the trace's processes, each of which has a size that is its own, and its last."""
        found = {}
        for pid, _, how, status in self.summary()["processes"]:
            sizes = self.sizes(pid)
            found[max(size for size in sizes if sizes[size] == COUNT)] = how, status
        return found

    def assert_cut(self):
        size = os.stat(self.trace).st_size
        summary = self.summary()
        self.assertEqual(size, summary["chunks"] * CHUNK)
        self.assertEqual((summary["state"], summary["damaged"]), (1, 0))

    def assert_ended(self, **found):
        """The last one called exit, and cut the file."""
        self.assert_cut()
        self.assertEqual(self.ends(), {int(size[1:]): end for size, end in found.items()})

    def assert_left(self, **found):
        """The last one ended otherwise. The file is long, but nobody writes to it any more, and the tool cuts it."""
        self.assertGreater(os.stat(self.trace).st_size, LONG)
        self.assertEqual(self.summary()["writers"], 0)
        ends.settle(self.trace)
        self.assertEqual(os.stat(self.trace).st_size, self.summary()["chunks"] * CHUNK)
        self.assertEqual(self.ends(), {int(size[1:]): end for size, end in found.items()})

    def told(self):
        """{size of blocks: what is said of the process}, likewise."""
        summary = trace.ask(os.environ["TEST_TOOL"], "summary", self.trace)
        found = {}
        for row in summary["processes"]:
            sizes = self.sizes(row[0])
            found[max(size for size in sizes if sizes[size] == COUNT)] = ends.describe(row, summary)
        return found


class Alone(EndsTest):
    """Of one process."""

    def test_exit(self):
        for mode, status in (("", 0), ("exit", 3)):
            with self.subTest(mode):
                self.run_ends(mode, status)
                self.assert_ended(_111=(EXIT, status))
                self.assertEqual(self.told(), {111: f"called exit({status})"})
                os.unlink(self.trace)

    def test_other_ends_leave_no_word(self):
        for mode, status in (("_exit", 4), ("_Exit", 5), ("quick_exit", 6), ("kill", -signal.SIGKILL)):
            with self.subTest(mode):
                self.run_ends(mode, status)
                self.assert_left(_111=(NO_END, 0))
                self.assertEqual(self.told(), {111: LEFT})
                os.unlink(self.trace)

    def test_it_goes_on_as_another_program(self):
        process = subprocess.Popen([ENDS, "execv"], stdout=subprocess.PIPE, text=True, env=environment(
            LD_PRELOAD=LIBRARY, ARENAL_TRACE_FILE=self.trace))
        self.assertEqual(process.communicate()[0], "executed\n")
        self.assertEqual(process.returncode, 0)
        self.assert_left(_111=(NO_END, 0))
        following = f"{self.trace}.{process.pid}"
        self.assertEqual(self.told(), {111: f"went on as another program: {following}"})
        os.rename(following, self.trace)
        self.assert_ended(_111=(EXIT, 0))

    def test_recording_goes_on_when_nothing_was_executed(self):
        self.run_ends("not executed")
        self.assert_ended(_222=(EXIT, 0))
        self.assertEqual(self.sizes()[111], COUNT)

    def test_the_main_thread_may_end_first(self):
        self.run_ends("pthread_exit")
        self.assert_ended(_222=(EXIT, 0))

    def test_a_signal_leaves_no_word_and_the_tool_cuts_the_file(self):
        self.run_ends("kill", -signal.SIGKILL)
        self.assertEqual(self.ends(), {111: (NO_END, 0)})
        self.assertEqual((self.summary()["writers"], self.summary()["state"]), (0, 0))
        self.assertGreater(os.stat(self.trace).st_size, LONG)
        page = os.path.join(self.folder, "page.html")
        self.assertEqual(self.arenal("report", "--output", page, self.trace).returncode, 0)
        with open(page, encoding="utf-8") as file:
            self.assertIn(LEFT, file.read())
        self.assertLess(os.stat(self.trace).st_size, 100 * CHUNK)
        self.assertEqual(self.ends(), {111: (NO_END, 0)})


class Several(EndsTest):
    """Of several processes: the last one cuts the file, whatever became of the others."""

    def test_children_by_vfork_are_no_processes_of_the_trace(self):
        self.run_ends("vfork")
        self.assert_ended(_222=(EXIT, 0))

    def test_children_that_end_in_all_ways(self):
        self.run_ends("children")
        ways = (NO_END, 0), (EXIT, 3), (NO_END, 0), (NO_END, 0)
        self.assert_ended(**{f"_{222 + i}": ways[i % 4] for i in range(8)}, _333=(EXIT, 0))

    def test_daemons(self):
        for mode in ("daemon", "by hand"):
            with self.subTest(mode):
                self.run_ends(mode)                     # its output ends with the last one
                self.assert_ended(_111=(NO_END, 0), _222=(EXIT, 0))
                os.unlink(self.trace)

    def test_a_child_that_could_execute_nothing_still_counts(self):
        self.run_ends("outlives failure")
        self.assert_ended(_111=(NO_END, 0), _333=(EXIT, 7))


class Over(EndsTest):
    """In a file system over another one, where containers have their files: a lock does not last as long as the mapping."""

    SCRIPT = """
mount -t tmpfs none "$1" && cd "$1" && mkdir below above work over && mount -t overlay none -o lowerdir=below,upperdir=above,workdir=work over ||
  exit 77
LD_PRELOAD=$2 ARENAL_TRACE_FILE=$PWD/over/trace "$3" children || exit
[ $(stat -c %s over/trace) -gt 1000000000 ] || echo cut
"$4" -B "$5" report over/trace && cp over/trace "$6"
"""

    @unittest.skipIf(os.getuid() != 0, "only root may look at all processes")
    def test_nobody_cuts_it_but_root_s_tool(self):
        folder = os.path.join(self.folder, "folder")
        os.mkdir(folder)
        done = subprocess.run(["unshare", "-m", "--propagation", "private", "sh", "-c", self.SCRIPT, "sh", folder, LIBRARY, ENDS, sys.executable, TOOL,
                               self.trace], env=environment(), check=False, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=60)
        if done.returncode == 77:
            self.skipTest("no overlay may be mounted here")
        self.assertEqual(done.returncode, 0, done)
        self.assertNotIn("arenal:", done.stdout)
        self.assertNotIn("cut\n", done.stdout)
        summary = self.summary()
        self.assertEqual((os.stat(self.trace).st_size, summary["damaged"]), (summary["chunks"] * CHUNK, 0))
        self.assertEqual(self.ends()[333], (EXIT, 0))


class Running(EndsTest):
    def test_it_is_read_while_it_is_written(self):
        process = self.start([ENDS, "waits"], env=environment(LD_PRELOAD=LIBRARY, ARENAL_TRACE_FILE=self.trace))
        for turn in range(1, 4):
            process.stdin.write("x")
            process.stdin.flush()
            self.assertEqual(process.stdout.readline(), "done\n")
            self.assertEqual(self.sizes()[222], turn * COUNT)
            self.assertEqual((self.summary()["writers"], self.summary()["state"]), (1, 0))
            page = os.path.join(self.folder, "page.html")
            self.assertEqual(self.arenal("report", "--output", page, self.trace).returncode, 0)
            with open(page, encoding="utf-8") as file:
                self.assertIn("runs still", file.read())
        done = self.arenal("replay", "--rounds", "1", "--rest", "0", "--allocator", "glibc", self.trace)
        self.assertEqual(done.returncode, 0, done)
        self.assertIn("The process runs still.", done.stdout)
        self.assertGreater(os.stat(self.trace).st_size, LONG)
        process.stdin.close()
        self.assertEqual(process.wait(), 0)
        self.assertEqual(self.sizes()[222], 3 * COUNT)
        self.assert_ended(_111=(EXIT, 0))

    def test_a_writer_may_end_while_it_is_read(self):
        """It cuts the file then."""
        process = self.start([ENDS, "waits"], env=environment(LD_PRELOAD=LIBRARY, ARENAL_TRACE_FILE=self.trace))
        reader = subprocess.Popen([os.environ["TEST_READER"], "events", self.trace, "0"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        self.addCleanup(self.stop, reader)
        first = reader.stdout.readline()                # it has looked at all, and waits for us to take the rest
        process.stdin.close()
        self.assertEqual(process.wait(), 0)
        self.assert_cut()
        self.assertEqual(sum(" 111 " in line for line in [first, *reader.stdout]), COUNT)
        self.assertEqual((reader.wait(), reader.stderr.read()), (0, ""))


class Refused(EndsTest):
    """What could be written to once cannot be any more: recording stops, with a sentence, and the program goes on."""

    def write(self, process):
        process.stdin.write("x")
        process.stdin.flush()
        self.assertEqual(process.stdout.readline(), "done\n")

    def assert_sentence_and_end(self, process):
        process.stdin.close()
        self.assertEqual(process.wait(), 0)
        self.assertEqual(len(process.stderr.readlines()), 1)

    def waiting(self):
        return self.start([ENDS, "waits"], env=environment(LD_PRELOAD=LIBRARY, ARENAL_TRACE_FILE=self.trace), stderr=subprocess.PIPE)

    def test_somebody_cuts_the_file(self):
        for length in (0, CHUNK, CHUNK + 4096):
            process = self.waiting()
            os.truncate(self.trace, length)
            self.write(process)
            self.write(process)
            self.assert_sentence_and_end(process)
            os.unlink(self.trace)

    @unittest.skipIf(os.getuid() != 0 or not shutil.which("mkfs.btrfs"), "only root can mount a file system, and it takes btrfs-progs")
    def test_a_full_disk_that_keeps_no_room_for_what_was_written(self):
        image, disk = os.path.join(self.folder, "image"), os.path.join(self.folder, "disk")
        with open(image, "wb") as file:
            file.truncate(120 << 20)
        os.mkdir(disk)
        subprocess.run(["mkfs.btrfs", "-q", image], check=True, stderr=subprocess.DEVNULL)
        if subprocess.run(["mount", "-o", "loop", image, disk], check=False, stderr=subprocess.DEVNULL).returncode:
            self.skipTest("no btrfs can be mounted here")
        self.addCleanup(subprocess.run, ["umount", "-l", disk], check=False)
        self.trace = os.path.join(disk, "trace")
        process = self.waiting()
        with contextlib.suppress(OSError), open(os.path.join(disk, "rest"), "wb") as file:
            while True:
                file.write(os.urandom(1 << 16))
                file.flush()
        os.sync()                                       # what is written next takes room that is not there
        self.write(process)
        self.assert_sentence_and_end(process)
        self.assertLess(os.stat(self.trace).st_size, 100 * CHUNK)

    def test_a_limit_on_the_length_of_files_that_comes_later(self):
        self.assertEqual(self.run_ends("limited"), "")
        self.assert_ended(_222=(EXIT, 0))


class Locked(EndsTest):
    """Who cuts, and who looks meanwhile."""

    def test_chunks_that_are_taken_until_the_file_is_nobody_s(self):
        """The tool asks how many there are when it has the lock, not before."""
        self.run_ends("kill", -signal.SIGKILL)
        before = self.summary()["chunks"]

        def last_words(call):
            def function(*words):
                with open(self.trace, "r+b") as file:
                    file.seek(CHUNKS_AT)
                    file.write(struct.pack("Q", before + 3))
                return call(*words)
            return function

        with unittest.mock.patch.object(fcntl, "fcntl", last_words(fcntl.fcntl)), unittest.mock.patch.object(fcntl, "flock", last_words(fcntl.flock)):
            ends.settle(self.trace)
        self.assertEqual(os.stat(self.trace).st_size, (before + 3) * CHUNK)

    def test_nobody_who_looks_is_in_the_way(self):
        """Of who ends and cuts: locks of the kind that others take for the whole file (flock) are not what counts."""
        process = self.start([ENDS, "waits"], env=environment(LD_PRELOAD=LIBRARY, ARENAL_TRACE_FILE=self.trace))
        with open(self.trace, "rb") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            self.assertEqual(self.summary()["writers"], 1)
            process.stdin.close()
            self.assertEqual(process.wait(), 0)
        self.assert_ended(_111=(EXIT, 0))

    def test_who_cuts_for_another_one_tells_nobody_that_it_writes(self):
        self.run_ends("kill", -signal.SIGKILL)
        with open(self.trace, "r+b") as file:
            fcntl.fcntl(file, *ends.EXCLUDE)
            self.assertEqual(self.summary()["writers"], 0)

    def test_chunks_that_are_missing_are_counted(self):
        self.run_ends("exit", 3)
        chunks = self.summary()["chunks"]
        for length, damaged in ((chunks - 1) * CHUNK, 1), ((chunks - 2) * CHUNK + 4096, 2):
            os.truncate(self.trace, length)
            self.assertEqual(self.summary()["damaged"], damaged)


class Told(EndsTest):
    def test_how_the_command_ended(self):
        for mode, words in (("exit", "called exit(3)"), ("_exit", LEFT), ("kill", "was ended by SIGKILL"), ("after exit", "was ended by SIGPIPE"),
                            ("execv", "went on as another program: ")):
            with self.subTest(mode):
                done = self.arenal("trace", "--output", self.trace, "--", ENDS, mode)
                self.assertIn("; " + words, done.stderr.splitlines()[0])
                self.assertLess(os.stat(self.trace).st_size, 100 * CHUNK)
                os.unlink(self.trace)
        os.unlink(glob.glob(self.trace + ".*")[0])

    def test_what_was_recorded_before_is_not_told_of(self):
        shutil.copy("/dev/null", self.trace + ".999")
        done = self.arenal("trace", "--output", self.trace, "--", ENDS)
        self.assertEqual(len(done.stderr.splitlines()), 1, done)

    def test_the_process_and_no_other_one_of_its_number_runs_still(self):
        process = self.start([ENDS, "waits"], env=environment(LD_PRELOAD=LIBRARY, ARENAL_TRACE_FILE=self.trace))
        self.assertEqual(self.told(), {111: "runs still"})
        summary = trace.ask(os.environ["TEST_TOOL"], "summary", self.trace)
        other = os.getpid(), 1, NO_END, 0
        summary["processes"].append(other)
        self.assertEqual(ends.describe(other, summary), LEFT)
        summary["processes"] = [other]                  # as in another namespace
        self.assertEqual(ends.describe(other, summary), "runs still, or ended without calling exit")
        process.stdin.close()
        process.wait()

    def test_a_parent_that_has_gone(self):
        """A child writes still."""
        process = self.start([ENDS, "left"], env=environment(LD_PRELOAD=LIBRARY, ARENAL_TRACE_FILE=self.trace))
        self.assertEqual(process.wait(), 0)
        self.assertEqual(self.told(), {111: LEFT, 222: "runs still"})
        process.stdin.close()
        self.assertEqual(process.stdout.read(), "")
        self.assert_ended(_111=(NO_END, 0), _222=(EXIT, 0))


if __name__ == "__main__":
    unittest.main()
