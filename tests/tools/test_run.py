"""Tests of `arenal run`, and of what all subcommands share: the library's place, --version, usage."""

import os
import re
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import unittest

from support import DEADLINE, LIBRARY, TOOL, ToolTest, as_nobody, environment

MODULES = os.path.join(os.path.dirname(TOOL), "lib")
HEADER = os.path.join(os.path.dirname(os.path.dirname(TOOL)), "include", "arenal", "arenal.h")
REAL_LIBRARY = os.path.realpath(LIBRARY)


# What argparse does since Python 3.11.3 or so, whichever runs the tests.
QUIET_ARGPARSE = """
import argparse
def print_message(self, message, file=None):
    try:
        file.write(message)
    except OSError:
        pass
argparse.ArgumentParser._print_message = print_message
"""


class Run(ToolTest):
    def mapped_libraries(self, *arguments, **options):
        """The files mapped into a command that the tool runs."""
        done = self.arenal("run", *arguments, "--", "cat", "/proc/self/maps", **options)
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertEqual(done.stderr, "")
        return set(re.findall(r" (/.*)$", done.stdout, re.M))

    def test_the_library_is_loaded(self):
        self.assertIn(REAL_LIBRARY, self.mapped_libraries())

    def test_an_earlier_preload_stays_behind(self):
        env = environment(LD_PRELOAD="libm.so.6 libdl.so.2")
        done = self.arenal("run", "--", "printenv", "LD_PRELOAD", env=env)
        first, *others = done.stdout.strip().split(":")
        self.assertEqual(os.path.realpath(first), REAL_LIBRARY)
        self.assertEqual(others, ["libm.so.6", "libdl.so.2"])
        self.assertTrue(any("libm.so.6" in path for path in self.mapped_libraries(env=env)))

    def test_a_file_that_may_not_grow(self):
        """What is said at exit has no room there (RLIMIT_FSIZE). The program ends as it would; a signal of its own stays its own."""
        path = os.path.join(self.folder, "errors")
        program = "import os, signal, sys\nif len(sys.argv) > 1:\n signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGXFSZ])\n" \
                  " os.kill(os.getpid(), signal.SIGXFSZ)\nos.lseek(2, 0, os.SEEK_END)\nsys.exit(3)"
        for words in ((), ("pending",)):
            for changes in ({"ARENAL_STATS": "1"}, {"ARENAL_LEAKS": "1", "ARENAL_PROFILE_SAMPLE": "1"}, {"ARENAL_CONF": "nonsense:1"}):
                with self.subTest(words=words, **changes):
                    with open(path, "wb") as file:
                        file.write(bytes(4096))
                        file.flush()
                        done = subprocess.run([sys.executable, "-c", program, *words], env=environment(LD_PRELOAD=LIBRARY, **changes), stderr=file,
                                              preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096)), timeout=DEADLINE, check=False)
                    self.assertEqual(done.returncode, 3)
                    self.assertEqual(os.path.getsize(path), 4096)

    def test_nested_runs_preload_once(self):
        done = self.arenal("run", "--", sys.executable, "-B", TOOL, "run", "--", "printenv", "LD_PRELOAD")
        self.assertEqual(done.stdout.count("libarenal"), 1, done.stdout)

    def test_exit_codes(self):
        self.assertEqual(self.arenal("run", "--", "sh", "-c", "exit 7").returncode, 7)
        self.assertEqual(self.arenal("run", "--", "sh", "-c", "kill -TERM $$").returncode, -signal.SIGTERM)
        self.assert_sentence(self.arenal("run", "--", "no-such-command"), "no-such-command", status=127)
        self.assert_sentence(self.arenal("run", "--", "/etc/passwd"), "/etc/passwd", status=126)
        self.assertEqual(self.arenal("run").returncode, 2)
        self.assertEqual(self.arenal().returncode, 2)
        self.assertEqual(self.arenal("no-such-action").returncode, 2)

    def test_a_forgotten_separator(self):
        for words in (["run", "ls", "-l"], ["maps", "ls"], ["maps", "1", "2"]):
            done = self.arenal(*words)
            self.assertEqual((done.returncode, done.stdout), (2, ""))
            self.assertIn('"--"', done.stderr.splitlines()[-1])

    def test_arguments_and_options_reach_the_command(self):
        done = self.arenal("run", "--", "printf", "%s|", "--help", "--", "a b", "")
        self.assertEqual(done.stdout, "--help|--|a b||")

    def test_settings_and_statistics(self):
        show = ["--", "sh", "-c", 'echo "$ARENAL_CONF $ARENAL_STATS"']
        done = self.arenal("run", "--set", "arena_max=1", "--set", "stats=0", "--stats", *show)
        self.assertEqual(done.stdout, "arena_max:1,stats:0 1\n")
        done = self.arenal("run", "--set", "arena_max=2", *show, env=environment(ARENAL_CONF="arena_max:1"))
        self.assertEqual(done.stdout, "arena_max:1,arena_max:2 \n")
        for bad in ("x", "=1", "a=", "a=1,b:2"):
            self.assert_sentence(self.arenal("run", "--set", bad, "--", "true"), bad, status=125)

    def test_statistics_are_printed(self):
        done = self.arenal("run", "--stats", "--", "true")
        self.assertEqual(done.returncode, 0)
        self.assertIn("arenal", done.stderr.splitlines()[0])

    def test_the_environment_is_otherwise_untouched(self):
        env = environment(LANG="C", LC_ALL=None, LC_CTYPE=None)     # Python would add LC_CTYPE here
        done = self.arenal("run", "--", "env", "-0", env=env)
        got = dict(entry.split("=", 1) for entry in done.stdout.split("\0") if entry)
        self.assertEqual(got.pop("LD_PRELOAD").count("libarenal"), 1)
        self.assertEqual(got.pop("ARENAL_WINDOW"), "1")
        self.assertEqual(got, env)

    def test_the_window_is_not_forced_upon_anybody(self):
        show = ["--", "sh", "-c", 'echo "$ARENAL_CONF:$ARENAL_WINDOW"']
        self.assertEqual(self.arenal("run", *show).stdout, ":1\n")
        self.assertEqual(self.arenal("run", "--set", "window=0", *show).stdout, "window:0:\n")
        self.assertEqual(self.arenal("run", *show, env=environment(ARENAL_WINDOW="-1")).stdout, ":-1\n")

    def test_ignored_signals_do_not_reach_the_command(self):
        done = self.arenal("run", "--", "grep", "SigIgn", "/proc/self/status")
        ignored = int(done.stdout.split()[1], 16)
        for name in (signal.SIGPIPE, signal.SIGXFSZ):           # Python ignores both
            self.assertFalse(ignored >> (name - 1) & 1, name)

    def test_a_script_without_interpreter_line(self):
        script = os.path.join(self.folder, "script")
        with open(script, "w", encoding="utf-8") as file:
            file.write("echo $1\nexit 3\n")
        os.chmod(script, 0o755)
        done = self.arenal("run", "--", script, "hello")
        self.assertEqual((done.returncode, done.stdout), (3, "hello\n"))

    def test_a_static_program_is_warned_about(self):
        done = self.arenal("run", "--", "/sbin/ldconfig", "-V")
        self.assertEqual(done.returncode, 0)
        self.assertIn("statically linked", done.stderr)

    @unittest.skipIf(shutil.which("musl-gcc") is None, "there is no musl-gcc (Debian: musl-tools)")
    def test_a_program_of_another_libc_is_warned_about(self):
        program = os.path.join(self.folder, "of musl")
        subprocess.run(["musl-gcc", "-x", "c", "-", "-o", program], input="int main(void) { return 0; }", text=True, check=True)
        done = self.arenal("run", "--", program)
        self.assertNotEqual(done.returncode, 0)
        self.assertIn("is a program for musl", done.stderr)
        self.assertNotIn("is a program for", self.arenal("run", "--", "/bin/true").stderr)


class Library(ToolTest):
    def preloaded(self, tool=TOOL, env=None, prefix=()):
        """The library that a command gets, as the kernel sees it: symbolic links are resolved."""
        done = self.arenal("run", "--", "cat", "/proc/self/maps", tool=tool, env=env, prefix=prefix)
        self.assertEqual((done.returncode, done.stderr), (0, ""))
        return set(re.findall(r" (/.*libarenal.*)$", done.stdout, re.M))

    def test_missing_or_broken(self):
        for name in ("/nowhere/libarenal.so", "/etc/passwd", "/"):
            done = self.arenal("run", "--", "true", env=environment(ARENAL_LIBRARY=name))
            self.assert_sentence(done, "ARENAL_LIBRARY", name, status=125)
        tree = self.copy_of_tool((TOOL, "tools/arenal"), (MODULES, "tools/lib"))
        env = environment(ARENAL_LIBRARY=None, PATH=self.fake_ldconfig("nothing"))
        done = self.arenal("run", "--", "true", env=env, tool=tree + "/tools/arenal")
        self.assert_sentence(done, "libarenal.so", "ARENAL_LIBRARY", status=125)

    def plain_folder(self):
        folder = tempfile.mkdtemp(prefix="arenal-test-", dir="/tmp")
        self.addCleanup(shutil.rmtree, folder, ignore_errors=True)
        return folder

    def fake_ldconfig(self, line):
        folder = self.plain_folder()        # PATH has no way to express the colon in self.folder
        with open(folder + "/ldconfig", "w", encoding="utf-8") as file:
            file.write(f"#!/bin/sh\necho '{line}'\n")
        os.chmod(folder + "/ldconfig", 0o755)
        return f"{folder}:{os.environ['PATH']}"

    def test_in_the_build_tree(self):
        tree = self.copy_of_tool((TOOL, "tools/arenal"), (MODULES, "tools/lib"),
                                 (LIBRARY, "build/release/src/libarenal.so"))
        got = self.preloaded(tree + "/tools/arenal", environment(ARENAL_LIBRARY=None))
        self.assertEqual(got, {tree + "/build/release/src/libarenal.so"})

    def test_installed_and_used_by_an_ordinary_user(self):
        for folder in ("lib", "lib64", "lib/x86_64-linux-gnu"):
            with self.subTest(folder=folder):
                tree = self.copy_of_tool((TOOL, f"{folder} here/bin/arenal"),
                                         (MODULES, f"{folder} here/share/arenal"),
                                         (HEADER, f"{folder} here/include/arenal/arenal.h"),
                                         (LIBRARY, f"{folder} here/{folder}/libarenal.so.0"))
                tool = f"{tree}/{folder} here/bin/arenal"
                env = environment(ARENAL_LIBRARY=None)
                got = self.preloaded(tool, env, as_nobody())
                self.assertEqual(got, {f"{tree}/{folder} here/{folder}/libarenal.so.0"})
                done = self.arenal("--version", tool=tool, env=env, prefix=as_nobody())
                self.assertRegex(done.stdout, r"^arenal \d+\.\d+\.\d+\n$")

    def test_known_to_the_dynamic_linker(self):
        tree = self.copy_of_tool((TOOL, "tools/arenal"), (MODULES, "tools/lib"))
        path = self.fake_ldconfig(f"	libarenal.so.0 (libc6,x86-64) => {LIBRARY}")
        got = self.preloaded(tree + "/tools/arenal", environment(ARENAL_LIBRARY=None, PATH=path))
        self.assertEqual(got, {REAL_LIBRARY})

    def test_a_path_that_preload_cannot_express(self):
        awkward = os.path.join(self.folder, "with space: and $LIB")
        os.mkdir(awkward)
        library = os.path.join(awkward, "libarenal.so")
        with open(LIBRARY, "rb") as source, open(library, "wb") as target:
            target.write(source.read())
        runtime = self.plain_folder()
        env = environment(ARENAL_LIBRARY=library, XDG_RUNTIME_DIR=runtime)
        self.assertEqual(self.preloaded(env=env), {library})
        self.assertEqual(self.preloaded(env=env), {library})        # the link of the first time is used again
        own = os.path.join(runtime, f"arenal-{os.getuid()}")
        self.assertEqual(len(os.listdir(own)), 1)
        self.assertEqual(os.stat(own).st_mode & 0o022, 0, "only its owner may write there")

    def test_a_folder_that_others_can_write_is_not_trusted(self):
        library = os.path.join(self.folder, "libarenal.so")         # the name has a space in it
        with open(LIBRARY, "rb") as source, open(library, "wb") as target:
            target.write(source.read())
        runtime = self.plain_folder()
        own = os.path.join(runtime, f"arenal-{os.getuid()}")
        os.mkdir(own)
        os.chmod(own, 0o777)
        env = environment(ARENAL_LIBRARY=library, XDG_RUNTIME_DIR=runtime)
        self.assertEqual(self.preloaded(env=env), {library})
        self.assertEqual(os.listdir(own), [])

    def test_version_comes_from_the_library_when_there_is_no_header(self):
        tree = self.copy_of_tool((TOOL, "tools/arenal"), (MODULES, "tools/lib"))
        with_header = self.arenal("--version")
        without = self.arenal("--version", tool=tree + "/tools/arenal")
        self.assertEqual(with_header.returncode, 0)
        self.assertRegex(with_header.stdout, r"^arenal \d+\.\d+\.\d+\n$")
        self.assertEqual(without.stdout, with_header.stdout)

    def test_installed_without_its_modules(self):
        tree = self.copy_of_tool((TOOL, "bin/arenal"))
        self.assert_sentence(self.arenal("--version", tool=tree + "/bin/arenal"), "modules")

    def test_help(self):
        self.assertIn("maps", self.arenal("--help").stdout)
        self.assertIn("ARENAL_LIBRARY", self.arenal("run", "--help").stdout)
        self.assertIn("PID", self.arenal("maps", "--help").stdout)
        self.assertIn("arenal ctl PID profile start [BYTES] | stop | dump FILE", self.arenal("ctl", "--help").stdout)

    def test_help_on_a_full_disk(self):
        with open(os.path.join(self.folder, "sitecustomize.py"), "w", encoding="utf-8") as file:
            file.write(QUIET_ARGPARSE)
        for unbuffered in (None, "1"):
            for words in (["--help"], ["ctl", "--help"], ["ctl", "1", "set", "--help"]):
                with open("/dev/full", "w", encoding="utf-8") as full:
                    done = subprocess.run([sys.executable, "-B", TOOL, *words], stdout=full, stderr=subprocess.PIPE, text=True,
                                          env=environment(PYTHONUNBUFFERED=unbuffered, PYTHONPATH="."), cwd=self.folder,
                                          timeout=DEADLINE, check=False)
                self.assert_sentence(done, "No space left on device")

    def test_what_is_unknown_shows_the_usage_of_its_command(self):
        for words, usage, hint in ((["stats", "1", "--frob"], "usage: arenal stats PID", False),
                                   (["ctl", "1", "purge", "--frob"], "usage: arenal ctl PID purge\n", False),
                                   (["ctl", "1", "get", "decay", "more"], "usage: arenal ctl PID get [NAME]\n", False),
                                   (["run", "--frob"], "usage: arenal run [options] -- COMMAND", True),
                                   (["--frob"], "usage: arenal [-h]", False)):
            done = self.arenal(*words)
            self.assertEqual((done.returncode, done.stdout), (2, ""))
            self.assertTrue(done.stderr.startswith(usage), done.stderr)
            self.assertIn(f"unknown: {words[-1]}", done.stderr)
            self.assertEqual('"--"' in done.stderr, hint, done.stderr)

    def test_only_who_takes_a_command_says_where_it_goes(self):
        for words, hint in ((["stats", "0"], False), (["top", "0"], False), (["report", "--process", "0", "x"], False), (["maps", "0"], True)):
            done = self.arenal(*words)
            self.assertEqual((done.returncode, done.stdout), (2, ""))
            self.assertIn("'0' is not a process ID", done.stderr)
            self.assertEqual('a command goes after "--"' in done.stderr, hint, done.stderr)


if __name__ == "__main__":
    unittest.main()
