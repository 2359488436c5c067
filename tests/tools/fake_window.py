"""fake_window.py PAGE MODE [SEED]: a process with a window of its own making, for the tests of what the tool makes of it. PAGE is a file with
what a real window holds. It says "ready", and goes on until its standard input ends."""

import ctypes
import fcntl
import mmap
import os
import random
import select
import struct
import sys

FUTEX = {"x86_64": 202, "aarch64": 98}[os.uname().machine]
ANSWER_AT = 20                  # where the header says where answers are
TABLES = 48                     # from the answer to its tables: offset, stride, count, reserved

libc = ctypes.CDLL(None)
mode, seed = sys.argv[2], int(sys.argv[3]) if len(sys.argv) > 3 else 0
with open(sys.argv[1], "rb") as file:
    page = file.read()
answer, = struct.unpack_from("<I", page, ANSWER_AT)


def put(data, at, words):
    return data[:at] + words + data[at + len(words):]


def table(data, number, offset, stride, count):
    return put(data, answer + TABLES + 16 * number, struct.pack("<III", offset, stride, count))


def spoilt(source):
    """The page with some bytes or words changed, mostly where they matter."""
    data = bytearray(page)
    for _ in range(source.randrange(1, 20)):
        where = source.choice(4 * [range(answer + 4, answer + 128)] + 4 * [range(answer + 128, 24000)] + [range(64, len(page) - 8)])
        at = source.choice(where)
        if source.randrange(2):
            at &= ~3
            data[at:at + 4] = struct.pack("<I", source.choice((0, 1, 8, 255, 4096, 1 << 16, 1 << 31, (1 << 32) - 1, len(page))))
        else:
            data[at] = source.randrange(256)
    if source.randrange(20) == 0:
        data[source.randrange(64)] ^= 1 << source.randrange(8)
    return bytes(data)


def made():
    """What is answered."""
    if mode == "escape":
        return put(put(page, 24, b"0.1\x1b]0;pwned\x07\x1b[31m\xff\0"), page.index(b"arena_max\0"), b"a\x1b[2J\x07\xff\0")
    if mode == "cut":               # behind the second of the histograms, as an older library's might end
        return table(page, 0, struct.unpack_from("<I", page, answer + TABLES)[0], 8 * (27 + 2 * 25), 1)
    if mode == "short":
        return table(page, 0, 1024, 8, 1)
    if mode == "stride":
        return table(page, 1, 1024, 0, 5)
    if mode == "many":
        return table(page, 1, 0, 1 << 16, 1 << 16)
    if mode == "outside":
        return table(page, 3, 0xfffffff8, 24, 8)
    if mode == "version":
        return put(page, 8, struct.pack("<I", 7))
    if mode == "answer":
        return put(page, ANSWER_AT, struct.pack("<I", 0xfffffff0))
    if mode == "order":
        return table(page, 1, struct.unpack_from("<I", page, answer + TABLES + 16)[0], 56, 80)
    if mode.startswith("dump"):
        return put(put(page, answer + 4, bytes(4)), answer + 8, struct.pack("<q", dump))
    return page


size = {"huge": 1 << 36, "tiny": 4096}.get(mode, len(page))
memory = os.memfd_create("another" if mode == "name" else "arenal-window", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
os.ftruncate(memory, size)
if mode != "unsealed":
    fcntl.fcntl(memory, 1033, 7)
dump = -1
if mode == "dump-pipe":
    dump = os.pipe()[0]
elif mode == "dump-flood":
    dump, other = os.pipe()
    if os.fork() == 0:
        libc.prctl(1, 9, 0, 0, 0)       # ends with us
        os.write(other, b"arenal-heap-profile 1\n")
        while True:
            os.write(other, b"stack 1 1 1 1\n" * 1000)
elif mode == "dump-cut":
    dump, other = os.pipe()
    os.write(other, b"arenal-heap-profile 1\nsample 1\n")
    os.close(other)
elif mode == "dump-file":
    dump = os.memfd_create("arenal-profile")
    os.ftruncate(dump, 1 << 36)
    os.pwrite(dump, b"arenal-heap-profile 1\n", 0)
elif mode == "dump-named":
    os.mkfifo(sys.argv[1] + ".fifo")
    dump = os.open(sys.argv[1] + ".fifo", os.O_RDWR)
elif mode == "dump-none":
    dump = 1 << 40
shared = mmap.mmap(memory, min(size, 1 << 20))
if mode not in ("zeros", "tiny"):
    shared[:len(page)] = made() if mode in ("version", "answer", "escape") else page
number = ctypes.c_uint32.from_buffer(shared, 64)
answered = ctypes.c_uint32.from_buffer(shared, answer) if size >= len(page) else None
libc.prctl(15, b"arenal-window", 0, 0, 0)
print("ready", flush=True)
count, last = seed, 0
while not select.select([sys.stdin], [], [], 0)[0]:
    timeout = struct.pack("<qq", 0, 50_000_000)
    if mode == "silent" or number.value in (0, last):
        libc.syscall(ctypes.c_long(FUTEX), ctypes.byref(number), 0, ctypes.c_uint32(number.value), timeout, None, 0)
        continue
    last = number.value
    if mode == "shrink":
        try:
            os.ftruncate(memory, 0)
        except PermissionError:
            pass
    data = spoilt(random.Random(count)) if mode == "spoilt" else made()
    count += 1
    shared[:64] = data[:64]
    shared[answer + 4:len(data)] = data[answer + 4:]
    answered.value = last
    libc.syscall(ctypes.c_long(FUTEX), ctypes.byref(answered), 1, ctypes.c_uint32(1 << 30), None, None, 0)
