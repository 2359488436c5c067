"""Tests of what the tools make of processes that mean harm: whatever they call a window, a library, a file."""

import json
import lzma
import os
import random
import resource
import socket
import stat
import struct
import subprocess
import sys
import time
import unittest
import zlib
from unittest import mock

from support import LIBRARY, TOOL, WORKLOAD, ToolTest, as_nobody

from arenal import elf, figures, files, openmetrics, top, window, window_file, window_format   # noqa: E402
from arenal.commands import ps                                          # noqa: E402
from arenal.errors import Failure                                       # noqa: E402
from arenal.profile import dump, pprof, separate, stacks                # noqa: E402

WORDS = [WORKLOAD, "4", "2", "2", "2"]
AT_ONCE = 10.0          # seconds for a command, its start on a busy machine included: it waits for less than one
NO_NAMESPACES = subprocess.run(["unshare", "-U", "-m", "-r", "true"], stderr=subprocess.DEVNULL, check=False).returncode != 0

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


class HostileTest(ToolTest):
    @staticmethod
    def looks(path):
        """What is read of files for the names in profiles."""
        def at(function, *arguments):
            def look():
                with open(path, "rb") as file:
                    return function(file, *arguments)
            return look
        return (at(elf.functions, range(0, 1 << 20, 64)), at(elf.build_id), at(elf.loads), at(elf.section, ".text"),
                at(elf.contents, ".comment"), at(separate.mini))

    def looked_at(self, pid, at_once=AT_ONCE):
        """What ps says about it; every command has its sentence, soon."""
        started = time.monotonic()
        row = next(row for row in json.loads(self.arenal("ps", "--json").stdout) if row["pid"] == pid)
        self.assertLess(time.monotonic() - started, at_once, "ps")
        return row

    def refused(self, pid, *words):
        for command in (["stats", str(pid)], ["stats", str(pid), "--resident"], ["ctl", str(pid), "get"], ["ctl", str(pid), "purge"],
                        ["ctl", str(pid), "profile", "dump", f"{self.folder}/dump"]):
            started = time.monotonic()
            self.assert_sentence(self.arenal(*command), *words)
            self.assertLess(time.monotonic() - started, AT_ONCE, command)
        self.assertFalse(os.path.exists(f"{self.folder}/dump"))


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
        sampler.pid, sampler.name, sampler.problem, sampler.rss, sampler.ended = pid, "name", None, 1, False
        sampler.last = sampler.before = (snapshot, time.monotonic())
        sampler.history = [snapshot.stats["allocated"] / max(1, figures.values(snapshot)["resident"])]
        return "".join((figures.table(snapshot, "heading"), figures.as_json(snapshot), openmetrics.text(snapshot, pid, "name"),
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


class Files(HostileTest):
    def library(self, path):
        """A process that has mapped what is called a library there, and waits."""
        return self.start([sys.executable, "-B", "-c", """
import mmap, sys
file = open(sys.argv[1], "r+b")
view = mmap.mmap(file.fileno(), 0, mmap.MAP_PRIVATE)
print("ready", flush=True)
sys.stdin.read()""", path])

    def test_a_pipe_in_place_of_a_library(self):
        path = os.path.join(self.folder, "libarenal.so")
        for made in (path, f"{path} (deleted)"):
            with open(path, "wb") as file:
                file.write(bytes(8192))
            process = self.library(path)
            os.unlink(path)
            os.mkfifo(made)
            for words in (["maps", str(process.pid)], ["maps", "--json", str(process.pid)], ["ps"], ["stats", str(process.pid)]):
                started = time.monotonic()
                done = self.arenal(*words)
                self.assertLess(time.monotonic() - started, AT_ONCE, (words, done))
            self.stop(process)
            os.unlink(made)

    def test_tables_of_any_size(self):
        """A sparse file, whose header says that it has 65,535 sections of as many bytes, or of 4,096, and tables of gigabytes."""
        path = os.path.join(self.folder, "libarenal.so")
        header = struct.pack("<16sHHIQQQIHHHHHH", b"\x7fELF\x02\x01\x01", 3, 62, 1, 0, 64, 4096, 0, 64, 56, 1, 65535, 65535, 0)
        load = struct.pack("<IIQQQQQQ", 1, 5, 0, 0, 0, 8192, 8192, 4096)
        table = struct.pack("<IIQQQQIIQQ", 0, 11, 0, 0, 0, 1 << 32, 0, 1, 0, 24)
        for size, count in ((65535, 65535), (4096, 65535), (64, 65535), (64, 2)):
            with open(path, "wb") as file:
                file.truncate(5 << 30)
                file.write(header[:58] + struct.pack("<HHH", size, count, 0) + load)
                file.seek(4096)
                file.write(table * 2)
            started, before = time.process_time(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
            for look in (lambda: elf.symbol(path, "arenal_layout"), *self.looks(path)):
                try:
                    look()
                except (elf.NotElf, OSError):
                    pass
            self.assertLess(time.process_time() - started, 1)
            self.assertLess(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before, 100 << 10)

    def test_only_regular_files_are_read(self):
        fifo, link = os.path.join(self.folder, "fifo"), os.path.join(self.folder, "link")
        os.mkfifo(fifo)
        os.symlink(TOOL, link)
        with socket.socket(socket.AF_UNIX) as one:
            one.bind(os.path.join(self.folder, "socket"))
            for name in ("fifo", "socket", "."):
                with self.assertRaises(OSError):
                    files.regular(os.path.join(self.folder, name))
        with self.assertRaises(OSError):
            files.regular("/dev/zero")
        with self.assertRaises(OSError):
            files.regular(link, follow=False)
        os.close(files.regular(link))

    def test_files_of_the_kernel_are_left_alone(self):
        """They look like files. Some are used up by who reads them: the kernel's log, for example."""
        empty = os.path.join(self.folder, "empty")
        with open(empty, "wb"):
            pass
        for path in (empty, "/proc/version", "/proc/kmsg", "/proc/kcore", "/sys/kernel/mm/transparent_hugepage/enabled", "/sys/kernel/notes"):
            if os.path.exists(path):
                for look in (lambda path=path: files.regular(path), lambda path=path: files.inside("/", path)):
                    with self.assertRaisesRegex(OSError, "it is empty|it is the kernel's"):
                        look()

    def test_symbols_that_grow_without_end(self):
        """What is compressed in a file: 128 MiB of zeros, and what says that it takes 4 GiB to read."""
        path, compressor, zeros = os.path.join(self.folder, "mini"), lzma.LZMACompressor(preset=0), bytes(1 << 20)
        large = b"".join(compressor.compress(zeros) for _ in range(128)) + compressor.flush()
        greedy = bytearray(lzma.compress(zeros, preset=0))
        size = (greedy[12] + 1) * 4             # of the block's header, with the size of its dictionary and a checksum
        greedy[12 + 4] = 40
        greedy[12 + size - 4:12 + size] = struct.pack("<I", zlib.crc32(greedy[12:12 + size - 4]))
        for data, word in ((large, "too much"), (bytes(greedy), "emory")):
            with open(path, "wb") as file:
                names = b"\0.gnu_debugdata\0\0"
                header = struct.pack("<16sHHIQQQIHHHHHH", b"\x7fELF\x02\x01\x01", 3, 62, 1, 0, 0, 64, 0, 64, 56, 0, 64, 2, 0)
                file.write(header)
                for name, offset, length in ((0, 192, len(names)), (1, 192 + len(names), len(data))):
                    file.write(struct.pack("<IIQQQQIIQQ", name, 1, 0, 0, offset, length, 0, 0, 1, 0))
                file.write(names + data)
            started, before = time.process_time(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
            with open(path, "rb") as file, self.assertRaisesRegex(elf.NotElf, word):
                separate.mini(file)
            self.assertLess(time.process_time() - started, 5)
            self.assertLess(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before, 200 << 10)

    def test_what_others_put_beside_the_profiles_of_a_command(self):
        """Its folder is open to all, for the command may change its user."""
        done = self.arenal("profile", "--", "sh", "-c", """
            folder=$(dirname "$ARENAL_PROFILE_FILE"); mkfifo $folder/1; ln -s /etc/passwd $folder/2
            truncate -s 16G $folder/3; printf 'arenal-heap-profile 9\033' > $folder/4""")
        self.assertEqual(done.returncode, 0)
        self.assertIn("no regular file", done.stderr)
        self.assertNotIn("root:", done.stderr)
        self.assertIn("too long", done.stderr)


class Outputs(HostileTest):
    """What is written by root in folders where everybody may write."""

    def test_owner_and_mode_stay(self):
        process = self.on_arenal(*WORDS)
        path = os.path.join(self.folder, "file")
        for mode in (0o600, 0o640, 0o604):
            with open(path, "w", encoding="utf-8") as file:
                file.write("old")
            os.chmod(path, mode)
            if os.getuid() == 0:
                os.chown(path, 4321, 1234)
            before = os.stat(path)
            self.assertEqual(self.arenal("stats", str(process.pid), "--output", path).returncode, 0)
            after = os.stat(path)
            self.assertNotEqual(after.st_ino, before.st_ino, "it is replaced in one step")
            self.assertEqual((after.st_uid, after.st_gid, after.st_mode), (before.st_uid, before.st_gid, before.st_mode))
        os.unlink(path)
        self.assertEqual(self.arenal("stats", str(process.pid), "--output", path, prefix=["sh", "-c", 'umask 027; exec "$@"', "sh"]).returncode, 0)
        self.assertEqual(stat.S_IMODE(os.stat(path).st_mode), 0o640)
        self.assertEqual(os.listdir(self.folder), ["file"])

    def linked(self, folder=None):
        """Another user's link, or ours, and where it leads."""
        target, link = os.path.join(self.folder, "target"), os.path.join(folder or self.folder, "link")
        with open(target, "w", encoding="utf-8") as file:
            file.write("old")
        subprocess.run([*(as_nobody() if folder else ()), "ln", "-s", target, link], check=True)
        return target, link

    def shared(self):
        folder = os.path.join(self.folder, "shared")
        os.mkdir(folder)
        os.chmod(folder, 0o1777)
        return folder

    def assert_text(self, path, text):
        with open(path, encoding="utf-8") as file:
            self.assertEqual(file.read(), text)

    def test_our_own_link_is_followed(self):
        """Nothing is renamed over what it leads to, either."""
        target, link = self.linked()
        before = os.stat(target).st_ino
        files.replace(link, "new")
        self.assertTrue(os.path.islink(link))
        self.assertEqual(os.stat(target).st_ino, before)
        self.assert_text(target, "new")

    def test_what_nobody_named_is_replaced(self):
        """Whatever it is: a link, a pipe that nobody reads."""
        target, link = self.linked()
        pipe = os.path.join(self.folder, "pipe")
        os.mkfifo(pipe)
        for path in (link, pipe):
            files.replace(path, "new", named=False)
            self.assertTrue(stat.S_ISREG(os.lstat(path).st_mode))
            self.assert_text(path, "new")
        self.assert_text(target, "old")

    @unittest.skipUnless(os.getuid() == 0, "another user's link takes root")
    def test_another_user_s_link_is_replaced(self):
        target, link = self.linked(self.shared())
        files.replace(link, "new")
        self.assertFalse(os.path.islink(link))
        self.assert_text(link, "new")
        self.assert_text(target, "old")

    @unittest.skipUnless(os.getuid() == 0, "another user's link takes root")
    def test_another_user_s_link_is_followed_by_no_command(self):
        shared, process = self.shared(), self.on_arenal(*WORDS)
        self.assertEqual(self.arenal("ctl", str(process.pid), "profile", "start").returncode, 0)
        for words in (["stats", str(process.pid), "--output"], ["maps", str(process.pid), "--picture"], ["maps", str(process.pid), "--output"],
                      ["ctl", str(process.pid), "profile", "dump"], ["profile", "--folded"]):
            with self.subTest(words):
                target, link = self.linked(shared)
                done = self.arenal(*words, link, *(["--", "true"] if words[0] == "profile" else []))
                self.assert_text(target, "old")
                if done.returncode == 0:
                    self.assertFalse(os.path.islink(link))
                else:
                    self.assertIn("another user's link", done.stderr)
                os.unlink(link)

    def test_what_somebody_put_beside_a_trace(self):
        path = os.path.join(self.folder, "link")
        target, link = self.linked()
        os.rename(link, f"{path}.html")
        self.assertEqual(self.arenal("trace", "--output", path, "--", "true").returncode, 0)
        done = self.arenal("report", path)
        self.assertEqual((done.returncode, done.stdout), (0, f"{path}.html\n"), done)
        self.assertFalse(os.path.islink(f"{path}.html"))
        self.assert_text(target, "old")

    def test_pipes_are_written_to(self):
        process = self.on_arenal(*WORDS)
        done = self.arenal("stats", str(process.pid), "--output", "/dev/stdout")
        self.assertIn("statistics of process", done.stdout)


if __name__ == "__main__":
    unittest.main()
