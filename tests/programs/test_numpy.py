"""python3 with numpy: large arrays that grow and shrink, linear algebra with threads, and processes by fork and by spawn."""

from support import ProgramTest, main

SCRIPT = r"""
import hashlib, multiprocessing, threading
import numpy as np

def digest(array):
    return hashlib.sha256(np.ascontiguousarray(array).tobytes()).hexdigest()[:16]

def work(seed):
    rng = np.random.default_rng(seed)
    parts = []
    for n in range(25):
        a = rng.integers(0, 1000, size=(int(rng.integers(1, 120)), int(rng.integers(1, 120))))
        b = a.T @ a
        parts.append(digest(np.sort(b, axis=None)[::7]))
        c = np.concatenate([a.ravel()] * int(rng.integers(1, 6))).astype(np.float64)
        c.resize(c.size * 2, refcheck=False)
        parts.append(digest(np.unique(c)))
    text = np.array([f"word {i % 97}" for i in range(5000)], dtype=object)
    parts.append(str(np.unique(text).size))
    return hashlib.sha256(repr(parts).encode()).hexdigest()[:16]

if __name__ == "__main__":
    print(work(0))
    found = {}
    threads = [threading.Thread(target=lambda n=n: found.update({n: work(n)})) for n in range(1, 5)]
    [t.start() for t in threads]; [t.join() for t in threads]
    print(sorted(found.items()))
    for way in "fork", "spawn", "forkserver":
        with multiprocessing.get_context(way).Pool(3, maxtasksperchild=2) as pool:
            print(way, pool.map(work, range(6), chunksize=1))
    matrix = np.random.default_rng(1).random((120, 120))
    print(np.allclose(np.linalg.inv(matrix) @ matrix, np.eye(120)), np.linalg.svd(matrix)[1].shape)
    shared = multiprocessing.Array("d", 1000)
    def fill(k): np.frombuffer(shared.get_obj())[k::4] = k
    children = [multiprocessing.get_context("fork").Process(target=fill, args=(k,)) for k in range(4)]
    [c.start() for c in children]; [c.join() for c in children]
    print(digest(np.frombuffer(shared.get_obj())), [c.exitcode for c in children])
"""


class Numpy(ProgramTest):
    package = "python3-numpy"
    needs = ("/usr/bin/python3", "/usr/lib/python3/dist-packages/numpy")

    def work(self, run):
        script = run.write("work.py", SCRIPT)
        return run.command("/usr/bin/python3", "-B", script, env={"OPENBLAS_NUM_THREADS": "2"}).out


if __name__ == "__main__":
    main()
