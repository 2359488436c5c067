"""How tools/compare runs the workloads: which cases there are in each mode, and what becomes of a result."""

import os
import sys
import tempfile
import unittest
from unittest import mock

sys.path.insert(0, os.environ["TEST_TOOLS"])

from compare import workloads                               # noqa: E402
from compare.allocators import Allocator                    # noqa: E402
from compare.cases import Settings                          # noqa: E402
from compare.process import Finished, Launcher              # noqa: E402
from compare.results import Failed                          # noqa: E402

BUILD = os.environ["TEST_BUILD"]
LIBRARY = os.path.realpath(os.environ["ARENAL_LIBRARY"])
MIB = 1 << 20

LINE = ('{"workload":"phases","seed":1,"threads":6,"operations":100,"seconds":0.5,"operations_per_second":200,'
        '"ns_per_operation":5000000.000,"peak_rss_bytes":700,"rest_rss_bytes":600,"live_bytes":300%s}\n')


def names(**settings):
    return [case.name for case in workloads.cases(Settings(**settings))]


class FakeLauncher:
    """Notes what would be run, and gives an output."""

    build_dir = "/a build"

    def __init__(self, output):
        self.output = output
        self.command = None

    def run(self, command, *, timeout, series=False):
        self.command = command
        return Finished(self.output, "", 1.0, 650, [[0.02, 600]] if series else [])


class Which(unittest.TestCase):
    def test_quick(self):
        self.assertEqual(names(quick=True), [
            "workload/session_churn", "workload/producer_consumer", "workload/burst_idle", "workload/interpreter",
            "latency/key_value"])

    def test_full(self):
        everything = names(quick=False)
        self.assertEqual(len(everything), 20)
        self.assertEqual(len(set(everything)), 20)
        for name in ("burst_idle/threads:8/survivors:2", "burst_idle/threads:8/survivors:20", "burst_idle/single",
                     "fragmentation/live:200", "large_heap"):
            self.assertIn(f"workload/{name}", everything)
        self.assertIn("stalls/threads:1000", everything)
        self.assertTrue(set(names(quick=True)) < set(everything))
        self.assertEqual([name for name in everything if name.startswith("latency/")],
                         ["latency/session_churn", "latency/producer_consumer", "latency/key_value"])
        for case in workloads.cases(Settings(quick=False)):
            program = os.path.join(BUILD, "benchmarks", "workloads", case.workload.name)
            self.assertTrue(os.access(program, os.X_OK), program)

    def test_a_result_for_each_number_of_threads(self):
        found = {case.name: case for case in workloads.cases(Settings(quick=False, threads=[1, 2, 8]))}
        self.assertEqual(found["workload/session_churn/threads:8"].threads, 8)
        self.assertEqual(found["workload/session_churn/threads:8"].family, "workload/session_churn")
        self.assertTrue(found["workload/session_churn/threads:1"].pinned)
        self.assertFalse(found["workload/session_churn/threads:2"].pinned)
        self.assertNotIn("workload/producer_consumer/threads:1", found)     # it needs two
        self.assertIn("workload/producer_consumer/threads:2", found)
        self.assertEqual(found["workload/fork_cow"].threads, 1)             # whatever is asked for
        self.assertEqual(found["workload/idle_threads"].threads, 1000)

    def test_one_burst_and_then_ten_seconds(self):
        found = {case.name: case for case in workloads.cases(Settings(quick=False, threads=[2]))}
        for name, words in (("threads:8/survivors:2", "--threads=8 --operations=176000 --blocks=22000 --survivors=2"),
                            ("threads:8/survivors:20", "--threads=8 --operations=176000 --blocks=22000 --survivors=20"),
                            ("single", "--threads=1 --operations=176000 --blocks=176000 --survivors=2")):
            case = found[f"workload/burst_idle/{name}"]         # whatever number of threads is asked for
            launcher = FakeLauncher(LINE % ',"rest_rss_1s_bytes":650,"floor_bytes":500,"rest_rss_per_live_byte":2.0')
            [(_, run)] = case.measure(launcher, Settings(quick=False))
            self.assertEqual(launcher.command[2:], [*words.split(), "--rest=10"])
            self.assertEqual((run.metrics["rest_rss_1s"], run.metrics["rest_rss"], run.metrics["floor_bytes"],
                              run.metrics["rest_rss_per_live_byte"]), (650, 600, 500, 2))
            self.assertTrue(case.long)

    def test_a_burst_is_as_large_with_more_threads(self):
        for threads, blocks in ((1, 88000), (8, 11000)):
            case = workloads.cases(Settings(quick=False, threads=[threads]))[3]
            launcher = FakeLauncher(LINE % "")
            case.measure(launcher, Settings(quick=False))
            self.assertEqual(case.name, f"workload/burst_idle/threads:{threads}")
            self.assertIn(f"--blocks={blocks}", launcher.command)
            self.assertIn(f"--threads={threads}", launcher.command)


class Results(unittest.TestCase):
    def case(self, name):
        return next(case for case in workloads.cases(Settings(quick=False)) if case.name == name)

    def test_metrics(self):
        launcher = FakeLauncher(LINE % "")
        [(name, run)] = self.case("workload/phases").measure(launcher, Settings(quick=False, seed=5))
        self.assertEqual(name, "workload/phases")
        self.assertEqual(run.metrics, {"time": 5000000, "operations_per_second": 200, "peak_rss": 650, "rest_rss": 600,
                                       "live_bytes": 300})
        self.assertEqual((run.latency, run.series), ({}, [[0.02, 600]]))
        self.assertEqual(launcher.command[0], "/a build/benchmarks/workloads/phases")
        self.assertIn("--seed=5", launcher.command)
        self.assertNotIn("--latency", launcher.command)

    def test_the_cost_of_single_calls_is_their_p99_9(self):
        launcher = FakeLauncher(LINE % ',"latency_ns":{"malloc":{"count":9,"p50":20,"p99.9":450,"max":800}}')
        [(_, run)] = self.case("latency/key_value").measure(launcher, Settings(quick=False))
        self.assertEqual(run.metrics["time"], 450)
        self.assertEqual(run.latency["malloc"]["max"], 800)
        self.assertIn("--latency", launcher.command)

    def test_each_phase_is_a_result(self):
        settings = Settings(quick=False)
        case = self.case("workload/large_heap")
        names = [f"workload/large_heap/{phase}" for phase in ("build", "read", "replace")]
        self.assertEqual(case.names(settings), names)
        output = LINE % (',"phases":{%s}' % ",".join(
            f'"{phase}":{{"seconds":{number},"peak_rss_bytes":{number}00,"huge_page_bytes":{number}0}}'
            for number, phase in enumerate(("build", "read", "replace"), 1)))
        results = case.measure(FakeLauncher(output), settings)
        self.assertEqual([(name, run.metrics) for name, run in results],
                         [(name, {"time": number, "peak_rss": number * 100, "huge_page_bytes": number * 10})
                          for number, name in enumerate(names, 1)])
        described = case.describe(names[1])
        self.assertEqual((described["unit"], described["family"]), ("s", names[1]))
        self.assertIn("reads", described["about"])
        one = case.narrowed(lambda name: name.endswith("/read"), settings)
        self.assertEqual([name for name, _ in one.measure(FakeLauncher(output), settings)], [names[1]])
        with self.assertRaisesRegex(Failed, "^large_heap measured no replace$"):
            case.measure(FakeLauncher(output.replace("replace", "other")), settings)

    def test_the_longest_call_of_each_phase_is_a_result(self):
        settings = Settings(quick=False)
        phases = ("build", "halve", "thin", "rebuild", "drop")
        calls = '{"count":9,"p50":1,"p99.99":%d,"max":%d}'
        output = LINE % (',"phases":{%s}' % ",".join(
            f'"{phase}":{{"seconds":7,"peak_rss_bytes":{number}00,"huge_page_bytes":0,"stall_cpu_ns":{calls % (number, number * 2)},'
            f'"stall_wall_ns":{calls % (number * 3, number * 4)},"stall_nothing_ns":{calls % (number * 5, number * 6)}}}' for number, phase in enumerate(phases, 1)))
        for threads in (2, 1000):
            case = self.case(f"stalls/threads:{threads}")
            launcher = FakeLauncher(output)
            results = case.measure(launcher, settings)
            self.assertIn(f"--threads={threads}", launcher.command)
            self.assertEqual([name for name, _ in results], [f"stalls/threads:{threads}/{phase}" for phase in phases])
            for number, (_, run) in enumerate(results, 1):
                self.assertEqual(run.metrics, {"time": number * 2, "peak_rss": number * 100})
                self.assertEqual((run.latency["cpu"]["p99.99"], run.latency["wall"]["max"]), (number, number * 4))
                self.assertEqual(run.latency["nothing"]["max"], number * 6)
            described = case.describe(results[0][0])
            self.assertEqual((described["unit"], described["clock"], described["group"]), ("ns", "CPU", "stalls"))

    def test_too_little_memory(self):
        with mock.patch.object(workloads, "available_memory", lambda: 4_000_000_000), \
                self.assertRaisesRegex(Failed, "^large_heap needs 4 GB of free memory$"):
            self.case("workload/large_heap").measure(FakeLauncher(""), Settings(quick=False))
        self.assertGreater(workloads.available_memory(), 64 * MIB)

    def test_no_result(self):
        for output in ("", "nonsense", "[]", "{}", '{"ns_per_operation":0,"operations_per_second":1}'):
            with self.subTest(output), self.assertRaisesRegex(Failed, "printed no result"):
                self.case("workload/phases").measure(FakeLauncher(output), Settings(quick=False))
        with self.assertRaisesRegex(Failed, "measured no malloc"):
            self.case("latency/key_value").measure(FakeLauncher(LINE % ""), Settings(quick=False))


class Real(unittest.TestCase):
    def test_every_quick_case_runs_under_arenal(self):
        settings = Settings(quick=True)
        allocator = Allocator("arenal", LIBRARY, preload=LIBRARY)
        for case in workloads.cases(settings):
            with self.subTest(case.name), tempfile.TemporaryDirectory() as scratch:
                [(name, run)] = case.measure(Launcher(allocator, scratch, BUILD), settings)
                self.assertEqual(name, case.name)
                self.assertGreater(run.metrics["time"], 0)
                self.assertGreater(run.metrics["peak_rss"], MIB)
                self.assertLessEqual(run.metrics.get("rest_rss", 0), run.metrics["peak_rss"])
                self.assertTrue(run.series)
                self.assertEqual("malloc" in run.latency, case.group == "latency")


if __name__ == "__main__":
    unittest.main()
