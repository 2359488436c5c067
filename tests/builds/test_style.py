"""The C files of src/ and include/ are written as the project writes them, and cppcheck finds nothing in them."""

import glob
import os
import re
import shutil
import subprocess
import unittest

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
FILES = [os.path.relpath(path, ROOT) for folder in ("src", "src/*", "include/*")
         for path in sorted(glob.glob(os.path.join(glob.escape(ROOT), folder, "*.[ch]")))]
COLUMNS = 110


def output(command):
    """Its exit status, and what it says on both channels."""
    done = subprocess.run(command, cwd=ROOT, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                          text=True, errors="replace", check=False)
    return done.returncode, done.stdout


class Style(unittest.TestCase):
    def program(self, version, *names):
        """The first of the names that is there; another version would find other things."""
        for name in filter(shutil.which, names):
            if re.search(rf" {re.escape(version)}\b", output([name, "--version"])[1]):
                return name
        return self.skipTest(f"there is no {names[-1]} {version} (Debian 12: {names[-1]})")

    def test_format(self):
        clang_format = self.program("14", "clang-format-14", "clang-format")
        status, said = output([clang_format, "--dry-run", "-Werror", "--ferror-limit=5", *FILES])
        self.assertEqual(status, 0, f"{said}\n{clang_format} -i FILE does what it wants")

    def test_columns(self):
        """Of comments, too, which clang-format leaves alone here. A tab counts four."""
        long = []
        for path in FILES:
            with open(os.path.join(ROOT, path), encoding="utf-8") as file:
                long += [f"{path}:{number}" for number, line in enumerate(file, 1)
                         if len(line.rstrip("\n").expandtabs(4)) > COLUMNS]
        self.assertEqual(long, [])

    def test_cppcheck(self):
        cppcheck = self.program("2.10", "cppcheck")
        status, said = output([
            cppcheck, "--quiet", "--error-exitcode=1", f"-j{os.cpu_count()}", "--enable=warning,performance,portability",
            "--suppressions-list=.cppcheck-suppressions", "--inline-suppr", "--std=c11", "-D_GNU_SOURCE", "-D__x86_64__",
            "-D__linux__", "-Isrc", "-Iinclude", "-isrc/platform.c", "src"])
        self.assertEqual(status, 0, said)


if __name__ == "__main__":
    unittest.main(verbosity=2)
