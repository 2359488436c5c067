"""Tests of `arenal report`: its page, in a real browser."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import unittest

from support import LIBRARY, TOOL, environment

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "compare"))
from browser import Browser             # pylint: disable=wrong-import-position

CALLS, READER = os.environ["TEST_CALLS"], os.environ["TEST_READER"]
PHONE, DESKTOP = (390, 844), (1280, 900)
CANVASES = 9
THREADS = 4
BLANK = """
    return Array.from(document.querySelectorAll("canvas")).filter(canvas => {
        if (!canvas.width || !canvas.height) return true;
        const copy = new OffscreenCanvas(canvas.width, canvas.height).getContext("2d", { willReadFrequently: true });
        copy.drawImage(canvas, 0, 0);
        const data = new Uint32Array(copy.getImageData(0, 0, canvas.width, canvas.height).data.buffer);
        return data.every(pixel => pixel === data[0]);
    }).map(canvas => canvas.id)"""
PICTURE = """
    const canvas = document.getElementById(arguments[0]);
    return Array.from(canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data).reduce((sum, byte, i) =>
        (sum * 31 + byte + i) % 1000003, 0)"""
CELLS = """
    const [named, first] = arguments;
    for (const table of document.querySelectorAll("table")) {
        if (table.getAttribute("aria-label") !== named) continue;
        const names = Array.from(table.tHead.rows[0].cells, cell => cell.textContent);
        const row = Array.from(table.tBodies[0].rows).find(one => one.cells[0].textContent.includes(first));
        if (row) return Object.fromEntries(names.map((name, i) => [name, row.cells[i].textContent]));
    }"""


class Report(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        def late(*_):
            raise TimeoutError("the tests took too long")
        signal.signal(signal.SIGALRM, late)
        signal.alarm(280)               # before ctest's patience ends: so that the browser is ended, too
        cls.folder = tempfile.mkdtemp(prefix="arenal report ")
        cls.addClassCleanup(shutil.rmtree, cls.folder)
        cls.trace, cls.page = os.path.join(cls.folder, "trace"), os.path.join(cls.folder, "page.html")
        subprocess.run([CALLS, "known", "2000"], check=True, stdout=subprocess.DEVNULL, env=environment(
            LD_PRELOAD=LIBRARY, ARENAL_TRACE_FILE=cls.trace, ARENAL_GUARD_SAMPLE="0"))
        done = subprocess.run([sys.executable, "-B", TOOL, "report", "--output", cls.page, cls.trace], env=environment(), check=True,
                              stdout=subprocess.PIPE, text=True)
        assert done.stdout == cls.page + "\n", done
        cls.digest = json.loads(subprocess.run([READER, "digest", cls.trace, "0"], check=True, stdout=subprocess.PIPE).stdout)
        cls.browser = Browser()
        cls.addClassCleanup(cls.browser.close)

    def show(self, screen=DESKTOP, dark=False):
        self.browser.screen(*screen, dark)
        self.browser.open(self.page)
        self.browser.wait(f"return (() => {{{BLANK}}})().length === 0", "canvases to be painted")

    def test_it_is_painted_and_fits_without_complaint(self):
        for screen in (PHONE, DESKTOP):
            for dark in (False, True):
                with self.subTest(screen=screen, dark=dark):
                    self.show(screen, dark)
                    self.browser.run("document.querySelectorAll('details').forEach(one => { one.open = true; })")
                    self.assertEqual(self.browser.run("return document.querySelectorAll('canvas').length"), CANVASES)
                    self.assertLessEqual(self.browser.run("return document.documentElement.scrollWidth"), screen[0])
                    shade = self.browser.run("return getComputedStyle(document.body).backgroundColor")
                    self.assertEqual(shade == "rgb(255, 255, 255)", not dark)
                    self.assertEqual(self.browser.messages(), [])

    def test_the_numbers_are_the_traces(self):
        self.show()
        events = subprocess.run([READER, "events", self.trace, "0"], check=True, stdout=subprocess.PIPE, text=True).stdout.split("\n")
        allocated = sum(line.split()[2] in ("malloc", "calloc", "aligned", "realloc") for line in events if line)
        self.assertIn(f"in {allocated:,} calls", self.browser.run("return document.getElementById('answer').innerText"))
        for k in range(THREADS):
            cells = self.browser.run(CELLS, "Threads", f"worker <b>{k}")
            self.assertEqual(cells["allocations"], f"{2000 * 5 + 1:,}")
            self.assertEqual((cells["frees"], cells["ended"]), (f"{2000 * 5 + 1:,}", "yes"))
            self.assertEqual(cells["of which other threads' blocks"], "2,000")
            row = self.browser.run(CELLS, "Who frees whose blocks", f"worker <b>{k}")
            other = next(text for name, text in row.items() if f"worker <b>{(k - 1) % THREADS}" in name)
            self.assertEqual(other, "2,000")
        steps = self.browser.run("return Chart.getChart('bytes').data.datasets[0].data.map(one => one.y)")
        self.assertEqual(max(steps), self.digest["peak"]["bytes"])
        held = sum(one["peak"][1] for one in self.digest["sizes"])
        self.assertEqual((held, sum(map(sum, (one["by"] for one in self.digest["sizes"])))), (self.digest["peak"]["bytes"],) * 2)
        lives = sum(calls for calls, _ in self.digest["lifetimes"])
        self.assertEqual(lives, self.digest["allocated"][0])
        # What the map has live at its end.
        self.assertEqual(sum(calls for calls, _ in self.digest["lifetimes"][-1:]), self.digest["end"][0])

    def test_thread_names_are_shown_as_they_are(self):
        self.show()
        self.assertEqual(self.browser.run("return document.querySelectorAll('main b').length"), 0)
        self.assertIn("worker <b>0", self.browser.run("return document.getElementById('threads').innerText"))

    def test_the_map_zooms_and_moves_in_time(self):
        self.show()
        before = self.browser.run(PICTURE, "map")
        self.browser.run("""
            const map = document.getElementById("map"), box = map.getBoundingClientRect();
            map.setPointerCapture = () => {};
            for (const [type, x, y] of [["pointerdown", 0.4, 0.3], ["pointermove", 0.7, 0.8], ["pointerup", 0.7, 0.8]])
                map.dispatchEvent(new PointerEvent(type, { clientX: box.left + x * box.width, clientY: box.top + y * box.height }))""")
        zoomed = self.browser.run(PICTURE, "map")
        self.assertNotEqual(zoomed, before)
        self.browser.run("document.getElementById('whole').click()")
        self.assertEqual(self.browser.run(PICTURE, "map"), before)
        end = self.browser.run(PICTURE, "grid")
        self.browser.run("const one = document.getElementById('moment'); one.value = 200; one.dispatchEvent(new Event('input'))")
        self.assertNotEqual(self.browser.run(PICTURE, "grid"), end)
        self.assertRegex(self.browser.run("return document.getElementById('where').textContent"), r"\d.*s: \d+%")
        self.browser.run("document.getElementById('play').click()")
        self.browser.wait("return Number(document.getElementById('moment').value) > 220", "the moment to move")
        self.assertEqual([one for one in self.browser.messages() if "willReadFrequently" not in one], [])

    def test_the_page_needs_no_network_and_is_small(self):
        self.browser.requests()
        self.show()
        self.assertEqual([one for one in self.browser.requests() if not one.startswith(("file:///", "data:"))], [])
        with open(self.page, encoding="utf-8") as file:
            text = file.read()
        self.assertLess(len(text), 5 << 20)
        self.assertIsNone(re.search(r"""<[^>]*\s(src|href)\s*=\s*["']?(https?:|//)""", text))


if __name__ == "__main__":
    unittest.main()
