"""clang: C and C++ through all passes; the same objects to the byte."""

import hashlib
import os

from support import FILES, ProgramTest, main
from test_gcc import source


class Clang(ProgramTest):
    package = "clang-[0-9]*[0-9]"
    needs = ("clang", "clang++")

    def work(self, run):
        run.write("big.c", source())
        output = run.commands(["clang", "-O2", "-g", "-w", f"-ffile-prefix-map={run.folder}=/somewhere",
                               "-fdebug-compilation-dir=/somewhere", "-c", "big.c", "-o", "big.o"],
                              ["clang", "-O1", "-w", "big.o", "-o", "big"], ["./big"],
                              ["clang++", "-std=c++17", "-fsized-deallocation", "-O1", "-w", "-pthread",
                               os.path.join(FILES, "exceptions.cc"), "-o", "exceptions"],
                              ["./exceptions"])
        return output + hashlib.sha256(run.read("big.o") + run.read("exceptions")).hexdigest()


if __name__ == "__main__":
    main()
