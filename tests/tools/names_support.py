"""What the tests of names in profiles share: programs whose names are somewhere else, or nowhere."""

import os
import re
import struct
import subprocess
import time

from support import LIBRARY, ToolTest, environment

PROFILED = os.environ["TEST_PROFILED"]
IS_ROOT = os.getuid() == 0


def run(*words):
    subprocess.run(words, check=True, stderr=subprocess.DEVNULL)


class NamesTest(ToolTest):
    def setUp(self):
        super().setUp()
        self.program, self.heap = self.path("program"), self.path("heap")

    def path(self, *names):
        path = os.path.join(self.folder, *names)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        return path

    def stripped(self, *words):
        """The program without symbols, and what else objcopy is told."""
        run("objcopy", "--strip-all", *words, PROFILED, self.program)
        return self.program

    def debug(self, *names):
        """Its symbols and lines alone, in a file."""
        path = self.path(*names)
        run("objcopy", "--only-keep-debug", PROFILED, path)
        return path

    def of_another(self, path, *words):
        """The program with another build ID, and other names at the same places."""
        note = self.path("note")
        with open(note, "wb") as file:
            file.write(struct.pack("<III4s20s", 4, 20, 3, b"GNU\0", b"another, not this one"))
        run("objcopy", "--update-section", f".note.gnu.build-id={note}", "--redefine-sym", "leak_here=wrong_here", "--strip-debug", *words,
            PROFILED, path)

    def run_to_end(self, program=None, **changes):
        done = subprocess.run([program or self.program], check=False, env=environment(
            LD_PRELOAD=LIBRARY, ARENAL_PROFILE="1", ARENAL_PROFILE_SAMPLE="1", ARENAL_PROFILE_FILE=self.heap, **changes))
        self.assertEqual(done.returncode, 3)

    def named(self, *options, **more):
        """The functions that are listed, and what is said of those that are not."""
        started = time.monotonic()
        done = self.arenal("profile", "--top", "1000", *options, self.heap, **more)
        self.assertEqual(done.returncode, 0, done)
        self.assertLess(time.monotonic() - started, 20)
        self.assertNotIn("wrong_here", done.stdout)
        return re.findall(r"(?m)^ .*%?  (\S.*)$", done.stdout)[1:], done.stderr

    def assert_named(self, *options, lines=False, **more):
        functions, said = self.named(*options, **more)
        self.assertIn("leak_here", functions)
        self.assertNotIn("for program:", said)
        (self.assertIn if lines else self.assertNotIn)("inlined", functions)        # which only lines tell
        return functions

    def assert_unnamed(self, sentence, *options, name="program", **more):
        functions, said = self.named(*options, **more)
        self.assertNotIn("leak_here", functions)
        self.assertTrue([f for f in functions if re.fullmatch(rf"{name}\+0x[0-9a-f]+", f)], functions)
        about = [line for line in said.splitlines() if line.startswith(f"arenal: no names for {name}: ")]
        self.assertEqual(len(about), 1, said)
        self.assertIn(sentence, about[0])

    def insert(self, line, *changes):
        with open(self.heap, encoding="utf-8", errors="surrogateescape") as file:
            text = file.read()
        for old, new in ((r"\nmaps\n", f"\n{line}\nmaps\n" if line else "\nmaps\n"), *changes):
            text = re.sub(old, new, text, count=1)
        with open(self.heap, "w", encoding="utf-8", errors="surrogateescape") as file:
            file.write(text)

    def build_id(self):
        notes = subprocess.run(["readelf", "-n", PROFILED], stdout=subprocess.PIPE, text=True, check=True).stdout
        return re.search("Build ID: ([0-9a-f]+)", notes)[1]
