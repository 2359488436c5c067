"""Tests of `arenal profile --diff` and of the page that --html writes, in a real browser."""

import os
import re
import subprocess
import sys
import unittest

from profile_support import KEPT, LEAKED, PPROF, PROFILED, ProfileTest
from support import environment

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "compare"))
from browser import Browser             # pylint: disable=wrong-import-position

PHONE, DESKTOP = (390, 844), (1280, 900)
GROWN = 3 * LEAKED
BOXES = "return Array.from(document.querySelectorAll('#graph [data-node]'), one => [one.getAttribute('aria-label'), one.offsetWidth])"
HOSTILE = "</script><img src=x onerror=document.title='owned'>&quot;<b>"


class DifferenceTest(ProfileTest):
    def pair(self):
        """Dumps of two runs. In the second one, leak_here's stack holds three times as much, and what keep_here kept is freed."""
        old, new = self.path("old"), self.path("new")
        for path in (old, new):
            os.rename(self.dump_of(), path)
        with open(new, encoding="utf-8") as file:
            text = file.read()
        text, grown = re.subn(rf"stack 300 {LEAKED} 300 {LEAKED} ", f"stack 900 {GROWN} 900 {GROWN} ", text)
        text, freed = re.subn(rf"stack 1 {KEPT} 1 {KEPT} ", f"stack 0 0 1 {KEPT} ", text)
        self.assertEqual((grown, freed), (1, 1))
        with open(new, "w", encoding="utf-8") as file:
            file.write(text)
        return old, new

    def lines(self, *arguments):
        folded = self.path("folded")
        done = self.arenal("profile", "--folded", folded, *arguments)
        self.assertEqual(done.returncode, 0, done)
        with open(folded, encoding="utf-8") as file:
            return done.stdout, file.read().splitlines()


class Difference(DifferenceTest):
    def test_two_runs_of_the_same(self):
        """Their addresses are others, their stacks are not."""
        old = self.path("old")
        os.rename(self.dump_of(), old)
        shown, folded = self.lines("--diff", old, self.dump_of())
        self.assertNotIn("leak_here", shown)
        self.assertEqual([line for line in folded if PROFILED in line or ";work;" in line], [])

    def test_what_grew_and_what_shrank(self):
        old, new = self.pair()
        shown, folded = self.lines("--diff", old, new)
        rows = re.findall(r"(?m)^ +([-+]\S+) +(\S+) +(\S+) +([-+][0-9,]+)  (\S+)$", shown)
        self.assertEqual(rows, [("+586K", "293K", "879K", "+600", "leak_here"), ("-4.8M", "4.8M", "0B", "-1", "inlined")])
        self.assertRegex(shown, r"-1  inlined\n +by keep_here\n +by work\n +by main\n")
        self.assertRegex(shown.splitlines()[0], r"^From process \d+, .*, to process \d+, .*: about -4\.2M in use, ")
        self.assertEqual(len(folded), 2, folded)
        self.assertTrue(any(line.endswith(f";main;work;leak_here {GROWN - LEAKED}") for line in folded), folded)
        self.assertTrue(any(line.endswith(f";work;keep_here;inlined -{KEPT}") for line in folded), folded)
        shown, folded = self.lines("--total", "--top", "0", "--diff", old, new)
        self.assertTrue(folded[0].endswith(f";leak_here {GROWN - LEAKED}"), folded)
        self.assertIn("... and 1 more stacks that grew", shown)
        self.assertNotIn("leak_here", shown)

    @unittest.skipUnless(PPROF, "there is no pprof (Debian: golang-go)")
    def test_pprof_shows_what_it_would_show_of_the_two(self):
        old, new = self.pair()
        for name, arguments in (("old", [old]), ("new", [new]), ("difference", ["--diff", old, new])):
            self.assertEqual(self.arenal("profile", "--pprof", self.path(f"{name}.pb.gz"), *arguments).returncode, 0)

        def top(*words):
            done = subprocess.run([PPROF, "-top", "-unit=b", *words], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, check=True)
            return done.stdout[done.stdout.index("Showing"):]
        shown = top(self.path("difference.pb.gz"))
        self.assertEqual(shown, top(f"-diff_base={self.path('old.pb.gz')}", self.path("new.pb.gz")))
        self.assertRegex(shown, rf"(?m)^ *{GROWN - LEAKED}B .* leak_here$")
        self.assertRegex(shown, rf"(?m)^ *-{KEPT}B .* inlined \(inline\)$")

    def test_what_makes_no_sense(self):
        old = self.dump_of()
        self.assert_sentence(self.arenal("profile", "--diff", self.path("missing"), old), "missing")
        self.assertEqual(self.arenal("profile", "--diff", old).returncode, 2)
        done = self.arenal("profile", "--diff", old, "--", "true")
        self.assertEqual(done.returncode, 2)
        self.assertIn("--diff are for a DUMP", done.stderr)


class Page(DifferenceTest):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.browser = Browser()
        cls.addClassCleanup(cls.browser.close)

    def page(self, *arguments):
        page = self.path("page.html")
        done = self.arenal("profile", "--html", page, *arguments, env=environment(PYTHONPATH=None))
        self.assertEqual(done.returncode, 0, done.stderr)
        return page

    def open(self, page, screen=DESKTOP, dark=False):
        self.browser.screen(*screen, dark)
        self.browser.open(page)
        self.browser.wait("return document.querySelectorAll('#graph [data-node]').length > 3", "the graph to be drawn")

    def show(self, *arguments):
        self.open(self.page(*arguments))

    def boxes(self):
        return {label: width for label, width in self.browser.run(BOXES)}

    def width(self, name):
        return sum(width for label, width in self.boxes().items() if label.startswith(f"{name}, "))

    def key(self, key):
        self.browser.run("document.activeElement.dispatchEvent(new KeyboardEvent('keydown', { key: arguments[0], bubbles: true }))", key)

    def told(self):
        return self.browser.run("return document.getElementById('told').innerText")

    def test_it_fits_and_is_proportional(self):
        page = self.page(self.dump_of())
        self.browser.requests()
        for screen in (PHONE, DESKTOP):
            for dark in (False, True):
                self.open(page, screen, dark)
                self.assertLessEqual(self.browser.run("return document.documentElement.scrollWidth"), screen[0])
                everything = self.width("all")
                self.assertGreater(everything, screen[0] - 40)
                self.assertAlmostEqual(self.width("leak_here") / everything, 0.055, delta=0.02)     # of 5.3 MB and what libc has
                self.assertGreater(self.width("inlined") / everything, 0.85)
                self.assertEqual(self.browser.messages(), [])
        self.assertEqual([one for one in self.browser.requests() if not one.startswith(("file:///", "data:"))], [])

    def test_search_keyboard_and_kinds(self):
        self.show(self.dump_of())
        self.key("/")
        self.assertEqual(self.browser.run("return document.activeElement.id"), "search")
        self.browser.run("const one = document.getElementById('search'); one.value = 'LEAK_'; one.dispatchEvent(new Event('input'))")
        self.assertRegex(self.browser.run("return document.getElementById('found').textContent"), r"^1 function, 5\.\d%$")
        names = self.browser.run("return Array.from(document.querySelectorAll('#graph .found'), one => one.getAttribute('aria-label'))")
        self.assertTrue(names and all(name.startswith("leak_here, ") for name in names), names)
        self.browser.run("document.querySelector('#graph [tabindex=\"0\"]').focus()")
        for _ in range(20):
            self.key("ArrowDown")
        self.assertIn("inlined", self.told())               # the widest, down to its end
        self.key("Enter")
        self.assertEqual(self.width("inlined"), self.width("all"))
        self.assertEqual(self.width("leak_here"), 0)
        self.key("Escape")
        self.assertIn("keep_here", self.told())
        self.key("Home")
        self.assertGreater(self.width("leak_here"), 0)
        self.browser.run("const kind = document.getElementById('kind'); kind.value = 0; kind.dispatchEvent(new Event('change'))")
        self.assertGreater(self.width("leak_here"), self.width("inlined"))      # 300 blocks against one
        self.assertIn("leak_here, 300 blocks", " ".join(self.boxes()))
        self.assertEqual(self.browser.messages(), [])

    def test_a_difference(self):
        old, new = self.pair()
        self.show("--diff", old, new)
        labels = " ".join(self.boxes())
        self.assertIn("leak_here, +586 KiB: 879 KiB now, 293 KiB before", labels)
        self.assertIn("inlined, −4.77 MiB: 0 B now, 4.77 MiB before", labels)
        hues = self.browser.run("""return Object.fromEntries(Array.from(document.querySelectorAll('#graph [data-node]'), one =>
            [one.textContent, getComputedStyle(one).getPropertyValue('--hue')]))""")
        self.assertEqual((hues["leak_here"], hues["inlined"]), ("8", "215"))

    def test_names_are_text(self):
        dump = self.dump_of()
        with open(dump, "rb") as file:
            text = file.read()
        maps = f"7f0000000000-7f0000001000 r-xp 00000000 08:01 77 /nowhere/{HOSTILE.replace('/', '|')}\n".encode()
        with open(dump, "wb") as file:
            file.write(text.replace(b"stack ", b"stack 9 90000000 9 90000000 7f0000000010\nstack ", 1).replace(b"maps\n", b"maps\n" + maps, 1))
        self.show(dump)
        self.assertIn("<img src=x", " ".join(self.boxes()))
        self.assertEqual(self.browser.run("return document.querySelectorAll('img, main b').length"), 0)
        self.assertEqual(self.browser.run("return document.title"), "Where the memory comes from")
        self.assertEqual(self.browser.messages(), [])

    def test_stacks_deeper_than_recursion_reaches(self):
        from arenal.profile import flame            # pylint: disable=import-outside-toplevel
        from arenal.profile.dump import Counts      # pylint: disable=import-outside-toplevel
        graph, cut = flame.tree([(tuple(f"f{i}" for i in range(20000)), (Counts(0, 0, 0, 0), Counts(1, 2, 3, 4)))])
        self.assertEqual((len(graph["nodes"]), graph["ends"], cut), (40000, [[20000, 0, 0, 0, 0, 1, 2, 3, 4]], False))


if __name__ == "__main__":
    unittest.main()
