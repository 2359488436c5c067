"""Tests of what tools/test says about tests that were skipped."""

import glob
import os
import re
import shutil
import subprocess
import sys
import tempfile
import unittest

SOURCE = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
SKIPPED = os.path.join(SOURCE, "tools", "lib", "skipped.py")

# What cmocka prints for a test that skips with a reason, one that has none, and one that does not skip.
CMOCKA = """[==========] Running 3 test(s).
[ RUN      ] a
skipped: pages are not of 4 KiB
[  SKIPPED ] a
[ RUN      ] b
[  SKIPPED ] b
[ RUN      ] c
[       OK ] c
[==========] 3 test(s) run.
[  PASSED  ] 1 test(s).
[  SKIPPED ] 2 test(s), listed below:
[  SKIPPED ] a
[  SKIPPED ] b

 2 SKIPPED TEST(S)
"""

UNITTEST = """
import unittest
class A(unittest.TestCase):
    @unittest.skipIf(True, "it takes root")
    def test_a(self): pass
    def test_b(self): self.skipTest("it's\\nnot here")
    def test_c(self): pass
@unittest.skip("it takes root")
class B(unittest.TestCase):
    def test_d(self): pass
unittest.main()
"""

TESTS = """
add_test(cmocka cat {folder}/cmocka)
add_test(unittest {python} -B {folder}/tests.py -v)
add_test(silent_unittest {python} -B {folder}/tests.py)
add_test(whole sh -c "echo 'skipped: no gdb'; exit 77")
add_test(silent sh -c "exit 77")
add_test(talkative sh -c "echo 'it was skipped: not at all'; echo skipped")
set_tests_properties(whole silent PROPERTIES SKIP_RETURN_CODE 77)
"""


class Report(unittest.TestCase):
    def setUp(self):
        self.folder = tempfile.mkdtemp()
        self.addCleanup(shutil.rmtree, self.folder)

    def write(self, name, text):
        with open(os.path.join(self.folder, name), "w", encoding="utf-8") as file:
            file.write(text)

    def run_tests(self, tests):
        """What is printed, and the exit code of the two."""
        self.write("CTestTestfile.cmake", tests.format(folder=self.folder, python=sys.executable))
        done = subprocess.run(
            ["bash", "-c", 'set -o pipefail; "$1" --test-dir "$2" | "$3" -B "$4" "$2/Testing/Temporary/LastTest.log" "$2/build.log" /no/log',
             "bash", os.environ["TEST_CTEST"], self.folder, sys.executable, SKIPPED],
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, check=False)
        self.assertNotIn("Traceback", done.stderr)
        return done.stdout, done.returncode

    def test_each_reason_with_its_count_before_the_summary(self):
        self.write("cmocka", CMOCKA)
        self.write("tests.py", UNITTEST)
        self.write("build.log", "-- no spin: the models are left out\n-- something else\n-- no spin: the models are left out\n")
        text, code = self.run_tests(TESTS)
        self.assertEqual(code, 0)
        before, _, rest = text.partition("tests or parts of tests were skipped:\n")
        lines, _, summary = rest.partition("\n\n")
        self.assertTrue(before.endswith("\n10 "), before)
        self.assertEqual(lines.splitlines(), ["    5  (no reason was told)", "    2  it takes root", "    1  it's not here", "    1  no gdb",
                                              "    1  pages are not of 4 KiB", "no spin: the models are left out"])
        self.assertRegex(summary, r"\A100% tests passed, 0 tests failed out of 6\n[^%]*\Z")
        self.assertIn("whole (Skipped)", summary)
        self.assertIn("Passed", before)

    def test_nothing_skipped_and_one_failed(self):
        text, code = self.run_tests("add_test(good true)\nadd_test(bad false)\n")
        self.assertNotEqual(code, 0)
        self.assertRegex(text, r"\nNo test was skipped\.\n\n50% tests passed, 1 tests failed out of 2\n")
        self.assertIn("bad (Failed)", text)

    def test_every_test_of_ours_says_why(self):
        for path in glob.glob(os.path.join(SOURCE, "tests", "**", "*.c*"), recursive=True):
            with open(path, encoding="utf-8") as file:
                self.assertIsNone(re.search(r"\bskip\(\)", file.read()), path)


if __name__ == "__main__":
    unittest.main()
