"""node: objects, buffers, strings and JSON (node_work.js)."""

import os

from compare.programs import Batch, expect, find_program, mode, only_in_full

WORK = os.path.join(os.path.dirname(os.path.abspath(__file__)), "node_work.js")
ROUNDS = {"quick": 5, "full": 35}
RESULTS = {"quick": "result 1800263338", "full": "result 2104210452"}


class Node(Batch):
    name = "program/node"
    title = "node"
    about = "Objects, JSON, buffers of 16 B to 32 KiB, strings and compression; V8 maps the heap of its objects itself."
    packages = ["nodejs"]
    threads = 2  # V8's own helpers: compiling and collecting garbage
    seconds = 2.5

    def command(self, folder, settings):
        return [find_program("node", "nodejs"), WORK, str(ROUNDS[mode(settings)])]

    def environment(self):
        return {"NODE_OPTIONS": ""}

    def check(self, finished, launcher, folder, settings):
        expect("node", finished.output, RESULTS[mode(settings)])


CASES = [Node()]


def cases(settings):
    return only_in_full(CASES, settings)
