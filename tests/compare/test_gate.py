"""Tests of tools/compare --gate: what it finds between two builds, what it lets pass, and its errors."""

import json
import math
import os
import platform
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import unittest
from unittest import mock

ROOT = os.path.realpath(os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", ".."))
sys.path.insert(0, os.path.join(ROOT, "tools", "lib"))
from compare import builds, counts, gate, paired, timings      # pylint: disable=wrong-import-position
from compare.results import Failed                             # pylint: disable=wrong-import-position

BUILD = os.environ["ARENAL_BUILD_DIR"]
EXACT = ["pair", "lifo", "overflow"]
FAST_PATH = "\treturn likely(block != NULL) ? block : malloc_medium(size, FAMILY_MALLOC);\n"
TERMS = [1.03, 1.04, 1.05, 1.06, 1.07, 1.08]


def build_type():
    with open(os.path.join(BUILD, "CMakeCache.txt"), encoding="utf-8") as file:
        return re.search(r"^CMAKE_BUILD_TYPE:\w+=(.*)$", file.read(), re.M)[1]


def gate_command(root, *arguments):
    """The gate of the sources in a directory."""
    return [sys.executable, "-B", os.path.join(root, "tools", "lib", "compare", "main.py"), "--gate", *arguments]


def run_gate(root, *arguments, with_times=False, **variables):
    env = {**builds.clean_environment(), **variables}
    # Times take long. The baseline has none.
    more = () if with_times or {"--baseline", "--counts"} & set(arguments) else ("--counts",)
    return subprocess.run(gate_command(root, *arguments, *more), cwd="/", env=env, stdin=subprocess.DEVNULL,
                          stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, timeout=280, check=False)


class Statistic(unittest.TestCase):
    def test_median(self):
        self.assertEqual(paired.median([3, 1, 2]), 2)
        self.assertEqual(paired.median([4, 1, 3, 2]), 2.5)

    def test_chance_by_hand(self):
        # All of 7 above: one of 128 choices of signs. One below, by the least: that one and the one without it.
        self.assertEqual(paired.chance_of([*TERMS, 1.09]), 1 / 128)
        self.assertEqual(paired.chance_of([*TERMS, 0.99]), 2 / 128)
        # The largest of three below: of the sums 0 to 6 of ranks 1 to 3, 3 or more are 3, 1+2, 1+3, 2+3, 1+2+3.
        self.assertEqual(paired.chance_of([1.01, 1.02, 0.9]), 5 / 8)
        # Equal distances share their ranks: one of two above is exceeded or met by 3 of 4 choices.
        self.assertEqual(paired.chance_of([1.25, 1 / 1.25]), 3 / 4)
        self.assertEqual(paired.chance_of([1, 1, 1]), 1)
        self.assertEqual(paired.chance_of([1, *TERMS]), 1 / 64)

    def test_a_slowdown_is_found_in_drift(self):
        # The machine becomes slower by half meanwhile: the pairs still say 5%.
        old = [100 * (1 + i / 14) for i in range(7)]
        new = [value * factor for value, factor in zip(old, (1.05, 1.06, 1.04, 1.05, 0.999, 1.07, 1.03))]
        found = paired.difference(old, new)
        self.assertAlmostEqual(found.ratio, 1.05)
        self.assertTrue(found.is_regression(1.02))
        self.assertFalse(paired.difference(new, old).is_regression(1.02))

    def test_noise_is_none(self):
        old = [100] * 7
        self.assertFalse(paired.difference(old, [110, 90, 120, 95, 105, 80, 108]).is_regression(1.02))
        # Certain, but small.
        self.assertFalse(paired.difference(old, [101] * 7).is_regression(1.02))
        # One run that was disturbed.
        self.assertFalse(paired.difference(old, [100, 101, 99, 300, 100, 101, 99]).is_regression(1.02))


class Times(unittest.TestCase):
    """The judgement of times, with a case that is made up."""

    def judge(self, *series):
        """Of series of pairs (old, new) as the measurements; returns the verdicts and how many runs that took."""
        values = [pair for one in series for pair in one]
        taken = []

        def measure(_name, _case, build, _build_dir, _directory):
            number, which = len(taken) // 2, ("old", "new").index(build)
            taken.append(which)
            value = values[number][which]
            if isinstance(value, Failed):
                raise value
            return {"time": value}

        with mock.patch.object(timings, "measure_once", measure):
            verdicts = timings.judge("workload/none", None, ("old", "new"), "", "")
        return verdicts, taken

    def test_a_regression_is_measured_twice(self):
        slower = [(100, 105 + i) for i in range(timings.PAIRS)]
        (verdict,), taken = self.judge(slower, slower)
        self.assertTrue(verdict.regression)
        self.assertEqual(len(taken), 4 * timings.PAIRS)

    def test_who_goes_first_alternates(self):
        _, taken = self.judge([(100, 100)] * timings.PAIRS)
        self.assertEqual(taken, ([0, 1, 1, 0] * timings.PAIRS)[:2 * timings.PAIRS])

    def test_an_alarm_that_does_not_repeat(self):
        slower = [(100, 105 + i) for i in range(timings.PAIRS)]
        (verdict,), _ = self.judge(slower, [(100, 100)] * timings.PAIRS)
        self.assertFalse(verdict.regression)

    def test_a_crash(self):
        crash = Failed("crashed: SIGSEGV after 0.3 s")
        (verdict,), _ = self.judge([(100, crash)])
        self.assertTrue(verdict.regression)
        self.assertIn("new build crashed", verdict.failure)
        (verdict,), _ = self.judge([(crash, 100)])
        self.assertFalse(verdict.regression)


class Limits(unittest.TestCase):
    def worse(self, before, after, mode="pair"):
        with mock.patch("builtins.print"):
            return gate._judge_counts({mode: before}, {mode: after})       # pylint: disable=protected-access

    def test_counts(self):
        self.assertEqual(self.worse(42, 42), [])
        self.assertEqual(self.worse(42, 40), [])
        self.assertEqual(self.worse(42, 42.49), [])         # more than 1%, but no instruction
        self.assertEqual(self.worse(900, 908), [])          # eight instructions, but less than 1%
        self.assertEqual(self.worse(42, 43), ["pair takes 1.0 instructions more (+2.4%)"])
        self.assertEqual(self.worse(40, 50, "random by default"), [])       # a few guarded blocks more
        self.assertEqual(self.worse(900, 940, "medium by default"), [])
        self.assertEqual(len(self.worse(40, 107, "random by default")), 1)

    def test_a_profile(self):
        profile = """events: Ir
ob=/lib/one.so
fn=malloc
10 5
calls=3 20
10 99
12 7
ob=/bin/program
fn=main
+3 1
1 11
cob=/lib/one.so
cfn=malloc
calls=1 10
2 50
3 4
"""
        self.assertEqual(counts.parse_costs(profile.replace("+3 1\n", ""), "/lib/one.so"), (12, 27))


@unittest.skipUnless(build_type() == "Release", "the gate builds the release preset, whatever is tested")
class Gate(unittest.TestCase):
    def setUp(self):
        self.folder = tempfile.mkdtemp(prefix="gate-test-", dir="/tmp")
        self.addCleanup(shutil.rmtree, self.folder, ignore_errors=True)
        self.temporary = os.path.join(self.folder, "tmp")       # for the gate; it must be empty afterwards
        os.mkdir(self.temporary)

    def tearDown(self):
        self.assertEqual(os.listdir(self.temporary), [], "the gate left something behind")

    def gate(self, root, *arguments, **variables):
        return run_gate(root, *arguments, TMPDIR=self.temporary, **variables)

    def repository(self):
        """A git repository of these sources, in a path with a space."""
        root = os.path.join(self.folder, "some sources")
        os.mkdir(root)
        for name in ("CMakeLists.txt", "CMakePresets.json", "include", "src", "benchmarks", "tools"):
            path = os.path.join(ROOT, name)
            if os.path.isdir(path):
                shutil.copytree(path, os.path.join(root, name), ignore=shutil.ignore_patterns("__pycache__", "node_modules"))
            else:
                shutil.copy(path, root)
        # Built in half the time; what the gate says of a difference is the same.
        self.replace(root, "CMakePresets.json", '"CMAKE_BUILD_TYPE": "Release"',
                     '"CMAKE_BUILD_TYPE": "Release", "CMAKE_C_FLAGS_RELEASE": "-O0 -DNDEBUG"')
        self.git(root, "init", "-q")
        self.git(root, "add", ".")
        self.commit(root, "the sources")
        return root

    def path_without(self, program):
        """A PATH with all of the system's programs but one."""
        folder = os.path.join(self.folder, f"without {program}")
        os.mkdir(folder)
        for name in os.listdir("/usr/bin"):
            if name != program:
                os.symlink(os.path.join("/usr/bin", name), os.path.join(folder, name))
        return folder

    def git(self, root, *arguments):
        subprocess.run(["git", "-C", root, "-c", "user.name=test", "-c", "user.email=test@localhost", *arguments],
                       env=builds.clean_environment(), check=True, stdout=subprocess.DEVNULL)

    def commit(self, root, message):
        self.git(root, "commit", "-q", "-a", "-m", message)

    def replace(self, root, path, old, new):
        path = os.path.join(root, path)
        with open(path, encoding="utf-8") as file:
            text = file.read()
        self.assertEqual(text.count(old), 1, f"{path} has changed: the test has to follow")
        with open(path, "w", encoding="utf-8") as file:
            file.write(text.replace(old, new))

    def slow_down(self, root):
        self.replace(root, "src/api/malloc.c", FAST_PATH,
                     "\tstatic volatile unsigned slow;\n\tslow++, slow++, slow++;\n" + FAST_PATH)

    def assert_sentence(self, done, *words):
        self.assertEqual((done.returncode, done.stdout), (2, ""), done.stderr)
        sentence = done.stderr.removeprefix("building\n").removeprefix("counting instructions: the working tree\n")
        self.assertEqual(sentence.count("\n"), 1, done.stderr)
        for word in words:
            self.assertIn(word, sentence)

    def test_baseline(self):
        """What CI is for: the fast paths of this tree cost what was written down."""
        with open(gate.BASELINE, encoding="utf-8") as file:
            theirs = json.load(file)["compiler"].split(".")[0]
        history = os.path.exists(os.path.join(ROOT, ".git")) and not os.path.exists(os.path.join(ROOT, ".git", "shallow"))
        if not history and builds.compiler_of(BUILD).split(".")[0] != theirs:
            self.skipTest("it was counted with another compiler, and there is no history to count it anew")
        done = self.gate(ROOT, "--baseline")
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
        self.assertIn("No regression", done.stdout)

    def test_a_slower_malloc_other_defaults_and_a_comment(self):
        """The gate says of each what has become worse; nothing does of a comment."""
        root = self.repository()
        self.slow_down(root)
        self.replace(root, "src/base/conf.c", "\t.guard_sample = 5000,\n", "\t.guard_sample = 20,\n")
        self.replace(root, "src/base/conf.c", "\t.decay = CONF_DECAY,\n", "\t.decay = -1,\n")
        self.commit(root, "malloc is slower, guards more, and gives nothing back")
        done = self.gate(root, "HEAD~1", "HEAD", "--only", "counts/pair,counts/overflow by default,rest_10s", with_times=True)
        self.assertEqual(done.returncode, 1, done.stdout + done.stderr)
        for pattern in (r"pair takes [1-9]", r"overflow by default takes [1-9]", r"resting RSS 10 s after it: "):
            self.assertRegex(done.stdout, f"Regression: .*{pattern}")
        self.assertRegex(done.stdout, r"(?m)^pair .*worse$")
        self.assertRegex(done.stdout, r"(?m)^resting RSS 10 s.*worse$")
        self.assertNotIn("lifo", done.stdout)

        self.replace(root, "src/api/malloc.c", "/* malloc and free,", "/* Once more. malloc and free,")
        self.commit(root, "a comment")
        done = self.gate(root)      # HEAD~1 and the working tree, which is HEAD
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
        self.assertIn("No regression", done.stdout)
        # A promise is broken, even by the same library as before; and it takes no other to say so.
        shutil.rmtree(os.path.join(root, ".git"))
        done = self.gate(root, "--only", "promise/rest_10s", with_times=True, GIT_CEILING_DIRECTORIES="/tmp")
        self.assertEqual(done.returncode, 1, done.stdout + done.stderr)
        self.assertRegex(done.stdout, "Regression: resting RSS 10 s after it: ")

    def test_errors(self):
        root = self.repository()
        self.assert_sentence(self.gate(root, "no-such-revision"), '"no-such-revision"')
        self.assert_sentence(self.gate(root), '"HEAD~1"')       # there is no second commit
        self.assert_sentence(self.gate(root, "HEAD", "HEAD", "HEAD"), "two revisions")
        self.assert_sentence(self.gate(root, "HEAD", "--baseline"), "baseline")

        for arguments in (("HEAD", "--only", "counts/pair,counts/none"), ("--baseline", "--only", "counts/pair,counts/none"),
                          ("HEAD", "--counts", "--only", "counts/pair,counts/none")):
            self.assert_sentence(self.gate(root, *arguments), "nothing is called counts/none", "counts/random by default")
        self.replace(root, "benchmarks/counts/baseline.json", '"lifo"', '"lofi"')
        self.assert_sentence(self.gate(root, "--baseline", "--only", "*lo*,*li*"), "other counts (lifo, lofi)")
        self.assert_sentence(self.gate(root, "HEAD", PATH=self.path_without("valgrind")), "valgrind")
        self.assert_sentence(self.gate(root, "HEAD", PATH=self.path_without("git")), "git")
        self.assert_sentence(self.gate(root, "--baseline", PATH=self.path_without("cmake")), "cmake")

        self.replace(root, "src/api/aligned.c", '#include "api/malloc.h"', '#error broken on purpose')
        self.assert_sentence(self.gate(root), "the working tree", "broken on purpose")

        shutil.rmtree(os.path.join(root, ".git"))
        self.assert_sentence(self.gate(root, GIT_CEILING_DIRECTORIES="/tmp"), "git")

    def test_another_compiler(self):
        """Counts of another compiler are no measure: the revision that wrote them is counted instead, however long ago that
        was. Where that is not there, nothing can be said, and that is no success."""
        root = self.repository()
        path = os.path.join(root, "benchmarks", "counts", "baseline.json")
        with open(path, encoding="utf-8") as file:
            baseline = json.load(file)
        with open(path, "w", encoding="utf-8") as file:
            json.dump({**baseline, "compiler": "GNU 4.9.2"}, file)
        self.commit(root, "a baseline")
        self.slow_down(root)
        self.commit(root, "malloc is slower")
        self.replace(root, "src/api/malloc.c", "/* malloc and free,", "/* Once more. malloc and free,")
        self.commit(root, "a comment")
        done = self.gate(root, "--baseline", "--only", "counts/pair")
        self.assertEqual(done.returncode, 1, done.stdout + done.stderr)
        self.assertIn(f"GNU 4 on {baseline['architecture']}", done.stdout)
        self.assertIn(f" on {platform.machine()}", done.stdout)
        self.assertRegex(done.stdout, r"Regression: .*pair takes [1-9]")

        shallow = os.path.join(self.folder, "shallow")
        self.git(root, "clone", "-q", "--depth", "1", f"file://{root}", shallow)
        self.assert_sentence(self.gate(shallow, "--baseline"), "nothing was compared", "GNU 4", "shallow")
        shutil.rmtree(os.path.join(root, ".git"))
        self.assert_sentence(self.gate(root, "--baseline", GIT_CEILING_DIRECTORIES="/tmp"), "nothing was compared", "git")
        shutil.rmtree(shallow)
        with open(path, "w", encoding="utf-8") as file:
            file.write("{}")
        self.assert_sentence(self.gate(root, "--baseline"), "baseline.json")

    def test_ended_by_a_signal(self):
        process = subprocess.Popen(gate_command(ROOT, "--baseline"), cwd="/", text=True,
                                   env={**builds.clean_environment(), "TMPDIR": self.temporary},
                                   stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        self.addCleanup(process.kill)
        while process.poll() is None and not any("CMakeCache.txt" in files for _, _, files in os.walk(self.temporary)):
            time.sleep(0.01)
        process.send_signal(signal.SIGTERM)
        _, errors = process.communicate(timeout=60)
        self.assertEqual(process.returncode, 130, errors)
        self.assertIn("interrupted", errors)

    def test_compilers_write_where_the_build_is(self):
        """One that is killed leaves its temporary files: they go with the build."""
        build = os.path.join(self.folder, "workshop", "new")
        printed = builds.run([sys.executable, "-c", "import tempfile; print(tempfile.gettempdir())"], "no python",
                             env=builds.build_environment(build))
        self.assertEqual(printed.strip(), os.path.join(self.folder, "workshop", "tmp"))

    def test_counts_are_the_same_in_every_run(self):
        program = os.path.join(BUILD, "benchmarks", "counts", "arenal_counts")
        library = os.path.join(BUILD, "src", "libarenal.so")

        def count(directory, text):
            with mock.patch.dict(os.environ, SOME_VARIABLE=text):
                return counts.count_modes(program, [*EXACT, "threads"], library, os.path.join(self.folder, directory))

        one, other = count("a", "short"), count("another directory", "x" * 3000)
        # To a fiftieth of an instruction: some slow paths look at the clock, and do a little more when it has gone on.
        by_the_clock = 0.02
        for mode in EXACT:
            self.assertAlmostEqual(one[mode].library, other[mode].library, delta=by_the_clock)
            self.assertAlmostEqual(one[mode].all, other[mode].all, delta=by_the_clock)
        # Of a thread's slow calls, one of 16 is timed: which one is drawn anew in each run.
        self.assertTrue(math.isclose(one["threads"].library, other["threads"].library, rel_tol=0.001), (one, other))
        # libc's part of starting a thread varies a little: whether it has ended when the other one waits for it.
        self.assertTrue(math.isclose(one["threads"].all, other["threads"].all, rel_tol=0.004), (one, other))
        # As the README says.
        self.assertLessEqual(one["pair"].library, 39 + by_the_clock)

    def test_what_is_timed_exists(self):
        names = [name for name in timings.CASES if os.path.exists(os.path.join(BUILD, "benchmarks", timings.program(name)))]
        self.assertIn("workload/short_threads", names)
        found = dict(timings.find_cases(names, BUILD))
        self.assertEqual(list(found), names)
        build = builds.Build("this build", os.path.join(BUILD, "src", "libarenal.so"))
        metrics = timings.measure_once("workload/interpreter", found["workload/interpreter"], build, BUILD, self.temporary)
        self.assertGreater(metrics["time"], 0)
        self.assertGreater(metrics["peak_rss"], 1 << 20)


if __name__ == "__main__":
    unittest.main()
