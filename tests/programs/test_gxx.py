"""g++ compiling a program full of templates, and that program: exceptions, threads, every kind of operator new."""

import os
import unittest

from support import FILES, ProgramTest

SOURCE = os.path.join(FILES, "exceptions.cc")
COMPILE = ["g++", "-std=c++17", "-O1", "-pthread", SOURCE, "-o", "exceptions"]


class Gxx(ProgramTest):
    def test_same_program_and_same_output(self):
        output, folders = self.compare(COMPILE, ["./exceptions"])
        programs = []
        for folder in folders:
            with open(os.path.join(folder, "exceptions"), "rb") as file:
                programs.append(file.read())
        self.assertEqual(programs[0], programs[1])
        self.assertIn("alive 0\n", output)
        self.assertIn("aligned 1\n", output)
        self.assertIn("failures 33\n", output)
        self.assert_runs_on_arenal(os.path.join(folders[1], "exceptions"))


if __name__ == "__main__":
    unittest.main()
