"""The workloads under Arenal: what they print, that the options do what they say, and that they measure right."""

import faulthandler
import json
import os
import resource
import statistics
import subprocess
import time
import unittest
from concurrent.futures import ThreadPoolExecutor

FOLDER = os.environ["TEST_WORKLOADS"]
LIBRARY = os.environ["ARENAL_LIBRARY"]
# Without the allocator's own thread, which would be counted and would give memory back while that is looked at.
ENVIRONMENT = {"LD_PRELOAD": LIBRARY, "PATH": "/usr/bin:/bin", "ARENAL_BACKGROUND": "0"}
MIB = 1 << 20
DEADLINE = 60           # seconds that nothing here takes, on a slow machine either

# Before ctest ends a test that hangs: where it hangs.
faulthandler.dump_traceback_later(280, exit=True)

# Every workload, with operations for an instant and with options that make it small.
SMALL = {
    "session_churn": (20000, []),
    "producer_consumer": (20000, []),
    "phases": (50000, ["--peak=4", "--rest=0.05"]),
    "burst_idle": (4000, ["--blocks=1000", "--rest=0.05"]),
    "fragmentation": (20000, ["--live=4", "--day=2000", "--rest=0.05"]),
    "idle_threads": (20000, ["--threads=50"]),
    "short_threads": (200, []),
    "interpreter": (20, []),
    "key_value": (20000, []),
    "fork_cow": (2000, []),
    "large_heap": (12800, ["--blocks=3200"]),
    "stalls": (4000, ["--blocks=1500", "--held=100", "--rest=0.05"]),
}
RESTING = ("phases", "burst_idle", "fragmentation", "idle_threads", "short_threads", "key_value")
PART_OF_THE_TIME = ("idle_threads", "fork_cow", "stalls")     # they do not count all the time that they work, or end before
LATER = 1.2             # a rest that is longer than the second after which it is looked at first


def huge_pages_are_asked_for():
    try:
        with open("/sys/kernel/mm/transparent_hugepage/enabled", encoding="ascii") as file:
            return "[madvise]" in file.read()
    except OSError:
        return False


def command(name, *arguments):
    return [os.path.join(FOLDER, name), *arguments]


def small(name):
    operations, options = SMALL[name]
    return [f"--operations={operations}", *options]


class WorkloadTest(unittest.TestCase):
    def run_workload(self, name, *arguments, stdout=subprocess.PIPE, env=None, **options):
        return subprocess.run(command(name, *arguments), env=env or ENVIRONMENT, stdin=subprocess.DEVNULL, stdout=stdout,
                              stderr=subprocess.PIPE, text=True, timeout=DEADLINE, check=False, **options)

    def read_result(self, done):
        """What a workload prints: one line of JSON and nothing else."""
        self.assertEqual((done.returncode, done.stderr), (0, ""))
        self.assertRegex(done.stdout, r"\A\{.*\}\n\Z")
        return json.loads(done.stdout)

    def result(self, name, *arguments, env=None):
        return self.read_result(self.run_workload(name, *arguments, env=env))

    def results(self, *arguments, names=tuple(SMALL), sized=True):
        """[(name, result), ...] of several workloads. They run side by side: most of the time they rest."""
        def run_one(name):
            return self.run_workload(name, *(small(name) if sized else SMALL[name][1]), *arguments)

        with ThreadPoolExecutor(6) as pool:
            ended = list(pool.map(run_one, names))
        return [(name, self.read_result(done)) for name, done in zip(names, ended)]

    def start(self, name, *arguments):
        process = subprocess.Popen(command(name, *arguments), env=ENVIRONMENT, stdout=subprocess.PIPE,
                                   text=True)
        self.addCleanup(process.wait)
        self.addCleanup(process.kill)
        self.addCleanup(process.stdout.close)
        return process

    def assert_sentence(self, done, status, *words):
        self.assertEqual(done.returncode, status, done)
        self.assertEqual(len(done.stderr.splitlines()), 1, done.stderr)
        for word in words:
            self.assertIn(word, done.stderr)


class Results(WorkloadTest):
    def test_every_workload_prints_what_it_measured(self):
        for name, result in self.results("--seed=3"):
            with self.subTest(name):
                operations = SMALL[name][0]
                self.assertEqual((result["workload"], result["seed"]), (name, 3))
                self.assertGreaterEqual(result["operations"], operations)
                self.assertLess(result["operations"], operations * 1.1)
                for key in ("threads", "seconds", "operations_per_second", "ns_per_operation"):
                    self.assertGreater(result[key], 0, key)
                self.assertAlmostEqual(result["ns_per_operation"] * result["operations"] / 1e9 / result["seconds"], 1,
                                       places=2)
                self.assertGreater(result["peak_rss_bytes"], MIB)
                self.assertNotIn("latency_ns", result)
                if name in RESTING:
                    self.assertGreater(result["live_bytes"], 1000)
                    self.assertGreater(result["rest_rss_bytes"], result["live_bytes"])
                    self.assertLessEqual(result["rest_rss_bytes"], result["peak_rss_bytes"])

    def test_the_same_seed_does_the_same_work(self):
        # With one thread, where that can be: where threads share what they work on, it matters who comes first.
        names = [name for name in SMALL if name not in ("producer_consumer", "stalls")]
        first, second = (dict(self.results("--seed=7", "--threads=1", names=names)) for _ in range(2))
        self.assert_same_work(first, second)

    def test_the_same_seed_does_the_same_work_in_every_thread(self):
        names = ("producer_consumer", "phases", "burst_idle", "fragmentation", "idle_threads", "stalls")
        first, second = (dict(self.results("--seed=7", names=names)) for _ in range(2))
        self.assert_same_work(first, second)

    def assert_same_work(self, first, second):
        for name, result in first.items():
            for key in ("operations", "live_bytes", "threads"):
                self.assertEqual(result.get(key), second[name].get(key), (name, key))

    def test_another_seed_does_other_work(self):
        names = ("phases", "burst_idle", "fragmentation")
        first, second = (dict(self.results(f"--seed={seed}", names=names)) for seed in (1, 2))
        for name in names:
            self.assertNotEqual(first[name]["live_bytes"], second[name]["live_bytes"], name)

    def test_seconds_end_in_time(self):
        started = time.monotonic()
        for name, result in self.results("--seconds=0.3", sized=False):
            with self.subTest(name):
                self.assertGreaterEqual(result["seconds"], 0 if name in PART_OF_THE_TIME else 0.29)
                self.assertLess(result["seconds"], 1.5)
        self.assertLess(time.monotonic() - started, 15)

    def test_survivors_stay(self):
        few, many = (self.result("burst_idle", *small("burst_idle"), "--rest=0", f"--survivors={percent}")["live_bytes"]
                     for percent in (2, 50))
        self.assertTrue(5 < many / few < 125, (few, many))  # few blocks, of very different sizes

    def test_fragmentation_keeps_its_live_bytes(self):
        result = self.result("fragmentation", "--operations=40000", "--live=8", "--day=2000", "--rest=0")
        self.assertTrue(7.5 * MIB < result["live_bytes"] <= 8 * MIB, result)

    def test_memory_in_the_course_of_the_days(self):
        result = self.result("fragmentation", "--operations=40000", "--threads=1", "--live=4", "--day=4000", "--rest=0")
        samples = result["rss_samples"]
        self.assertEqual(len(samples), 10)
        self.assertTrue(all(4 * MIB < sample <= result["peak_rss_bytes"] + MIB for sample in samples), result)
        own = result["own_rss_bytes"]
        self.assertTrue(MIB < own < samples[0] - 3 * MIB, result)
        self.assertAlmostEqual(result["growth"], (max(samples[7:]) - own) / (max(samples[1:4]) - own), places=3)
        self.assertAlmostEqual(result["rest_rss_per_live_byte"],
                               (result["rest_rss_bytes"] - own) / result["live_bytes"], places=3)
        self.assertNotIn("growth", self.result("fragmentation", "--operations=6000", "--threads=1", "--live=4",
                                               "--day=2000", "--rest=0"))

    def test_many_days_are_thinned_out(self):
        result = self.result("fragmentation", "--operations=300000", "--threads=1", "--live=1", "--day=100", "--rest=0")
        self.assertTrue(512 < len(result["rss_samples"]) <= 1024)   # of 3000

    def test_one_burst(self):
        result = self.result("burst_idle", "--threads=2", "--blocks=1000", "--operations=2000", "--survivors=100",
                             "--rest=0")
        self.assertEqual(result["operations"], 2000)
        twice = self.result("burst_idle", "--threads=2", "--blocks=1000", "--operations=2001", "--survivors=100",
                            "--rest=0")
        self.assertEqual(twice["operations"], 3000)

    def test_the_pages_that_survivors_lie_on(self):
        floors = {}
        for percent in (0, 2, 20, 100):
            result = self.result("burst_idle", "--threads=1", "--blocks=4000", "--operations=4000", "--rest=0",
                                 f"--survivors={percent}")
            floors[percent] = result.get("floor_bytes", 0)
            self.assertEqual(floors[percent] % os.sysconf("SC_PAGESIZE"), 0)
            self.assertLessEqual(floors[percent], result["rest_rss_bytes"])
            self.assertGreaterEqual(floors[percent], result.get("live_bytes", 0))
        self.assertEqual(floors[0], 0)
        self.assertTrue(floors[0] < floors[2] < floors[20] < floors[100], floors)
        # Blocks that lie beside each other share pages: all of them take hardly more than their sizes.
        self.assertLess(floors[100], result["live_bytes"] * 1.25)

    def test_phases(self):
        result = self.result("large_heap", "--blocks=40000", "--operations=160000")
        self.assertEqual((list(result["phases"]), result["operations"]), (["build", "read", "replace"], 160000))
        phases = result["phases"].values()
        self.assertTrue(all(phase["seconds"] > 0 for phase in phases), phases)
        self.assertAlmostEqual(sum(phase["seconds"] for phase in phases), result["seconds"], places=4)
        peaks = [phase["peak_rss_bytes"] for phase in phases]
        self.assertEqual(peaks, sorted(peaks))
        self.assertTrue(40000 * 288 < peaks[0] <= peaks[2] <= result["peak_rss_bytes"], result)

    def test_stalls(self):
        result = self.result("stalls", "--threads=3", "--blocks=20000", "--operations=80000", "--rest=0.1", "--untouched=0.1")
        self.assertEqual(list(result["phases"]), ["build", "halve", "thin", "rebuild", "drop"])
        for phase in result["phases"].values():
            self.assertEqual(phase["stall_nothing_ns"]["count"], phase["stall_cpu_ns"]["count"])
            for clock in ("stall_cpu_ns", "stall_wall_ns", "stall_nothing_ns"):
                self.assertGreater(phase[clock]["count"], 1000)     # of threads that go on in the rests
                self.assertTrue(0 < phase[clock]["p50"] <= phase[clock]["p99.99"] <= phase[clock]["max"], phase)
        # Built twice, of which the second time what was freed: a half, and nine tenths of the rest.
        large = 0.1e9 / ((4 * MIB - (64 << 10)) / 4.16)
        self.assertAlmostEqual(result["operations"] / (20000 + large), 2 + 2 * 0.95, delta=0.05)
        # Nobody touches the large blocks' inner pages.
        self.assertLess(result["phases"]["build"]["peak_rss_bytes"], 60 * MIB)

    def test_reads_and_replacements(self):
        calls = self.result("large_heap", "--blocks=1000", "--operations=7000", "--latency")["latency_ns"]
        self.assertEqual((calls["malloc"]["count"], calls["free"]["count"]), (2000, 1000))  # and 5000 reads

    @unittest.skipUnless(huge_pages_are_asked_for(), "transparent huge pages are not in madvise mode")
    def test_huge_pages(self):
        """What the allocator has of them; the table, which always lies on some, is not counted."""
        arguments = ("large_heap", "--blocks=600000", "--operations=600100")  # a table of 4.8 MB
        without, having = ({name: phase["huge_page_bytes"] for name, phase in
                            self.result(*arguments, env={"GLIBC_TUNABLES": f"glibc.malloc.hugetlb={mode}"})["phases"].items()}
                           for mode in (0, 1))
        self.assertEqual(without["build"], 0)
        self.assertGreater(having["build"], 80 * MIB)


class Threads(WorkloadTest):
    def test_the_result_says_how_many(self):
        for name, result in self.results("--threads=3", names=[name for name in SMALL if name != "fork_cow"]):
            with self.subTest(name):
                self.assertEqual(result["threads"], 3)

    def test_as_many_run(self):
        for name, threads, expected in (("burst_idle", 3, 4), ("burst_idle", 1, 1), ("phases", 5, 6),
                                        ("fragmentation", 1, 1), ("producer_consumer", 5, 6)):
            with self.subTest(name, threads=threads):
                options = [option for option in SMALL[name][1] if not option.startswith("--rest")]
                process = self.start(name, *options, f"--threads={threads}", "--seconds=0.4")
                time.sleep(0.2)
                with open(f"/proc/{process.pid}/maps", encoding="utf-8") as maps:
                    self.assertIn(os.path.realpath(LIBRARY), maps.read())
                self.assertEqual(len(os.listdir(f"/proc/{process.pid}/task")), expected)
                process.kill()

    def test_sessions_threads_are_replaced(self):
        process = self.start("session_churn", "--threads=2", "--seconds=0.5")
        seen = set()
        while process.poll() is None:
            try:
                seen.update(os.listdir(f"/proc/{process.pid}/task"))
            except OSError:
                break
            time.sleep(0.01)
        self.assertGreater(len(seen), 8)  # main, and two at a time that follow each other

    def test_all_threads_are_alive_at_rest(self):
        for threads, expected in ((3, 4), (1, 1)):
            process = self.start("burst_idle", *small("burst_idle"), f"--threads={threads}", "--rest=1")
            time.sleep(0.5)
            self.assertEqual(len(os.listdir(f"/proc/{process.pid}/task")), expected)


class Latency(WorkloadTest):
    def check(self, calls, name):
        points = [calls[name][key] for key in ("p50", "p90", "p99", "p99.9", "p99.99", "max")]
        self.assertEqual(points, sorted(points), name)
        self.assertGreater(points[0], 0)
        self.assertLess(points[0], 100000)  # half of the calls take no tenth of a millisecond

    def test_percentiles(self):
        for name, result in self.results("--latency"):
            with self.subTest(name):
                calls = result["latency_ns"]
                self.assertTrue({"malloc", "free"} <= calls.keys(), calls)
                for call in calls:
                    self.check(calls, call)

    def test_every_call_counts(self):
        calls = self.result("session_churn", "--operations=12345", "--latency")["latency_ns"]
        self.assertEqual((calls["malloc"]["count"], calls["free"]["count"]), (12345, 12345))
        self.assertNotIn("realloc", calls)


class Rest(WorkloadTest):
    def test_resident_memory_is_what_the_kernel_says(self):
        process = self.start("burst_idle", "--blocks=10000", "--operations=20000", "--threads=2", "--survivors=20",
                             f"--rest={LATER}")
        readings = []
        while process.poll() is None:
            try:
                with open(f"/proc/{process.pid}/smaps_rollup", encoding="ascii") as file:
                    readings += [int(line.split()[1]) * 1024 for line in file if line.startswith("Rss:")]
            except OSError:
                break
            time.sleep(0.05)
        result = json.load(process.stdout)
        outside = statistics.median(readings[-9:])
        self.assertGreater(outside, 10 * MIB)
        for key in ("rest_rss_bytes", "rest_rss_1s_bytes"):
            self.assertLess(abs(result[key] - outside), outside * 0.02 + MIB / 4, (key, result, readings))
        self.assertGreaterEqual(result["peak_rss_bytes"], max(readings) * 0.98)

    def test_the_peak_is_this_program_s_own(self):
        ballast = bytearray(200 * MIB)  # a child inherits the peak of what starts it, as far as getrusage knows
        for i in range(0, len(ballast), 4096):
            ballast[i] = 1
        self.assertLess(self.result("interpreter", "--operations=1")["peak_rss_bytes"], 100 * MIB)


class Errors(WorkloadTest):
    def test_wrong_options(self):
        for name, arguments, words in (
                ("session_churn", ["--sead=1"], "there is no option --sead=1"),
                ("session_churn", ["--rest=1"], "there is no option --rest=1"),
                ("session_churn", ["-x"], "there is no option -x"),
                ("session_churn", ["--threads"], "--threads needs a value"),
                ("session_churn", ["more"], "not 'more'"),
                ("session_churn", ["--threads=0"], "--threads takes a whole number from 1 to 4096, not '0'"),
                ("session_churn", ["--threads=two"], "not 'two'"),
                ("session_churn", ["--operations=0"], "not '0'"),
                ("session_churn", ["--operations=-5"], "not '-5'"),
                ("session_churn", ["--operations=5k"], "not '5k'"),
                ("session_churn", ["--operations=99999999999999999999"], "--operations takes"),
                ("session_churn", ["--seconds=0"], "--seconds takes a number"),
                ("session_churn", ["--seconds=nan"], "--seconds takes a number"),
                ("session_churn", ["--operations=5", "--seconds=1"], "not both"),
                ("burst_idle", ["--survivors=101"], "--survivors takes a number from 0 to 100, not '101'"),
                ("producer_consumer", ["--threads=1"], "from 2 to"),
                ("fork_cow", ["--threads=2"], "from 1 to 1")):
            with self.subTest(name, arguments=arguments):
                done = self.run_workload(name, *arguments)
                self.assert_sentence(done, 2, f"{name}: ", words, "; see --help")
                self.assertEqual(done.stdout, "")

    def test_help(self):
        done = self.run_workload("burst_idle", "--help")
        self.assertEqual((done.returncode, done.stderr), (0, ""))
        for word in ("usage: burst_idle", "--seed", "--threads", "--operations", "--seconds", "--latency", "--survivors"):
            self.assertIn(word, done.stdout)

    def test_impossible_wishes(self):
        self.assert_sentence(self.run_workload("producer_consumer", "--threads=3", "--consumers=3"), 1, "consumers")
        self.assert_sentence(self.run_workload("fragmentation", "--threads=1000", "--live=1"), 1, "too few")
        self.assert_sentence(self.run_workload("large_heap", "--blocks=100", "--operations=100"), 1,
                             "too many for 100 operations")
        self.assert_sentence(self.run_workload("large_heap", "--blocks=2", "--threads=3"), 1, "too few for 3 threads")

    def test_a_full_disk(self):
        with open("/dev/full", "w", encoding="utf-8") as full:
            done = self.run_workload("session_churn", "--operations=100", stdout=full)
        self.assert_sentence(done, 1, "cannot write the result: No space left on device")

    def test_too_little_memory(self):
        limit = 400 * MIB

        def short_of_memory():
            resource.setrlimit(resource.RLIMIT_AS, (limit, limit))

        done = self.run_workload("burst_idle", "--blocks=300000", "--threads=1", "--operations=1",
                                 preexec_fn=short_of_memory)
        self.assert_sentence(done, 1, "burst_idle: no memory for a block of")


if __name__ == "__main__":
    unittest.main()
