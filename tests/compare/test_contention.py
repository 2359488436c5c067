"""Tests of tools/compare --contention: what is counted, what the baseline lets pass, and its errors."""

import json
import os
import subprocess
import sys
import tempfile
import unittest

ROOT = os.path.realpath(os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", ".."))
sys.path.insert(0, os.path.join(ROOT, "tools", "lib"))
from compare import builds, contention, gate                   # pylint: disable=wrong-import-position

FIGURES = {"cache": 10.0, "bin": 10.0, "heap": 0.1, "other": 0.1, "lines": 100.0, "block_lines": 100.0, "waits": 0.1}


def run(*arguments):
    command = [sys.executable, "-B", os.path.join(ROOT, "tools", "lib", "compare", "main.py"), *arguments]
    return subprocess.run(command, cwd="/", env=builds.clean_environment(), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                          stderr=subprocess.PIPE, text=True, timeout=280, check=False)


class Counting(unittest.TestCase):
    """One build for all of these."""

    @classmethod
    def setUpClass(cls):
        cls.directory = tempfile.TemporaryDirectory(prefix="contention test")
        cls.addClassCleanup(cls.directory.cleanup)
        cls.cases = contention.cases([1, 16], gate.Wanted(["session_churn", "key_value"]))
        cls.build = builds.build_programs(ROOT, contention.targets(cls.cases), os.path.join(cls.directory.name, "programs"))

    def measure(self, name):
        return contention.measure(next(case for case in self.cases if case.name == name), self.build)

    def test_one_thread_shares_no_line(self):
        found = self.measure("key_value/threads:1")
        self.assertEqual(found["waits"], 0)
        self.assertLess(found["lines"], 0.1)        # our own thread looks now and then
        self.assertLess(found["block_lines"], 0.1)
        self.assertGreater(found["bin"], 1)

    def test_many_threads_do_as_the_baseline_says(self):
        old = contention.read_baseline(gate.CONTENTION_BASELINE)
        rows = {name: self.measure(name) for name in ("session_churn/threads:16", "key_value/threads:16")}
        self.assertEqual(contention.worse(old, rows), [])
        # Sessions go from thread to thread: somebody else wrote to their blocks.
        self.assertGreater(rows["session_churn/threads:16"]["block_lines"], 100)

    def test_a_cache_that_holds_nothing_is_found(self):
        library = os.path.join(self.build, contention.LIBRARY)
        program = os.path.join(self.build, "benchmarks", "workloads", "session_churn")
        done = subprocess.run([program, "--threads=16", "--operations=100000"], cwd=os.path.dirname(library), text=True,
                              env={**builds.clean_environment(), "LD_PRELOAD": "./libarenal_contention.so",
                                   "ARENAL_TCACHE_MAX": "0"}, stdout=subprocess.PIPE, stderr=subprocess.PIPE, check=True)
        counted = json.loads(done.stderr.partition("contention ")[2])
        self.assertGreater(counted["calls"], 200_000)       # a pair for each operation
        self.assertLess(counted["calls"], 300_000)
        found = contention.per_thousand(counted)
        self.assertGreater(found["bin"], 900)               # each call
        old = contention.read_baseline(gate.CONTENTION_BASELINE)
        problems = "; ".join(contention.worse(old, {"session_churn/threads:16": found}))
        self.assertIn('session_churn/threads:16 has ', problems)
        self.assertIn('in "bins" for 1,000 calls, and had ', problems)


class Judging(unittest.TestCase):
    def worse(self, **after):
        return contention.worse({"a": FIGURES}, {"a": {**FIGURES, **after}})

    def test_a_third_more_is_worse(self):
        self.assertEqual(self.worse(lines=125, bin=12.5), [])
        self.assertEqual(self.worse(lines=135), ['a has 135.0 in "lines" for 1,000 calls, and had 100.0'])

    def test_little_of_what_is_rare_is_not(self):
        self.assertEqual(self.worse(heap=1.0), [])
        self.assertEqual(len(self.worse(heap=1.2)), 1)

    def test_waits_are_not_judged(self):
        self.assertEqual(self.worse(waits=100), [])

    def test_a_table_has_all_figures(self):
        text = "\n".join(contention.table({"key_value/threads:16": FIGURES}))
        self.assertRegex(text, r"key_value/threads:16 +10\.00 +10\.00 +0\.10 +0\.10 +100\.00 +100\.00 +0\.10")
        for _, head, words in contention.COLUMNS:
            self.assertIn(f"{head}: {words}", text)

    def test_figures_are_for_a_thousand_calls(self):
        counted = {"calls": 4000, "locks": {"cache": 40, "bin": 20, "heap": 8, "huge": 1, "meta": 3}, "waits": 2, "lines": 400,
                   "block_lines": 800}
        self.assertEqual(contention.per_thousand(counted), {"cache": 10, "bin": 5, "heap": 2, "other": 1, "lines": 100,
                                                            "block_lines": 200, "waits": 0.5})


class Errors(unittest.TestCase):
    def refused(self, *arguments):
        done = run("--contention", *arguments)
        self.assertEqual(done.returncode, 2)
        self.assertEqual(done.stdout, "")
        return done.stderr

    def test_what_would_do_nothing(self):
        for option in (["--full"], ["--rounds", "3"], ["--allocators", "arenal"], ["--counts"]):
            self.assertIn(f"{option[0]} would do nothing with --contention", self.refused(*option))
        self.assertIn("--contention would do nothing with", self.refused("--", "true"))
        self.assertIn("--contention", self.refused("--gate"))

    def test_names_that_mean_nothing(self):
        self.assertIn("nothing is called no_such here; there are session_churn/threads:16, ", self.refused("--only", "no_such"))

    def test_a_baseline_is_whole(self):
        self.assertIn("as a whole", self.refused("--update-baseline", "--only", "phases"))
        self.assertIn("as a whole", self.refused("--update-baseline", "--threads", "2"))

    def test_threads_that_the_baseline_does_not_have(self):
        self.assertIn("the baseline has no session_churn/threads:3: ", self.refused("--baseline", "--threads", "3"))

    def test_a_broken_baseline(self):
        for text in ("", "{}", '{"cases": []}', '{"cases": {"a": {"bin": 1}}}'):
            with tempfile.NamedTemporaryFile("w", suffix=".json") as file:
                file.write(text)
                file.flush()
                with self.assertRaisesRegex(builds.CannotCompare, "is not what --contention --update-baseline writes"):
                    contention.read_baseline(file.name)
        with self.assertRaisesRegex(builds.CannotCompare, "cannot read /no/such.json: No such file"):
            contention.read_baseline("/no/such.json")


if __name__ == "__main__":
    unittest.main()
