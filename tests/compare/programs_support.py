"""What the tests of the real programs share: each starts and ends them in a folder of its own, and leaves nothing behind.

CMake names the library in the environment; the build's benchmarks are found beside it.
"""

import contextlib
import faulthandler
import importlib
import os
import pkgutil
import shutil
import sys
import tempfile
import time
import unittest

HERE = os.path.dirname(os.path.realpath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))
LIBRARY = os.environ["ARENAL_LIBRARY"]
BUILD = os.path.dirname(os.path.dirname(LIBRARY))
NOBODY = 65534

sys.path.insert(0, os.path.join(ROOT, "tools", "lib"))
# pylint: disable=wrong-import-position
from compare import allocators, programs
from compare.cases import Settings
from compare.process import Launcher
from compare.results import Failed

QUICK = Settings(quick=True, seed=3, build_dir=BUILD)
# Before ctest ends a test that hangs: where it hangs.
faulthandler.dump_traceback_later(280, exit=True)


def all_cases():
    modules = [importlib.import_module(f"compare.programs.{module.name}")
               for module in pkgutil.iter_modules(programs.__path__)]
    return [case for module in modules for case in getattr(module, "CASES", [])]


class ProgramsTest(unittest.TestCase):
    def setUp(self):
        # What is preloaded must have a path without spaces; everything else may have them.
        self.scratch = self.temporary_folder("arenal programs: ")
        self.preloads = self.temporary_folder("arenal-preload-")

    def tearDown(self):
        self.assert_nothing_left()

    def assert_nothing_left(self):
        """All that is started has its current directory in the scratch directory. What was killed needs a moment."""
        deadline = time.monotonic() + 5
        while processes_in(self.scratch) and time.monotonic() < deadline:
            time.sleep(0.02)
        self.assertEqual({pid: command_line(pid) for pid in processes_in(self.scratch)}, {}, "left behind")

    def temporary_folder(self, prefix):
        folder = tempfile.mkdtemp(prefix=prefix)
        self.addCleanup(shutil.rmtree, folder, ignore_errors=True)
        return folder

    def launcher(self, name="arenal", kind=Launcher, **options):
        allocator, = allocators.find([name], BUILD, self.preloads)
        self.assertIsNone(allocator.problem)
        return kind(allocator, tempfile.mkdtemp(dir=self.scratch), BUILD, **options)

    def assert_fails(self, case, pattern, launcher=None):
        with self.assertRaisesRegex(Failed, pattern) as raised:
            case.measure(launcher or self.launcher(), QUICK)
        self.assertNotIn("\n", str(raised.exception))
        self.assert_nothing_left()


def processes_in(folder):
    found = []
    for pid in filter(str.isdigit, os.listdir("/proc")):
        with contextlib.suppress(OSError):
            if os.readlink(f"/proc/{pid}/cwd").startswith(folder):
                found.append(int(pid))
    return found


def command_line(pid):
    try:
        with open(f"/proc/{pid}/cmdline", encoding="utf-8", errors="replace") as words:
            return words.read().replace("\0", " ").strip()
    except OSError:
        return ""
