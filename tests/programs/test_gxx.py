"""g++: compiling a program full of templates, and that program with exceptions, threads, every kind of operator new."""

import hashlib
import os

from support import FILES, ProgramTest, main

SOURCE = os.path.join(FILES, "exceptions.cc")
COMPILE = ["g++", "-std=c++17", "-O1", "-pthread", SOURCE, "-o", "exceptions"]


class Gxx(ProgramTest):
    package = "g++-[0-9]*"
    needs = ("g++",)

    def work(self, run):
        output = run.commands(COMPILE, ["./exceptions"])
        self.assertIn("alive 0\n", output)
        self.assertIn("aligned 1\n", output)
        self.assertIn("failures 33\n", output)
        run.assert_loads(run.path("exceptions"))
        return output + hashlib.sha256(run.read("exceptions")).hexdigest()


if __name__ == "__main__":
    main()
