"""What the tests of tools/arenal share. CMake names the things under test in the environment."""

import contextlib
import faulthandler
import glob
import os
import select
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import unittest

TOOL = os.environ["TEST_TOOL"]
LIBRARY = os.environ["ARENAL_LIBRARY"]
WORKLOAD = os.environ["TEST_WORKLOAD"]
FAKE_LAYOUT = os.environ["TEST_FAKE_LAYOUT"]
FAKE_WINDOW = os.path.join(os.path.dirname(os.path.abspath(__file__)), "fake_window.py")
NOBODY = 65534
MIB = 1 << 20
DEADLINE = 30           # seconds that nothing here takes, on a slow machine either

sys.path.insert(0, os.path.join(os.path.dirname(TOOL), "lib"))       # the tool's modules

# Whoever started the tests beside other work (`ctest &`) may have it ignored, which what they start would inherit.
signal.signal(signal.SIGINT, signal.default_int_handler)

# Before ctest ends a test that hangs: where it hangs.
faulthandler.dump_traceback_later(280, exit=True)


def environment(**changes):
    """The test's environment without what would steer the tool; None removes a variable."""
    env = {name: value for name, value in os.environ.items()
           if name not in ("LD_PRELOAD", "ARENAL_CONF", "ARENAL_STATS", "ARENAL_WINDOW", "XDG_RUNTIME_DIR")}
    env["ARENAL_LIBRARY"] = LIBRARY
    for name, value in changes.items():
        env.pop(name, None)
        if value is not None:
            env[name] = value
    return env


def system_calls(pid):
    """What each thread of a process waits for, as the kernel tells it: the number of the system call, and more."""
    lines = []
    for thread in sorted(os.listdir(f"/proc/{pid}/task")):
        with open(f"/proc/{pid}/task/{thread}/comm", encoding="utf-8") as name, \
                open(f"/proc/{pid}/task/{thread}/syscall", encoding="utf-8") as call:
            lines.append(f"{thread} {name.read().strip()}: {call.read().strip()}")
    return "\n".join(lines)


def listens(path):
    """Is there a socket that takes connections? It has its name a moment before."""
    with socket.socket(socket.AF_UNIX) as peer:
        return peer.connect_ex(path) == 0


def thread_names(pid):
    names = []
    for path in glob.glob(f"/proc/{pid}/task/*/comm"):
        with contextlib.suppress(OSError), open(path, encoding="utf-8", errors="replace") as file:
            names.append(file.read())
    return names


def as_nobody():
    """The words that make a command run as an ordinary user; none when the tests are not run by root."""
    if os.getuid() != 0:
        return []
    return ["setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups"]


def cgroup(test, kind, file):
    """A cgroup of the test's own, that goes with it, if the machine lets us have one where there is such a file: under v1's hierarchy of that
    kind, or under v2's. None: it does not."""
    for top in (f"/sys/fs/cgroup/{kind}", "/sys/fs/cgroup", "/sys/fs/cgroup/unified"):
        folder = os.path.join(top, f"arenal-test-{os.getpid()}")
        try:
            os.mkdir(folder)
        except OSError:
            continue
        for name in file if isinstance(file, tuple) else (file,):
            if os.path.exists(os.path.join(folder, name)):
                test.addCleanup(os.rmdir, folder)
                return folder, os.path.join(folder, name)
        os.rmdir(folder)
    return None


class Freezer:
    """A cgroup whose processes can be frozen, v1's or v2's: the test is skipped where the machine lets us have none."""

    def __init__(self, test):
        found = cgroup(test, "freezer", ("freezer.state", "cgroup.freeze"))
        if not found:
            test.skipTest("no cgroup that may be frozen")
        self.folder, self.file = found
        self.is_old = "state" in self.file

    def put(self, process):
        self._write(f"{self.folder}/cgroup.procs", str(process.pid))

    def freeze(self):
        self._write(self.file, "FROZEN" if self.is_old else "1")

    def thaw(self):
        self._write(self.file, "THAWED" if self.is_old else "0")

    def is_frozen(self):
        return self._read("freezer.state") == "FROZEN\n" if self.is_old else "frozen 1" in self._read("cgroup.events")

    def is_empty(self):
        return not self._read("cgroup.procs")

    def _read(self, name):
        with open(os.path.join(self.folder, name), encoding="ascii") as file:
            return file.read()

    @staticmethod
    def _write(path, word):
        with open(path, "w", encoding="ascii") as out:
            out.write(word)


class ToolTest(unittest.TestCase):
    def setUp(self):
        # Everybody may look into it, so that an ordinary user can run a copy of the tool there.
        self.folder = tempfile.mkdtemp(prefix="arenal test:", dir="/tmp")
        self.addCleanup(shutil.rmtree, self.folder, ignore_errors=True)
        os.chmod(self.folder, 0o755)

    def arenal(self, *arguments, env=None, tool=TOOL, prefix=(), **options):
        """Runs the tool to its end. Whatever happens to it, a traceback is a bug."""
        done = subprocess.run([*prefix, sys.executable, "-B", tool, *arguments], env=env or environment(), text=True,
                              encoding="utf-8", stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=DEADLINE,
                              check=False, **options)
        self.assertNotIn("Traceback", done.stderr)
        return done

    def assert_sentence(self, done, *words, status=1):
        """The tool failed with one line on stderr, that has these words in it."""
        self.assertEqual(done.returncode, status, done)
        self.assertEqual(len(done.stderr.splitlines()), 1, done.stderr)
        self.assertTrue(done.stderr.startswith("arenal: "), done.stderr)
        for word in words:
            self.assertIn(word, done.stderr)

    def start(self, command, **options):
        """Starts a program that says "ready", and waits until it does. It ends with the test."""
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, **options)
        self.addCleanup(self.stop, process)
        if not select.select([process.stdout], [], [], DEADLINE)[0]:
            self.fail(f"{command} says nothing after {DEADLINE} s; its threads are in\n{system_calls(process.pid)}")
        self.assertEqual(process.stdout.readline(), "ready\n", command)
        return process

    def await_(self, condition, what):
        """Returns what the condition says as soon as that is true."""
        until = time.monotonic() + DEADLINE
        while not (found := condition()):
            if time.monotonic() > until:
                self.fail(what)
            time.sleep(0.01)
        return found

    def stop(self, process):
        if process.poll() is None:
            process.kill()
        process.wait()
        for stream in (process.stdin, process.stdout, process.stderr):
            if stream:
                stream.close()

    def on_arenal(self, *command, **options):
        """A program on Arenal, as `start` gives it, and its window."""
        process = self.start([sys.executable, "-B", TOOL, "run", "--", *command], env=environment(), **options)
        self.await_(lambda: "arenal-window\n" in thread_names(process.pid), f"{command} has no window")
        return process

    def fake_window(self, mode, *more):
        """A process with a window of its own making: fake_window.py has the modes."""
        from arenal import window, window_file  # pylint: disable=import-outside-toplevel
        page = os.path.join(self.folder, "page")
        if not os.path.exists(page):
            real = self.on_arenal(WORKLOAD, "4", "2", "2", "2")
            with window.Window(real.pid) as opened:
                opened.snapshot()
            with open(window_file.find(real.pid)[1], "rb") as file, open(page, "wb") as copy:
                copy.write(file.read())
            self.stop(real)
        return self.start([sys.executable, "-B", FAKE_WINDOW, page, mode, *more])

    def copy_of_tool(self, *places):
        """A copy of the tool and of the library in a tree of their own: pairs of (what, where in the tree). Returns
        the tree."""
        tree = os.path.join(self.folder, "a tree")
        for what, where in places:
            target = os.path.join(tree, where)
            os.makedirs(os.path.dirname(target), exist_ok=True)
            if os.path.isdir(what):
                shutil.copytree(what, target)
            else:
                shutil.copy(what, target)
        return tree
