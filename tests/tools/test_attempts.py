"""Tests of what a test of a real program does when the program crashes as it does without Arenal."""

import os
import subprocess
import sys
import tempfile
import unittest

SOURCE = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
LIBRARY = os.environ["ARENAL_LIBRARY"]

# A program of which `fails` runs crash by themselves, and then no more.
PROGRAM = '''"""Thing: nothing at all."""
import support
support.version = lambda package: "1"
class Thing(support.ProgramTest):
    own_crash = r"worker \\d+ crashed by itself"
    def work(self, run):
        Thing.runs[run.mode] = Thing.runs.get(run.mode, 0) + 1
        crashes = run.mode == {mode!r} and Thing.runs[run.mode] <= {fails}
        run.write("server.log", {says!r} if crashes else "well")
        return "done"
    runs = {{}}
support.main()
'''
CRASH = "worker 7 crashed by itself (Segmentation fault)"


class Attempts(unittest.TestCase):
    def passes(self, fails, says=CRASH, mode="guarded"):
        with tempfile.TemporaryDirectory() as folder:
            path = os.path.join(folder, "test_thing.py")
            with open(path, "w", encoding="utf-8") as file:
                file.write(PROGRAM.format(mode=mode, fails=fails, says=says))
            folders = ("tests/programs", "tests", "tools/lib")
            done = subprocess.run([sys.executable, "-B", path], text=True, capture_output=True, check=False, env={
                **os.environ, "ARENAL_LIBRARY": LIBRARY, "TEST_TOOL_MODULES": os.path.join(SOURCE, "tools", "lib"),
                "PYTHONPATH": os.pathsep.join(os.path.join(SOURCE, name) for name in folders)})
        self.assertIn("Ran 1 test", done.stderr)
        return done.returncode == 0

    def test_its_own_crash_is_no_verdict(self):
        self.assertTrue(self.passes(0))
        self.assertTrue(self.passes(2))
        self.assertTrue(self.passes(2, mode="control"))

    def test_a_crash_each_time_is_one(self):
        self.assertFalse(self.passes(3))

    def test_other_crashes_and_what_arenal_says_are_verdicts(self):
        self.assertFalse(self.passes(1, says="worker 7: Segmentation fault"))
        self.assertFalse(self.passes(1, says=f"arenal: heap corruption\n{CRASH}"))


if __name__ == "__main__":
    unittest.main()
