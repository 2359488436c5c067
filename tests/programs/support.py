"""What the tests of real programs share. A test says once what the program does and what must come of it; that happens
without Arenal (the control), on Arenal, in hardened mode, and with every block guarded that can be, and must be the same.

CMake names the library under test, the folder of the tool's modules and that of the results in the environment."""

import ctypes
import itertools
import json
import os
import pwd
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import unittest

sys.path.insert(0, os.environ["TEST_TOOL_MODULES"])
from arenal import library           # pylint: disable=wrong-import-position
from processes import PATH, READY, accepts, descendants, free_port, installed, program, version, wait_for

FILES = os.path.dirname(os.path.realpath(__file__))
DEADLINE = 150                  # seconds for one command; ctest's own limit lies above
ATTEMPTS = 3                    # of one mode, when the program crashes as it does without Arenal
SKIPPED = 77                    # CMakeLists.txt tells ctest
PR_SET_PDEATHSIG, PR_SET_CHILD_SUBREAPER = 1, 36
MODES = {"control": None, "plain": {}, "hardened": {"ARENAL_HARDEN": "1"}, "guarded": {"ARENAL_GUARD_SAMPLE": "1"}}
CRASHES = re.compile(r"^.*(?:arenal: |exited on signal|terminated by signal|exit signal|core dumped|Segmentation fault"
                     r"|Aborted|double free|corruption).*$", re.M)


class ProgramTest(unittest.TestCase):
    """A test is a class with `work(run)`, which returns what must be the same in all modes."""
    maxDiff = 2000
    package = None              # whose version the table shows; by default, the test's name
    needs = ()                  # programs, or patterns of files, without which the test is skipped
    root = False                # it takes root
    user = None                 # who it is for when root runs the tests
    modes = tuple(MODES)
    mistakes = None             # the program's own, that hardened mode is known to report: a pattern
    own_crash = None            # one that the program has now and then without Arenal, too: a pattern of its logs
    usual = None                # what comes of it without Arenal

    def setUp(self):
        self.folder = tempfile.mkdtemp(prefix="arenal-programs-")
        self.addCleanup(shutil.rmtree, self.folder, ignore_errors=True)
        os.chmod(self.folder, 0o755)
        # Servers that change their user must be able to read it still, wherever the build is.
        self.library = os.path.join(self.folder, "libarenal.so")
        shutil.copy(os.environ["ARENAL_LIBRARY"], self.library)
        os.chmod(self.library, 0o755)

    def prepare(self):
        """What all runs share is made here, without Arenal."""

    def builder(self):
        """A run for `prepare`."""
        return Run(self, "control", "made")

    def work(self, run):
        raise NotImplementedError

    def test(self):
        name = os.path.basename(sys.modules[type(self).__module__].__file__)[len("test_"):-len(".py")]
        title = sys.modules[type(self).__module__].__doc__.partition(":")[0]
        row = {"program": name, "title": title, "version": "", "result": {}, "memory": {}, "seconds": {}}
        self.addCleanup(self.write_row, row)
        missing = [need for need in self.needs if not installed(need)]
        if missing:
            self.skip(row, f"{', '.join(missing)} not installed")
        if self.root and os.getuid() != 0:
            self.skip(row, "takes root")
        row["version"] = version(self.package or name)
        try:
            self.prepare()
        except Exception as error:
            raise AssertionError(f"the control fails: without Arenal, {error}") from error
        wanted = os.environ.get("TEST_MODES", "").split() or self.modes
        for mode in (mode for mode in self.modes if mode in wanted):
            with self.subTest(mode):
                self.one_mode(mode, row)
            if mode == "control" and row["result"][mode] != "right":
                break                       # there is nothing to compare with

    def one_mode(self, mode, row):
        """A crash that the program also has without Arenal is no verdict: the mode is tried again, and may not crash each time."""
        row["result"][mode] = "failed"
        for attempts_left in reversed(range(ATTEMPTS)):
            run = Run(self, mode)
            began = time.monotonic()
            try:
                outcome = run.plainly(self.work(run))
                run.end()
                if mode == "control":
                    self.usual = outcome
                self.assertEqual(outcome, self.usual, "not what the program does without Arenal")
                break
            except unittest.SkipTest as reason:
                self.skip(row, str(reason))
            except Exception as error:  # pylint: disable=broad-except
                self.show_logs(run)
                if attempts_left and run.crashed_by_itself():
                    continue
                what = "the control fails: without Arenal" if mode == "control" else mode
                raise AssertionError(f"{what}: {type(error).__name__}: {str(error)[:3000]}") from error
            finally:
                run.clean_up()
                shutil.rmtree(run.folder, ignore_errors=True)   # the next attempt takes the same name
        row["result"][mode] = "right"
        row["seconds"][mode] = round(time.monotonic() - began, 2)
        if run.memory:
            row["memory"][mode] = run.memory

    def skip(self, row, reason):
        row["skipped"] = reason
        print(f"skipped: {reason}")
        self.skipTest(f"{row['program']}: {reason}")

    def write_row(self, row):
        folder = os.environ.get("TEST_RESULTS")
        if folder:
            os.makedirs(folder, exist_ok=True)
            with open(os.path.join(folder, row["program"] + ".json"), "w", encoding="utf-8") as file:
                json.dump(row, file)

    @staticmethod
    def show_logs(run):
        for path, text in run.logs():
            print(f"--- {path}\n{text[-1500:]}", file=sys.stderr)


class Run:
    """One life of the program, in one mode, in a folder of its own. The folders' names have the same length, for programs that
    print where they are."""

    def __init__(self, test, mode, name=None):
        self.test, self.mode, self.on_arenal = test, mode, mode != "control"
        self.folder = os.path.join(test.folder, name or f"run{list(MODES).index(mode)}")
        self.memory = 0             # KiB: the largest that was seen
        self.servers = []
        self.numbers = itertools.count(1)
        self.library = os.path.realpath(test.library)
        self.account = pwd.getpwnam(test.user) if test.user and os.getuid() == 0 else None
        os.mkdir(self.folder)
        self.give(self.folder)

    def environment(self, more=None):
        """The same in all modes but for the preload: no settings of the user's, no randomness, no terminal."""
        env = {"PATH": PATH, "HOME": self.folder, "TMPDIR": self.folder, "LC_ALL": "C.UTF-8", "TZ": "UTC", **(more or {})}
        if not self.on_arenal:
            return env
        env |= MODES[self.mode]
        encoded = {os.fsencode(name): os.fsencode(value) for name, value in env.items()}
        return {os.fsdecode(name): os.fsdecode(value)
                for name, value in library.environment(self.test.library, base=encoded).items()}

    # Files

    def path(self, *names):
        return os.path.join(self.folder, *names)

    def write(self, name, content, mode=0o644):
        path = self.path(name)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "wb") as file:
            file.write(content if isinstance(content, bytes) else content.encode())
        os.chmod(path, mode)
        self.give(path)
        return path

    def make(self, *names):
        for name in names:
            os.makedirs(self.path(name), exist_ok=True)
            self.give(self.path(name))

    def read(self, name):
        with open(self.path(name), "rb") as file:
            return file.read()

    def give(self, path, user=None):
        """To whom the program runs as."""
        account = pwd.getpwnam(user) if user and os.getuid() == 0 else self.account
        if account:
            os.chown(path, account.pw_uid, account.pw_gid)

    def plainly(self, outcome):
        """What is compared does not name the folder."""
        return outcome.replace(self.folder, "FOLDER") if isinstance(outcome, str) else outcome

    # Processes

    def start(self, command, out, env=None, text=None, preexec=None, preload=True):
        def prepare():
            ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)   # not even ctest's own kill leaves one behind
            if preexec:
                preexec()
        whose = {}
        if self.account:
            whose = {"user": self.account.pw_uid, "group": self.account.pw_gid, "extra_groups": []}
        full = self.environment(env)
        if not preload:
            full.pop("LD_PRELOAD", None)
        with tempfile.TemporaryFile() as stdin:
            stdin.write((text or "").encode())
            stdin.seek(0)
            return subprocess.Popen([program(command[0]), *command[1:]], cwd=self.folder, stdin=stdin,
                                    stdout=out[0], stderr=out[1], env=full, preexec_fn=prepare,
                                    start_new_session=True, **whose)    # some signal all of their group

    def command(self, *command, text=None, env=None, status=0, preexec=None, preload=True, seconds=DEADLINE):
        """Runs a command to its end and returns what it printed, stdout and stderr. Its status must be the one that is
        expected (None: any). Notes its peak memory: of its largest process."""
        number = next(self.numbers)
        paths = [self.path(f"{name}-{number}") for name in ("out.log", "err.log", "peak")]
        whole = list(command)
        if installed("time") and preload and not preexec:
            whole = ["time", "-q", "-f", "%M", "-o", paths[2], program(command[0]), *command[1:]]
        with open(paths[0], "wb") as out, open(paths[1], "wb") as err:
            process = self.start(whole, (out, err), env, text, preexec, preload)
            try:
                process.wait(seconds)
            except subprocess.TimeoutExpired:
                raise AssertionError(f"{' '.join(command)[:200]} takes more than {seconds} seconds") from None
        done = Done(process.returncode, *(self.without_mistakes(self.read(path).decode(errors="replace")) for path in paths[:2]))
        if status is not None and done.status != status:
            raise AssertionError(f"{' '.join(command)[:200]} ends with {done.status}:\n{done.out[-2000:]}\n{done.err[-2000:]}")
        if os.path.exists(paths[2]):
            with open(paths[2], encoding="utf-8") as file:
                self.memory = max(self.memory, int(file.read().split()[-1]))
        return done

    def commands(self, *commands, text=None, env=None):
        """What they print, one after the other."""
        return "".join(done.out + done.err for done in (self.command(*command, text=text, env=env) for command in commands))

    def server(self, make_command, is_ready=None, env=None, main_on_arenal=True):
        """Starts a server on a port of 127.0.0.1 that was free a moment ago, and waits until `is_ready(port)`. Tries
        another port when the server ends instead, for somebody may have taken the port."""
        is_ready = is_ready or accepts
        for _ in range(3):
            port = free_port()
            command = make_command(port)
            log = self.path(f"server-{next(self.numbers)}.log")
            with open(log, "wb") as out:
                process = self.start(command, (out, out), env)
            process.port = port
            self.servers.append(process)
            wait_for(lambda p=process: p.poll() is not None or is_ready(p.port), f"{command[0]} to come up")
            if process.poll() is None:
                if self.on_arenal and main_on_arenal:
                    self.assert_on_arenal(process.pid)
                return process
            self.servers.remove(process)
        with open(log, encoding="utf-8", errors="replace") as file:
            raise AssertionError(f"{command[0]} does not start (status {process.returncode}): {file.read()[-2000:]}")

    def stop(self, server, status=0, by=signal.SIGTERM):
        """Ends a server as its administrator would; None: with any status."""
        self.servers.remove(server)
        if server.poll() is None:
            server.send_signal(by)
            try:
                server.wait(READY)
            except subprocess.TimeoutExpired:
                raise AssertionError(f"the server did not end after signal {by} in {READY} seconds") from None
        if status is not None and server.returncode != status:
            raise AssertionError(f"the server ends with {server.returncode}")

    def measure(self, server):
        """Notes the memory of a server and its children, at a moment that the test chooses."""
        total = 0
        for pid in [server.pid, *descendants(server.pid)]:
            try:
                with open(f"/proc/{pid}/smaps_rollup", encoding="utf-8") as file:
                    total += int(re.search(r"^Pss:\s+(\d+)", file.read(), re.M).group(1))
            except (OSError, AttributeError):
                pass                            # it has ended, or is not ours to look at
        self.memory = max(self.memory, total)

    def assert_on_arenal(self, *pids):
        """One that executes itself once more, as haproxy's master does when its worker listens, has no library for a moment."""
        def is_on_arenal(pid):
            with open(f"/proc/{pid}/maps", encoding="utf-8") as file:
                return self.library in file.read()
        for pid in pids if self.on_arenal else ():
            wait_for(lambda p=pid: is_on_arenal(p), f"process {pid} to be on Arenal")

    def assert_loads(self, *command, tables=1, **options):
        """The command's processes, at least so many of them, print Arenal's statistics at their end."""
        if self.on_arenal:
            done = self.command(*command, env={**options.pop("env", {}), "ARENAL_STATS": "1"}, **options)
            heads = [line for line in done.err.splitlines() if line.startswith("arenal ") and "statistics" in line]
            if len(heads) < tables:
                raise AssertionError(f"{command[0]} is not on Arenal:\n{done.err}")

    def logs(self):
        for name in sorted(os.listdir(self.folder)):
            if re.search(r"[._]log\b", name) and os.path.isfile(self.path(name)):
                with open(self.path(name), "rb") as file:
                    yield name, file.read(1 << 22).decode(errors="replace")

    def end(self):
        """All servers end well, and nobody has said that something crashed."""
        for server in list(self.servers):
            self.stop(server, None)
        for path, text in self.logs():
            found = CRASHES.search(self.without_mistakes(text))
            if found:
                raise AssertionError(f"{path}: {found.group(0)[:300]}")

    def crashed_by_itself(self):
        """As it does without Arenal, and Arenal has said nothing."""
        texts = [text for _, text in self.logs()]
        return (self.test.own_crash and any(re.search(self.test.own_crash, text) for text in texts)
                and not any("arenal: " in text for text in texts))

    def without_mistakes(self, text):
        """Without what hardened mode says, and with which stack, of the program's own known mistakes."""
        if self.test.mistakes and self.mode == "hardened":
            return re.sub(rf"(?:{self.test.mistakes}); the program goes on.*\n(?: .*\n)*", "", text)
        return text

    def clean_up(self):
        """Processes that are left, also daemons: they are this process's children by now."""
        for pid in descendants(os.getpid()):
            try:
                os.kill(pid, signal.SIGKILL)
            except OSError:
                pass
        for server in self.servers:
            server.wait()
        while True:
            try:
                os.waitpid(-1, 0)
            except ChildProcessError:
                break


class Done:
    def __init__(self, status, out, err):
        self.status, self.out, self.err = status, out, err


def main():
    """unittest.main, but a test that was skipped does not count as passed."""
    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    mine = [name for name, kind in vars(sys.modules["__main__"]).items()
            if isinstance(kind, type) and issubclass(kind, ProgramTest) and kind is not ProgramTest]
    result = unittest.main(exit=False, defaultTest=mine).result
    sys.exit(1 if not result.wasSuccessful() else SKIPPED if result.skipped else 0)
