"""python3: threads, json, processes by fork, ctypes; once on its own small-object allocator, and once with every object
from malloc."""

import os
import sys

from support import FILES, ProgramTest, main

WORK = os.path.join(FILES, "work.py")


class Python(ProgramTest):
    package = "python3.[0-9]*"

    def work(self, run):
        output = run.command(sys.executable, "-B", WORK).out
        self.assertEqual(len(output.splitlines()), 4)
        words = ["loaded"] if run.on_arenal else []
        every = run.command(sys.executable, "-B", WORK, *words, env={"PYTHONMALLOC": "malloc", "EXPECTED_LIBRARY": run.library})
        self.assertEqual(every.out, output)
        return output


if __name__ == "__main__":
    main()
