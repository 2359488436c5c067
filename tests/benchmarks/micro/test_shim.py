"""Tests of benchmarks/shim with the made-up benchmarks of shim_sample.c."""

import unittest

from support import SAMPLE, measured, run

# Processor time that the sample asks for may be more on a machine that is busy, by this factor.
SLOWER = 2.5


class Shim(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.results = measured(SAMPLE, "--benchmark_min_time=0.01")

    def test_names(self):
        self.assertEqual(list(self.results), [
            "arguments/left:1/right:20", "arguments/left:-3/right:1099511627776",
            "threads/threads:3", "threads/threads:16", "threads/threads:32", "threads/threads:64",
            "on_clock/threads:4", "paused", "paused_on_clock", "paused_at_the_end",
            "never_stopped", "skipped", "skipped_by_one/threads:4", "never_started",
            "first/arg:7/threads:2", "first/arg:8/threads:2", "second/arg:9", "kept"])

    def test_arguments_reach_the_function(self):
        for left, right in ((1, 20), (-3, 1 << 40)):
            result = self.results[f"arguments/left:{left}/right:{right}"]
            self.assertEqual((result["given"], result["first"], result["second"]), (2, left, right))

    def test_the_function_does_the_iterations_that_are_reported(self):
        result = self.results["arguments/left:1/right:20"]
        self.assertEqual(result["counted"], result["iterations"])
        self.assertGreater(result["iterations"], 100)
        self.assertGreaterEqual(result["cpu_time"], 10e3)      # nanoseconds: what an iteration spins
        self.assertLess(result["cpu_time"], 10e3 * SLOWER)
        self.assertAlmostEqual(result["items_per_second"] * result["cpu_time"] / 3e9, 1, places=3)

    def test_each_thread_runs_once(self):
        for threads in (3, 16, 32, 64):
            result = self.results[f"threads/threads:{threads}"]
            self.assertEqual(result["threads"], threads)
            self.assertEqual(result["count"], threads)
            self.assertEqual(result["index_sum"], sum(range(threads)))
            self.assertEqual(result["square_sum"], sum(i * i for i in range(threads)))
            self.assertEqual(result["counted"], result["iterations"])

    def test_the_clock_runs_from_the_first_start_to_the_last_stop(self):
        result = self.results["on_clock/threads:4"]
        self.assertLessEqual(result["items_per_second"], 4 / 0.030)
        self.assertGreater(result["items_per_second"], 4 / 0.300)    # threads wait for a processor, too
        self.assertAlmostEqual(result["rate"] / result["items_per_second"], 1, places=6)

    def test_pauses_do_not_count(self):
        self.assertGreaterEqual(self.results["paused"]["cpu_time"], 1e6)
        self.assertLess(self.results["paused"]["cpu_time"], 1e6 * SLOWER)
        on_clock = self.results["paused_on_clock"]
        self.assertLess(abs(on_clock["items_per_second"] / on_clock["true_rate"] - 1), 0.5, on_clock)

    def test_what_a_function_leaves_running_is_stopped(self):
        for name in ("paused_at_the_end", "never_stopped"):
            self.assertGreaterEqual(self.results[name]["cpu_time"], 1e6)
            self.assertLess(self.results[name]["cpu_time"], 1e6 * SLOWER)

    def test_skipping(self):
        for name, message in (("skipped", "not today"), ("skipped_by_one/threads:4", "thread 2 gives up"),
                              ("never_started", "never_started did not call bench_start")):
            self.assertTrue(self.results[name]["error_occurred"], name)
            self.assertEqual(self.results[name]["error_message"], message)

    def test_setup_and_teardown_belong_to_one_benchmark(self):
        for name, arg, threads in (("first/arg:7/threads:2", 7, 2), ("first/arg:8/threads:2", 8, 2)):
            result = self.results[name]
            self.assertEqual((result["arg"], result["threads_told"], result["set_up"]), (arg, threads, 1))
        self.assertEqual(self.results["second/arg:9"]["arg"], 9)

    def test_allocations_are_kept(self):
        self.assertEqual(self.results["kept"]["unkept"], 0)

    def test_mistakes_end_in_a_sentence(self):
        for mistake, words in (("arguments", "2 arguments, but names for 1"), ("threads", "65 threads are not 1 to 64"),
                               ("range", "from 8 to 4"), ("exception", "vector"), ("hooks", "setup or teardown"),
                               ("twice", "bench_start was called twice"),
                               ("no-such-argument", "wrong has no argument 0"),
                               ("early-items", "before bench_stop")):
            done = run(SAMPLE, mistake)
            self.assertEqual(done.returncode, 1, (mistake, done.stdout, done.stderr))
            last = done.stderr.splitlines()[-1]     # after what Google Benchmark says about the machine
            self.assertTrue(last.startswith("bench: "), done.stderr)
            self.assertIn(words, last)

    def test_options(self):
        self.assertEqual(run(SAMPLE, "--no-such-option").returncode, 1)
        self.assertEqual(run(SAMPLE, "--benchmark_filter=no_such_benchmark").returncode, 1)
        listed = run(SAMPLE, "--benchmark_list_tests", "--benchmark_filter=^first/")
        self.assertEqual(listed.returncode, 0)
        self.assertEqual(listed.stdout.split(), ["first/arg:7/threads:2", "first/arg:8/threads:2"])


if __name__ == "__main__":
    unittest.main()
