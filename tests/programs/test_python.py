"""python3: threads, json, processes by fork, ctypes; once on its own small-object allocator, and once with every object
from malloc."""

import os
import sys
import unittest

from support import FILES, LIBRARY, ProgramTest

WORK = os.path.join(FILES, "work.py")


class Python(ProgramTest):
    def test_same_output(self):
        output, _ = self.compare([sys.executable, "-B", WORK])
        self.assertEqual(len(output.splitlines()), 4)
        every = self.run_program([sys.executable, "-B", WORK, "loaded"], on_arenal=True,
                                 env={"PYTHONMALLOC": "malloc", "EXPECTED_LIBRARY": LIBRARY})
        self.assertEqual(every.stdout, output)

    def test_loaded(self):
        self.assert_runs_on_arenal(sys.executable, "-c", "pass")


if __name__ == "__main__":
    unittest.main()
