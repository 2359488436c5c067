"""Tests of the names in profiles of code that is made at run time, which the process, or somebody else, tells in a file."""

import io
import os
import random
import stat
import time
import types
import unittest

from names_support import IS_ROOT, NamesTest

from arenal.profile import dump, perf_map, stacks          # noqa: E402

NO_PROCESS = 1 << 23    # more than any process has
JITTED = 0x7000000


class Made(NamesTest):
    def made(self):
        """The dump of a process of this user's that has ended; where its list of functions would be."""
        number = NO_PROCESS + os.getpid()
        with open(self.heap, "w", encoding="ascii") as file:
            file.write(f"arenal-heap-profile 2\nsample 1\npid {number}\ntime {int(time.time())}\nstack 1 777 1 777 {JITTED + 16:x}\n"
                       f"stack 1 888 1 888 {JITTED + 32:x}\nmaps\n{JITTED:08x}-{JITTED + 4096:08x} rwxp 00000000 00:00 0\nend\n")
        path = f"/tmp/perf-{number}.map"
        self.addCleanup(lambda: os.path.lexists(path) and os.unlink(path))
        return path

    def test_code_made_at_run_time(self):
        path = self.made()
        _, said = self.named()
        self.assertEqual(said, f"arenal: no names for code without a file: made at run time, and there is no {path}\n")
        with open(path, "wb") as file:
            file.write(b"# odd\n7000000 20 Earlier at this place\n7000000 20 LazyCompile:~serve \x1b[31mapp.js:7\nffffffffffffffffff 1 x\n7 y\n")
        functions, said = self.named()
        self.assertIn("LazyCompile:~serve ?[31mapp.js:7", functions)
        self.assertIn(f"not in {path} (1 of 2 addresses have no name)", said)
        found = stacks.Profile(dump.read(self.heap), since=time.time() + 100).symbols
        self.assertIn("older than the process", found.notes[0])
        os.utime(path, (time.time() + 100,) * 2)                # of one that has the number now
        functions, said = self.named()
        self.assertNotIn("LazyCompile", str(functions))
        self.assertIn("newer than the profile", said)
        os.rename(path, self.path("moved"))
        os.symlink(self.path("moved"), path)
        functions, said = self.named()
        self.assertNotIn("LazyCompile", str(functions))
        self.assertIn("link", said)
        os.unlink(path)
        kinds = [lambda: os.mkfifo(path), lambda: os.mkdir(path)]
        if IS_ROOT:
            kinds.append(lambda: os.mknod(path, 0o600 | stat.S_IFCHR, os.makedev(1, 5)))        # /dev/zero
        for make in kinds:
            make()
            self.assertIn("no regular file", self.named()[1])
            os.rmdir(path) if os.path.isdir(path) else os.unlink(path)

    def test_a_line_that_does_not_end(self):
        """A file with no block on the disk, which says that it has a line of a TiB."""
        path = self.made()
        with open(path, "wb") as file:
            file.truncate(1 << 40)
            file.write(b"7000000 20 made\n7000000 20 wrong_here ")
        functions, _ = self.named(prefix=["prlimit", f"--as={400 << 20}"])
        self.assertIn("made", functions)

    def test_lines_one_over_the_other(self):
        """What they cost is the same as if they were not, and of those at one place the last counts."""
        places_of = types.SimpleNamespace(is_late=lambda: False)
        source = random.Random(5)
        wanted = sorted(source.sample(range(1000), 37))
        lines = [(source.randrange(1000), source.randrange(200), f"f{i}") for i in range(100)]
        right = {address: name for start, size, name in lines for address in wanted if start <= address < start + size}
        text = "".join(f"{start:x} {size:x} {name}\n" for start, size, name in lines).encode()
        for end in (b"", b"0 1000 " + b"x" * 5000 + b"\n", b"0 1000 " + b"x" * 200_000 + b"\n", b"0 1000 " + b"x" * 200_000):
            self.assertEqual(perf_map._read(io.BytesIO(text + end), wanted, places_of), right)
        self.assertEqual(perf_map._read(io.BytesIO(text + end + b"\n0 1000 last"), wanted, places_of), dict.fromkeys(wanted, "last"))
        started = time.process_time()
        found = perf_map._read(io.BytesIO(b"0 ffffff all\n" * 50_000), list(range(0, 160_000, 16)), places_of)
        self.assertEqual((len(found), set(found.values())), (10_000, {"all"}))
        self.assertLess(time.process_time() - started, 15)      # 500 million pairs of a line and an address
        looks = iter([False, True])
        found = perf_map._read(io.BytesIO(b"0 ffffff some\n" * 10_000 + b"0 ffffff late\n"), wanted,
                               types.SimpleNamespace(is_late=lambda: next(looks)))
        self.assertEqual(set(found.values()), {"some"})

    @unittest.skipUnless(IS_ROOT, "giving files away takes root")
    def test_code_that_somebody_else_tells_of(self):
        path = self.made()
        with open(path, "wb") as file:
            file.write(b"7000000 20 wrong_here\n")
        os.chown(path, 12345, 12345)
        self.assertIn("belongs to somebody else", self.named()[1])
        os.chown(self.heap, 12345, 12345)                       # who has run the program
        self.assertIn("wrong_here", self.arenal("profile", self.heap).stdout)


if __name__ == "__main__":
    unittest.main()
