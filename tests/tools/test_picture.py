"""Tests of `arenal maps PID --picture FILE`: its dots are where the pages are."""

import base64
import os
import re
import resource
import struct
import sys
import unittest
import xml.etree.ElementTree
import zlib

from support import MIB, TOOL, WORKLOAD, ToolTest, environment

sys.path.insert(0, os.path.join(os.path.dirname(TOOL), "lib"))
from arenal import page_picture  # noqa: E402

SVG = "{http://www.w3.org/2000/svg}"
PAGE = os.sysconf("SC_PAGE_SIZE")

# Blocks of 1 MiB, of which every other one goes back; says where those lie that stay, and those that went.
PATTERN = """
import ctypes, sys
libc = ctypes.CDLL(None)
libc.malloc.restype = ctypes.c_void_p
libc.malloc.argtypes, libc.free.argtypes = [ctypes.c_size_t], [ctypes.c_void_p]
blocks = [libc.malloc(1 << 20) for _ in range(40)]
for block in blocks:
    ctypes.memset(block, 1, 1 << 20)
for block in blocks[::2]:
    libc.free(block)
libc.malloc_trim(0)
print("ready", flush=True)
print(blocks[1::2], blocks[::2], flush=True)
sys.stdin.read()
"""


def dots(path):
    """The kinds of pages by address, as the picture shows them: (start of the range, the numbers of their colours)."""
    with open(path, encoding="utf-8") as file:
        root = xml.etree.ElementTree.fromstring(file.read())
    assert root.tag == SVG + "svg"
    start, found = None, []
    for element in root:
        if element.tag == SVG + "text":
            label = re.match(r"([0-9a-f]+)  \S+ mapped, ", element.text)
            start = int(label[1], 16) if label else start
        elif element.tag == SVG + "image":
            image = base64.b64decode(element.get("href")[len("data:image/png;base64,"):])
            found.append((start, decoded(image).rstrip(bytes((page_picture.OUTSIDE,)))))
    return found


def decoded(image):
    columns, rows = struct.unpack(">II", image[16:24])
    data = b""
    at = 8
    while at < len(image):
        length, kind = struct.unpack(">I4s", image[at:at + 8])
        if kind == b"IDAT":
            data += image[at + 8:at + 8 + length]
        at += length + 12
    raw = zlib.decompress(data)
    assert len(raw) == rows * (columns + 1)
    return b"".join(raw[row * (columns + 1) + 1:(row + 1) * (columns + 1)] for row in range(rows))


class Picture(ToolTest):
    def picture(self, process, **options):
        path = os.path.join(self.folder, "a picture.svg")
        done = self.arenal("maps", str(process.pid), "--picture", path, **options)
        self.assertEqual((done.returncode, done.stdout, done.stderr), (0, "", ""))
        return path

    def colours(self, ranges, address, size):
        """The colours of the pages of a block."""
        for start, pixels in ranges:
            first = (address - start) // PAGE
            if start <= address and first + size // PAGE <= len(pixels):
                return set(pixels[first:first + size // PAGE])
        return self.fail(f"{address:#x} is not in the picture")

    def test_every_other_block_went_back(self):
        process = self.on_arenal(sys.executable, "-c", PATTERN)
        stay, gone = eval(process.stdout.readline().replace("] [", "], ["))
        found = dots(self.picture(process))
        for address in stay:
            self.assertEqual(self.colours(found, address, MIB), {page_picture.RESIDENT})
        for address in gone[1:]:        # the first may be somebody's again
            self.assertEqual(self.colours(found, address, MIB), {page_picture.RETURNED})

    def test_a_block_of_which_half_was_touched(self):
        process = self.on_arenal(WORKLOAD, "4", "2", "4", "64")
        path = self.picture(process)
        huge = dots(path)[-1][1]        # behind the heap and the regions
        self.assertEqual(len(huge) * PAGE, 64 * MIB)
        half = len(huge) // 2
        self.assertEqual(set(huge[:half]), {page_picture.RESIDENT})
        self.assertEqual(set(huge[half:]), {page_picture.RETURNED})
        self.assertLess(os.path.getsize(path), MIB)

    def test_large_heaps_have_several_pages_in_a_dot(self):
        self.assertEqual(page_picture.pixels(b"rrrr--rrr---ssss----r", 4), bytes((
            page_picture.RESIDENT, page_picture.MOST, page_picture.SOME, page_picture.SWAPPED, page_picture.RETURNED,
            page_picture.RESIDENT)))

    def test_a_full_disk_leaves_what_was_there(self):
        process = self.on_arenal(WORKLOAD, "1", "0", "0", "0")
        path = os.path.join(self.folder, "picture.svg")

        def full():
            resource.setrlimit(resource.RLIMIT_FSIZE, (16, resource.getrlimit(resource.RLIMIT_FSIZE)[1]))
        for there in ([], ["picture.svg"]):
            done = self.arenal("maps", str(process.pid), "--picture", path, preexec_fn=full)
            self.assert_sentence(done, f"{path}: File too large")
            self.assertEqual(os.listdir(self.folder), there)
            with open(path, "w", encoding="utf-8") as file:
                file.write("before")
        with open(path, encoding="utf-8") as file:
            self.assertEqual(file.read(), "before")

    def test_sentences(self):
        self.assert_sentence(self.arenal("maps", "2147483647", "--picture", "/tmp/x.svg"), "there is no process")
        process = self.on_arenal(WORKLOAD, "1", "0", "0", "0")
        self.assert_sentence(self.arenal("maps", str(process.pid), "--picture", "/no such folder/x.svg"), "No such file")
        other = self.start([WORKLOAD, "1", "0", "0", "0"], env=environment())
        self.assert_sentence(self.arenal("maps", str(other.pid), "--picture", "/tmp/x.svg"), "not on Arenal")
        done = self.arenal("maps", str(process.pid), "--json", "--picture", "/tmp/x.svg")
        self.assertEqual(done.returncode, 2)


if __name__ == "__main__":
    unittest.main()
