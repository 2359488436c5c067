"""gcc and g++ compile a file to object code. What allocates is cc1 and cc1plus, which inherit what is preloaded."""

import os

from compare.programs import Batch, expect, find_program, mode, only_in_full
from compare.programs.compiler_input import c_source, cxx_source


class Compiler(Batch):
    compiler = ""
    package = ""
    options = []
    source_name = ""
    sizes = {}          # what the source is made of, by mode
    results = {}        # what the compiled program prints, by mode

    def source(self, size):
        raise NotImplementedError

    def command(self, folder, settings):
        with open(os.path.join(folder, self.source_name), "w", encoding="ascii") as file:
            file.write(self.source(self.sizes[mode(settings)]))
        return [find_program(self.compiler, self.package), *self.options, "-c", self.source_name, "-o", "work.o"]

    def environment(self):
        return {"TMPDIR": "."}  # its intermediate files go where the others are

    def check(self, finished, launcher, folder, settings):
        compiler = find_program(self.compiler, self.package)
        launcher.run([compiler, "work.o", "-o", "work"], timeout=self.timeout, cwd=folder, preload=False)
        compiled = launcher.run([os.path.join(folder, "work")], timeout=self.timeout, cwd=folder, preload=False)
        expect(f"the program that {self.compiler} made", compiled.output, self.results[mode(settings)])


class C(Compiler):
    name = "program/gcc/c"
    title = "gcc compiling C"
    about = "One file of functions that call each other, at -O2."
    packages = ["gcc", "libc6-dev"]
    seconds = 2
    compiler = package = "gcc"
    options = ["-O2"]
    source_name = "work.c"
    sizes = {"quick": 15, "full": 60}
    results = {"quick": "838430040", "full": "360874095"}

    def source(self, size):
        return c_source(size)


class Cxx(Compiler):
    name = "program/gcc/c++"
    title = "g++ compiling C++"
    about = "One file of classes on templates of the standard library, at -O1."
    packages = ["g++", "libc6-dev"]
    seconds = 2
    compiler = package = "g++"
    options = ["-O1"]
    source_name = "work.cc"
    sizes = {"quick": 1, "full": 5}
    results = {"quick": "45", "full": "298090075"}

    def source(self, size):
        return cxx_source(size)


CASES = [C(), Cxx()]


def cases(settings):
    return only_in_full(CASES, settings)
