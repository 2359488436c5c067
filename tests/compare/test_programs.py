"""Tests of the real programs of tools/compare: each works under Arenal, and whatever goes wrong is one sentence.

CMake names the library in the environment; the build's benchmarks are found beside it.
"""

import contextlib
import faulthandler
import importlib
import os
import pkgutil
import re
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
import time
import unittest
from unittest import mock

HERE = os.path.dirname(os.path.realpath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))
LIBRARY = os.environ["ARENAL_LIBRARY"]
BUILD = os.path.dirname(os.path.dirname(LIBRARY))
NOBODY = 65534

sys.path.insert(0, os.path.join(ROOT, "tools", "lib"))
# pylint: disable=wrong-import-position
from compare import allocators, programs
from compare.cases import Settings, collect
from compare.process import Launcher
from compare.programs import gcc, memcached, nginx, node, python, redis, redis_million, redis_server, servers, sqlite
from compare.results import Failed

QUICK = Settings(quick=True, seed=3, build_dir=BUILD)
# Before ctest ends a test that hangs: where it hangs.
faulthandler.dump_traceback_later(280, exit=True)


def all_cases():
    modules = [importlib.import_module(f"compare.programs.{module.name}")
               for module in pkgutil.iter_modules(programs.__path__)]
    return [case for module in modules for case in getattr(module, "CASES", [])]


class ProgramsTest(unittest.TestCase):
    def setUp(self):
        # What is preloaded must have a path without spaces; everything else may have them.
        self.scratch = self.temporary_folder("arenal programs: ")
        self.preloads = self.temporary_folder("arenal-preload-")

    def tearDown(self):
        self.assert_nothing_left()

    def assert_nothing_left(self):
        """All that is started has its current directory in the scratch directory. What was killed needs a moment."""
        deadline = time.monotonic() + 5
        while processes_in(self.scratch) and time.monotonic() < deadline:
            time.sleep(0.02)
        self.assertEqual({pid: command_line(pid) for pid in processes_in(self.scratch)}, {}, "left behind")

    def temporary_folder(self, prefix):
        folder = tempfile.mkdtemp(prefix=prefix)
        self.addCleanup(shutil.rmtree, folder, ignore_errors=True)
        return folder

    def launcher(self, name="arenal", kind=Launcher, **options):
        allocator, = allocators.find([name], BUILD, self.preloads)
        self.assertIsNone(allocator.problem)
        return kind(allocator, tempfile.mkdtemp(dir=self.scratch), BUILD, **options)

    def assert_fails(self, case, pattern, launcher=None):
        with self.assertRaisesRegex(Failed, pattern) as raised:
            case.measure(launcher or self.launcher(), QUICK)
        self.assertNotIn("\n", str(raised.exception))
        self.assert_nothing_left()


def processes_in(folder):
    found = []
    for pid in filter(str.isdigit, os.listdir("/proc")):
        with contextlib.suppress(OSError):
            if os.readlink(f"/proc/{pid}/cwd").startswith(folder):
                found.append(int(pid))
    return found


def command_line(pid):
    try:
        with open(f"/proc/{pid}/cmdline", encoding="utf-8", errors="replace") as words:
            return words.read().replace("\0", " ").strip()
    except OSError:
        return ""


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


class Disturbs(Launcher):
    """Does something to the server when the load generator of this number begins."""

    service = None
    loads = 0

    def __init__(self, *arguments, at, disturb):
        super().__init__(*arguments)
        self.at = at
        self.disturb = disturb

    def start(self, command, *, preload=True, **options):
        if not preload:
            self.loads += 1
            if self.loads == self.at:
                self.disturb(self.service)
            return super().start(command, preload=False, **options)
        self.service = super().start(command, **options)
        return self.service


def kill(service):
    os.kill(service.pid, signal.SIGKILL)


def kill_worker(service):
    with open(f"/proc/{service.pid}/task/{service.pid}/children", encoding="ascii") as children:
        os.kill(int(children.read().split()[0]), signal.SIGKILL)


def halt(service):
    os.kill(service.pid, signal.SIGSTOP)


class Failures(ProgramsTest):
    def disturbing(self, disturb, at):
        return self.launcher(kind=Disturbs, disturb=disturb, at=at)

    def test_server_dies(self):
        for case, at in ((redis.CASES[0], 1), (redis.CASES[0], 3), (memcached.CASES[0], 1), (nginx.CASES[0], 2)):
            with self.subTest(case.name):
                start = time.monotonic()
                self.assert_fails(case, r"^the server crashed: SIGKILL after [\d.]+ s", self.disturbing(kill, at))
                self.assertLess(time.monotonic() - start, 20)  # not the time limit's seconds

    def test_worker_dies(self):
        self.assert_fails(nginx.CASES[0], "exited on signal 9|requests well", self.disturbing(kill_worker, 1))

    def test_server_hangs(self):
        with mock.patch.object(servers.Server, "load_timeout", 1):
            self.assert_fails(redis.CASES[0], "^redis-benchmark hung: killed after 1 s", self.disturbing(halt, 1))

    def test_crash(self):
        """An allocator that crashes is a sentence about the program that it crashed."""
        library = os.path.join(self.preloads, "crashes.so")
        subprocess.run(["gcc", "-shared", "-fPIC", "-x", "c", "-", "-o", library], check=True, text=True, input="""
            #include <signal.h>
            #include <stdlib.h>
            void *__libc_malloc(size_t size);
            void *malloc(size_t size)
            {
                static int calls;
                if (++calls == 1000)
                    raise(SIGSEGV);
                return __libc_malloc(size);
            }""")
        self.assert_fails(redis.CASES[0], "^the server crashed: SIGSEGV", self.launcher(library))
        self.assert_fails(python.CASES[0], "^crashed: SIGSEGV", self.launcher(library))

    def test_missing_program(self):
        empty = self.temporary_folder("arenal-empty-")
        with mock.patch.object(programs, "DEBIAN_PATH", empty), mock.patch.dict(os.environ, PATH=empty):
            for case in all_cases():
                with self.subTest(case.name), self.assertRaises(Failed) as raised:
                    case.measure(self.launcher(), QUICK)
                found = re.fullmatch(r"\S+ is not installed; it is in Debian's package (\S+)", str(raised.exception))
                self.assertTrue(found, raised.exception)
                self.assertIn(found.group(1), case.packages)

    def test_missing_load_generator(self):
        folder = self.temporary_folder("arenal-some-")
        for name in ("redis-server", "nginx"):
            os.symlink(programs.find_program(name, name), os.path.join(folder, name))
        with mock.patch.object(programs, "DEBIAN_PATH", folder), mock.patch.dict(os.environ, PATH=folder):
            self.assert_fails(redis.CASES[0], "^redis-benchmark is not installed; .* package redis-tools$")
            self.assert_fails(nginx.CASES[0], "^wrk is not installed; .* package wrk$")


class WrongAnswers(ProgramsTest):
    """A program that an allocator broke may well go on."""

    def test_printed(self):
        for module in (python, node):
            with mock.patch.dict(module.RESULTS, quick="result 1"):
                self.assert_fails(module.CASES[0], r"gave a wrong answer: result \d+ instead of result 1$")
        with mock.patch.object(sqlite, "answer", lambda people: "18000|1"):
            self.assert_fails(sqlite.CASES[0], r"^sqlite3 gave a wrong answer: 18000\|.* instead of 18000\|1$")
        with mock.patch.dict(gcc.C.results, quick="1"):
            self.assert_fails(gcc.CASES[0], r"the program that gcc made gave a wrong answer: \d+ instead of 1$")

    def test_pages(self):
        with mock.patch.dict(nginx.SIZES, a=301):
            launcher = self.launcher()
            with nginx.Nginx(launcher) as server:
                right = nginx.answers()["static"]
                server.check_answers(right)
                server.write("www/a", "!" * 301)
                with self.assertRaisesRegex(Failed, "^nginx answered /a with other bytes than it has to$"):
                    server.check_answers(right)
                os.unlink(os.path.join(launcher.scratch, "nginx/www/b"))
                with self.assertRaisesRegex(Failed, "^nginx did not answer /b: .*404"):
                    server.check_answers({"/b": right["/b"]})
                with self.assertRaisesRegex(Failed, r"^nginx did not answer \d+ of \d+ requests well$"):
                    server.load_paths(["/b", "/c"], 1)

    def test_redis_values(self):
        good = [b"a" * 100, b"b" * 32, b"a" * 100]
        redis.check_values(good, 3)
        for values, count in ((good, 4), (good + [b"c" * 100], 4), (good + [b"c" * 99], 4)):
            with self.assertRaisesRegex(Failed, "^redis gave back "):
                redis.check_values(values, count)

    def test_a_million_keys(self):
        values = list(redis_million.values(1000, seed=1))
        self.assertTrue(100 <= min(map(len, values)) < 110 and 990 < max(map(len, values)) <= 1000)
        self.assertNotEqual(values, list(redis_million.values(1000, seed=2)))
        with redis_server.Redis(self.launcher()) as server:
            self.assertGreater(server.fill(iter(values)), 0)
            _, kept = server.delete(1000, 10, seed=1)
            found = server.values(kept)
            redis_million.check_values(found, kept, 1000, seed=1)
            with self.assertRaisesRegex(Failed, f"^redis gave back another value of {kept[5]} than it was given$"):
                redis_million.check_values([*found[:5], b"x" + found[5][1:], *found[6:]], kept, 1000, seed=1)
            with self.assertRaisesRegex(Failed, r"^redis gave back \d+ values of the \d+ that were not deleted$"):
                redis_million.check_values(found[1:], kept, 1000, seed=1)
            kill(server.service)
            os.waitid(os.P_PID, server.service.pid, os.WEXITED | os.WNOWAIT)
            with self.assertRaisesRegex(Failed, "^the server crashed: SIGKILL"):
                server.fill(iter(values))

    def test_what_a_client_takes_is_not_the_servers(self):
        """A client that dawdles changes nothing."""
        def slowly():
            for number in range(600):
                if number % 200 == 0:
                    time.sleep(0.3)
                yield b"x" * 100
        with redis_server.Redis(self.launcher()) as server:
            start = time.monotonic()
            self.assertLess(server.fill(slowly()), 0.3)
            self.assertGreater(time.monotonic() - start, 0.9)
            self.assertLess(server.delete(600, 10, seed=1)[0], 0.3)

    def test_redis_keys(self):
        """Deleting keeps the share wanted, of keys that have their values; others are noticed."""
        with redis_server.Redis(self.launcher()) as server:
            server.benchmark("set", 20000, 1000, 100, 16)
            self.assertEqual(server.count_keys(), 1000)
            _, kept = server.delete(1000, 10, seed=1)
            self.assertTrue(50 < len(kept) < 200)
            self.assertEqual(server.count_keys(), len(kept))
            self.assertEqual({len(value) for value in server.values(kept)}, {100})
            with mock.patch.object(server, "count_keys", side_effect=[100, 99, 99]), \
                    self.assertRaisesRegex(Failed, "redis had 100 keys, deleted 0 and has 99"):
                server.delete(1000, 100, seed=1)


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
