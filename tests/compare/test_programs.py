"""Tests of the real programs of tools/compare: each works under Arenal, and is what takes its memory from there."""

import contextlib
import os
import re
import shutil
import stat
import subprocess
import unittest
from unittest import mock

from programs_support import BUILD, NOBODY, QUICK, ROOT, ProgramsTest, all_cases

from compare.cases import Settings, collect
from compare.process import Launcher
from compare.programs import gcc, memcached, nginx, node, python, redis, redis_server, servers
from compare.results import Failed


class EveryProgram(ProgramsTest):
    def test_measures(self):
        for case in all_cases():
            with self.subTest(case.name):
                results = case.measure(self.launcher(), QUICK)
                self.assertEqual([name for name, _ in results], case.names(QUICK))
                for name, run in results:
                    described = case.describe(name)
                    self.assertEqual((described["name"], described["group"]), (name, "program"))
                    self.assertTrue(described["title"] and described["about"].endswith("."), described)
                    for metric, value in run.metrics.items():
                        self.assertGreater(value, 0, f"{name}: {metric}")
                    self.assertTrue({"peak_rss", "rest_rss"} & run.metrics.keys(), name)
                    if described["clock"] == "CPU":     # the server's own time, which is no rate of requests
                        self.assertIn(name, ("program/redis/deleted", "program/redis/million"))
                        self.assertNotIn("requests_per_second", run.metrics)
                    elif described["unit"] == "µs/request":
                        self.assertAlmostEqual(run.metrics["time"] * run.metrics["requests_per_second"], 1e6, delta=1)
                    else:
                        self.assertEqual(described["unit"], "s")
                        self.assertLess(run.metrics["time"], 60)

    def test_which_there_are(self):
        names = {name for case in all_cases() for name in case.names(QUICK)}
        for program in ("redis/plain", "redis/pipelined", "redis/deleted", "redis/million", "memcached", "nginx/static", "nginx/dynamic",
                        "sqlite3", "python3", "gcc/c", "gcc/c++", "node"):
            self.assertIn(f"program/{program}", names)

    def test_quick_mode_has_redis_only(self):
        quick, full = ({case.name for case in collect(Settings(quick=quick, build_dir=BUILD)) if case.group == "program"}
                       for quick in (True, False))
        self.assertEqual(quick, {"program/redis"})
        self.assertEqual(full, {case.name for case in all_cases()})

    def test_one_result_of_several(self):
        whole = redis.CASES[0]
        case = whole.narrowed(lambda name: name.endswith("plain"), QUICK)
        results = {part: {"time": 1} for part in whole.parts}
        with mock.patch.object(redis.RedisCase, "measure_parts", return_value=results):
            self.assertEqual([name for name, _ in case.measure(None, QUICK)], ["program/redis/plain"])
            self.assertEqual(len(whole.measure(None, QUICK)), 3)
        self.assertIsNone(whole.narrowed(lambda name: False, QUICK))
        self.assertIs(python.CASES[0].narrowed(lambda name: True, QUICK), python.CASES[0])

    def test_full_answers(self):
        """The answers that only a full run checks."""
        full = Settings(quick=False, seed=3)
        for case in (python.CASES[0], node.CASES[0], *gcc.CASES):
            with self.subTest(case.name):
                self.assertGreater(case.measure(self.launcher(), full)[0][1].metrics["time"], 0)


class OrdinaryUser(ProgramsTest):
    @unittest.skipIf(os.getuid() != 0, "the other tests have run as an ordinary user already")
    def test_servers_and_scripts(self):
        """Everything again, from a path with spaces that belongs to somebody else."""
        os.chmod(self.scratch, 0o755)
        tree = os.path.join(self.scratch, "a tree")
        for folder in ("tools/lib", "tests/compare"):
            shutil.copytree(os.path.join(ROOT, folder), os.path.join(tree, folder),
                            ignore=shutil.ignore_patterns("__pycache__"))
        for path in ("src/libarenal.so", "benchmarks/server/cache_load", "benchmarks/server/cache_server"):
            os.makedirs(os.path.dirname(os.path.join(tree, "build", path)), exist_ok=True)
            shutil.copy(os.path.join(BUILD, path), os.path.join(tree, "build", path))
        own = self.temporary_folder("arenal-nobody-")
        os.chown(own, NOBODY, NOBODY)
        environment = dict(os.environ, TMPDIR=own, HOME="/nonexistent",
                           ARENAL_LIBRARY=os.path.join(tree, "build/src/libarenal.so"))
        command = ["setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups", "/usr/bin/python3", "-B",
                   os.path.join(tree, "tests/compare/test_programs.py"), "EveryProgram.test_measures"]
        done = subprocess.run(command, cwd="/", env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                              stderr=subprocess.STDOUT, text=True, timeout=120, check=False)
        self.assertEqual(done.returncode, 0, done.stdout)
        self.assertIn("\nOK", done.stdout)


class Figures(unittest.TestCase):
    TEXT = """====== SET ======
0.000% <= 0.100 milliseconds (cumulative count 10)
50.000% <= 0.200 milliseconds (cumulative count 60)
100.000% <= 0.900 milliseconds (cumulative count 100)

Cumulative distribution of latencies:
98.000% <= 0.803 milliseconds (cumulative count 98)
100.000% <= 0.903 milliseconds (cumulative count 100)

Summary:
  throughput summary: 1000.00 requests per second
"""

    def test_redis_benchmark(self):
        load = redis_server.Load.parse(self.TEXT, 100)
        self.assertEqual([load.percentile(share) for share in (5, 10, 50, 98, 99, 100)],
                         [100, 100, 200, 803, 900, 900])
        both = load + redis_server.Load(300, 0.1, [(50.0, 300)])
        self.assertEqual([both.percentile(share) for share in (50, 75, 80, 99)], [50, 50, 200, 803])
        self.assertAlmostEqual(both.figures()["requests_per_second"], 400 / 0.2)

    def test_redis_benchmark_incomplete(self):
        for text, requests in ((self.TEXT, 101), (self.TEXT.replace("1000.00", "0.00"), 100), ("", 100)):
            with self.assertRaises(Failed):
                redis_server.Load.parse(text, requests)


class Allocation(ProgramsTest):
    def test_redis_takes_malloc_from_what_is_preloaded(self):
        """Also from glibc's, although Debian links it with jemalloc."""
        for name in ("glibc", "arenal"):
            launcher = self.launcher(name)
            trace = os.path.join(self.scratch, f"trace-{name}")
            launcher.run(redis_server.Redis(launcher).command()[:1] + ["--version"], timeout=20,
                         env={"LD_DEBUG": "bindings", "LD_BIND_NOW": "1", "LD_DEBUG_OUTPUT": trace})
            text = ""
            for file in os.listdir(self.scratch):
                if file.startswith(f"trace-{name}."):
                    with open(os.path.join(self.scratch, file), encoding="utf-8", errors="replace") as lines:
                        text += lines.read()
            found = re.search(r"binding file \S*redis\S* \[0\] to (.+) \[0\]: normal symbol `malloc'", text)
            self.assertEqual(os.path.realpath(found.group(1)), launcher.allocator.library)

    def test_compiler_itself_runs_on_the_allocator(self):
        """gcc only starts cc1, which is what allocates."""
        for case, program in ((gcc.CASES[0], "cc1"), (gcc.CASES[1], "cc1plus")):
            launcher = self.launcher()
            command = case.command(launcher.scratch, QUICK)
            done = launcher.run(command, timeout=60, cwd=launcher.scratch, env={"ARENAL_STATS": "1"})
            self.assertGreaterEqual(len(re.findall("^arenal .*statistics", done.errors, re.MULTILINE)), 3, program)

    def test_load_generators_run_without_it(self):
        launcher = self.launcher()
        seen = []

        class Records(Launcher):
            def start(self, command, *, preload=True, **options):
                seen.append((os.path.basename(command[0]), preload))
                return super().start(command, preload=preload, **options)

        memcached.CASES[0].measure(Records(launcher.allocator, launcher.scratch, BUILD), QUICK)
        self.assertEqual(seen, [("memcached", True), ("cache_load", False)])

    def test_servers_listen_on_the_loopback_only(self):
        for kind in (redis_server.Redis, servers.Memcached, servers.CacheServer, nginx.Nginx):
            with self.subTest(kind.__name__), kind(self.launcher()) as server:
                addresses = listening_addresses(server.service.pid)
                self.assertEqual(addresses, {("0100007F", server.port)})


def listening_addresses(pid):
    """All TCP addresses that a process listens on, of either family, as the kernel writes them."""
    sockets = set()
    for descriptor in os.listdir(f"/proc/{pid}/fd"):
        with contextlib.suppress(OSError):
            if stat.S_ISSOCK(os.stat(f"/proc/{pid}/fd/{descriptor}").st_mode):
                sockets.add(os.readlink(f"/proc/{pid}/fd/{descriptor}"))
    found = set()
    for table in ("tcp", "tcp6"):
        with contextlib.suppress(FileNotFoundError), open(f"/proc/{pid}/net/{table}", encoding="ascii") as rows:
            for row in list(rows)[1:]:
                words = row.split()
                if words[3] == "0A" and f"socket:[{words[9]}]" in sockets:
                    address, port = words[1].split(":")
                    found.add((address, int(port, 16)))
    return found


if __name__ == "__main__":
    unittest.main()
