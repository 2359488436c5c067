"""What the tests of real programs share: running a program on Arenal and on the libc's malloc, and comparing the two.

CMake names the library under test and the folder of the tool's modules in the environment."""

import ctypes
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import unittest

sys.path.insert(0, os.environ["TEST_TOOL_MODULES"])
from arenal import library           # pylint: disable=wrong-import-position

LIBRARY = os.environ["ARENAL_LIBRARY"]
FILES = os.path.dirname(os.path.realpath(__file__))
DEADLINE = 150                  # seconds for one command; ctest's own limit lies above
READY = 60                      # seconds for a server to come up
PR_SET_PDEATHSIG = 1


def program(name):
    """The path of a program that the test needs; a path stays as it is."""
    if "/" in name:
        return name
    path = shutil.which(name, path=os.environ["PATH"] + ":/usr/sbin:/sbin")
    if not path:
        raise AssertionError(f"{name} is not installed: tools/test installs what the tests need")
    return path


def environment(on_arenal, home, **more):
    """The same for both sides but for the preload: no settings of the user's, no randomness, no terminal."""
    env = {"PATH": os.environ["PATH"] + ":/usr/sbin:/sbin", "HOME": home, "TMPDIR": home, "LC_ALL": "C.UTF-8",
           "TZ": "UTC", **more}
    if not on_arenal:
        return env
    if "ARENAL_HARDEN" in os.environ:  # the tests' variants in hardened mode
        env["ARENAL_HARDEN"] = os.environ["ARENAL_HARDEN"]
    encoded = {os.fsencode(name): os.fsencode(value) for name, value in env.items()}
    return {os.fsdecode(name): os.fsdecode(value)
            for name, value in library.environment(LIBRARY, base=encoded).items()}


class ProgramTest(unittest.TestCase):
    maxDiff = 2000

    def setUp(self):
        self.folder = tempfile.mkdtemp(prefix="arenal-programs-")
        self.addCleanup(shutil.rmtree, self.folder, ignore_errors=True)

    def run_program(self, command, on_arenal, folder=None, text=None, env=None):
        """Runs a command to its end, which must be a good one."""
        folder = folder or self.folder
        done = subprocess.run([program(command[0]), *command[1:]], cwd=folder, input=text or "", encoding="utf-8",
                              env=environment(on_arenal, folder, **(env or {})), stdout=subprocess.PIPE,
                              stderr=subprocess.PIPE, timeout=DEADLINE, check=False)
        self.assertEqual(done.returncode, 0, f"{command} {'on Arenal' if on_arenal else 'without Arenal'}:\n"
                                             f"{done.stdout[-2000:]}\n{done.stderr[-2000:]}")
        return done

    def folders(self):
        """Two empty folders, for the run without and the run on Arenal. Their names have the same length, for programs
        that print where they are."""
        pair = [os.path.join(tempfile.mkdtemp(dir=self.folder), name) for name in ("libc", "ours")]
        for folder in pair:
            os.mkdir(folder)
        return pair

    def compare(self, *commands, text=None, env=None, prepare=None):
        """Runs the commands without and on Arenal, each time in a folder of their own that `prepare` may fill. They
        must print the same. Returns what they printed to stdout, and the two folders."""
        pair = self.folders()
        outputs = []
        for on_arenal, folder in enumerate(pair):
            if prepare:
                prepare(folder)
            runs = [self.run_program(command, bool(on_arenal), folder, text, env) for command in commands]
            outputs.append("".join(run.stdout + run.stderr for run in runs).replace(folder, "FOLDER"))
        without, ours = outputs
        self.assertEqual(ours, without)
        return ours, pair

    def assert_runs_on_arenal(self, *command, tables=1, **options):
        """The command's processes, at least so many of them, have the library loaded: it prints its statistics at
        their end."""
        env = {**options.pop("env", {}), "ARENAL_STATS": "1"}
        done = self.run_program(command, True, env=env, **options)
        heads = [line for line in done.stderr.splitlines() if line.startswith("arenal ") and "statistics" in line]
        self.assertGreaterEqual(len(heads), tables, done.stderr)

    def assert_process_on_arenal(self, pid):
        with open(f"/proc/{pid}/maps", encoding="utf-8") as file:
            self.assertIn(os.path.realpath(LIBRARY), file.read(), f"process {pid} is not on Arenal")

    def write(self, name, content, folder=None):
        path = os.path.join(folder or self.folder, name)
        with open(path, "w", encoding="utf-8") as file:
            file.write(content)
        return path

    # Servers

    def start_server(self, make_command, is_ready, on_arenal=True):
        """Starts a server on a port of 127.0.0.1 that was free a moment ago, and waits until `is_ready(port)`. Tries
        another port when the server ends instead, for somebody may have taken the port. Returns (process, port)."""
        for _ in range(3):
            port = free_port()
            command = make_command(port)
            log = open(os.path.join(self.folder, f"log-{port}"), "w+", encoding="utf-8", errors="replace")
            self.addCleanup(log.close)
            server = subprocess.Popen([program(command[0]), *command[1:]], cwd=self.folder, stdin=subprocess.DEVNULL,
                                      stdout=log, stderr=log, env=environment(on_arenal, self.folder),
                                      preexec_fn=die_with_parent)
            self.addCleanup(self.stop_server, server)
            wait_for(lambda s=server, p=port: s.poll() is not None or is_ready(p), f"{command[0]} to come up")
            if server.poll() is None:
                if on_arenal:
                    self.assert_process_on_arenal(server.pid)
                return server, port
            log.seek(0)
            last_words = log.read()[-2000:]
        self.fail(f"{command[0]} does not start (exit code {server.returncode}): {last_words}")

    def stop_server(self, server, expected=None):
        """Ends a server as its administrator would; the test may say which exit code that has to have."""
        if server.poll() is None:
            server.terminate()
            try:
                server.wait(READY)
            except subprocess.TimeoutExpired:
                server.kill()
                server.wait()
                self.fail(f"the server did not end after SIGTERM in {READY} seconds")
        if expected is not None:
            self.assertEqual(server.returncode, expected)


def die_with_parent():
    """Runs in the new process: no server outlives the test, not even one that ctest had to kill."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def accepts(port):
    try:
        socket.create_connection(("127.0.0.1", port), timeout=5).close()
        return True
    except OSError:
        return False


def wait_for(condition, what, seconds=READY):
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            raise AssertionError(f"waited {seconds} seconds in vain for {what}")
        time.sleep(0.02)
