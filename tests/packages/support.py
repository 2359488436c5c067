"""What the tests of packages share: the packages, what is in them, and the sources that they were built from."""

import glob
import os
import subprocess
import sys
import tempfile
import unittest

FOLDER = os.environ["TEST_PACKAGES"]
CC = os.environ["TEST_CC"]
ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
BUILT = os.path.join(ROOT, "build", "package")         # where tools/packages builds
PACKAGES = ("libarenal0", "libarenal-dev", "arenal-tools")


def environment(**changes):
    """Of an ordinary shell: nothing of Arenal's, texts in English."""
    env = {name: value for name, value in os.environ.items()
           if name not in ("LD_PRELOAD", "LANG", "LANGUAGE", "MANPATH", "MANPAGER") and not name.startswith(("ARENAL_", "LC_", "MALLOC_"))}
    return {**env, "LC_ALL": "C.UTF-8", **changes}


def file_of(package, suffix="deb"):
    found = glob.glob(f"{glob.escape(FOLDER)}/{package}_*.{suffix}")
    assert len(found) == 1, f"packages called {package}: {found}"
    return found[0]


def ran(command, status=0, **options):
    """What a command says, which has to end with this status; None: with any."""
    options.setdefault("env", environment())
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, encoding="utf-8", check=False, timeout=300, **options)
    if status is not None and done.returncode != status:
        raise AssertionError(f"{command}: status {done.returncode}\n{done.stdout}{done.stderr}")
    return done


class PackageTest(unittest.TestCase):
    def folder(self, prefix="arenal packages "):
        made = tempfile.TemporaryDirectory(prefix=prefix)
        self.addCleanup(made.cleanup)
        return made.name

    def unpacked(self, *packages):
        """A folder with what the packages hold."""
        folder = self.folder()
        for package in packages or PACKAGES:
            ran(["dpkg-deb", "-x", file_of(package), folder])
        return folder

    def library_in(self, folder):
        found, = glob.glob(f"{glob.escape(folder)}/usr/lib/*/libarenal.so.0.*")
        return found

    def field(self, package, name):
        return ran(["dpkg-deb", "-f", file_of(package), name]).stdout.strip()


def main():
    sys.dont_write_bytecode = True
    unittest.main()
