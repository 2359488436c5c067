"""What the tests of the heap profile share: programs whose allocations are known, and what their dumps are made into.

With a sample of one byte in one, each block is a sample, and all numbers are exact."""

import gzip
import os
import re
import subprocess
import sys

from support import DEADLINE, LIBRARY, TOOL, ToolTest, environment

sys.path.insert(0, os.path.join(os.path.dirname(TOOL), "lib"))
from arenal.profile import pprof          # noqa: E402

PROFILED = os.environ["TEST_PROFILED"]
STATIC = os.environ["TEST_PROFILED_STATIC"]
LEAKED, KEPT, USED = 300 * 1000, 5000000, 100 * 2000
LEAKED_IN_THREAD = 10 * 40
LIVE = LEAKED + LEAKED_IN_THREAD + KEPT


def words(**changes):
    return environment(**{"LD_PRELOAD": LIBRARY, **changes})


class ProfileTest(ToolTest):
    def path(self, name):
        return os.path.join(self.folder, name)

    def dump_of(self, *program, prefix=(), **changes):
        """Runs the program to its end; where its dump is."""
        path = self.path("heap")
        changes = {"ARENAL_PROFILE": "1", "ARENAL_PROFILE_SAMPLE": "1", "ARENAL_PROFILE_FILE": path, **changes}
        env = [f"{name}={value}" for name, value in changes.items() if value is not None]
        preload = [] if "LD_PRELOAD" in changes else [f"LD_PRELOAD={LIBRARY}"]
        done = subprocess.run([*prefix, "env", *preload, *env, *(program or [PROFILED])], env=environment(), stderr=subprocess.PIPE,
                              text=True, check=False)
        self.assertEqual((done.returncode, done.stderr), (3, ""))
        return path

    def writes(self, path, command=(PROFILED,), **options):
        """Runs a program whose profile goes there. It ends as it would without, and says one line at most, which is returned."""
        done = subprocess.run(command, env=words(ARENAL_PROFILE="1", ARENAL_PROFILE_FILE=path), check=False, text=True,
                              stderr=subprocess.PIPE, timeout=DEADLINE, **options)
        self.assertEqual(done.returncode, 3)
        self.assertLessEqual(len(done.stderr.splitlines()), 1, done.stderr)
        return done.stderr

    def rows(self, text):
        """Of the list: from functions to (flat, blocks, with calls)."""
        found = {}
        for line in text.splitlines():
            match = re.fullmatch(r"\s*(\S+) +[0-9.]+ +([0-9,]+) +(\S+) +[0-9.]+  (.*)", line)
            if match:
                found[match[4]] = (match[1], int(match[2].replace(",", "")), match[3])
        return found

    def decoded(self, path):
        message = pprof.profile_class()()
        with gzip.open(path) as file:
            message.ParseFromString(file.read())
        return message
