"""Tests of the window into a running process: `arenal ps`, `stats` and `ctl`, and the library's side of it."""

import os
import re
import signal
import sys
import time
import unittest

from support import DEADLINE, MIB, TOOL, WORKLOAD, ToolTest, as_nobody, environment

sys.path.insert(0, os.path.join(os.path.dirname(TOOL), "lib"))
from arenal import window                       # noqa: E402
from arenal.errors import Failure, Gone         # noqa: E402

HEADER = os.path.join(os.path.dirname(os.path.dirname(TOOL)), "include", "arenal", "arenal.h")
WORDS = [WORKLOAD, "4", "0", "0", "2"]         # 4 MiB in small blocks, no threads, one block of 2 MiB


class Window(ToolTest):
    def test_an_idle_process_answers_at_once(self):
        process = self.on_arenal(*WORDS)
        with window.Window(process.pid) as opened:
            start = time.monotonic()
            snapshot = opened.snapshot()
            self.assertLess(time.monotonic() - start, 1)
        self.assertGreater(snapshot.stats["allocated"], 4 * MIB)
        self.assertEqual(snapshot.stats["huge_blocks"], 1)
        self.assertEqual(snapshot.stats["threads"], 1)
        blocks = next(c for c in snapshot.classes if c.size == 416)
        self.assertGreaterEqual((blocks.blocks_out - blocks.blocks_cached) * 400, 3.9 * MIB)       # some are guarded


if __name__ == "__main__":
    unittest.main()
