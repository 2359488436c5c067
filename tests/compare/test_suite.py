"""Tests of --suite, on a suite that is made up, and of --allocator."""

import os
import shutil
import subprocess
import tempfile
import unittest

from support import BUILD, COMPARE, TOUCHER, CommandTest
from compare import allocators, suite       # pylint: disable=wrong-import-order
from compare.process import Launcher        # pylint: disable=wrong-import-order
from compare.results import Failed          # pylint: disable=wrong-import-order

NO_MALLOC = os.path.join(os.environ["TEST_PROGRAMS"], "libcompare_nothing.so")
PROGRAMS = {"cfrac": "test $# = 1", "barnes": "read line && test \"$line\" = input",
            "larson": "echo throughput; echo ' time: 2.5'", "glibc-thread": "echo 2000000 iterations",
            "rptest": "echo ...1000000 memory ops", "mleak": "kill -9 $$", "xmalloc-test": "echo nothing"}


class Suite(CommandTest):
    def setUp(self):
        super().setUp()
        self.root = os.path.join(self.folder, "the suite")
        os.makedirs(os.path.join(self.root, "out", "bench"))
        os.makedirs(os.path.join(self.root, "bench", "barnes"))
        with open(os.path.join(self.root, "bench", "barnes", "input"), "w", encoding="ascii") as file:
            file.write("input\n")
        for name, text in PROGRAMS.items():
            self.program(name, text)

    def program(self, name, text):
        path = os.path.join(self.root, "out", "bench", name)
        with open(path, "w", encoding="ascii") as file:
            file.write(f"#!/bin/sh\n{text}\n")
        os.chmod(path, 0o755)

    def test_what_is_built_is_measured(self):
        done = self.compare("--suite", self.root, "--allocators", "arenal,glibc", "--rounds", "2")
        self.assertEqual(done.returncode, 1, done)      # mleak and xmalloc-test fail
        results = self.results()
        self.assertEqual(results["mode"], "suite")
        cases = {case["name"]: case for case in results["cases"]}
        self.assertEqual(set(cases), {f"suite/{name}" for name in (
            "cfrac", "barnes", "larsonN", "larson16", "larson64", "rptestN", "rptest16", "glibc-thread", "xmalloc-testN",
            "mleak10", "mleak100")})
        for name, time in (("larson16", 2.5), ("rptestN", 2), ("glibc-thread", 500)):
            for allocator in ("arenal", "glibc"):
                runs = cases[f"suite/{name}"]["results"][allocator]["runs"]
                self.assertEqual([run["metrics"]["time"] for run in runs], [time, time])
        self.assertTrue(all(run["metrics"]["time"] > 0 and run["metrics"]["peak_rss"] > 0 for name in ("cfrac", "barnes")
                            for run in cases[f"suite/{name}"]["results"]["arenal"]["runs"]))
        self.assertIn("suite/mleak10 under every allocator: crashed: SIGKILL", done.stdout)
        self.assertIn("suite/xmalloc-testN under every allocator: xmalloc-test printed no result", done.stdout)
        self.assertRegex(done.stdout.replace("\n", " "),
                         r"mimalloc-bench \S+.*; not built there: espresso, larsonN-sized, mstressN")
        with open(self.html, encoding="utf-8") as page:
            self.assertIn("mimalloc-bench", page.read())

    def test_some_of_it(self):
        listed = self.run_plain("--suite", self.root, "--list", "--only", "larson*,cfrac")
        self.assertEqual([line.split()[0] for line in listed.splitlines()], ["suite/cfrac", "suite/larsonN", "suite/larson16",
                                                                       "suite/larson64"])

    def run_plain(self, *arguments):
        return subprocess.run([COMPARE, "--build-dir", BUILD, *arguments], stdout=subprocess.PIPE, text=True, check=True).stdout

    def test_what_is_no_suite(self):
        self.assert_sentence(self.compare("--suite", self.folder), "out/bench is missing", "build-bench-env.sh bench")
        shutil.rmtree(os.path.join(self.root, "out", "bench"))
        os.mkdir(os.path.join(self.root, "out", "bench"))
        self.assert_sentence(self.compare("--suite", self.root), "none of the suite's programs")
        self.assertEqual(self.compare("--suite", self.root, "--threads", "2").returncode, 2)

    def test_an_input_that_is_missing(self):
        shutil.rmtree(os.path.join(self.root, "bench"))
        barnes = next(case for case in suite.cases(self.root) if case.test.name == "barnes")
        with self.assertRaisesRegex(Failed, "cannot read the suite's bench/barnes/input"):
            barnes.measure(Launcher(allocators.find_all(["glibc"])[0], self.folder, BUILD), None)


class GivenAllocators(CommandTest):
    def test_a_name_a_path_and_variables(self):
        copy = os.path.join(self.folder, "lib copy.so")
        shutil.copy(os.path.join(BUILD, "src", "libarenal.so"), copy)
        done = self.compare("--allocators", "arenal,jemalloc-tuned", "--allocator", f"mine={copy},ARENAL_DECAY=-1,X='a,b'",
                            "--rounds", "1", command=[TOUCHER, "1"])
        self.assertEqual(done.returncode, 0, done)
        mine = self.results()["allocators"][2]
        self.assertEqual((mine["name"], mine["library"], mine["environment"]),
                         ("mine", os.path.realpath(copy), {"ARENAL_DECAY": "-1", "X": "a,b"}))
        self.assertRegex(mine["version"], "^file [0-9a-f]{12}$")
        self.assertEqual(list(self.results()["cases"][0]["results"]), ["arenal", "jemalloc-tuned", "mine"])
        self.assertIn(f"mine: {mine['version']}, ARENAL_DECAY=-1 X=a,b.", done.stdout)
        self.assertRegex(done.stdout, r"(?m)^jemalloc-tuned: 5\.[0-9.-]+, MALLOC_CONF=background_thread:true,dirty_decay_ms:1000")

    def test_what_a_library_says_of_itself(self):
        """A jemalloc that no package has."""
        installed = allocators.find_all(["jemalloc"])[0]
        if installed.problem:
            self.skipTest("there is no jemalloc")
        copy = os.path.join(self.folder, "libje.so")
        shutil.copy(installed.library, copy)
        with tempfile.TemporaryDirectory() as scratch:
            found, = allocators.find([], "", scratch, [("je", copy, {})])
        self.assertRegex(found.version, r"^jemalloc 5\.")

    def test_versions(self):
        for told, version in (("mimalloc 209", "mimalloc 2.0.9"), ("mimalloc 30403", "mimalloc 3.4.3"),
                              ("jemalloc 5.3.0", "jemalloc 5.3.0"), ("gperftools 2.18", "gperftools 2.18"), ("", "")):
            self.assertEqual(allocators.dotted(told), version)
        # The name of a file says an ABI's number, and a folder inside of a checkout is none itself.
        copy = os.path.join(self.folder, "libother.so.2")
        shutil.copy(os.path.join(BUILD, "src", "libarenal.so"), copy)
        with tempfile.TemporaryDirectory() as scratch:
            found, = allocators.find([copy], "", scratch)
        self.assertRegex(found.version, "^file [0-9a-f]{12}$")
        inner = os.path.join(self.folder, "checkout", "inner")
        os.makedirs(inner)
        subprocess.run(["git", "init", "-q", os.path.dirname(inner)], check=True)
        subprocess.run(["git", "-C", os.path.dirname(inner), "-c", "user.name=test", "-c", "user.email=test@localhost", "commit",
                        "-q", "--allow-empty", "-m", "first"], check=True)
        self.assertRegex(allocators.revision(os.path.dirname(inner)), "^[0-9a-f]{7,}$")
        self.assertEqual(allocators.revision(inner), "")
        # A build is of the sources that it was made from, not of those that this tool lies beside.
        build = os.path.join(self.folder, "build")
        os.mkdir(build)
        with open(os.path.join(build, "CMakeCache.txt"), "w", encoding="utf-8") as file:
            file.write(f"CMAKE_PROJECT_VERSION:STATIC=0.7\nCMAKE_HOME_DIRECTORY:INTERNAL={os.path.dirname(inner)}\n")
        self.assertEqual(allocators.find_all(["arenal"], build)[0].version,
                         f"0.7 {allocators.revision(os.path.dirname(inner))}")

    def test_a_library_without_malloc(self):
        """Preloaded, it would leave libc's: the figures would be of that."""
        for words in (("--allocators", f"glibc,{NO_MALLOC}"), ("--allocators", "glibc", "--allocator", f"mine={NO_MALLOC}")):
            done = self.compare(*words, "--rounds", "1", command=["true"])
            self.assertIn("defines no malloc", done.stdout)
            self.assertEqual(list(self.results()["cases"][0]["results"]), ["glibc"])

    def test_what_is_wrong(self):
        for word in (("--allocator", f"mine={NO_MALLOC},LD_PRELOAD=x.so"), ("--allocators", "LD_PRELOAD=x.so glibc")):
            done = self.compare(*word, command=["true"])
            self.assertEqual(done.returncode, 2, done)
            self.assertIn("LD_PRELOAD is what the library itself is set by", done.stderr)
        for text in ("mine", "mine=", "arenal=/x.so", "=x.so", "mine=x.so,nothing", "a b=x.so"):
            with self.subTest(text):
                self.assertIsNone(allocators.given(text))
        self.assertEqual(self.compare("--allocator", "mine", command=["true"]).returncode, 2)
        # Said at once: nothing is measured before.
        text = os.path.join(self.folder, "text.so")
        with open(text, "w", encoding="ascii") as file:
            file.write("no library\n" * 100)
        self.assertEqual(allocators.find_all([text])[0].problem, f"{text} is no library")
        for path, reason in (("/nosuch.so", "/nosuch.so is missing"), ("/tmp", "/tmp is no library")):
            done = self.compare("--allocators", "glibc", "--allocator", f"mine={path}", "--rounds", "1", command=["true"])
            self.assertEqual((done.returncode, done.stdout), (2, ""), done)
            self.assertIn(reason, done.stderr)


if __name__ == "__main__":
    unittest.main()
