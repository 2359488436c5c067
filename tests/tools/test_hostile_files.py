"""Tests of what the tools make of processes and users that mean harm by files: libraries, and what lies in the way of what is written."""

import lzma
import os
import resource
import socket
import stat
import struct
import subprocess
import sys
import time
import unittest
import zlib

from hostile_support import AT_ONCE, WORDS, HostileTest
from support import TOOL, as_nobody

from arenal import elf, files   # noqa: E402
from arenal.profile import separate                # noqa: E402


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
