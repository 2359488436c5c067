"""python3: the everyday work of scripts (python_work.py), with every block from malloc."""

import os

from compare.programs import Batch, expect, find_program, mode, only_in_full

WORK = os.path.join(os.path.dirname(os.path.abspath(__file__)), "python_work.py")
ROUNDS = {"quick": 5, "full": 16}
RESULTS = {"quick": "result 1104410430", "full": "result 1843908565"}


class Python(Batch):
    name = "program/python3"
    title = "python3"
    about = "JSON, regular expressions, dictionaries, objects, pickles, sorting and strings, with PYTHONMALLOC=malloc."
    packages = ["python3"]
    seconds = 2.5

    def environment(self):
        # Python's own allocator takes most blocks otherwise, and malloc sees its arenas only.
        return {"PYTHONMALLOC": "malloc", "PYTHONHASHSEED": "0"}

    def command(self, folder, settings):
        return [find_program("python3", "python3"), "-I", "-S", WORK, str(ROUNDS[mode(settings)])]

    def check(self, finished, launcher, folder, settings):
        expect("python3", finished.output, RESULTS[mode(settings)])


CASES = [Python()]


def cases(settings):
    return only_in_full(CASES, settings)
