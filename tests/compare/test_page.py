"""Tests of the page of tools/compare, in a real browser."""

import math
import os
import re
import shutil
import signal
import statistics
import sys
import tempfile
import unittest
from unittest import mock

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path[:0] = [HERE, os.path.join(HERE, "..", "..", "tools", "lib")]
from browser import Browser             # pylint: disable=wrong-import-position
from arenal import html                # pylint: disable=wrong-import-position
from compare import numbers, page       # pylint: disable=wrong-import-position
from sample_results import ALLOCATORS, HOSTILE, generate     # pylint: disable=wrong-import-position

PHONE, DESKTOP = (390, 844), (1280, 900)
BROWSERS = []           # the one that all tests share: it takes long to start
# Of a copy: to read from the canvas itself changes how it is drawn, and the browser complains.
PIXELS = """
    const pixels = canvas => {
        const copy = new OffscreenCanvas(canvas.width, canvas.height).getContext("2d", { willReadFrequently: true });
        copy.drawImage(canvas, 0, 0);
        return copy.getImageData(0, 0, canvas.width, canvas.height).data;
    };"""
BLANK = PIXELS + """
    return Array.from(document.querySelectorAll("canvas")).filter(canvas => {
        if (!canvas.width || !canvas.height) return true;
        const data = pixels(canvas);
        return !data.some(byte => byte);
    }).length"""
WITHOUT_ARENAL = PIXELS + """
    return Array.from(document.querySelectorAll("canvas")).filter(canvas => {
        const data = pixels(canvas);
        for (let i = 0; i < data.length; i += 4)
            if (data[i] === 0xd5 && data[i + 1] === 0x5e && data[i + 2] === 0 && data[i + 3] === 255) return false;
        return true;
    }).length"""
# Of a row that begins with this name, in the table with this name: what the cells say, without their notes.
CELLS = """
    const [named, first] = arguments;
    const text = cell => Array.from(cell.childNodes).filter(node => node.nodeName !== "SPAN")
        .map(node => node.textContent).join("");
    for (const table of document.querySelectorAll("table")) {
        if (!table.getAttribute("aria-label").includes(named)) continue;
        const names = Array.from(table.tHead.rows[0].cells, text);
        const row = Array.from(table.tBodies[0].rows).find(one => text(one.cells[0]) === first);
        if (row) return Object.fromEntries(names.map((name, i) => [name, text(row.cells[i])]));
    }"""


def setUpModule():
    def late(*_):
        raise TimeoutError("the tests took too long")
    # Before ctest's patience ends: so that the browser is ended, too.
    signal.signal(signal.SIGALRM, late)
    signal.alarm(280)
    BROWSERS.append(Browser())
    unittest.addModuleCleanup(BROWSERS[0].close)


def times(results, case, allocator):
    return [run["metrics"]["time"] for run in one_case(results, case)["results"][allocator]["runs"]]


def one_case(results, name):
    return next(one for one in results["cases"] if one["name"] == name)


class PageTest(unittest.TestCase):
    def setUp(self):
        self.browser = BROWSERS[0]
        # A path with a space and a sign that means something in an address.
        self.folder = tempfile.mkdtemp(prefix="arenal page ")
        self.addCleanup(shutil.rmtree, self.folder)

    def show(self, results, screen=DESKTOP, dark=False):
        path = os.path.join(self.folder, "page.html")
        page.write_page(results, path)
        self.browser.screen(*screen, dark)
        self.browser.open(path)
        self.assertEqual(os.listdir(self.folder), ["page.html"])

    def assert_painted(self, count):
        self.assertEqual(self.browser.run("return document.querySelectorAll('canvas').length"), count)
        if count:
            self.browser.wait(f"return (() => {{{BLANK}}})() === 0", "charts to be painted")
            self.assertEqual(self.browser.run("return Object.keys(Chart.instances).length"), count)

    def assert_fits(self, width):
        self.browser.run("document.querySelectorAll('details').forEach(one => { one.open = true; })")
        self.assertLessEqual(self.browser.run("return document.documentElement.scrollWidth"), width)

    def cells(self, table, row):
        return self.browser.run(CELLS, table, row)

    def colours(self):
        return self.browser.run("""
            const chart = Object.values(Chart.instances)[0];
            return { page: getComputedStyle(document.body).backgroundColor, axis: chart.options.scales.y.ticks.color,
                     dot: chart.data.datasets[0].backgroundColor, first: chart.data.datasets[0].label }""")


class Charts(PageTest):
    def test_every_chart_is_painted_without_complaint(self):
        self.show(generate())
        # Time and peak memory: groups and three of them; at rest: without micro-benchmarks; two families with threads;
        # seven workloads, over time and with the latency of two functions.
        self.assert_painted(4 + 4 + 3 + 2 + 7 + 7 * 2)
        self.assertEqual(self.browser.run(WITHOUT_ARENAL), 0)
        self.assertEqual(self.browser.messages(), [])

    def test_it_fits_phone_and_desktop(self):
        for screen in (PHONE, (360, 640), DESKTOP):
            for results in (generate(), generate(hostile=True)):
                with self.subTest(screen=screen):
                    self.show(results, screen)
                    self.assert_fits(screen[0])
                    self.assertEqual(self.browser.messages(), [])

    def test_a_turned_phone_draws_again(self):
        self.show(generate(), PHONE)
        mirrored = "return Object.values(Chart.instances)[0].options.scales.y.ticks.mirror"
        self.browser.wait(mirrored + " === true", "labels above the dots")
        self.browser.screen(844, 390)
        self.browser.wait(mirrored + " === false", "labels beside the dots")

    def test_dark_mode(self):
        self.show(generate())
        light = self.colours()
        self.browser.scheme(dark=True)
        self.browser.wait("return Object.values(Chart.instances)[0].options.scales.y.ticks.color !== "
                          f"'{light['axis']}'", "the charts to become dark")
        dark = self.colours()
        self.assertEqual(light["page"], "rgb(255, 255, 255)")
        self.assertLess(max(map(int, re.findall(r"\d+", dark["page"]))), 50)
        self.assertGreater(int(dark["axis"][1:3], 16), 200)
        self.assertEqual((light["first"], light["dot"]), ("arenal", "#d55e00"))
        self.assertNotEqual(dark["dot"], light["dot"])
        self.assertEqual(self.browser.messages(), [])

    def test_paper_is_white(self):
        self.show(generate(), dark=True)
        self.browser.run("document.querySelector('#latency').open = false; dispatchEvent(new Event('beforeprint'))")
        self.assertEqual(self.colours()["page"], "rgb(255, 255, 255)")
        self.assertEqual(self.colours()["axis"], "#1a1d21")
        self.assertTrue(self.browser.run("return document.querySelector('#latency').open"))
        self.browser.run("dispatchEvent(new Event('afterprint'))")
        self.assertGreater(int(self.colours()["axis"][1:3], 16), 200)
        self.assertFalse(self.browser.run("return document.querySelector('#latency').open"))

    def test_the_key_hides_an_allocator_everywhere(self):
        self.show(generate())
        shown = """return Object.values(Chart.instances).filter(chart => chart.data.datasets.some((set, i) =>
            set.label === "glibc" && chart.isDatasetVisible(i))).length"""
        self.assertEqual(self.browser.run(shown), 34)
        self.browser.run("document.querySelectorAll('.key input')[1].click()")
        self.assertEqual(self.browser.run(shown), 0)
        self.browser.run("document.querySelectorAll('.key input')[1].click()")
        self.assertEqual(self.browser.run(shown), 34)

    def test_charts_have_names_and_tables(self):
        self.show(generate())
        self.assertEqual(self.browser.run("""
            return Array.from(document.querySelectorAll("canvas")).filter(canvas =>
                canvas.getAttribute("role") !== "img" || canvas.getAttribute("aria-label").length < 20 ||
                !canvas.closest("figure").querySelector("table tbody tr td")).length"""), 0)
        self.assertEqual(self.browser.run("""
            const ids = Array.from(document.querySelectorAll("[id]"), one => one.id);
            return Array.from(document.querySelectorAll("nav a")).filter(link => !ids.includes(link.hash.slice(1))).length
                + ids.length - new Set(ids).size"""), 0)


class Content(PageTest):
    def test_the_tables_hold_medians_and_ratios(self):
        results = generate()
        self.show(results)
        for case in ("micro/pair/64", "workload/key_value"):
            medians = {one[0]: statistics.median(times(results, case, one[0])) for one in ALLOCATORS}
            peer = min((value, name) for name, value in medians.items() if name != "arenal")[1]
            pairs = [own / other for own, other in zip(times(results, case, "arenal"), times(results, case, peer))]
            cells = self.cells("Wall time: median", case)
            for name, value in medians.items():
                self.assertAlmostEqual(float(cells[name].replace(",", "")), value, delta=value * 0.005, msg=name)
            self.assertEqual(cells["arenal / best peer"], f"{statistics.median(pairs):.2f}")
            chance = numbers.ratio_to_best(results, one_case(results, case), "time", "arenal").may_be_chance
            self.assertEqual(cells["verdict"], "may be chance" if chance else
                             "ahead" if statistics.median(pairs) < 1 else "behind")

    def test_what_is_lost_comes_first_and_worst_first(self):
        results = generate(failures=False)
        self.show(results)
        ratios = [float(text) for text in self.browser.run("""
            return Array.from(document.querySelectorAll("#behind tbody tr")).filter(row =>
                row.cells[2].textContent === "clear").map(row => row.cells[1].firstChild.textContent)""")]
        self.assertGreater(len(ratios), 3)
        self.assertEqual(ratios, sorted(ratios, reverse=True))
        self.assertGreaterEqual(min(ratios), 1)
        behind = 0
        for case in results["cases"]:
            peers = {one[0]: times(results, case["name"], one[0]) for one in ALLOCATORS[1:]}
            best = min(peers.values(), key=statistics.median)
            pairs = zip(times(results, case["name"], "arenal"), best)
            behind += statistics.median(own / other for own, other in pairs) > 1
        self.assertIn(f"slower than the best peer in {behind} of {len(results['cases'])} cases", self.text("#answer"))

    def text(self, selector):
        return self.browser.run("return document.querySelector(arguments[0]).innerText", selector)

    def test_a_crash_of_ours_heads_the_losses(self):
        results = generate()
        results["cases"][0]["results"]["arenal"] = {"runs": [], "failure": "crashed: SIGBUS after 1 s"}
        self.show(results)
        first = self.text("#behind tbody tr")
        self.assertIn(results["cases"][0]["name"], first)
        self.assertIn("crashed: SIGBUS after 1 s", first)

    def test_failures_and_missing_allocators_say_so(self):
        self.show(generate())
        self.assertEqual(self.cells("Wall time: median", "workload/burst_idle")["tbbmalloc"], "crashed: SIGSEGV after 0.3 s")
        self.assertEqual(self.cells("Wall time: median", "program/nginx")["glibc"], "nginx is not installed; --install gets it")
        self.assertIn("libtcmalloc-minimal4 is not installed", self.text("#machine"))

    def test_what_makes_the_figures_doubtful_is_said(self):
        self.show(generate())
        self.assertEqual(self.browser.run("return document.querySelectorAll('.notice').length"), 0)
        self.show({**generate(rounds=1), "interrupted": True, "other_load": 0.4})
        notices = self.browser.run("""
            return Array.from(document.querySelectorAll('.notice'), one => one.innerText).join(' ')""")
        for word in ("interrupted", "40%", "cannot tell a difference from chance"):
            self.assertIn(word, notices)

    def test_hostile_names_are_shown_as_they_are(self):
        self.show(generate(hostile=True))
        self.assert_painted(34 + 3)
        self.assertEqual(self.browser.messages(), [])
        self.assertEqual(self.browser.run("return document.title"), "Arenal and its peers")
        cells = self.cells("Wall time: median", f"workload/{HOSTILE}")
        self.assertEqual(cells[HOSTILE], HOSTILE)
        self.assertEqual(self.browser.run("return Object.values(Chart.instances)[0].data.datasets[5].label"), HOSTILE)
        self.assertEqual(self.browser.run("return document.querySelectorAll('main b').length"), 0)

    def test_the_page_needs_no_network(self):
        self.browser.requests()
        self.show(generate(hostile=True))
        self.assert_painted(37)
        addresses = self.browser.requests()
        self.assertTrue(any(one.endswith("/page.html") for one in addresses))
        self.assertEqual([one for one in addresses if not one.startswith(("file:///", "data:"))], [])
        with open(os.path.join(self.folder, "page.html"), encoding="utf-8") as file:
            text = file.read()
        self.assertIsNone(re.search(r"""<[^>]*\s(src|href)\s*=\s*["']?(https?:|//)""", text))
        self.assertIsNone(re.search(r"@import|url\(", re.search(r"<style>(.*?)</style>", text, re.DOTALL)[1]))
        for notice in ("Chart.js v3", "Chart.js Contributors", "MIT License"):
            self.assertIn(notice, text)


def only(results, names):
    """Results as if these allocators alone had been wanted."""
    for case in results["cases"]:
        case["results"] = {name: one for name, one in case["results"].items() if name in names}
    return {**results, "allocators": [one for one in results["allocators"] if one["name"] in names]}


def spoilt():
    """Numbers that are none, and figures that are missing."""
    results = generate()
    bad = (math.nan, 0, math.inf, None)
    for number, case in enumerate(results["cases"]):
        for result in case["results"].values():
            for run in result["runs"]:
                run["metrics"]["time"] = bad[number % 4]
                run["metrics"].pop("peak_rss" if number % 2 else "rest_rss", None)
                run["latency"] = {"malloc": {"p50": bad[number % 4], "p99": 0, "max": 1e6}} if number % 3 else {}
                run["series"] = [[0, 0], [1, math.nan], [2, 1 << 20]] if number % 2 else []
    return results


class Odd(PageTest):
    def test_odd_results_are_shown_without_complaint(self):
        bare = generate()
        for case in bare["cases"]:
            for result in case["results"].values():
                for run in result["runs"]:
                    run["metrics"] = {"time": run["metrics"]["time"]}
                    run["latency"], run["series"] = {}, []
        failed = generate()
        for case in failed["cases"]:
            case["results"] = {name: {"runs": [], "failure": "hung: killed after 60 s"} for name in case["results"]}
        long = generate()
        long["cases"][0]["name"] = "micro/" + "a_very_long_name" * 30
        long["cases"][1]["title"] = "W" * 500
        odd = {"one allocator": (only(generate(), {"arenal"}), "compared with nobody"),
               "no Arenal": (only(generate(), {"glibc", "jemalloc"}), "Arenal was not measured"),
               "no cases": ({**generate(), "cases": []}, "compared with nobody"),
               "no results at all": ({"version": 1, "allocators": [], "cases": []}, "Arenal was not measured"),
               "only failures": (failed, "compared with nobody"), "one round": (generate(rounds=1), "Arenal takes"),
               "time alone": (bare, "Arenal takes"), "200 cases": (generate(many=200), "Arenal takes"),
               "long names": (long, "Arenal takes"), "numbers that are none": (spoilt(), "Arenal")}
        for name, (results, answer) in odd.items():
            with self.subTest(name):
                self.show(results, PHONE)
                self.assertIn(answer, self.browser.run("return document.querySelector('#answer').innerText"))
                self.assert_painted(self.browser.run("return document.querySelectorAll('canvas').length"))
                self.assert_fits(PHONE[0])
                text = self.browser.run("return document.body.innerText")
                self.assertIsNone(re.search(r"\b(nan|NaN|None|undefined|inf|Infinity)\b", text))
                self.assertEqual(self.browser.messages(), [])

    def test_many_cases_are_split_over_charts(self):
        self.show(generate(many=200))
        self.assertLessEqual(self.browser.run("""
            return Math.max(...Object.values(Chart.instances).map(chart => chart.height))"""), 2000)
        self.assertIn("(2 of 6)", self.browser.run("return document.querySelector('#time').innerText"))

    def test_without_the_chart_library_there_are_tables(self):
        with mock.patch.object(html, "CHART_LIBRARY", os.path.join(self.folder, "nothing")):
            self.show(generate())
        self.assert_painted(0)
        self.assertIn("libjs-chart.js", self.browser.run("return document.querySelector('.notice').innerText"))
        self.assertIsNotNone(self.cells("Wall time: median", "micro/pair/64"))
        self.assertEqual(self.browser.messages(), [])


if __name__ == "__main__":
    unittest.main()
