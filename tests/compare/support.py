"""What the tests of tools/compare share: paths, results made by hand, and the command itself."""

import faulthandler
import json
import os
import shutil
import subprocess
import sys
import tempfile
import unittest

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.realpath(__file__))))
BUILD = os.environ["ARENAL_BUILD_DIR"]
PROGRAMS = os.environ["TEST_PROGRAMS"]      # where this folder's programs and libraries are built
COMPARE = os.path.join(ROOT, "tools", "compare")
TOUCHER = os.path.join(PROGRAMS, "compare_toucher")
ABORTING = os.path.join(PROGRAMS, "libcompare_aborting.so")
HANGING = os.path.join(PROGRAMS, "libcompare_hanging.so")
DEADLINE = 120
MIB = 1 << 20

sys.path.insert(0, os.path.join(ROOT, "tools", "lib"))
# Before ctest ends a test that hangs: where it hangs.
faulthandler.dump_traceback_later(280, exit=True)


def case_of(name, group="micro", **values):
    """A case of the results file. values: allocator=[figure of round 1, figure of round 2, ...], or a dictionary
    {metric: [figures]}."""
    results = {}
    for allocator, given in values.items():
        metrics = given if isinstance(given, dict) else {"time": given}
        rounds = max(len(figures) for figures in metrics.values())
        runs = [{"round": number + 1, "latency": {}, "series": [],
                 "metrics": {metric: figures[number] for metric, figures in metrics.items()
                             if number < len(figures) and figures[number] is not None}}
                for number in range(rounds)]
        results[allocator] = {"runs": runs, "failure": None, "absent": False}
    return {"name": name, "group": group, "family": name, "title": name, "about": "", "unit": "ns/op", "threads": 1,
            "results": results}


def results_of(*cases, allocators=("arenal", "glibc", "jemalloc")):
    machine = {"cpu": "a CPU", "cores": 2, "memory_bytes": 1 << 30, "kernel": "6.1", "libc": "glibc 2.36",
               "compiler": "gcc 12.2", "transparent_hugepages": None, "governor": None}
    return {"version": 1, "tool": "arenal compare", "command": "tools/compare", "started": "2026-01-01T00:00:00Z",
            "seconds": 1.0, "mode": "quick", "rounds": 3, "interrupted": False, "other_load": 0.0, "left_out": [],
            "machine": machine,
            "allocators": [{"name": name, "library": None, "version": "1", "own": name == "arenal", "problem": None}
                           for name in allocators],
            "cases": list(cases)}


class CommandTest(unittest.TestCase):
    """Tests that run the command. A name with a space and a colon, which LD_PRELOAD could not hold."""

    def setUp(self):
        self.folder = tempfile.mkdtemp(prefix="compare test:", dir="/tmp")
        self.addCleanup(shutil.rmtree, self.folder, ignore_errors=True)
        self.json = os.path.join(self.folder, "results.json")
        self.html = os.path.join(self.folder, "results.html")

    def words(self, *arguments, command=(), build=BUILD):
        words = [COMPARE, "--build-dir", build, "--json", self.json, "--html", self.html, *arguments]
        return words + (["--", *command] if command else [])

    def compare(self, *arguments, command=(), env=None, **options):
        """Runs the command to its end. Whatever happens to it, a traceback is a bug."""
        done = subprocess.run(self.words(*arguments, command=command), env=dict(os.environ, **(env or {})),
                              cwd=self.folder, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                              text=True, timeout=DEADLINE, check=False, **options)
        self.assertNotIn("Traceback", done.stderr)
        return done

    def results(self):
        with open(self.json, encoding="utf-8") as file:
            return json.load(file)

    def assert_sentence(self, done, *words, status=1):
        """The command failed, and its last line on stderr says why."""
        self.assertEqual(done.returncode, status, done)
        last = done.stderr.splitlines()[-1]
        self.assertTrue(last.startswith("compare: "), done.stderr)
        for word in words:
            self.assertIn(word, last)
