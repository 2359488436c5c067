"""Tests of what the tools make of processes that mean harm by what they call a window."""

import json
import os
import random
import struct
import time
import unittest
from unittest import mock

from hostile_support import AT_ONCE, NO_NAMESPACES, WORDS, HostileTest
from support import LIBRARY, WORKLOAD

from arenal import elf, figures, openmetrics, targets, together, top, window, window_file, window_format   # noqa: E402
from arenal.commands import ps                                          # noqa: E402
from arenal.errors import Failure                                       # noqa: E402
from arenal.profile import dump, pprof, stacks                # noqa: E402

# As root of a user namespace of its own, a file is mounted where its path reads as that of a file in memory.
JAIL = """
set -e
mount -t tmpfs none "$1"; cd "$1"; mkdir old proc
touch memfd:arenal-window; mount --bind "$2" memfd:arenal-window
for place in /usr /lib /lib64 /bin /root /home /opt; do
  if [ -d $place ]; then mkdir -p .$place; mount --rbind $place .$place; fi
done
mount --rbind /proc proc; pivot_root . old
exec "$3" -c '
import ctypes, os, sys
file = os.open("/memfd:arenal-window", os.O_PATH)
ctypes.CDLL(None).prctl(15, b"arenal-window", 0, 0, 0)
print("ready", flush=True)
sys.stdin.read()'
"""


class Windows(HostileTest):
    @unittest.skipIf(NO_NAMESPACES, "user namespaces are not permitted here")
    def test_a_file_that_is_mounted_as_a_window_is_left_alone(self):
        target, jail = os.path.join(self.folder, "target"), os.path.join(self.folder, "jail")
        with open(target, "wb") as file:
            file.write(b"x" * 200_000)
        os.chmod(target, 0o666)
        before = os.stat(target)
        os.mkdir(jail, 0o777)
        process = self.start(["unshare", "-U", "-m", "-r", "--propagation", "private", "sh", "-c", JAIL, "sh", jail, target,
                              os.path.realpath("/usr/bin/python3")])
        self.assertEqual(self.looked_at(process.pid)["window"], "damaged")
        self.refused(process.pid, "no file in memory")
        after = os.stat(target)
        with open(target, "rb") as file:
            self.assertEqual(file.read(), b"x" * 200_000)
        self.assertEqual((after.st_atime_ns, after.st_mtime_ns), (before.st_atime_ns, before.st_mtime_ns), "it was not even opened")

    def test_what_is_no_window_is_one_line(self):
        for mode, words in (("unsealed", "size may change"), ("huge", "size"), ("tiny", "size"), ("zeros", "does not begin"),
                            ("short", "damaged"), ("stride", "damaged"), ("many", "damaged"), ("outside", "damaged"),
                            ("order", "damaged"), ("version", "layout version 7")):
            with self.subTest(mode=mode):
                process = self.fake_window(mode)
                self.assertEqual(self.looked_at(process.pid)["window"], "damaged")
                self.assert_sentence(self.arenal("stats", str(process.pid)), words)
                self.stop(process)

    def test_what_is_no_window_stays_as_it_is(self):
        process = self.fake_window("zeros")
        self.refused(process.pid, "does not begin")
        with open(window_file.find(process.pid)[1], "rb") as file:
            self.assertEqual(file.read().strip(b"\0"), b"")

    def test_a_file_of_another_name_is_no_window(self):
        process = self.fake_window("name")
        self.assertNotIn(process.pid, [row["pid"] for row in json.loads(self.arenal("ps", "--json").stdout)])
        self.assert_sentence(self.arenal("stats", str(process.pid)), "not on Arenal")

    def test_who_is_silent_holds_nobody_up(self):
        silent = [self.fake_window("silent") for _ in range(8)]
        ours = self.on_arenal(*WORDS)
        started = time.monotonic()
        rows = {row["pid"]: row for row in json.loads(self.arenal("ps", "--json").stdout)}
        self.assertLess(time.monotonic() - started, AT_ONCE)
        self.assertEqual({rows[process.pid]["window"] for process in silent}, {"no answer"})
        self.assertEqual(rows[ours.pid]["window"], "open")
        self.refused(silent[0].pid, "does not answer")

    def test_the_silent_are_asked_at_once(self):
        """By the clock of what they make us wait, which is not that of this machine: each takes a fifth of a second."""
        def slow(pid, _resident=False):
            time.sleep(0.2)
            return {"pid": pid}
        with mock.patch.object(ps, "look", slow):
            started = time.monotonic()
            self.assertEqual([row["pid"] for row in ps.look_at_all(range(1, 201))], list(range(1, 201)))
            self.assertLess(time.monotonic() - started, 5, "40 s, one after the other")

    def test_strings_are_made_printable(self):
        process = self.fake_window("escape")
        for words in (["stats"], ["stats", "--json"], ["stats", "--openmetrics"], ["ctl", "get"], ["top", "--batch", "-n", "1"]):
            done = self.arenal(words[0], str(process.pid), *words[1:])
            self.assertEqual((done.returncode, done.stderr), (0, ""), done)
            self.assertFalse([c for c in done.stdout if not c.isprintable() and c != "\n"], done.stdout)
            self.assertNotIn("\\u001b", done.stdout)
        self.assertIn("0.1?]0;pwned??[31m", self.arenal("stats", str(process.pid)).stdout)

    def test_names_of_processes_are_made_printable(self):
        odd = os.path.join(self.folder, "\x1b[31m\u202e\udcff name")
        os.symlink(WORKLOAD, odd)
        process = self.on_arenal(odd, *WORDS[1:])
        for words in (["ps"], ["stats", str(process.pid)], ["maps", str(process.pid)], ["top", "--batch", "-n", "1", str(process.pid)]):
            done = self.arenal(*words)
            self.assertEqual((done.returncode, done.stderr), (0, ""), done)
            self.assertFalse([c for c in done.stdout if not c.isprintable() and c != "\n"], done.stdout)

    def test_a_profile_that_is_none(self):
        for mode, word, seconds in (("dump-pipe", "does not answer", 2), ("dump-flood", "damaged", 10), ("dump-cut", "not write all", 0),
                                    ("dump-file", "damaged", 0), ("dump-named", "damaged", 0), ("dump-none", "damaged", 0)):
            with self.subTest(mode=mode):
                process = self.fake_window(mode)
                started = time.monotonic()
                self.assert_sentence(self.arenal("ctl", str(process.pid), "profile", "dump", f"{self.folder}/dump"), word)
                self.assertLess(time.monotonic() - started, AT_ONCE + seconds)
                self.assertFalse(os.path.exists(f"{self.folder}/dump"))
                self.stop(process)


class Fuzz(HostileTest):
    def shown(self, snapshot, pid):
        """Everything that is made of a snapshot."""
        sampler = top.Sampler.__new__(top.Sampler)
        sampler.pid, sampler.title, sampler.problem, sampler.rss, sampler.ended = pid, "name", None, 1, False
        sampler.last = sampler.before = (snapshot, time.monotonic())
        sampler.history = [snapshot.stats["allocated"] / max(1, figures.values(snapshot)["resident"])]
        looked = together.Looked([(pid, "name", snapshot)] * 2, [], 0)
        both = together.Sum(found for _, _, found in looked.done)
        return "".join((figures.table(both, "heading"), together.table(looked), together.as_json(targets.find(pid), looked, both),
                        figures.table(snapshot, "heading"), figures.as_json(snapshot), openmetrics.text(snapshot, pid, "name"),
                        *(line.text for line in top.frame(sampler, top.View(True), 200)),
                        *(f"{one.name}{one.value}" for one in snapshot.tunables)))

    def test_a_thousand_windows(self):
        process = self.fake_window("spoilt", "1")
        started, seen = time.monotonic(), {"good": 0, "bad": 0}
        with mock.patch.object(window_file, "OPENING", 0.001):
            for _ in range(1000):
                try:
                    with window.Window(process.pid, 0.1) as opened:
                        snapshot = opened.snapshot()
                        shown = self.shown(snapshot, process.pid) + opened.library
                    self.assertFalse([c for c in shown if not c.isprintable() and c != "\n"])
                    seen["good"] += 1
                except Failure as failure:
                    self.assertTrue(str(failure).isprintable())
                    seen["bad"] += 1
                    if "does not begin" in str(failure):        # nobody writes it anew: as in the first place
                        with open(window_file.find(process.pid)[1], "r+b") as file:
                            file.write(window_format.MAGIC)
        self.assertGreater(min(seen.values()), 100, seen)
        self.assertLess(time.monotonic() - started, 60)

    def test_damaged_libraries(self):
        with open(LIBRARY, "rb") as file:
            sound = file.read()
        path = os.path.join(self.folder, "library")
        source = random.Random(2)
        for _ in range(100):
            data = bytearray(sound)
            sections = struct.unpack_from("<Q", sound, 40)[0]
            for _ in range(source.randrange(1, 6)):
                at = source.choice((source.randrange(16, 64), sections + source.randrange(0, 40 * 64), source.randrange(64, 1000)))
                if at + 8 <= len(data):
                    data[at:at + 4] = struct.pack("<I", source.choice((0, 1, 64, 1 << 16, 1 << 27, (1 << 32) - 1, source.getrandbits(32))))
            with open(path, "wb") as file:
                file.write(data[:source.choice((len(data), source.randrange(len(data))))])
            for look in (lambda: elf.symbol(path, "arenal_layout"),
                         *self.looks(path), lambda: elf.is_static_program(path)):
                try:
                    look()
                except (elf.NotElf, OSError):
                    pass

    def test_numbers_of_a_profile(self):
        """None is negative, and none is longer than the kernel's; the largest are shown, too."""
        lines = ["sample 1024", "pid 5", "time 1700000000", "stack 1 2 3 4 1000 2000", "object 1000 c0ffee"]
        def parsed(*lines, maps=()):
            return dump.parse("\n".join(("arenal-heap-profile 2", *lines, "maps", *maps, "end", "")), "it")
        for at, line in enumerate(lines):
            for number in range(1, 5 if line.startswith("stack") else 2):
                for wrong in ("-1", "+1", "1_0", "", "9" * 21, "\u0663", "x"):
                    words = line.split(" ")
                    words[number] = wrong
                    with self.assertRaises(Failure, msg=words):
                        parsed(*lines[:at], " ".join(words), *lines[at + 1:])
        most = 2 ** 64 - 1
        for numbers in ([most] * 4, [0] * 4, [0, 1, 0, 0]):
            found = stacks.Profile(parsed(f"sample {numbers[0]}", "pid 5", f"time {most}", "stack {} {} {} {} 1000".format(*numbers)))
            for total in (False, True):
                stacks.text(found, total, 20)
                stacks.folded(found, total)
            pprof.encode(found)
        for end, offset in (("f" * 16, "0"), ("f" * 17, "0"), ("2000", "f" * 16), ("2000", "f" * 17)):
            pprof.encode(stacks.Profile(parsed(*lines, maps=[f"0-{end} r-xp {offset} 08:01 17 /nowhere/program"])))

    def test_damaged_profiles(self):
        good = ("arenal-heap-profile 2\nsample 1024\npid 5\ntime 1700000000\nstack 1 2 3 4 1000 2000\nobject 1000 c0ffee\nmaps\n"
                "00001000-00003000 r-xp 00000000 08:01 17 /nowhere/\x1b[31mprogram\nend\n").encode()
        source = random.Random(3)
        for _ in range(500):
            data = bytearray(good)
            for _ in range(source.randrange(1, 5)):
                data[source.randrange(20, len(data))] = source.choice(b"0123456789- \n\x1b\xff" + bytes([source.randrange(256)]))
            if source.randrange(4) == 0:
                data[60:60] = b"9" * source.choice((20, 400, 5000))
            try:
                shown = stacks.text(stacks.Profile(dump.parse(data.decode(errors="surrogateescape"), "it")), False, 20)
            except Failure:
                continue
            self.assertFalse([c for c in shown if not c.isprintable() and c != "\n"], shown)


if __name__ == "__main__":
    unittest.main()
