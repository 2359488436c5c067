"""What tools/compare says of allocators that are the same: that its figures may be chance, but for one in twenty."""

import math
import random
import shutil
import unittest

from support import BUILD, CommandTest, case_of, results_of
from compare import numbers, paired, tables     # pylint: disable=wrong-import-order

CASES = 900
GROUPS = 300        # of as many cases as this goes into CASES


def made_up(rounds, peers, difference=1.0, noise=0.05, seed=1, cases=CASES):
    """Results of equal allocators, but for our own, which takes `difference` as long. The machine drifts, and disturbs
    one run in ten much."""
    chosen = random.Random(seed)
    names = ["arenal", *(f"peer{number}" for number in range(peers))]
    made = []
    for number in range(cases):
        base = chosen.uniform(5, 500)
        drift = [chosen.uniform(1, 1.5) for _ in range(rounds)]
        figures = {name: [base * slow * math.exp(chosen.gauss(0, noise)) * (chosen.uniform(1, 3) if chosen.random() < 0.1 else 1)
                          * (difference if name == "arenal" else 1) for slow in drift] for name in names}
        made.append(case_of(f"micro/{number}", f"group{number % GROUPS}", **figures))
    return {**results_of(*made, allocators=names), "rounds": rounds}


def share(found):
    found = list(found)
    return sum(not ratio.may_be_chance for ratio in found) / len(found)


class MadeUp(unittest.TestCase):
    """Seeded: what is said here is said in every run."""

    def clear(self, results):
        return share(numbers.ratio_to_best(results, case, "time", "arenal") for case in results["cases"])

    def clear_means(self, results):
        groups = [[case for case in results["cases"] if case["group"] == f"group{number}"] for number in range(GROUPS)]
        return share(numbers.geometric_mean_ratio(results, cases, "time", "arenal") for cases in groups)

    def test_equal_allocators(self):
        for peers in (1, 2, 6):
            for rounds in (7, 12):
                with self.subTest(peers=peers, rounds=rounds):
                    results = made_up(rounds, peers)
                    self.assertLessEqual(self.clear(results), paired.SIGNIFICANCE)
                    self.assertLessEqual(self.clear_means(results), paired.SIGNIFICANCE)

    def test_a_summary_of_everything(self):
        """The best of six equal peers is better than ours in nearly every case; all cases together must not make that sure."""
        clear = [numbers.geometric_mean_ratio(results, results["cases"], "time", "arenal")
                 for results in (made_up(7, 6, seed=seed, cases=20) for seed in range(60))]
        self.assertLessEqual(share(clear), paired.SIGNIFICANCE)
        self.assertGreater(sum(one.median > 1 for one in clear), 50)

    def test_few_rounds_claim_nothing(self):
        for rounds in (1, 3, 6):
            results = made_up(rounds, 1, difference=1.5, cases=20)
            mean = numbers.geometric_mean_ratio(results, results["cases"], "time", "arenal")
            self.assertEqual((self.clear(results), mean.may_be_chance), (0, True))
            text = tables.report(results)
            self.assertIn("0 beyond chance", text)
            self.assertIn("every ratio is marked ~", text.replace("\n", " "))

    def test_differences_are_found(self):
        for rounds, peers, least in ((7, 1, 0.55), (7, 6, 0.5), (20, 1, 0.85), (20, 6, 0.8)):
            with self.subTest(rounds=rounds, peers=peers):
                for difference in (1.3, 1 / 1.3):
                    self.assertGreater(self.clear(made_up(rounds, peers, difference, noise=0.03, cases=200)), least)

    def test_two_results_of_the_same(self):
        for rounds in (2, 4, 7):
            before, now = (made_up(rounds, 1, seed=seed, cases=400) for seed in (1, 2))
            found = numbers.agreements(before, now)
            self.assertEqual(bool(found), rounds >= 4)
            self.assertLessEqual(sum(not one.agrees for one in found), paired.SIGNIFICANCE * len(found))

    def test_the_same_test_for_many_rounds(self):
        """Exact to sixty pairs, then as good as: no step between."""
        chosen = random.Random(3)
        ratios = [math.exp(chosen.gauss(0.05, 0.3)) for _ in range(61)]
        self.assertAlmostEqual(paired.chance_of(ratios), paired.chance_of(ratios[:60]), delta=0.02)


class Measured(CommandTest):
    def test_two_copies_of_one_library(self):
        """One in twenty of these 8 figures may be called different: 6 of them are in one run of ten million."""
        copy = f"{self.folder}/libcopy.so"
        shutil.copy(f"{BUILD}/src/libarenal.so", copy)
        done = self.compare("--allocators", f"arenal,{copy}", "--rounds", "7",
                            "--only", "size:64/threads:1,blocks:400,slots,calloc,aligned,sized")
        self.assertEqual(done.returncode, 0, done)
        results = self.results()
        found = [numbers.ratio_to_best(results, case, "time", "arenal") for case in results["cases"]]
        self.assertEqual([one.rounds for one in found], [7] * len(found))
        self.assertGreaterEqual(len(found), 8)
        self.assertLess(sum(not one.may_be_chance for one in found), 6, done.stdout)


if __name__ == "__main__":
    unittest.main()
