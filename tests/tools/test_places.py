"""Every command as another user, in namespaces, beside a frozen cgroup, without its locale, with its standard output closed or full, and under
the other versions of Python that are here. Wherever it is called, it does its work or ends with a sentence, soon."""

import contextlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
import unittest

from support import DEADLINE, LIBRARY, TOOL, WORKLOAD, Freezer, ToolTest, as_nobody, environment

WORDS = [WORKLOAD, "1", "1", "1", "0"]
PROFILED = os.environ["TEST_PROFILED"]
CALLS, READER = os.environ["TEST_CALLS"], os.environ["TEST_READER"]
IS_ROOT = os.getuid() == 0
UNSHARE = ["unshare", "-U", "-m", "-r", "--propagation", "private"]
NO_NAMESPACES = subprocess.run([*UNSHARE, "true"], stderr=subprocess.DEVNULL, check=False).returncode != 0
OLDEST = 8              # Python 3.8

# Another root, of which the real one is a part only. The tree under test may be in any of its folders.
ROOT = """
set -e
mount -t tmpfs none "$1"; cd "$1"; mkdir proc old; mount --rbind /proc proc
for place in /*; do
  case $place in /proc | /sys | /old) continue;; esac
  if [ -L "$place" ]; then cp -d "$place" ".$place"; continue; fi
  if [ -d "$place" ]; then mkdir ".$place"; mount --rbind "$place" ".$place" || true; fi
done
pivot_root . old; shift; cd /; exec "$@"
"""


def version_of(python):
    done = subprocess.run([python, "-c", "import sys; print(*sys.version_info[:2])"], text=True, stdout=subprocess.PIPE,
                          stderr=subprocess.DEVNULL, check=False)
    return tuple(map(int, done.stdout.split())) if done.returncode == 0 else None


def pythons():
    """The oldest and the newest that are here and may be used, other than ours: in PATH, and those that TEST_PYTHONS names."""
    names = [shutil.which(f"python3.{minor}") for minor in range(OLDEST, 20)] + os.environ.get("TEST_PYTHONS", "").split()
    found = {version_of(name): name for name in names if name}
    found = {version: name for version, name in found.items() if version and version >= (3, OLDEST) and version != sys.version_info[:2]}
    return sorted({min(found), max(found)}) if found else [], found


class Places(ToolTest):
    def setUp(self):
        super().setUp()
        self.work = os.path.join(self.folder, "work")
        os.mkdir(self.work)
        os.chmod(self.work, 0o777)
        self.trace, self.heap = os.path.join(self.work, "trace"), os.path.join(self.work, "heap")

    def looking(self, pid):
        """The commands that have to do with another process."""
        return ["stats", pid], ["ctl", pid, "get", "decay"], ["ctl", pid, "open"], ["top", "--batch", "-n", "1", pid], ["maps", pid]

    def making(self):
        """The others."""
        return (["ps"], ["run", "--", "echo", "hello"], ["maps", "--output", "/dev/null", "--", "sleep", "1"],
                ["profile", "--", "echo", "hello"], ["trace", "--output", self.trace, "--", "echo", "hello"],
                ["replay", "--allocator", "glibc", "--rounds", "1", "--rest", "0", self.trace], ["report", self.trace])

    def works(self, *commands, **options):
        for words in commands:
            with self.subTest(words=words):
                started = time.monotonic()
                done = self.arenal(*words, cwd=self.work, **options)
                self.assertEqual(done.returncode, 0, done)
                self.assertLess(time.monotonic() - started, 20)

    def works_or_is_refused(self, *commands, **options):
        for words in commands:
            with self.subTest(words=words):
                done = self.arenal(*words, cwd=self.work, **options)
                if done.returncode:
                    self.assert_sentence(done, "process")

    def everybodys_tool(self):
        """A copy that an ordinary user may run, and its environment."""
        tree = self.copy_of_tool((TOOL, "tools/arenal"), (os.path.join(os.path.dirname(TOOL), "lib"), "tools/lib"),
                                 (LIBRARY, "build/release/src/libarenal.so"), (READER, "build/release/tools/trace/arenal-trace"),
                                 (WORKLOAD, "workload"), (CALLS, "calls"))
        return tree

    @unittest.skipUnless(IS_ROOT, "becoming another user takes root")
    def test_as_another_user(self):
        tree = self.everybodys_tool()
        tool, env = f"{tree}/tools/arenal", environment(ARENAL_LIBRARY=None, HOME=self.work)
        ours = self.on_arenal(*WORDS)
        for words in self.looking(str(ours.pid)):
            self.assert_sentence(self.arenal(*words, tool=tool, env=env, prefix=as_nobody()), "not permitted")
        theirs = self.start([*as_nobody(), sys.executable, "-B", tool, "run", "--", f"{tree}/workload", *WORDS[1:]], env=env)
        self.works(*self.looking(str(theirs.pid)), *self.making(), tool=tool, env=env, prefix=as_nobody())
        self.works(*self.looking(str(theirs.pid)))

    def test_a_trace_whose_writer_may_not_be_seen_is_not_cut(self):
        tree = self.everybodys_tool()
        done = self.arenal("trace", "--output", self.trace, "--", f"{tree}/calls", "unseen", "30000", tool=f"{tree}/tools/arenal",
                           env=environment(ARENAL_LIBRARY=None), prefix=as_nobody(), cwd=self.work)
        self.assertEqual(done.returncode, 0, done)
        with open(os.path.join(self.work, "go"), "wb"):
            pass
        self.await_(lambda: os.path.exists(os.path.join(self.work, "done")), "the daemon does not end")
        summary = json.loads(subprocess.run([READER, "summary", self.trace, "0"], stdout=subprocess.PIPE, check=True).stdout)
        self.assertGreaterEqual(sum(calls for _, calls, *_ in summary["processes"]), 120000, summary)

    @unittest.skipIf(NO_NAMESPACES, "user namespaces are not permitted here")
    def test_in_a_user_namespace(self):
        """From inside, and from outside at a process that is inside."""
        inside = self.start(["unshare", "-U", "-r", sys.executable, "-B", TOOL, "run", "--", *WORDS], env=environment())
        self.works(*self.looking(str(inside.pid)))
        self.works(*self.making(), prefix=["unshare", "-U", "-r"])
        self.works_or_is_refused(*self.looking(str(self.on_arenal(*WORDS).pid)), prefix=["unshare", "-U", "-r"])

    @unittest.skipIf(NO_NAMESPACES, "user namespaces are not permitted here")
    def test_with_another_root(self):
        jail = os.path.join(self.folder, "jail")
        os.mkdir(jail)
        inside = self.start([*UNSHARE, "sh", "-c", ROOT, "sh", jail, sys.executable, "-B", TOOL, "run", "--", *WORDS], env=environment())
        self.works(*self.looking(str(inside.pid)))
        other = [*UNSHARE, "sh", "-c", ROOT, "sh", jail]
        self.works(*self.making(), prefix=other)
        self.works_or_is_refused(*self.looking(str(self.on_arenal(*WORDS).pid)), prefix=other)

    def test_after_the_first_thread(self):
        """What the kernel shows of it is empty then, while the process goes on."""
        process = self.on_arenal(PROFILED, "last", "wait")
        process.stdin.write("\n")
        process.stdin.flush()
        self.assertEqual(process.stdout.readline(), "done\n")
        row = next(row for row in json.loads(self.arenal("ps", "--json").stdout) if row["pid"] == process.pid)
        self.assertGreater(row["rss"], 1 << 20)
        self.assertIn(PROFILED, row["command_line"])
        self.assertIn("brk heap", self.arenal("maps", str(process.pid)).stdout)
        self.assertNotRegex(self.arenal("top", "--batch", "-n", "1", str(process.pid)).stdout, r"RSS +0")
        self.works(*self.looking(str(process.pid)))

    def test_without_its_locale(self):
        process = self.on_arenal(*WORDS)
        self.works(*self.looking(str(process.pid)), *self.making(), env=environment(LANG="xx_YY.UTF-8", LC_ALL=None, LC_CTYPE=None))
        odd = os.path.join(self.folder, "name \udcff é")
        shutil.copy(WORKLOAD, odd)
        process = self.on_arenal(odd, *WORDS[1:])
        self.works(["ps"], *self.looking(str(process.pid)), ["profile", "--", odd, *WORDS[1:]], stdin=subprocess.DEVNULL,
                   env=environment(LC_ALL="C", PYTHONIOENCODING="ascii", PYTHONUTF8="0", PYTHONCOERCECLOCALE="0"))
        for words in (["ctl", str(process.pid), "get", "\udcff"], ["stats", "\udcff"], ["run", "--", "\udcff"], ["profile", "/\udcff"],
                      ["report", "/\udcff"]):
            self.assertNotEqual(self.arenal(*words).returncode, 0)

    def folder_without_colon(self):
        folder = tempfile.mkdtemp(prefix="arenal test ", dir="/tmp")
        self.addCleanup(shutil.rmtree, folder)
        return folder

    def test_modules_of_others(self):
        """PYTHONPATH leads to the folder of a program, or, where a part of it is empty, to that where the user happens to be."""
        folder = self.folder_without_colon()
        for name in ("json", "resource", "ctypes", "argparse"):
            with open(os.path.join(folder, f"{name}.py"), "w", encoding="ascii") as file:
                file.write("raise SystemExit('somebody else')\n")
        for path in (folder, "/nowhere:"):
            with self.subTest(path=path):
                done = self.arenal("run", "--", "sh", "-c", 'echo "$PYTHONPATH"', env=environment(PYTHONPATH=path), cwd=folder)
                self.assertEqual((done.returncode, done.stdout, done.stderr), (0, f"{path}\n", ""))
                done = self.arenal("ps", "--json", "1", env=environment(PYTHONPATH=path), cwd=folder)
                self.assertNotIn("somebody else", done.stderr)

    def test_modules_of_python_that_pythonpath_names(self):
        """They are where they are, whoever names their folder, too; and what is nowhere else is taken from a folder that is named by its path."""
        of_python = os.path.dirname(os.__file__)
        for path in (of_python, f"{of_python}/lib-dynload", ":".join(sys.path)):
            with self.subTest(path=path):
                self.assertEqual(self.arenal("--version", env=environment(PYTHONPATH=path)).stderr, "")
        folder = self.folder_without_colon()
        os.mkdir(os.path.join(folder, "jinja2"))
        with open(os.path.join(folder, "jinja2", "__init__.py"), "w", encoding="ascii") as file:
            file.write("raise ImportError('it is this one')\n")
        program = f"import runpy, sys\nsys.path[:] = [path for path in sys.path[1:] if not path.endswith('-packages')]\n" \
                  f"sys.argv[:] = {[TOOL, '--version']!r}\ntry:\n    runpy.run_path(sys.argv[0], run_name='__main__')\n" \
                  "except SystemExit:\n    import jinja2\n"
        for path, words in ((folder, "it is this one"), (f"{folder}:", "it is this one"), (":/nowhere", "No module named"), (".", "No module named")):
            with self.subTest(path=path):
                done = subprocess.run([sys.executable, "-B", "-S", "-c", program], env=environment(PYTHONPATH=path), cwd=folder, text=True,
                                      stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, timeout=DEADLINE, check=False)
                self.assertIn(words, done.stderr)

    def test_with_a_closed_or_full_output(self):
        pid = str(self.on_arenal(*WORDS).pid)
        cases = [(words, ">&-") for words in (*self.looking(pid), *self.making(), ["--help"], ["--version"])]
        cases += [(words, ">/dev/full") for words in (["ps"], ["stats", pid], ["maps", pid])]
        cases += [(words, "<&- >&- 2>&-") for words in (["ps"], ["profile", "--", "true"], ["run", "--", "true"])]
        for words, redirection in cases:
            with self.subTest(words=words, redirection=redirection):
                done = self.arenal(*words, cwd=self.work, prefix=["sh", "-c", f'exec "$@" {redirection}', "sh"])
                self.assertNotIn("Exception ignored", done.stderr)
                if "--" in words or words[0] in ("replay", "trace"):        # `echo` itself may fail
                    self.assertIn(done.returncode, (0, 1), done)
                elif "2>" in redirection:
                    self.assertEqual(done.returncode, 1)
                else:
                    self.assert_sentence(done)
        # The command finds closed what is closed.
        done = self.arenal("run", "--", "sh", "-c", "if (true 5>&1) 2>/dev/null; then echo open >&2; else echo closed >&2; fi",
                           prefix=["sh", "-c", 'exec "$@" >&-', "sh"])
        self.assertEqual(done.stderr, "closed\n")

    def test_beside_a_frozen_cgroup(self):
        cgroup = Freezer(self)
        frozen, other = [self.on_arenal(*WORDS) for _ in range(3)], self.on_arenal(*WORDS)

        def clear():
            cgroup.thaw()
            for process in frozen:
                self.stop(process)
            self.await_(cgroup.is_empty, "the cgroup is not empty")
        self.addCleanup(clear)
        for process in frozen:
            cgroup.put(process)
        cgroup.freeze()
        self.await_(cgroup.is_frozen, "the cgroup does not freeze")
        started = time.monotonic()
        rows = {row["pid"]: row for row in json.loads(self.arenal("ps", "--json").stdout)}
        self.assertLess(time.monotonic() - started, 10)
        self.assertEqual({rows[process.pid]["window"] for process in frozen}, {"no answer"})
        self.assertEqual(rows[other.pid]["window"], "open")
        for words in (["stats"], ["stats", "--resident"], ["ctl", "get"], ["ctl", "purge"], ["ctl", "profile", "dump", self.heap]):
            started = time.monotonic()
            self.assert_sentence(self.arenal(words[0], str(frozen[0].pid), *words[1:]), "frozen")
            self.assertLess(time.monotonic() - started, 10)
        self.works(["maps", str(frozen[0].pid)], ["top", "--batch", "-n", "1", str(frozen[0].pid)], *self.making())

    def test_other_versions_of_python(self):
        versions, found = pythons()
        if not versions:
            self.skipTest("no other version of Python in PATH, nor in TEST_PYTHONS")
        process = self.on_arenal(*WORDS)
        for version in versions:
            with self.subTest(version=version), contextlib.ExitStack() as changed:
                before = sys.executable
                changed.callback(setattr, sys, "executable", before)
                sys.executable = found[version]         # what the tool is run by
                # The page needs jinja2, which Debian has for its own Python only.
                self.works(*self.looking(str(process.pid)), *(words for words in self.making() if words[0] != "report"))
                os.unlink(self.trace)
                path = os.path.join(self.folder, "socket")
                listening = subprocess.Popen([sys.executable, "-B", TOOL, "stats", str(process.pid), "--openmetrics", "--listen", path],
                                             env=environment(), stderr=subprocess.PIPE, text=True)
                self.addCleanup(self.stop, listening)
                self.await_(lambda: os.path.exists(path), "no socket")
                with self.assertRaises(subprocess.TimeoutExpired):
                    listening.wait(1.5)                 # longer than it waits for a peer
                listening.terminate()
                self.assertNotIn("Traceback", listening.communicate()[1])


if __name__ == "__main__":
    unittest.main()
