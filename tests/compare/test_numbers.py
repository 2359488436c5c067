"""Tests of the derived numbers and the tables, on results made by hand."""

import copy
import math
import unittest

from support import case_of, results_of
from compare import numbers, page_tables, tables     # pylint: disable=wrong-import-order


class NumbersTest(unittest.TestCase):
    def test_median_and_spread(self):
        case = case_of("a", arenal=[3, 1, 2], glibc=[4, 2])
        self.assertEqual(numbers.median(case, "arenal", "time"), 2)
        self.assertEqual(numbers.median(case, "glibc", "time"), 3)
        self.assertEqual(numbers.spread(case, "arenal", "time"), (1, 3))
        self.assertIsNone(numbers.median(case, "arenal", "peak_rss"))
        self.assertIsNone(numbers.median(case, "absent", "time"))
        self.assertIsNone(numbers.spread(case, "absent", "time"))

    def test_ratios_are_taken_inside_each_round(self):
        # The machine was twice as slow in round 2: the medians' ratio would be 10/20, too, but with a wide spread.
        case = case_of("a", arenal=[10, 20, 10], glibc=[20, 40, 20])
        self.assertEqual(numbers.ratio(case, "time", "arenal", "glibc"), numbers.Ratio(0.5, 0.5, 0.5, 3, 2 / 8, "glibc"))
        # Rounds that only one of them has do not count.
        case = case_of("a", arenal=[10, None, 30, 40], glibc=[10, 5, 10])
        self.assertEqual(numbers.ratio(case, "time", "arenal", "glibc"), numbers.Ratio(2, 1, 3, 2, 1, "glibc"))
        self.assertIsNone(numbers.ratio(case, "time", "arenal", "jemalloc"))

    def test_what_may_be_chance(self):
        close = [10.1, 10.2, 10.3, 10.4, 10.5, 10.6]
        for values, expected in (([*close, 10.7], False), ([*close, 9.95], False), ([*close, 9.5], True), (close, True),
                                 ([9, 9.1, 9.2, 9.3, 9.4, 9.5, 9.6], False), ([11], True), ([10] * 7, True)):
            with self.subTest(values):
                case = case_of("a", arenal=values, glibc=[10] * len(values))
                self.assertEqual(numbers.ratio(case, "time", "arenal", "glibc").may_be_chance, expected)
                self.assertEqual(numbers.ratio_to_best(results_of(case), case, "time", "arenal").may_be_chance, expected)

    def test_the_peer_that_is_compared_with_was_best_before(self):
        case = case_of("a", arenal=[10, 10, 10], glibc=[5, 8, 20], jemalloc=[20, 4, 5])
        results = results_of(case)
        # In round 2 that is glibc, with 5; in round 3 glibc with 6.5, for jemalloc has 12. The first round only chooses.
        self.assertEqual(numbers.fair_ratios(results, case, "time", "arenal"), {2: 10 / 8, 3: 10 / 20})
        self.assertEqual(numbers.ratio_to_best(results, case, "time", "arenal").peer, "jemalloc")

    def test_means_are_without_cases_that_were_measured_once(self):
        """Otherwise only one round would be whole, which cannot tell a difference from chance."""
        often, once = case_of("a", arenal=[1] * 7, glibc=[2] * 7), case_of("b", arenal=[9], glibc=[1])
        results = results_of(often, once)
        mean = numbers.geometric_mean_ratio(results, results["cases"], "time", "arenal")
        self.assertEqual((mean.median, mean.rounds, mean.may_be_chance), (0.5, 7, False))
        self.assertEqual(numbers.common_cases(results, results["cases"], "time"), [often])
        few = results_of(case_of("a", arenal=[1] * 2, glibc=[2] * 2), once)     # interrupted in the second round
        self.assertEqual(len(numbers.common_cases(few, few["cases"], "time")), 2)

    def test_what_is_clearly_best(self):
        case = case_of("a", arenal=[9] * 7, glibc=[10] * 7, jemalloc=[12, 11, 6, 12, 12, 12, 12])
        self.assertIsNone(numbers.clear_best(case, "time", ["arenal", "glibc", "jemalloc"]))
        self.assertEqual(numbers.clear_best(case, "time", ["arenal", "glibc", "absent"]), "arenal")
        self.assertIsNone(numbers.clear_best(case, "time", ["arenal"]))

    def test_best_peer_is_by_metric_and_never_our_own(self):
        case = case_of("a", arenal={"time": [1, 1], "peak_rss": [1, 1]}, glibc={"time": [5, 5], "peak_rss": [3, 3]},
                       jemalloc={"time": [2, 6], "peak_rss": [4, 4]})
        results = results_of(case)
        self.assertEqual(numbers.best_peer(results, case, "time"), "jemalloc")  # 4 to 5
        self.assertEqual(numbers.best_peer(results, case, "peak_rss"), "glibc")
        self.assertIsNone(numbers.best_peer(results, case, "rest_rss"))
        self.assertEqual(numbers.own(results), "arenal")

    def test_figures_of_nothing_do_not_count(self):
        case = case_of("a", arenal=[0, 4, 6], glibc=[1, 2, 2])
        self.assertEqual(numbers.ratio(case, "time", "arenal", "glibc"), numbers.Ratio(2.5, 2, 3, 2, 0.5, "glibc"))

    def test_geometric_mean(self):
        # Rounds: (2, 0.5) and (4, 1): means 1 and 2. Medians: 3 and 0.75.
        results = results_of(case_of("a", arenal=[2, 4], glibc=[1, 1]), case_of("b", arenal=[1, 2], glibc=[2, 2]))
        mean = numbers.geometric_mean_ratio(results, results["cases"], "time", "arenal")
        self.assertAlmostEqual(mean.median, math.sqrt(3 * 0.75))
        self.assertAlmostEqual(mean.low, 1)
        self.assertAlmostEqual(mean.high, 2)
        best = numbers.geometric_mean_ratio(results, results["cases"], "time", "glibc")
        self.assertEqual((best.median, best.low, best.high), (1, 1, 1))
        self.assertIsNone(numbers.geometric_mean_ratio(results, results["cases"], "rest_rss", "arenal"))

    def test_geometric_mean_leaves_incomplete_rounds_out(self):
        results = results_of(case_of("a", arenal=[2, 2, 50], glibc=[1, 1, 1]), case_of("b", arenal=[2, 2], glibc=[1, 1]))
        mean = numbers.geometric_mean_ratio(results, results["cases"], "time", "arenal")
        self.assertAlmostEqual(mean.high, 2)

    def test_means_are_over_the_same_cases(self):
        """Who crashes where he is slow must not profit from it."""
        hard = case_of("hard", arenal=[4, 4], glibc=[1, 1], jemalloc=[9])
        hard["results"]["jemalloc"].update(runs=[], failure="crashed: SIGSEGV after 0.3 s")
        results = results_of(case_of("easy", arenal=[1, 1], glibc=[1, 1], jemalloc=[1, 1]), hard)
        mean = lambda name: numbers.geometric_mean_ratio(results, results["cases"], "time", name)
        self.assertIsNone(mean("jemalloc"))
        self.assertIsNone(numbers.geometric_mean_ratio(results, results["cases"], "time", "arenal", "jemalloc"))
        self.assertAlmostEqual(mean("arenal").median, 2)
        self.assertAlmostEqual(mean("glibc").median, 1)
        self.assertEqual([numbers.failures(results["cases"], name) for name in ("arenal", "jemalloc")], [0, 1])
        self.assertRegex(tables.report(results), r"(?m)^  jemalloc +- +- +- +failed in 1$")

        # It has run, but not to the end of the last round.
        hard["results"]["jemalloc"].update(runs=hard["results"]["arenal"]["runs"])
        self.assertIsNone(mean("jemalloc"))
        # What one has not at all, or was not measured for, is in nobody's mean.
        hard["results"]["jemalloc"].update(runs=[], failure="the allocator has no free_sized", absent=True)
        for _ in range(2):
            self.assertAlmostEqual(mean("arenal").median, 1)
            self.assertAlmostEqual(mean("jemalloc").median, 1)
            hard["results"]["jemalloc"].update(failure=None, absent=False)
        # What fails under everybody says nothing about anybody.
        for result in hard["results"].values():
            result.update(runs=[], failure="redis-server is not installed")
        self.assertAlmostEqual(mean("jemalloc").median, 1)

    def test_against_a_given_peer(self):
        case = case_of("a", arenal=[2, 2], glibc=[4, 4], jemalloc=[1, 1])
        results = results_of(case)
        self.assertAlmostEqual(numbers.geometric_mean_ratio(results, [case], "time", "arenal", "glibc").median, 0.5)
        self.assertAlmostEqual(numbers.geometric_mean_ratio(results, [case], "time", "arenal").median, 2)

    def test_latency(self):
        case = case_of("a", arenal=[1, 1, 1])
        for run, value in zip(case["results"]["arenal"]["runs"], (100, 300, 200)):
            run["latency"] = {"malloc": {"p99": value}}
        self.assertEqual(numbers.median_latency(case, "arenal", "malloc", "p99"), 200)
        self.assertIsNone(numbers.median_latency(case, "arenal", "free", "p99"))

    def test_agreement(self):
        ten = [10] * 4
        before = results_of(case_of("a", arenal=[9, 9, 9, 10], glibc=ten), case_of("b", arenal=[5, 5, 6, 6], glibc=ten),
                            case_of("gone", arenal=ten, glibc=ten), allocators=("arenal", "glibc"))
        now = results_of(case_of("a", arenal=[10, 11, 11, 11], glibc=ten), case_of("b", arenal=[6.1, 7, 7, 7], glibc=ten),
                         case_of("new", arenal=ten, glibc=ten), allocators=("arenal", "glibc"))
        found = numbers.agreements(before, now)
        self.assertEqual([(one.case, one.agrees) for one in found], [("a", True), ("b", False)])
        text = tables.agreement_report(found, "old.json")
        self.assertIn("1 of 2 ratios (50.0%) agree", text)
        self.assertRegex(text, r"(?m)^b +time +arenal/glibc +0\.500\.\.0\.600 +0\.610\.\.0\.700$")
        self.assertNotRegex(text, r"(?m)^a ")
        # Of so few rounds, chance alone keeps too many ranges apart.
        few = results_of(case_of("a", arenal=[9, 9, 9], glibc=[10, 10, 10]))
        self.assertEqual(numbers.agreements(few, few), [])


class TablesTest(unittest.TestCase):
    def setUp(self):
        MIB = 1 << 20
        slow = case_of("micro/slow", arenal={"time": [30, 31, 31, 31.5, 32, 33, 33], "peak_rss": [3 * MIB] * 7},
                       glibc={"time": [10] * 7, "peak_rss": [2 * MIB] * 7}, jemalloc={"time": [20] * 7})
        slow["results"]["arenal"]["runs"][0]["latency"] = {"malloc": {"p50": 12, "max": 123456}}
        noisy = case_of("micro/noisy", arenal=[9, 9, 9.5, 10.5, 11, 12, 12], glibc=[10] * 7, jemalloc=[30] * 7)
        fast = case_of("program/fast", "program", arenal=[1] * 7, glibc=[2] * 7, jemalloc=[4] * 7)
        fast["results"]["jemalloc"].update(runs=[], failure="crashed: SIGSEGV after 0.3 s")
        self.results = {**results_of(slow, noisy, fast, allocators=("arenal", "glibc", "jemalloc", "mimalloc")), "rounds": 7}
        self.results["allocators"][3]["problem"] = "not installed (tools/compare --install gets it)"
        self.text = tables.report(self.results)

    def test_cases(self):
        self.assertRegex(self.text, r"(?m)^micro/slow, ns/op +31\.5 +10\.0 +20\.0 +3\.15 +3\.00\.\.3\.30$")
        self.assertRegex(self.text, r"(?m)^micro/noisy, ns/op +10\.5 +10\.0 +30\.0 +1\.05~ +0\.90\.\.1\.20$")
        self.assertRegex(self.text, r"(?m)^program/fast, ns/op +1\.00 +2\.00 +- +0\.50 +0\.50\.\.0\.50$")
        self.assertRegex(self.text, r"(?m)^micro/slow +3\.0 +2\.0 +- +1\.50 +1\.50\.\.1\.50$")  # peak RSS
        self.assertRegex(self.text, r"(?m)^arenal +12 +- +- +- +- +123,456$")

    def test_a_table_has_one_clock_and_names_it(self):
        slow, noisy, fast = self.results["cases"]
        slow["clock"], noisy["clock"] = "wall", "CPU"
        text = tables.report(self.results)
        self.assertRegex(text, r"(?m)^wall time .*\nmicro/slow, .*\nprogram/fast, .*\n\nCPU time .*\nmicro/noisy, .*\n\n")
        titles = [(table["caption"].split(":")[0], [row[0]["text"] for row in table["rows"]])
                  for group in page_tables.groups(self.results, [{"name": "arenal", "measured": True}], "arenal")
                  for table in group["tables"]]
        self.assertIn(("CPU time", ["micro/noisy"]), titles)
        self.assertIn(("Wall time", ["micro/slow"]), titles)
        self.assertIn(("Wall time", ["program/fast"]), titles)

    def test_more_about_memory(self):
        MIB = 1 << 20
        case = case_of("workload/x", "workload", glibc={"time": [1]},
                       arenal={"time": [1], "rest_rss_1s": [3 * MIB], "floor_bytes": [2 * MIB], "growth": [0.97],
                               "rest_rss_per_live_byte": [1.18], "huge_page_bytes": [0]})
        text = tables.report(results_of(case, allocators=("arenal", "glibc")))
        for title, value in (("resting RSS after 1 s, MiB", "3.0"), ("pages that live blocks lie on, MiB", "2.0"),
                             ("RSS late by early in the run", "0.97"), ("resting RSS per live byte", "1.18")):
            self.assertRegex(text, rf"(?m)^workload/x: {title} +{value} +-$")
        self.assertNotIn("huge pages", text)
        self.assertNotIn("more about memory", self.text)
        cells = page_tables.other_table([case], [{"name": "arenal"}])["rows"]
        self.assertIn(["workload/x", "floor bytes, MiB", "2.00"],
                      [[row[0]["text"], row[0]["note"], row[1]["text"]] for row in cells])

    def test_summary_names_groups_and_what_is_missing(self):
        self.assertRegex(self.text, r"(?m)^micro$")
        self.assertRegex(self.text, r"(?m)^  arenal +1\.819 \(1\.64\.\.1\.99\)  +- +- +2$")  # sqrt(3.15 * 1.05)
        self.assertRegex(self.text, r"(?m)^  glibc +1\.000 \(1\.00\.\.1\.00\)~ +- +- +2$")
        self.assertRegex(self.text, r"(?m)^  mimalloc: not installed \(tools/compare --install gets it\)$")

    def test_losses_come_worst_first_and_chance_last(self):
        found = [(case["name"], metric) for _, case, metric in tables.losses(self.results)]
        self.assertEqual(found, [("micro/slow", "time"), ("micro/slow", "peak_rss"), ("micro/noisy", "time")])
        self.assertIn("2 beyond chance, worst first; 1 more that may be chance, marked ~", self.text)
        self.assertLess(self.text.index("Where Arenal is behind"), self.text.index("Medians of the rounds"))

    def test_failures(self):
        self.assertIn("  program/fast under jemalloc: crashed: SIGSEGV after 0.3 s\n", self.text)
        every = copy.deepcopy(self.results)
        for result in every["cases"][2]["results"].values():
            result.update(runs=[], failure="redis-server is not installed")
        self.assertIn("  program/fast under every allocator: redis-server is not installed\n", tables.report(every))

    def test_no_line_is_wide(self):
        self.assertLessEqual(max(len(line) for line in self.text.splitlines()), 100)

    def test_figures(self):
        for value, text in ((1234.5, "1,234"), (123.4, "123"), (12.34, "12.3"), (1.234, "1.23"), (0.01234, "0.0123")):
            self.assertEqual(tables.figure(value), text)


if __name__ == "__main__":
    unittest.main()
