"""Tests of tools/lib/compare/micro.py, which makes cases of the micro-benchmarks."""

import unittest

from support import BUILD, LIBC_HAS_FREE_SIZED, LIBRARY, MICRO, run

from compare import micro
from compare.cases import Settings
from compare.results import Failed, Run

CASES = {case.kind: case for case in micro.CASES}


class Finished:
    def __init__(self, output):
        self.output = output


class FakeLauncher:
    """Runs the program itself, or says what it is told to say."""

    def __init__(self, build_dir=BUILD, library=None, output=None):
        self.build_dir, self.library, self.output = build_dir, library, output

    def run(self, command, *, timeout):
        assert timeout > 0
        if self.output is not None:
            return Finished(self.output)
        done = run(*command, library=self.library)
        if done.returncode != 0:
            raise Failed(done.stderr.splitlines()[-1])
        return Finished(done.stdout)


def settings(**options):
    return Settings(build_dir=BUILD, **options)


class Cases(unittest.TestCase):
    def test_the_program_is_where_it_is_looked_for(self):
        self.assertEqual(micro.program(BUILD), MICRO)

    def test_the_cases_have_every_benchmark(self):
        listed = run(MICRO, "--benchmark_list_tests").stdout.split()
        named = [name for case in micro.CASES for name in case.names(settings(quick=False))]
        self.assertEqual(sorted(named), sorted(f"micro/{name}" for name in listed))

    def test_quick_takes_some_of_each_family(self):
        named = [name for case in micro.CASES for name in case.names(settings(quick=True))]
        self.assertEqual(sorted(named), sorted(f"micro/{name}" for name in micro.QUICK))
        self.assertEqual({name.split("/")[1] for name in named}, set(CASES))

    def test_threads_choose_from_the_series(self):
        for quick in (True, False):
            named = CASES["pair"].names(settings(quick=quick, threads=[2, 8]))
            of_series = [name for name in named if name.startswith("micro/pair/size:64/")]
            self.assertEqual(of_series, ["micro/pair/size:64/threads:2", "micro/pair/size:64/threads:8"])
        three = settings(quick=True, threads=[3])
        self.assertEqual(CASES["pair"].names(three), ["micro/pair"])
        with self.assertRaisesRegex(Failed, "number of threads"):
            CASES["pair"].measure(FakeLauncher(), three)

    def test_description(self):
        case = CASES["large"]
        about = case.describe("micro/large/pair/size:65536/touch:0/threads:1")
        self.assertEqual(about["title"], "large pair, size 64 KiB, untouched")
        self.assertEqual((about["family"], about["threads"]), ("micro/large/pair/size:65536/touch:0", 1))
        about = CASES["cross"].describe("micro/cross/producers:1/consumers:4/size:64/threads:5")
        self.assertEqual(about["title"], "cross, 1 producer, 4 consumers, size 64 B")
        self.assertEqual(about["threads"], 5)
        for name, clock in (("pair/size:64/threads:1", "CPU"), ("pair/size:16/threads:1", "CPU"),
                            ("pair/size:64/threads:2", "wall"), ("batch/lifo/blocks:25/size:64/threads:1", "CPU"),
                            ("threads/churn/parallel:1/blocks:10/threads:1", "wall")):
            self.assertEqual(CASES[name.split("/")[0]].describe(f"micro/{name}")["clock"], clock, name)

    def test_the_ones_with_threads_are_not_pinned(self):
        self.assertEqual({kind for kind, case in CASES.items() if not case.pinned},
                         {"pair", "replace", "cross", "threads"})
        for kind, count, pinned in (("pair", 1, True), ("pair", 2, False), ("threads", 1, False)):
            narrowed = CASES[kind].narrowed(lambda name, count=count: name.endswith(f"/threads:{count}"),
                                            settings(quick=False))
            self.assertEqual(narrowed.pinned, pinned, (kind, count))

    def test_measuring_what_was_asked_for(self):
        case = CASES["aligned"].narrowed(lambda name: "posix_memalign/alignment:1024/" in name, settings(quick=False))
        results = case.measure(FakeLauncher(library=LIBRARY), settings(quick=False))
        self.assertEqual([name for name, _ in results],
                         ["micro/aligned/posix_memalign/alignment:1024/size:100/threads:1"])
        run_ = results[0][1]
        self.assertIsInstance(run_, Run)
        # 16 blocks are one iteration: a time per iteration would be far above.
        self.assertTrue(1 < run_.metrics["time"] < 100_000, run_)
        self.assertAlmostEqual(run_.metrics["time"] * run_.metrics["operations_per_second"], 1e9, delta=1)
        self.assertIsNone(CASES["aligned"].narrowed(lambda name: "pair" in name, settings()))
        self.assertEqual(len(CASES["aligned"].names(settings(quick=False))), 8, "the family itself was narrowed")

    @unittest.skipIf(LIBC_HAS_FREE_SIZED, "this libc has free_sized")
    def test_a_skip_is_a_failure_of_that_benchmark_alone(self):
        case = CASES["sized"].narrowed(lambda name: "/pareto/" in name, settings(quick=False))
        results = dict(case.measure(FakeLauncher(), settings(quick=False)))
        self.assertIsInstance(results["micro/sized/free/pareto/threads:1"], Run)
        failed = results["micro/sized/free_sized/pareto/threads:1"]
        self.assertIsInstance(failed, Failed)
        self.assertEqual(str(failed), "the allocator has no free_sized")

    def test_what_has_no_result_says_so(self):
        results = CASES["pair"].measure(FakeLauncher(output='{"benchmarks": []}'), settings(quick=True))
        self.assertEqual([str(result) for _, result in results], ["the benchmark gave no result"] * 2)
        with self.assertRaisesRegex(Failed, "did not print its results"):
            CASES["pair"].measure(FakeLauncher(output="no JSON"), settings(quick=True))

    def test_without_a_build(self):
        nowhere = Settings(build_dir="/nonexistent")
        self.assertEqual(CASES["pair"].names(nowhere), ["micro/pair"])
        self.assertIsNotNone(CASES["pair"].narrowed(lambda name: name == "micro/pair", nowhere))
        self.assertEqual(CASES["pair"].describe("micro/pair")["title"], "pair")
        with self.assertRaisesRegex(Failed, "libbenchmark-dev"):
            CASES["pair"].measure(FakeLauncher("/nonexistent"), nowhere)


if __name__ == "__main__":
    unittest.main()
