"""The C files of src/ and include/ are written as the project writes them, and cppcheck finds nothing in them."""

import os
import re
import shutil
import subprocess
import unittest

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))


def output(command):
    """Its exit status, and what it says on both channels."""
    done = subprocess.run(command, cwd=ROOT, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                          text=True, errors="replace", check=False)
    return done.returncode, done.stdout


class Style(unittest.TestCase):
    def program(self, version, *names):
        """The first of the names that is there; another version would find other things."""
        for name in filter(shutil.which, names):
            said = output([name, "--version"])[1]
            if re.search(rf"\b{re.escape(version)}\b", said):
                return name
        return self.skipTest(f"{names[-1]} {version} is not installed (Debian 12: {names[-1]})")

    def test_cppcheck(self):
        cppcheck = self.program("2.10", "cppcheck")
        status, said = output([
            cppcheck, "--quiet", "--error-exitcode=1", f"-j{os.cpu_count()}", "--enable=warning,performance,portability",
            "--suppressions-list=.cppcheck-suppressions", "--inline-suppr", "--std=c11", "-D_GNU_SOURCE", "-D__x86_64__",
            "-D__linux__", "-Isrc", "-Iinclude", "-isrc/platform.c", "src"])
        self.assertEqual(status, 0, said)


if __name__ == "__main__":
    unittest.main(verbosity=2)
