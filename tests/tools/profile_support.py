"""What the tests of the heap profile share: programs whose allocations are known, and what their dumps are made into.

With a sample of one byte in one, each block is a sample, and all numbers are exact."""

import glob
import os
import re
import subprocess

import pprof_reader
from support import DEADLINE, LIBRARY, ToolTest, environment

PROFILED = os.environ["TEST_PROFILED"]
STATIC = os.environ["TEST_PROFILED_STATIC"]
PPROF = (glob.glob("/usr/lib/go-*/pkg/tool/*/pprof") + glob.glob("/usr/share/go-*/pkg/tool/*/pprof") + [None])[0]
LEAKED, KEPT, USED = 300 * 1000, 5000000, 100 * 2000
LEAKED_IN_THREAD = 10 * 40
LIVE = LEAKED + LEAKED_IN_THREAD + KEPT

# Runs a command under a filter that lets everything through, as containers have one.
CONTAINED = """
import ctypes, os, struct, sys
allow = ctypes.create_string_buffer(struct.pack("<HBBI", 0x06, 0, 0, 0x7fff0000))
prctl = ctypes.CDLL(None).prctl
assert prctl(38, 1, 0, 0, 0) == 0 and prctl(22, 2, struct.pack("<HxxxxxxQ", 1, ctypes.addressof(allow))) == 0
os.execv(sys.argv[1], sys.argv[1:])
"""


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
        return pprof_reader.read(self, path)
