"""Tests of arenal_micro: it has what it promises, and every benchmark of it runs on Arenal."""

import unittest

from support import LIBC_HAS_FREE_SIZED, LIBRARY, MICRO, measured, run

FAMILIES = ["aligned", "batch", "calloc", "cross", "large", "pair", "realloc", "replace", "sized", "threads"]
POWERS = [1, 2, 4, 8, 16, 32, 64]


def names():
    done = run(MICRO, "--benchmark_list_tests")
    return done.stdout.split()


class Micro(unittest.TestCase):
    def test_every_family_is_there(self):
        listed = names()
        self.assertEqual(sorted({name.split("/")[0] for name in listed}), FAMILIES)
        self.assertEqual(len(set(listed)), len(listed), "two benchmarks have one name")

    def test_every_name_ends_in_the_number_of_threads(self):
        for name in names():
            self.assertRegex(name, r"^[a-z_]+(/[a-z_]+(:\d+)?)*/threads:\d+$")

    def test_sizes_and_threads(self):
        listed = set(names())
        for size in (16, 64, 256, 1024, 4096, 16384, 65536, 262144, 1048576):
            self.assertIn(f"pair/size:{size}/threads:1", listed)
        for threads in POWERS:
            self.assertIn(f"pair/size:64/threads:{threads}", listed)
            self.assertIn(f"replace/slots:1000/threads:{threads}", listed)
        for order in ("lifo", "fifo", "random"):
            for blocks in (25, 100, 400, 1600):
                self.assertIn(f"batch/{order}/blocks:{blocks}/size:64/threads:1", listed)

    def test_every_benchmark_runs_on_arenal(self):
        results = measured(MICRO, "--benchmark_min_time=0.0005", library=LIBRARY)
        self.assertEqual(list(results), names())
        for name, result in results.items():
            self.assertNotIn("error_occurred", result, name)
            self.assertGreater(result["iterations"], 0, name)
            self.assertGreater(result["items_per_second"], 0, name)
            self.assertLess(result["items_per_second"], 1e10, f"{name} seems to be optimised away")

    def test_one_clock_for_what_has_a_single_thread(self):
        """Processor time: exactly that, for an operation of these is an iteration. On the clock it would differ."""
        results = measured(MICRO, "--benchmark_min_time=0.001", "--benchmark_filter=^(pair|replace)/.*threads:1$")
        self.assertGreater(len(results), 10)
        for name, result in results.items():
            self.assertAlmostEqual(result["items_per_second"] * result["cpu_time"] / 1e9, 1, delta=1e-6, msg=name)

    @unittest.skipIf(LIBC_HAS_FREE_SIZED, "this libc has free_sized")
    def test_what_an_allocator_lacks_is_skipped(self):
        results = measured(MICRO, "--benchmark_min_time=0.0005", "--benchmark_filter=^sized/")
        for name, result in results.items():
            if name.startswith("sized/free_sized/"):
                self.assertEqual(result["error_message"], "the allocator has no free_sized")
            else:
                self.assertGreater(result["items_per_second"], 0)


if __name__ == "__main__":
    unittest.main()
