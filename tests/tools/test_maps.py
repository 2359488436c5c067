"""Tests of `arenal maps PID`: what it says about processes of every sort."""

import json
import os
import re
import signal
import subprocess
import sys
import time
import unittest

from support import DEADLINE, FAKE_LAYOUT, LIBRARY, MIB, TOOL, WORKLOAD, ToolTest, as_nobody, environment

sys.path.insert(0, os.path.join(os.path.dirname(TOOL), "lib"))
from arenal import look          # pylint: disable=wrong-import-position
from arenal import picture       # pylint: disable=wrong-import-position
from arenal import proc       # pylint: disable=wrong-import-position

FIGURES = ("mapped", "used", "dirty", "in_memory", "swapped")
REGION = 64 * MIB
MAIN, THREADS, PER_THREAD, HUGE = 24, 2, 100, 160       # MiB and threads of the workload


def mapped_bytes(pid, start, end):
    """The part of a range that the kernel says is mapped, read anew."""
    total = 0
    with open(f"/proc/{pid}/maps", encoding="utf-8") as file:
        for line in file:
            low, high = (int(word, 16) for word in line.split()[0].split("-"))
            total += max(0, min(end, high) - max(start, low))
    return total


class MapsTest(ToolTest):
    def maps_json(self, pid, *options):
        done = self.arenal("maps", "--json", *options, str(pid))
        self.assertEqual((done.returncode, done.stderr), (0, ""))
        found = json.loads(done.stdout)
        self.assert_adds_up(found)
        return found

    def assert_adds_up(self, found):
        ranges = found["ranges"]
        for kind, sums in found["totals"].items():
            mine = [r for r in ranges if r["kind"] == kind or (kind == "all" and r["kind"] != "foreign")]
            self.assertEqual(sums["count"], len(mine))
            for figure in FIGURES:
                if sums[figure] is not None:
                    self.assertEqual(sums[figure], sum(r[figure] for r in mine), (kind, figure))
        self.assertEqual(set(found["totals"]), {r["kind"] for r in ranges} | {"all"})
        for before, after in zip(ranges, ranges[1:]):
            self.assertLessEqual(before["end"], after["start"], "ranges overlap")
        for r in ranges:
            self.assertEqual(len(r["cells"]), 32)
            self.assertLessEqual(r["mapped"], r["end"] - r["start"])
            self.assertLessEqual(r["in_memory"], r["mapped"])
            if r["used"] is not None:
                self.assertLessEqual(r["used"], r["mapped"])

    def ranges(self, found, kind):
        return [r for r in found["ranges"] if r["kind"] == kind]


class Workload(MapsTest):
    """One process on Arenal that holds memory of every kind and stays as it is."""

    def setUp(self):
        super().setUp()
        self.process = self.on_arenal(WORKLOAD, str(MAIN), str(THREADS), str(PER_THREAD), str(HUGE))

    def test_all_kinds_exactly(self):
        found = self.maps_json(self.process.pid)
        self.assertEqual((found["pid"], found["allocator"], found["exact"]), (self.process.pid, "arenal", True))
        self.assertEqual(found["notes"], [])
        for r in found["ranges"]:
            self.assertEqual(r["mapped"], mapped_bytes(self.process.pid, r["start"], r["end"]), r)

        heap = self.ranges(found, "heap")
        self.assertGreater(sum(r["used"] for r in heap), MIB, "the main thread's small blocks are in the brk heap")
        with open(f"/proc/{self.process.pid}/maps", encoding="utf-8") as file:
            lines = [line.split()[0].split("-") for line in file if line.rstrip().endswith("[heap]")]
        brk_start, brk_end = int(lines[0][0], 16), int(lines[-1][1], 16)
        for r in heap:
            self.assertLessEqual(brk_start, r["start"])
            self.assertLessEqual(r["end"], brk_end)

        regions = self.ranges(found, "region")
        self.assertGreaterEqual(len(regions), 2)
        for r in regions:
            self.assertEqual((r["start"] % REGION, r["end"] - r["start"]), (0, REGION))

        held = (MAIN + THREADS * PER_THREAD) * MIB
        small = sum(r["used"] for r in heap + regions)
        self.assertGreaterEqual(small, held)
        self.assertLess(small, held * 1.5)
        self.assertGreaterEqual(sum(r["in_memory"] for r in heap + regions), held)

    def test_the_huge_block_and_where_it_is_resident(self):
        huge = self.ranges(self.maps_json(self.process.pid), "huge")
        self.assertEqual(len(huge), 1)
        block = huge[0]
        self.assertGreaterEqual(block["used"], HUGE * MIB)
        self.assertLess(block["used"], (HUGE + 4) * MIB)
        # Only its first half was touched. The cell in the middle may go either way.
        self.assertAlmostEqual(block["in_memory"], HUGE * MIB // 2, delta=4 * MIB)
        self.assertEqual(block["cells"][:15], [1.0] * 15)
        self.assertEqual(block["cells"][17:], [0.0] * 15)

    def test_the_table(self):
        done = self.arenal("maps", str(self.process.pid), env=environment(LC_ALL="C.UTF-8"))
        self.assertEqual((done.returncode, done.stderr), (0, ""))
        lines = done.stdout.splitlines()
        self.assertIn(f"process {self.process.pid}) on Arenal", lines[0])
        found = self.maps_json(self.process.pid)
        rows = [line for line in lines if re.match(r"\w+ +[0-9a-f]+-[0-9a-f]+ ", line)]
        self.assertEqual([tuple(row.split()[:2]) for row in rows],
                         [(r["kind"], f"{r['start']:x}-{r['end']:x}") for r in found["ranges"]])
        bars = [re.search(r"\|(.{32})\|$", row).group(1) for row in rows]
        huge = bars[[row.split()[0] for row in rows].index("huge")]
        self.assertRegex(huge, "^█{15}.. {15}$")
        self.assertRegex(lines[-1], "^total +[0-9]+ ranges")

    def test_the_bar_is_ascii_when_the_locale_is_not_utf8(self):
        for env in (environment(LC_ALL="C"), environment(LC_ALL=None, LC_CTYPE=None, LANG=None)):
            done = self.arenal("maps", str(self.process.pid), env=env)
            self.assertEqual(done.returncode, 0)
            self.assertTrue(done.stdout.isascii())
            self.assertIn("|" + "#" * 15, done.stdout)

    def test_guessing_from_the_map_alone(self):
        exact = self.maps_json(self.process.pid)
        guess = self.maps_json(self.process.pid, "--guess")
        self.assertEqual((guess["allocator"], guess["exact"]), ("arenal", False))
        self.assertEqual(len(guess["notes"]), 1)
        self.assertIsNone(guess["totals"]["all"]["used"])
        # Guessing takes some other mappings for Arenal's, but misses none.
        known = {(r["start"], r["end"]) for r in self.ranges(guess, "region")}
        for r in self.ranges(exact, "region"):
            self.assertIn((r["start"], r["end"]), known)
        self.assertGreaterEqual(guess["totals"]["all"]["mapped"], exact["totals"]["all"]["mapped"])
        done = self.arenal("maps", "--guess", str(self.process.pid))
        self.assertEqual(sum(line.startswith("note: ") for line in done.stdout.splitlines()), 1)

    def test_without_pagemap(self):
        block, = self.ranges(self.maps_json(self.process.pid), "huge")
        with proc.Process(self.process.pid) as process:
            # smaps has sums per mapping of the kernel, which may be more than this block.
            start, end = next((m.start, m.end) for m in process.mappings if m.start <= block["start"] < m.end)
            known = process.residency(start, end, 32)
        with proc.Process(self.process.pid) as process:
            process.hide_pagemap()
            estimate = process.residency(start, end, 32)
            self.assertTrue(process.residency_is_estimated)
            self.assertAlmostEqual(estimate.resident, known.resident, delta=MIB)
            self.assertEqual(len(estimate.cells), 32)
            self.assertAlmostEqual(sum(estimate.cells) / 32, known.resident / (end - start), delta=0.01)
            first_half = process.residency(start, (start + end) // 2, 32)
            self.assertAlmostEqual(first_half.resident, known.resident / 2, delta=MIB)

    def test_a_replaced_library(self):
        copy = os.path.join(self.folder, "libarenal.so")
        with open(LIBRARY, "rb") as source, open(copy, "wb") as target:
            target.write(source.read())
        process = self.start([sys.executable, "-B", TOOL, "run", "--", WORKLOAD, "1", "1", "1", "0"],
                             env=environment(ARENAL_LIBRARY=copy))
        os.remove(copy)
        # Root can still read the file; others get a guess, and are told so.
        found = self.maps_json(process.pid)
        self.assertEqual(found["allocator"], "arenal")
        self.assertEqual(found["exact"], os.getuid() == 0)

    def test_an_ordinary_user_looks_at_their_own_process(self):
        tree = self.copy_of_tool((TOOL, "tools/arenal"), (os.path.join(os.path.dirname(TOOL), "lib"), "tools/lib"),
                                 (LIBRARY, "build/release/src/libarenal.so"), (WORKLOAD, "workload"))
        tool, env = tree + "/tools/arenal", environment(ARENAL_LIBRARY=None)
        process = self.start([*as_nobody(), sys.executable, "-B", tool, "run", "--", tree + "/workload", "4", "1", "4",
                              "128"], env=env)
        done = self.arenal("maps", "--json", str(process.pid), tool=tool, env=env, prefix=as_nobody())
        self.assertEqual((done.returncode, done.stderr), (0, ""))
        found = json.loads(done.stdout)
        self.assert_adds_up(found)
        # Where the kernel's Yama restricts ptrace to children, only a guess is possible, and says so.
        self.assertEqual(found["exact"], not found["notes"])
        self.assertEqual(found["allocator"], "arenal")
        self.assertTrue(self.ranges(found, "huge"))

    def test_a_process_that_changes_all_the_time(self):
        process = self.on_arenal(WORKLOAD, "1", "2", "1", "0", "churn")
        for _ in range(12):
            done = self.arenal("maps", "--json", str(process.pid))
            self.assertEqual((done.returncode, done.stderr), (0, ""))
            found = json.loads(done.stdout)
            self.assertEqual((found["allocator"], found["exact"]), ("arenal", True))
            for before, after in zip(found["ranges"], found["ranges"][1:]):
                self.assertLess(before["start"], after["start"])
        self.assertIsNone(process.poll(), "the process survived being looked at")


class Hardened(MapsTest):
    def test_large_blocks_are_shown(self):
        """The blocks of 48 KiB and the longest one are mappings between guards in hardened mode."""
        process = self.on_arenal("env", "ARENAL_HARDEN=1", WORKLOAD, "1", "2", "10", "20")
        found = self.maps_json(process.pid)
        self.assertTrue(found["exact"])
        totals, huge = found["totals"]["huge"], self.ranges(found, "huge")
        self.assertGreaterEqual(totals["used"], 40 * MIB)
        self.assertLess(totals["used"], 44 * MIB)
        self.assertGreaterEqual(totals["in_memory"], 30 * MIB)
        self.assertEqual(totals["mapped"], totals["used"] + totals["dirty"])
        self.assertGreaterEqual(len([r for r in huge if r["used"] == 48 << 10]), 2 * (10 * MIB // (48 << 10)))
        self.assertIn(20 * MIB, [r["used"] for r in huge])


class Static(MapsTest):
    """A static program whose records are as the test wants them."""

    def test_sound_records(self):
        process = self.start([FAKE_LAYOUT, "sound"])
        found = self.maps_json(process.pid)
        self.assertTrue(found["exact"])
        (region,), (huge,) = self.ranges(found, "region"), self.ranges(found, "huge")
        self.assertEqual((region["used"], region["dirty"]), (300 * 65536, 20 * 65536))
        self.assertEqual(region["in_memory"], 16 * MIB)
        self.assertEqual(region["cells"], [1.0] * 8 + [0.0] * 24)
        self.assertEqual((huge["used"], huge["in_memory"]), (96 * MIB, 0))

    def test_kept_mappings_are_dirty(self):
        process = self.start([FAKE_LAYOUT, "kept"])
        found = self.maps_json(process.pid)
        figures = sorted((huge["used"], huge["dirty"]) for huge in self.ranges(found, "huge"))
        self.assertEqual(figures, [(0, 8 * MIB), (96 * MIB, 0)])

    def test_damaged_records(self):
        for how in ("circle", "pointer", "figures", "capacity", "table", "shift", "magic", "version", "stride"):
            with self.subTest(how=how):
                process = self.start([FAKE_LAYOUT, how])
                found = self.maps_json(process.pid)
                self.assertFalse(found["exact"])
                self.assertIn("not readable", found["notes"][0])
                self.assertTrue(self.ranges(found, "region"))
                self.stop(process)

    def test_a_half_written_huge_entry(self):
        process = self.start([FAKE_LAYOUT, "entry"])
        found = self.maps_json(process.pid)
        self.assertTrue(found["exact"])
        self.assertEqual(len(self.ranges(found, "huge")), 1)


class Errors(MapsTest):
    def test_no_such_process(self):
        ended = subprocess.Popen(["true"])
        ended.wait()
        self.assert_sentence(self.arenal("maps", str(ended.pid)), "no process", str(ended.pid))
        for bad in ("x", "-1", "0", "99999999999", "²"):
            done = self.arenal("maps", bad)
            self.assertEqual(done.returncode, 2, done)
        self.assertEqual(self.arenal("maps").returncode, 2)
        self.assertEqual(self.arenal("maps", "--stats", "1").returncode, 2)
        self.assertEqual(self.arenal("maps", "--every", "0", "1").returncode, 2)

    def test_a_zombie(self):
        process = subprocess.Popen(["true"])
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)       # it has ended, and is not reaped
        self.assert_sentence(self.arenal("maps", str(process.pid)), "ended")
        process.wait()

    def test_not_on_arenal(self):
        env = environment()
        process = self.start([WORKLOAD, "2", "1", "20", "200"], env=env)
        done = self.arenal("maps", str(process.pid))
        self.assert_sentence(done, "not on Arenal", "glibc")
        self.assertRegex(done.stdout, "(?m)^heap +[0-9a-f]+-")
        self.assertRegex(done.stdout, "(?m)^anon +[0-9a-f]+-")
        done = self.arenal("maps", "--json", str(process.pid))
        self.assertEqual(done.returncode, 1)
        found = json.loads(done.stdout)
        self.assert_adds_up(found)
        self.assertIn("glibc", found["allocator"])
        self.assertEqual({r["kind"] for r in found["ranges"]}, {"heap", "anon"})
        self.assertGreaterEqual(max(r["mapped"] for r in self.ranges(found, "anon")), 200 * MIB)

    @unittest.skipUnless(os.getuid() == 0, "only root can become somebody else")
    def test_not_permitted(self):
        tree = self.copy_of_tool((TOOL, "tools/arenal"), (os.path.join(os.path.dirname(TOOL), "lib"), "tools/lib"))
        process = self.on_arenal(WORKLOAD, "1", "1", "1", "0")
        done = self.arenal("maps", str(process.pid), tool=tree + "/tools/arenal", prefix=as_nobody())
        self.assert_sentence(done, "not permitted", str(process.pid))

    def test_processes_that_end_meanwhile(self):
        for delay in range(8):
            process = self.on_arenal(WORKLOAD, "8", "2", "8", "80")
            look = subprocess.Popen([sys.executable, "-B", TOOL, "maps", str(process.pid)], env=environment(),
                                    stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
            time.sleep(0.1 + delay * 0.015)          # somewhere in the tool's start or its work
            process.kill()
            process.wait()
            _, errors = look.communicate(timeout=DEADLINE)
            self.assertNotIn("Traceback", errors)
            self.assertIn(look.returncode, (0, 1))
            self.assertEqual(len(errors.splitlines()), look.returncode, errors)
            self.stop(process)

    def test_a_closed_pipe_is_silent(self):
        process = self.on_arenal(WORKLOAD, "1", "1", "1", "0")
        reader, writer = os.pipe()
        os.close(reader)
        done = subprocess.run([sys.executable, "-B", TOOL, "maps", str(process.pid)], env=environment(),
                              stdout=writer, stderr=subprocess.PIPE, text=True, timeout=DEADLINE, check=False)
        os.close(writer)
        self.assertEqual(done.stderr, "")
        self.assertNotEqual(done.returncode, 0)

    def test_output_file(self):
        process = self.on_arenal(WORKLOAD, "1", "1", "1", "0")
        path = os.path.join(self.folder, "picture")
        done = self.arenal("maps", "--output", path, str(process.pid))
        self.assertEqual((done.returncode, done.stdout, done.stderr), (0, "", ""))
        with open(path, encoding="utf-8") as file:
            self.assertIn("on Arenal", file.readline())
        done = self.arenal("maps", "--output", "/nowhere/picture", str(process.pid))
        self.assert_sentence(done, "/nowhere/picture")
        self.assert_sentence(self.arenal("maps", "--output", "/dev/full", str(process.pid)), "/dev/full: No space left on device")

    def test_again_and_again_until_interrupted(self):
        process = self.on_arenal(WORKLOAD, "1", "1", "1", "0")
        look = subprocess.Popen([sys.executable, "-B", TOOL, "maps", "--every", "0.05", "--json", str(process.pid)],
                                env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for _ in range(3):
            self.assertEqual(json.loads(look.stdout.readline())["pid"], process.pid)
        look.send_signal(signal.SIGINT)
        _, errors = look.communicate(timeout=DEADLINE)
        self.assertEqual((look.returncode, errors), (130, ""))

    def test_again_and_again_until_the_process_ends(self):
        process = self.on_arenal(WORKLOAD, "1", "1", "1", "0")
        look = subprocess.Popen([sys.executable, "-B", TOOL, "maps", "--every", "0.05", str(process.pid)],
                                env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        self.assertIn("on Arenal", look.stdout.readline())
        process.stdin.close()
        process.wait()
        _, errors = look.communicate(timeout=DEADLINE)
        self.assertEqual((look.returncode, errors), (0, ""))


class Picture(unittest.TestCase):
    def test_the_bar_tells_empty_partly_and_full_apart(self):
        shades = picture.SHADES["ascii"]
        self.assertEqual(picture.bar([0, 0.001, 0.3, 0.5, 0.999, 1], shades), " ..:+#")

    def test_sizes(self):
        sizes = {None: "-", 0: "0K", 4096: "4K", 999 << 10: "999K", 1 << 20: "1.0M", 64 << 20: "64.0M",
                 5 << 40: "5.0T"}
        for value, text in sizes.items():
            self.assertEqual(picture.size(value), text)

    def test_records_that_are_not_permitted_to_be_read(self):
        class Forbidden(proc.Process):
            def read(self, address, size):
                raise PermissionError

        process = subprocess.Popen([FAKE_LAYOUT, "sound"], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        process.stdout.readline()
        original, proc.Process = proc.Process, Forbidden
        try:
            snapshot = look.look(process.pid)
        finally:
            proc.Process = original
            process.communicate()
        self.assertFalse(snapshot.exact)
        self.assertEqual(snapshot.allocator, "arenal")
        self.assertIn("does not permit", snapshot.notes[0])


if __name__ == "__main__":
    unittest.main()
