"""Tests of the real programs of tools/compare when something goes wrong: whatever it is, it is one sentence."""

import os
import re
import signal
import subprocess
import time
import unittest
from unittest import mock

from programs_support import QUICK, ProgramsTest, all_cases

from compare import programs
from compare.process import Launcher
from compare.programs import gcc, memcached, nginx, node, python, redis, redis_million, redis_server, servers, sqlite
from compare.results import Failed


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


if __name__ == "__main__":
    unittest.main()
