"""node: JSON, Buffers and worker threads; V8 has a heap of its own, its buffers and everything in C++ are malloc's."""

import os
import unittest

from support import FILES, LIBRARY, ProgramTest

SCRIPT = os.path.join(FILES, "churn.js")


class Node(ProgramTest):
    def test_same_output(self):
        output, _ = self.compare(["node", SCRIPT])
        self.assertEqual(len(output.splitlines()), 10)

    def test_loaded_and_with_one_arena(self):
        usual = self.run_program(["node", SCRIPT], on_arenal=False)
        ours = self.run_program(["node", SCRIPT, os.path.realpath(LIBRARY)], on_arenal=True,
                                env={"ARENAL_CONF": "arena_max:1"})
        self.assertEqual(ours.stdout, usual.stdout)


if __name__ == "__main__":
    unittest.main()
