"""The Python program of test_python.py: threads, processes, C code and big data. Prints nothing that varies."""

import collections
import ctypes
import hashlib
import json
import multiprocessing
import os
import random
import re
import sqlite3
import subprocess
import sys
import threading
import zlib


def make_document(seed):
    """Nested data of all sizes, that depends on the seed alone."""
    rng = random.Random(seed)
    return {f"key{i}": {"numbers": [rng.randrange(10**9) for _ in range(rng.randrange(40))],
                        "text": "".join(chr(rng.randrange(32, 0x2000)) for _ in range(rng.randrange(200))),
                        "nested": [{"a": rng.random(), "b": [None, True, str(i)]}] * rng.randrange(4)}
            for i in range(80)}


def digest(data):
    return hashlib.sha256(data if isinstance(data, bytes) else data.encode()).hexdigest()[:16]


def round_trip(seed):
    text = json.dumps(make_document(seed), sort_keys=True)
    packed = zlib.compress(text.encode())
    back = json.loads(zlib.decompress(packed))
    assert json.dumps(back, sort_keys=True) == text
    return digest(text)


def in_threads():
    results = {}
    def work(number):
        results[number] = [round_trip(number * 10 + i) for i in range(4)]
    for _ in range(3):          # threads end, and new ones come
        threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    return digest(repr(sorted(results.items())))


def in_processes():
    # fork while other threads allocate: the children start from whatever state those are in.
    stop = threading.Event()
    def churn():
        while not stop.is_set():
            [bytes(size) for size in range(0, 20000, 97)]
    churners = [threading.Thread(target=churn) for _ in range(2)]
    for thread in churners:
        thread.start()
    with multiprocessing.get_context("fork").Pool(3) as pool:
        found = pool.map(round_trip, range(12))
    for number in range(10):
        child = os.fork()
        if child == 0:
            ok = len(make_document(number)) == 80
            os._exit(0 if ok else 1)
        assert os.waitpid(child, 0)[1] == 0
    stop.set()
    for thread in churners:
        thread.join()
    return digest(repr(found))


def in_c():
    """malloc, calloc, realloc and free themselves, and a C function that calls back."""
    libc = ctypes.CDLL(None)
    for name in ("malloc", "calloc", "realloc"):
        getattr(libc, name).restype = ctypes.c_void_p
    libc.realloc.argtypes = [ctypes.c_void_p, ctypes.c_size_t]
    libc.malloc.argtypes = [ctypes.c_size_t]
    libc.calloc.argtypes = [ctypes.c_size_t, ctypes.c_size_t]
    libc.free.argtypes = [ctypes.c_void_p]
    rng = random.Random(7)
    blocks = {}
    for step in range(6000):
        slot = rng.randrange(200)
        if slot in blocks:
            address, size, fill = blocks.pop(slot)
            assert ctypes.string_at(address, size) == bytes([fill]) * size, "a block changed under our feet"
            if rng.random() < 0.5:
                grown = rng.choice((1, 100, 5000, 70000, 1 << 20))
                address = libc.realloc(address, grown)
                kept = min(size, grown)
                assert ctypes.string_at(address, kept) == bytes([fill]) * kept
            libc.free(address)
        else:
            size, fill = rng.choice((1, 24, 100, 1000, 4097, 40000, 300000)), step % 255 + 1
            address = libc.calloc(1, size) if step % 2 else libc.malloc(size)
            assert address % 16 == 0
            if step % 2:
                assert not any(ctypes.string_at(address, size))
            ctypes.memset(address, fill, size)
            blocks[slot] = (address, size, fill)
    for address, _, _ in blocks.values():
        libc.free(address)

    compare_type = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(ctypes.c_int), ctypes.POINTER(ctypes.c_int))
    numbers = (ctypes.c_int * 5000)(*(rng.randrange(10**6) for _ in range(5000)))
    libc.qsort(numbers, len(numbers), ctypes.sizeof(ctypes.c_int), compare_type(lambda a, b: a[0] - b[0]))
    assert list(numbers) == sorted(numbers)
    return digest(repr(list(numbers)))


def with_modules():
    database = sqlite3.connect(":memory:")
    database.execute("create table t (id integer primary key, word text)")
    database.executemany("insert into t values (?, ?)", ((i, digest(str(i))) for i in range(5000)))
    words = [word for (word,) in database.execute("select word from t order by word")]
    counts = collections.Counter(re.findall("[a-f]+", " ".join(words)))
    printed = subprocess.run([sys.executable, "-c", "print('x' * 100000)"], capture_output=True, check=True).stdout
    return digest(repr(sorted(counts.items()))) + digest(printed)


if __name__ == "__main__":
    print("threads", in_threads())
    print("processes", in_processes())
    print("c", in_c())
    print("modules", with_modules())
    if sys.argv[1:] == ["loaded"]:
        with open("/proc/self/maps", encoding="utf-8") as maps:
            assert os.path.realpath(os.environ["EXPECTED_LIBRARY"]) in maps.read(), "not on Arenal"
