"""Tests of the schedule, with cases and a clock that are made up."""

import itertools
import tempfile
import unittest

import support      # pylint: disable=unused-import
from compare.allocators import Allocator
from compare.cases import Case, Settings
from compare.options import matcher
from compare.results import Absent, Failed, Run
from compare.schedule import Limits, Schedule


class FakeCase(Case):
    group = "workload"

    def __init__(self, name, world, seconds=1.0, action=None):
        self.name = name
        self.world = world
        self.lasts = seconds
        self.action = action

    def measure(self, launcher, settings):
        self.world.log.append((self.name, launcher.allocator.name))
        self.world.now += self.lasts
        if self.action:
            found = self.action(launcher)
            if found is not None:
                return found
        return [(self.name, Run(metrics={"time": self.lasts}))]


class ScheduleTest(unittest.TestCase):
    def setUp(self):
        self.log = []
        self.now = 0.0
        self.told = []
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = folder.name

    def run_schedule(self, cases, names="abc", rounds=3, seconds=None, **options):
        schedule = Schedule(cases, [Allocator(name) for name in names], Settings(), Limits(rounds, seconds), self.folder,
                            clock=lambda: self.now, progress=lambda *words: self.told.append(words), **options)
        schedule.run()
        return schedule

    def rounds_run(self, schedule, case, allocator):
        entry = next(one for one in schedule.results() if one["name"] == case)
        return [run["round"] for run in entry["results"][allocator]["runs"]]

    def test_allocators_of_a_case_are_neighbours_in_any_order(self):
        cases = [FakeCase(name, self) for name in ("x", "y", "z", "w")]
        schedule = self.run_schedule(cases, rounds=60)
        self.assertEqual(len(self.log), 60 * 4 * 3)
        blocks = [self.log[start:start + 3] for start in range(0, len(self.log), 3)]
        for block in blocks:
            self.assertEqual(len({case for case, _ in block}), 1, block)
            self.assertEqual({allocator for _, allocator in block}, set("abc"))
        for case in "xyzw":
            found = ["".join(name for _, name in block) for block in blocks if block[0][0] == case]
            for order in ("abc", "acb", "bac", "bca", "cab", "cba"):
                self.assertGreater(found.count(order), 2, "each order is as likely")
        self.assertEqual(self.rounds_run(schedule, "x", "b"), list(range(1, 61)))
        self.assertEqual([entry["name"] for entry in schedule.results()], ["x", "y", "z", "w"])
        orders = [[block[0][0] for block in blocks[start:start + 4]] for start in (0, 4, 8)]
        self.assertTrue(any(one != two for one, two in itertools.combinations(orders, 2)), orders)

    def test_a_round_that_does_not_fit_is_not_begun(self):
        cases = [FakeCase("x", self, 1), FakeCase("y", self, 2)]
        schedule = self.run_schedule(cases, rounds=9, seconds=20)  # a round takes 9 s
        self.assertEqual(schedule.rounds, 2)
        self.assertEqual(self.now, 18)
        self.assertEqual(schedule.left_out, [])

    def test_long_cases_are_in_the_first_round_only(self):
        """Unless rounds were asked for, which then take as long as they take."""
        for seconds, expected in ((20, [1]), (None, [1, 2, 3])):
            self.now, cases = 0.0, [FakeCase("x", self, 1), FakeCase("y", self, 4)]
            cases[1].long = True
            schedule = self.run_schedule(cases, names="ab", seconds=seconds)    # rounds of 10 s, 2 s, 2 s
            self.assertEqual(self.rounds_run(schedule, "x", "a"), [1, 2, 3])
            self.assertEqual(self.rounds_run(schedule, "y", "a"), expected)
            self.assertEqual(schedule.left_out, [])
        self.now, cases = 0.0, [FakeCase("y", self, 1)]
        cases[0].long = True
        self.assertEqual(self.run_schedule(cases, seconds=20).rounds, 1)

    def test_a_machine_too_slow_for_one_round_says_what_is_left_out(self):
        cases = [FakeCase(name, self, 10) for name in "vwxyz"]
        schedule = self.run_schedule(cases, rounds=3, seconds=70)  # a case takes 30 s
        measured = {name for name, _ in self.log}
        self.assertEqual(schedule.rounds, 1)
        self.assertTrue(measured)
        missing = sorted({case.name for case in cases} - measured)
        self.assertTrue(missing)
        self.assertEqual(len(schedule.left_out), 1)
        self.assertIn(f"left out {len(missing)} of 5 cases: {', '.join(missing)}", schedule.left_out[0])

    def test_the_time_left_is_told(self):
        self.run_schedule([FakeCase("x", self)], names="ab", rounds=2)
        self.assertEqual([words[0] for words in self.told], [1, 1, 2, 2])
        self.assertIsNone(self.told[0][4])
        self.assertEqual(self.told[2][4], 2)  # two runs of one second

    def test_a_failure_is_a_row_and_is_not_tried_again(self):
        def fail(launcher):
            if launcher.allocator.name == "b":
                raise Failed("crashed: SIGABRT after 0.0 s")
        schedule = self.run_schedule([FakeCase("x", self, action=fail), FakeCase("y", self)])
        self.assertEqual(self.log.count(("x", "b")), 1)
        self.assertEqual(self.log.count(("y", "b")), 3)
        self.assertEqual(self.log.count(("x", "a")), 3)
        entry = schedule.results()[0]
        self.assertEqual(entry["results"]["b"], {"runs": [], "failure": "crashed: SIGABRT after 0.0 s", "absent": False})
        self.assertEqual(self.rounds_run(schedule, "y", "b"), [1, 2, 3])

    def test_mistakes_and_full_disks_cost_no_other_case(self):
        def mistake(launcher):
            raise KeyError("p99")

        def full(launcher):
            raise OSError(28, "No space left on device", "/tmp/x")
        schedule = self.run_schedule([FakeCase("x", self, action=mistake), FakeCase("y", self, action=full),
                                      FakeCase("z", self), FakeCase("nothing", self, action=lambda launcher: [])])
        failures = [entry["results"]["a"]["failure"] for entry in schedule.results()]
        self.assertEqual(failures, ["tools/compare itself failed: KeyError: 'p99'", "No space left on device: /tmp/x",
                                    None, "it gave no result"])

    def test_parts_of_a_case_may_fail(self):
        def parts(launcher):
            return [("x/good", Run(metrics={"time": 1})), ("x/bad", Failed("wrong")), ("x/none", Absent("has none"))]
        schedule = self.run_schedule([FakeCase("x", self, action=parts)], rounds=2)
        good, bad, none = [entry["results"]["a"] for entry in schedule.results()]
        self.assertEqual([run["round"] for run in good["runs"]], [1, 2])
        self.assertEqual((bad["failure"], bad["absent"]), ("wrong", False))
        self.assertEqual((none["failure"], none["absent"]), ("has none", True))

    def test_interrupted_keeps_what_was_measured(self):
        def interrupt(launcher):
            if len(self.log) == 5:
                raise KeyboardInterrupt
        schedule = self.run_schedule([FakeCase("x", self, action=interrupt)])
        self.assertTrue(schedule.interrupted)
        self.assertEqual(len(self.log), 5)
        self.assertEqual(sum(len(self.rounds_run(schedule, "x", name)) for name in "abc"), 4)
        self.assertIn("interrupted in round 2", schedule.left_out[0])

    def test_only_what_has_one_thread_is_pinned(self):
        seen = {}
        cases = [FakeCase(name, self, action=lambda launcher, name=name: seen.update({name: launcher.cpu}))
                 for name in ("one", "many")]
        cases[1].threads = 4
        self.run_schedule(cases, names="a", rounds=1)
        self.assertIsNotNone(seen["one"])
        self.assertIsNone(seen["many"])

    def test_allocators_with_a_problem_are_not_run(self):
        allocators = [Allocator("a"), Allocator("b", problem="not installed")]
        schedule = Schedule([FakeCase("x", self)], allocators, Settings(), Limits(1), self.folder)
        schedule.run()
        self.assertEqual(self.log, [("x", "a")])


class MatcherTest(unittest.TestCase):
    def test_patterns(self):
        for pattern, name, expected in (
                ("churn", "workload/session_churn", True), ("workload/*", "workload/x", True),
                ("workload/*", "micro/x", False), ("pair/*", "micro/pair/size:64", True),
                ("pair/?", "micro/pair/64", False), ("^micro/.*64$", "micro/pair/64", True),
                ("^micro/.*64$", "micro/pair/640", False), ("x|pair", "micro/pair", True)):
            with self.subTest(pattern=pattern, name=name):
                self.assertEqual(matcher(["nothing", pattern])(name), expected)


if __name__ == "__main__":
    unittest.main()
