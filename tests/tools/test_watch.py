"""Tests of `arenal maps -- COMMAND`: a command on Arenal, looked at while it runs."""

import contextlib
import json
import os
import pty
import select
import signal
import subprocess
import sys
import tempfile
import time
import unittest

from support import DEADLINE, MIB, TOOL, WORKLOAD, ToolTest, environment

from arenal import errors, watch

# Takes a block of 200 MiB, touches it, gives it back, and goes on for a moment with little memory. It keeps it for longer than
# two looks take on a busy machine: how long one took decides when the next one comes.
PEAK_IN_THE_MIDDLE = """
import ctypes, time
libc = ctypes.CDLL(None)
libc.malloc.restype = ctypes.c_void_p
libc.malloc.argtypes = [ctypes.c_size_t]
libc.free.argtypes = [ctypes.c_void_p]
block = libc.malloc(200 << 20)
ctypes.memset(block, 1, 200 << 20)
time.sleep(2)
libc.free(block)
time.sleep(0.5)
print("done")
"""


# Says how often SIGINT came within a second and a half of the first one, and ends as it was told to.
COUNTS = """
import os, signal, sys
wanted = {signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1}
signal.pthread_sigmask(signal.SIG_BLOCK, wanted)
keep = [bytes(1000) for i in range(1000)]
print("ready", flush=True)
came = [signal.sigwaitinfo(wanted).si_signo]
while found := signal.sigtimedwait(wanted, 1.5):
    came.append(found.si_signo)
print("came", *came, flush=True)
if sys.argv[1] == "signal":
    signal.pthread_sigmask(signal.SIG_UNBLOCK, wanted)
    os.kill(os.getpid(), came[0])
sys.exit(42)
"""


def exists(pid):
    try:
        os.kill(pid, 0)
        return True
    except ProcessLookupError:
        return False


class Loading(ToolTest):
    """A process whose libraries are not there yet: its loader waits for somebody to write to a pipe."""

    def test_no_malloc_is_made_up(self):
        with tempfile.TemporaryDirectory(prefix="arenal-loading-") as folder:
            os.mkfifo(f"{folder}/pipe")
            process = subprocess.Popen(["true"], env=environment(LD_PRELOAD=f"{folder}/pipe"))
            self.addCleanup(process.wait)
            self.addCleanup(process.kill)
            self.await_(lambda: "ld-linux" in self.maps(process.pid) and "libc" not in self.maps(process.pid), "it does not load")
            done = self.arenal("maps", str(process.pid))
            self.assert_sentence(done, "(true) is not on Arenal: it seems to be on no malloc yet, for its libraries are still being loaded")
            watcher = watch.Watch(process.pid, None, None, False)
            self.assertIsNone(watcher.look(True))
            with self.assertRaisesRegex(errors.Failure, "^the command ended before it could be looked at$"):
                watcher.finish()

    def maps(self, pid):
        with open(f"/proc/{pid}/maps", encoding="utf-8") as file:
            return file.read()


class Watch(ToolTest):
    def watch_json(self, *command, options=(), status=0):
        """Runs a command under the tool; returns its stdout, and what the tool saw."""
        path = os.path.join(self.folder, "looks")
        done = self.arenal("maps", "--json", "--output", path, *options, "--", *command)
        self.assertEqual((done.returncode, done.stderr), (status, ""))
        with open(path, encoding="utf-8") as file:
            return done.stdout, [json.loads(line) for line in file]

    def test_the_peak_is_kept(self):
        printed, looks = self.watch_json(sys.executable, "-c", PEAK_IN_THE_MIDDLE)
        self.assertEqual(printed, "done\n")
        self.assertEqual(len(looks), 1)
        peak = looks[0]
        self.assertTrue(peak["exact"])
        self.assertGreater(peak["looks"], 3)
        huge = peak["totals"]["huge"]
        self.assertGreaterEqual(huge["mapped"], 200 * MIB)
        self.assertGreaterEqual(huge["in_memory"], 190 * MIB, "the look was taken after the block was touched")

    def test_every_so_often(self):
        _, looks = self.watch_json("sleep", "0.8", options=("--every", "0.1"))
        self.assertGreaterEqual(len(looks), 3)
        self.assertEqual({look["moment"] for look in looks[:-1]}, {"now"})
        times = [look["seconds"] for look in looks[:-1]]
        self.assertEqual(times, sorted(times))
        self.assertIn("fullest", looks[-1]["moment"])

    def test_the_picture_follows_the_output_on_stderr(self):
        done = self.arenal("maps", "--", "sh", "-c", "sleep 0.3; echo hello; exit 5")
        self.assertEqual((done.returncode, done.stdout), (5, "hello\n"))
        self.assertIn("on Arenal, the fullest of", done.stderr.splitlines()[0])
        self.assertIn("total", done.stderr.splitlines()[-1])

    def test_settings_reach_the_command(self):
        done = self.arenal("maps", "--set", "arena_max=1", "--", "sh", "-c", "sleep 0.3; echo $ARENAL_CONF")
        self.assertEqual((done.returncode, done.stdout), (0, "arena_max:1\n"))

    def test_standard_input_is_the_command_s(self):
        done = self.arenal("maps", "--", "sh", "-c", "sleep 0.2; cat", input="text\n")
        self.assertEqual((done.returncode, done.stdout), (0, "text\n"))

    def test_killed_by_a_signal(self):
        done = self.arenal("maps", "--", "sh", "-c", "sleep 0.3; kill -KILL $$")
        self.assertEqual(done.returncode, -signal.SIGKILL)          # as without the tool

    def test_commands_that_cannot_run(self):
        self.assert_sentence(self.arenal("maps", "--", "no-such-command"), "no-such-command", status=127)
        done = self.arenal("maps", "--", "true", env=environment(ARENAL_LIBRARY="/nowhere"))
        self.assert_sentence(done, "/nowhere", status=125)

    def test_the_command_goes_on_when_the_disk_is_full(self):
        done = self.arenal("maps", "--every", "0.05", "--output", "/dev/full", "--", "sh", "-c", "sleep 0.5; echo done; exit 5")
        self.assertEqual(done.stdout, "done\n")
        self.assert_sentence(done, "/dev/full: No space left on device", status=5)

    def test_a_static_command(self):
        done = self.arenal("maps", "--", "/sbin/ldconfig", "-p")
        self.assertEqual(done.returncode, 1)
        self.assertIn("statically linked", done.stderr.splitlines()[0])
        self.assertEqual(len(done.stderr.splitlines()), 2)

    def watching(self):
        """The tool with a command that waits for its standard input, and the process ID of the command."""
        tool = subprocess.Popen([sys.executable, "-B", TOOL, "maps", "--", WORKLOAD, "1", "1", "1", "0"],
                                env=environment(), stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                stderr=subprocess.PIPE, text=True)
        self.addCleanup(self.stop, tool)
        self.assertEqual(tool.stdout.readline(), "ready\n")
        with open(f"/proc/{tool.pid}/task/{tool.pid}/children", encoding="utf-8") as file:
            return tool, int(file.read().split()[0])

    def assert_ended(self, tool, command, status):
        tool.wait(DEADLINE)             # its standard input stays open: at its end, the command would go by itself
        _, errors = tool.communicate(timeout=DEADLINE)
        self.assertEqual(tool.returncode, status, errors)
        self.assertNotIn("Traceback", errors)
        self.assertIn("on Arenal", errors, "what was seen so far is shown")
        self.assertFalse(exists(command), "the command was left running")

    def test_interrupted_alone(self):
        tool, command = self.watching()
        time.sleep(0.3)
        tool.send_signal(signal.SIGINT)         # as by kill: the command does not get it from the terminal
        self.assert_ended(tool, command, -signal.SIGINT)

    def test_terminated(self):
        tool, command = self.watching()
        time.sleep(0.3)
        tool.send_signal(signal.SIGTERM)
        self.assert_ended(tool, command, -signal.SIGTERM)


class Signals(ToolTest):
    """They reach the command as often as without the tool, and its status is the tool's."""

    TOOLS = (["maps", "--output", "/dev/null"], ["profile"], ["trace", "--output", "{}/trace"], ["run"])

    def tools(self, *words):
        for tool in self.TOOLS:
            yield [sys.executable, "-B", TOOL, *(word.format(self.folder) for word in tool), "--", sys.executable, "-c", COUNTS, *words]

    def in_terminals(self, send, *words):
        """Each tool with its command in a terminal of its own; what was said, and the status."""
        started = []
        for command in self.tools(*words):
            pid, terminal = pty.fork()
            if pid == 0:
                os.execve(command[0], command, environment())
            self.addCleanup(os.close, terminal)
            started.append((pid, terminal, bytearray()))
        try:
            for pid, terminal, said in started:
                self.read(terminal, said, b"ready")
                send(pid, terminal)
            for pid, terminal, said in started:
                self.read(terminal, said, None)
                _, status = os.waitpid(pid, 0)
                yield said.decode(errors="replace"), status
        except BaseException:
            for pid, _, _ in started:
                with contextlib.suppress(OSError):
                    os.kill(pid, signal.SIGKILL)
            raise

    def read(self, terminal, said, until):
        while until is None or until not in said:
            self.assertTrue(select.select([terminal], [], [], DEADLINE)[0], said)
            try:
                data = os.read(terminal, 65536)
            except OSError:
                return                  # the other side is closed
            if not data:
                return
            said += data

    def test_ctrl_c_comes_once(self):
        for said, status in self.in_terminals(lambda _, terminal: os.write(terminal, b"\x03"), "exit"):
            self.assertIn("came 2\r\n", said)
            self.assertEqual(os.WEXITSTATUS(status), 42, said)
            self.assertNotIn("Traceback", said)

    def test_a_command_that_ends_by_ctrl_c(self):
        for said, status in self.in_terminals(lambda _, terminal: os.write(terminal, b"\x03"), "signal"):
            self.assertIn("came 2\r\n", said)
            self.assertEqual((os.WIFSIGNALED(status), os.WTERMSIG(status)), (True, signal.SIGINT), said)

    def test_what_is_sent_to_the_tool_comes_once(self):
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1):
            with self.subTest(number=number):
                tools = [subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment())
                         for command in self.tools("exit")]
                for tool in tools:
                    self.addCleanup(self.stop, tool)
                    self.assertEqual(tool.stdout.readline(), "ready\n")
                    tool.send_signal(number)
                for tool in tools:
                    said, errors = tool.communicate(timeout=DEADLINE)
                    self.assertEqual((said, tool.returncode), (f"came {int(number)}\n", 42), errors)
                    self.assertNotIn("Traceback", errors)
                for name in os.listdir(self.folder):
                    os.unlink(os.path.join(self.folder, name))


if __name__ == "__main__":
    unittest.main()
