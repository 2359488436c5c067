"""Tests of the report of what a process has lost at its end (ARENAL_LEAKS=reach): blocks that nothing points to, and only these."""

import os
import re
import subprocess
import sys
import unittest

from profile_support import CONTAINED, ProfileTest, words
from support import DEADLINE

LOST = os.environ["TEST_LOST"]
SIZE = 1000


class Lost(ProfileTest):
    def report(self, *what, status=3, program=LOST, prefix=(), **changes):
        """Of a program in which each block is a sample: what it says."""
        done = subprocess.run([*prefix, program, *what], env=words(ARENAL_LEAKS="reach", ARENAL_PROFILE_SAMPLE="1", **changes),
                              stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, timeout=DEADLINE,
                              check=False)
        self.assertEqual(done.returncode, status, done)
        self.output = done.stdout
        return done.stderr

    def lost(self, text):
        """From functions of the program to the blocks that were lost, and their bytes."""
        found = {}
        for count, blocks, frames in re.findall(r"(?m)^  about (\d+) bytes in (\d+) blocks?, allocated by:\n((?:    .*\n)*)", text):
            address = re.search(re.escape(LOST) + r"\+(0x[0-9a-f]+)", frames)
            name = address and subprocess.run(["addr2line", "-f", "-e", LOST, address[1]], stdout=subprocess.PIPE, text=True,
                                              check=True).stdout.split("\n")[0]
            old = found.get(name, (0, 0))
            found[name] = (old[0] + int(blocks), old[1] + int(count))
        return found

    def test_what_nothing_points_to(self):
        text = self.report("lose")
        # One of them may be in some register or word that nobody has used again.
        blocks, count = self.lost(text)["lose_here"]
        self.assertIn(blocks, (99, 100))
        self.assertEqual(count, blocks * SIZE)
        self.assertEqual(list(self.lost(text)), ["lose_here"], text)        # nor is anything of libc's lost
        self.assertRegex(text, rf"^arenal: at its end, process \d+ has lost about {count} bytes in {blocks} blocks that nothing points to "
                               r"\(sampled, one byte in 1\)\n")

    def test_what_something_points_to(self):
        text = self.report("keep", "free", LD_BIND_NOW="1")
        self.assertEqual(self.lost(text), {}, text)
        self.assertRegex(text, r"^arenal: .* has lost about 0 bytes in 0 blocks that nothing points to \(sampled, one byte in 1\)\n$")

    def test_what_only_lost_blocks_point_to(self):
        text = self.report("chain")
        blocks = self.lost(text)["lose_here"][0]
        self.assertIn(blocks, (9, 10))
        self.assertEqual(list(self.lost(text)), ["lose_here"], text)
        self.assertIn(f"; only these lead to about {9 * SIZE * blocks} bytes more, in {9 * blocks}\n", text)

    def test_a_ring(self):
        text = self.report("ring", "lose")
        self.assertIn(f"; only these lead to about {SIZE} bytes more, in 1\n", text)

    @unittest.skipUnless(os.uname().machine == "x86_64", "it is written for x86-64's registers")
    def test_what_only_a_register_points_to(self):
        text = self.report("registers")
        self.assertEqual(self.lost(text), {}, text)

    def test_a_thread_that_goes_on(self):
        text = self.report("blocked", "lose")
        self.assertIn("; 1 thread could not be looked at\n", text)
        self.assertIn("lose_here", self.lost(text))

    def test_threads_that_wait(self):
        """For signals, which are not theirs; or for a time, which is not over yet."""
        text = self.report("awaited", "lose")
        self.assertIn("; 2 threads could not be looked at\n", text)
        self.assertIn("lose_here", self.lost(text))

    def test_a_thread_that_has_ended_is_none(self):
        text = self.report("lose", "ends")
        self.assertIn("lose_here", self.lost(text))
        self.assertNotIn("could not be looked at", text)

    def test_the_status(self):
        """In place of the program's own, when something was lost; nothing else is skipped."""
        self.report("lose", "output", status=23, ARENAL_LEAKS_EXIT="23")
        self.assertEqual(self.output, "a line\n")
        self.report("keep", "output", ARENAL_LEAKS_EXIT="23")
        self.assertEqual(self.output, "a line\n")

    def test_what_is_to_be_ignored(self):
        path = self.path("ignored")
        for line, ignored in (("leak:lose_here", True), ("leak:^lose*h*e$", True), (f"leak:{os.path.basename(LOST)}", True),
                              ("leak:ose_her$", False), ("leak:other", False), ("lose_here", False), ("# leak:lose_here", False)):
            with open(path, "w", encoding="ascii") as file:
                file.write(f"# what is known\n\n{line}\nleak:nobody_has_this\n")
            text = self.report("lose", "chain", status=3 if ignored else 9, ARENAL_LEAKS_IGNORE=path, ARENAL_LEAKS_EXIT="9")
            self.assertEqual("lose_here" in self.lost(text), not ignored, (line, text))
            self.assertEqual("are ignored" in text, ignored, text)
            if ignored:             # with what only they lead to
                self.assertNotIn("chain_here", self.lost(text))
        text = self.report("lose", ARENAL_LEAKS_IGNORE="/nowhere/file")
        self.assertIn("; /nowhere/file cannot be read\n", text)

    def test_in_a_container_s_filter(self):
        """Only if somebody has said that it does not kill."""
        prefix = [sys.executable, "-c", CONTAINED]
        self.assertIn("cannot be told: there is a filter", self.report("lose", prefix=prefix))
        self.assertIn("lose_here", self.lost(self.report("lose", prefix=prefix, ARENAL_SANDBOX="0")))

    def test_where_it_cannot_be_told(self):
        """What is held is reported instead."""
        text = self.report("lose", "output", ARENAL_HARDEN="1", ARENAL_LEAKS_EXIT="23")
        self.assertRegex(text, r"(?m)^arenal: what process \d+ has lost cannot be told: in hardened mode")
        self.assertRegex(text, r"(?m)^arenal: at its end, process \d+ holds about")


if __name__ == "__main__":
    unittest.main()
