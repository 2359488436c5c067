"""Tests of tools/compare from end to end, on small programs."""

import contextlib
import io
import json
import os
import pty
import shutil
import signal
import subprocess
import time
import unittest

from support import ABORTING, BUILD, COMPARE, DEADLINE, HANGING, MIB, TOUCHER, CommandTest
from compare.command import resting     # pylint: disable=wrong-import-order
from compare.main import parse      # pylint: disable=wrong-import-order

PAIR = "micro/pair/size:64/threads:1"
NOBODY = 65534


class OwnCommandTest(CommandTest):
    """tools/compare -- COMMAND"""

    def test_results(self):
        done = self.compare("--allocators", "arenal,glibc", "--rounds", "3", command=[TOUCHER, "30", "400"])
        self.assertEqual(done.returncode, 0, done)
        results = self.results()
        self.assertEqual((results["version"], results["mode"], results["rounds"], results["interrupted"]),
                         (1, "command", 3, False))
        self.assertIn("--rounds 3 --", results["command"])
        self.assertEqual([(one["name"], one["own"], one["problem"]) for one in results["allocators"]],
                         [("arenal", True, None), ("glibc", False, None)])
        self.assertIsNone(results["allocators"][1]["library"])
        self.assertGreaterEqual(results["machine"]["cores"], 1)
        case, = results["cases"]
        self.assertEqual((case["name"], case["group"], case["unit"]), ("command", "command", "s"))
        for name in ("arenal", "glibc"):
            runs = case["results"][name]["runs"]
            self.assertEqual([run["round"] for run in runs], [1, 2, 3])
            for run in runs:
                self.assertTrue(0.15 <= run["metrics"]["time"] < 5, run["metrics"])
                self.assertTrue(30 * MIB <= run["metrics"]["peak_rss"] < 50 * MIB, run["metrics"])
                self.assertTrue(30 * MIB <= run["metrics"]["rest_rss"] < 50 * MIB, run["metrics"])
                self.assertGreater(len(run["series"]), 3)
        self.assertRegex(done.stdout, r"(?m)^command, s +\d")
        with open(self.html, encoding="utf-8") as page:
            self.assertIn("<html", page.read())

    def test_what_rests(self):
        """Not what one look happens to see of a command that works to its end, or is torn down."""
        steady = [[at / 50, 100 + at % 2] for at in range(12)]
        self.assertIsNone(resting(steady, [at for at, _ in steady]))      # its memory stays, but it computes
        self.assertEqual(resting(steady, [0.3] * 6 + [0.31] * 6), 100)         # a timer's tick
        for series, expected in (([], None), (steady[:1], None), (steady[:4], None), (steady, 100),
                                 ([*steady, [0.24, 3]], 100.5), ([*steady[:3], [0.06, 50], [0.08, 3]], None),
                                 ([[at / 50, 100 + 10 * at] for at in range(20)], None),
                                 ([[at / 50, 500] for at in range(9)] + [[0.18 + at, ram] for at, ram in steady], 100)):
            with self.subTest(series):
                self.assertEqual(resting(series, [1] * len(series)), expected)

    def test_short_commands(self):
        done = self.compare("--allocators", "arenal,glibc", command=["true"])
        self.assertEqual(done.returncode, 0, done)
        self.assertEqual(self.results()["rounds"], 7)

    def test_output_is_dropped_and_the_reason_of_a_failure_kept(self):
        done = self.compare("--allocators", "glibc", command=["sh", "-c", "echo LOUD; echo first >&2; echo why >&2; exit 4"])
        self.assertEqual(done.returncode, 1, done)
        self.assertNotIn("LOUD", done.stdout + done.stderr)
        self.assertIn("  command under glibc: ended with status 4: why\n", done.stdout)

    def test_a_command_that_is_not_there(self):
        self.assert_sentence(self.compare(command=["nosuchcommand"]), "nosuchcommand is not installed")

    def test_a_relative_path_and_words_with_spaces(self):
        shutil.copy(TOUCHER, os.path.join(self.folder, "a program"))
        done = self.compare("--allocators", "glibc", "--rounds", "1", command=["./a program", "1"])
        self.assertEqual(done.returncode, 0, done)
        done = self.compare("--allocators", "glibc", "--rounds", "1", command=["test", "-e", "a program"])
        self.assertEqual(done.returncode, 0, done)
        done = self.compare("--allocators", "glibc", "--rounds", "1", command=["test", "a  b", "=", "a  b"])
        self.assertEqual(done.returncode, 0, done)

    def test_crash_hang_and_absence_are_rows(self):
        done = self.compare("--allocators", f"arenal,{ABORTING},{HANGING},/nosuch/libx.so,glibc", "--rounds", "2",
                            "--timeout", "1", command=[TOUCHER, "1"])
        self.assertEqual(done.returncode, 1, done)
        for line in (r"  libx\.so: /nosuch/libx\.so is missing",
                     r"  command under libcompare_aborting\.so: crashed: SIGABRT after \d\.\d s: aborting\.so: too large",
                     r"  command under libcompare_hanging\.so: hung: killed after 1 s"):
            self.assertRegex(done.stdout, f"(?m)^{line}$")
        case, = self.results()["cases"]
        counts = {name: len(result["runs"]) for name, result in case["results"].items()}
        self.assertEqual(counts, {"arenal": 2, "libcompare_aborting.so": 0, "libcompare_hanging.so": 0, "glibc": 2})

    def test_temporary_files_leave_nothing_and_may_lie_under_a_bad_path(self):
        scratch = os.path.join(self.folder, "temporary files")
        os.mkdir(scratch)
        copy = os.path.join(self.folder, "lib arenal.so")
        shutil.copy(os.path.join(BUILD, "src", "libarenal.so"), copy)
        done = self.compare("--allocators", f"glibc,{copy}", "--rounds", "1", command=[TOUCHER, "1"],
                            env={"TMPDIR": scratch})
        self.assertEqual(done.returncode, 0, done)
        self.assertEqual(os.listdir(scratch), [])

    def test_a_build_whose_path_has_a_space(self):
        build = os.path.join(self.folder, "a build")
        os.makedirs(os.path.join(build, "src"))
        shutil.copy(os.path.join(BUILD, "src", "libarenal.so"), os.path.join(build, "src"))
        done = subprocess.run(self.words("--allocators", "arenal", "--rounds", "1", command=[TOUCHER, "1", "150"],
                                         build=build), cwd="/", stdout=subprocess.PIPE,
                              stderr=subprocess.PIPE, text=True, timeout=DEADLINE)
        self.assertEqual(done.returncode, 0, done)

    def test_against(self):
        old = os.path.join(self.folder, "old.json")
        arguments = ("--allocators", "arenal,glibc", "--rounds", "4")
        self.assertEqual(self.compare(*arguments, command=[TOUCHER, "20", "100"]).returncode, 0)
        shutil.copy(self.json, old)
        done = self.compare(*arguments, "--against", old, command=[TOUCHER, "20", "100"])
        self.assertRegex(done.stdout, r"(?m)^Against .*old\.json: \d of \d ratios \(\d+\.\d%\) agree")
        with open(old, encoding="utf-8") as file:
            changed = json.load(file)
        for run in changed["cases"][0]["results"]["arenal"]["runs"]:
            run["metrics"]["peak_rss"] *= 2
        with open(old, "w", encoding="utf-8") as file:
            json.dump(changed, file)
        done = self.compare(*arguments, "--against", old, command=[TOUCHER, "20", "100"])
        self.assertRegex(done.stdout, r"(?m)^command +peak RSS +\w+/\w+ ")
        # Another command is something else, and has the same name.
        done = self.compare("--allocators", "arenal,glibc", "--rounds", "4", "--against", old, command=["true"])
        self.assertIn("Nothing to compare with", done.stdout)

    def test_broken_results(self):
        """Said at once, by whatever reads them; nothing is measured before."""
        self.assertEqual(self.compare("--allocators", "glibc", "--rounds", "1", command=["true"]).returncode, 0)
        good, broken = self.results(), os.path.join(self.folder, "broken.json")
        def changed(change):
            results = json.loads(json.dumps(good))
            change(results)
            return json.dumps(results)
        for text in ("{}", "[" * 200000, "\0", changed(lambda one: one["cases"].append({})), changed(lambda one: one.update(cases="def")),
                     changed(lambda one: one.pop("machine")), changed(lambda one: one["allocators"].append({"name": "x"})),
                     changed(lambda one: one["allocators"][0].update(version="\x1b[2J")),
                     changed(lambda one: one["cases"][0].update(name="a|b")),
                     *(changed(lambda one, value=value: one["cases"][0]["results"]["glibc"]["runs"][0]["metrics"].update(time=value))
                       for value in ("abc", 1e308, 1e-300, float("nan")))):
            with self.subTest(text[:60]):
                with open(broken, "w", encoding="utf-8") as file:
                    file.write(text)
                for arguments in (["--tables", broken], ["--against", broken, "--", "true"]):
                    done = subprocess.run([COMPARE, *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                                          timeout=DEADLINE, check=False)
                    self.assertEqual((done.returncode, done.stdout), (1, ""), done)
                    self.assertRegex(done.stderr, r"\Acompare: .+ holds no results of tools/compare.*\n\Z")
        # Neither some cases nor some rounds are what the pages' tables are of.
        self.assert_sentence(subprocess.run([COMPARE, "--tables", self.json], stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                                            text=True, timeout=DEADLINE, check=False), "are of whole runs")

    @unittest.skipUnless(os.getuid() == 0, "needs root, to be another user")
    def test_links_of_others_are_not_followed(self):
        folder, victim = os.path.join(self.folder, "theirs"), os.path.join(self.folder, "victim")
        os.mkdir(folder)
        os.chmod(folder, 0o1777)
        os.chown(folder, NOBODY, NOBODY)
        with open(victim, "w", encoding="ascii") as file:
            file.write("mine")
        self.json, self.html = os.path.join(folder, "r.json"), os.path.join(folder, "r.html")
        for path, target in ((self.json, victim), (self.html, os.path.join(self.folder, "new"))):
            os.symlink(target, path)
            os.chown(path, NOBODY, NOBODY, follow_symlinks=False)
        self.assertEqual(self.compare("--allocators", "glibc", "--rounds", "1", command=["true"]).returncode, 0)
        with open(victim, encoding="ascii") as file:
            self.assertEqual(file.read(), "mine")
        self.assertFalse(os.path.exists(os.path.join(self.folder, "new")))
        self.assertEqual(self.results()["mode"], "command")

    def test_what_a_command_leaves_behind_is_ended(self):
        mark = f"77.{os.getpid()}"
        done = self.compare("--allocators", "arenal,glibc", "--rounds", "2",
                            command=["sh", "-c", f"(setsid sh -c 'setsid sleep {mark} & sleep {mark}' &) ; sleep 0.1"])
        self.assertEqual(done.returncode, 0, done)
        found = subprocess.run(["pgrep", "-f", f"sleep {mark}"], stdout=subprocess.PIPE, text=True, check=False)
        self.assertEqual(found.stdout, "")


class InterruptTest(CommandTest):
    def interrupt(self, number, once=False):
        process = subprocess.Popen(self.words("--allocators", "arenal,glibc", "--rounds", "1000",
                                              command=[TOUCHER, "10", "100"]),
                                   stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=self.folder)
        self.addCleanup(process.kill)
        time.sleep(4)
        process.send_signal(number)
        time.sleep(0.05)
        if process.poll() is None and not once:
            process.send_signal(number)  # somebody impatient
        output, errors = process.communicate(timeout=DEADLINE)
        self.assertNotIn("Traceback", errors)
        self.assertEqual(process.returncode, 130, errors)
        results = self.results()
        self.assertTrue(results["interrupted"])
        case, = results["cases"]
        self.assertGreaterEqual(len(case["results"]["arenal"]["runs"]), 2)
        self.assertRegex(output, r"(?m)^command, s +\d")
        self.assertIn("Interrupted in round", output)
        self.assertTrue(os.path.getsize(self.html) > 0)

    def test_ctrl_c(self):
        self.interrupt(signal.SIGINT)

    def test_term(self):
        self.interrupt(signal.SIGTERM, once=True)


class CasesTest(CommandTest):
    def test_one_case_of_ours(self):
        done = self.compare("--only", PAIR, "--allocators", "arenal,glibc", "--rounds", "2")
        self.assertEqual(done.returncode, 0, done)
        results = self.results()
        self.assertEqual([case["name"] for case in results["cases"]], [PAIR])
        self.assertEqual(results["mode"], "quick")
        for name in ("arenal", "glibc"):
            runs = results["cases"][0]["results"][name]["runs"]
            self.assertEqual([run["round"] for run in runs], [1, 2])
            self.assertTrue(all(0.1 < run["metrics"]["time"] < 10000 for run in runs))
        self.assertRegex(done.stdout, rf"(?m)^{PAIR}, ns/op")

    def test_a_tunable_is_compared(self):
        done = self.compare("--only", PAIR, "--allocators", "arenal,ARENAL_DECAY=-1 arenal", "--rounds", "2")
        self.assertEqual(done.returncode, 0, done)
        case, = self.results()["cases"]
        self.assertEqual(list(case["results"]), ["arenal", "ARENAL_DECAY=-1 arenal"])
        self.assertRegex(done.stdout, rf"(?m)^{PAIR}, ns/op +[\d.]+ +[\d.]+ +[\d.]+~? +[\d.]+\.\.[\d.]+$")

    def test_list(self):
        done = self.list()
        self.assertEqual(done.returncode, 0, done)
        names = [line.split()[0] for line in done.stdout.splitlines()]
        self.assertIn(PAIR, names)
        self.assertIn("workload/session_churn", names)
        self.assertEqual(len(names), len(set(names)))
        only = self.list("--only", "pair,workload/*").stdout.splitlines()
        self.assertTrue(0 < len(only) < len(names))
        self.assertTrue(all("pair" in line or line.startswith("workload/") for line in only), only)

    def list(self, *arguments):
        return subprocess.run([COMPARE, "--list", "--build-dir", BUILD, *arguments], stdout=subprocess.PIPE,
                              stderr=subprocess.PIPE, text=True, timeout=DEADLINE)

    def test_options_that_would_do_nothing(self):
        values = {"--quick": [], "--full": [], "--allocators": ["arenal"], "--threads": ["2"], "--rounds": ["3"],
                  "--budget": ["9"], "--timeout": ["9"], "--seed": ["1"], "--json": ["x"], "--html": ["x"],
                  "--against": ["x"], "--build-dir": ["x"], "--install": [], "--list": []}
        refused = [(["--gate", option, *value], option) for option, value in values.items()]
        refused += [(["--list", option, *values[option]], option) for option in (
            "--allocators", "--rounds", "--budget", "--timeout", "--seed", "--json", "--html", "--against", "--install")]
        refused += [([option, *values.get(option, ()), "--", "true"], option) for option in (
            "--quick", "--full", "--threads", "--seed", "--list", "--gate")]
        refused += [([option], option) for option in ("--counts", "--baseline", "--update-baseline")]
        refused += [(["--gate", "--update-baseline", option], option) for option in ("--baseline", "--counts")]
        refused += [(["--gate", "--baseline", "--counts"], "--counts")]
        refused += [(["--gate", "--build-dir=x", "--json=x"], "--build-dir, --json")]
        for arguments, names in refused:
            with self.subTest(arguments):
                self.assertRegex(self.refusal(arguments), rf"^(.*\n)*compare: error: {names} would do nothing with ")

    @staticmethod
    def refusal(arguments):
        """What is said about options, which takes no process of its own."""
        said = io.StringIO()
        with contextlib.redirect_stderr(said), contextlib.suppress(SystemExit):
            parse(arguments)
        return said.getvalue()

    def test_wrong_options(self):
        for arguments, words in ((["--only", "("], "no regular expression"), (["--allocators", "foo"], '"foo" is not one of'),
                                 (["--rounds", "0"], "not between"), (["--threads", "0"], "not between"),
                                 (["--threads", "x"], "\"x\" is no list of numbers"), (["--quick", "--full"], "not allowed"),
                                 (["--json", "x", "--html", "x"], "both name x"),
                                 (["--counts"], "would do nothing"), (["--only", "a,"], "empty name"),
                                 (["--allocators", "ARENAL_DECAY=-1 foo"], '"foo" is not one of'),
                                 (["--allocators", "arenal,"], "empty name")):
            with self.subTest(arguments):
                done = self.compare(*arguments)
                self.assertEqual(done.returncode, 2, done)
                self.assertIn(words, done.stderr)
        self.assertEqual(self.compare("--full", command=["true"]).returncode, 2)
        self.assertEqual(subprocess.run([COMPARE, "--"], stderr=subprocess.PIPE).returncode, 2)

    def test_errors_come_before_the_measuring(self):
        start = time.monotonic()
        self.assert_sentence(self.compare("--only", "nosuchcase"), "no case is called nosuchcase")
        self.assert_sentence(self.compare("--json", "/nosuch/x.json"), "cannot write /nosuch/x.json: No such file")
        self.assert_sentence(self.compare("--html", "/nosuch/x.html"), "cannot write /nosuch/x.html: No such file")
        self.assert_sentence(self.compare("--against", "/nosuch.json"), "cannot read /nosuch.json")
        self.assert_sentence(self.compare(build="/nosuch"), "there is no directory /nosuch")
        self.assert_sentence(self.compare("--allocators", "/nosuch.so"), "/nosuch.so is missing")
        self.assertLess(time.monotonic() - start, 30)

    def compare(self, *arguments, build=BUILD, **options):
        if build != BUILD:
            arguments += ("--build-dir", build)
        return super().compare(*arguments, **options)

    @unittest.skipUnless(os.path.exists("/dev/full"), "no /dev/full")
    def test_a_full_disk_costs_neither_the_table_nor_the_page(self):
        done = self.compare("--json", "/dev/full", "--allocators", "glibc", "--rounds", "1", command=["true"])
        self.assertEqual(done.returncode, 1, done)
        self.assertIn("compare: cannot write /dev/full: No space left on device\n", done.stderr)
        self.assertIn("command, s", done.stdout)
        self.assertGreater(os.path.getsize(self.html), 0)

    def test_a_reader_that_has_seen_enough_costs_no_files(self):
        ours, theirs = os.pipe()
        os.close(ours)
        done = subprocess.run(self.words("--allocators", "glibc", "--rounds", "1", command=["true"]), stdout=theirs,
                              stderr=subprocess.PIPE, text=True, timeout=DEADLINE)
        os.close(theirs)
        self.assertEqual(done.returncode, 1, done)
        self.assertNotIn("Traceback", done.stderr)
        self.assertNotIn("BrokenPipe", done.stderr)
        self.assertEqual(len(self.results()["cases"]), 1)
        self.assertGreater(os.path.getsize(self.html), 0)

    def test_earlier_results_stay_until_there_are_new_ones(self):
        with open(self.json, "w", encoding="utf-8") as file:
            file.write("earlier")
        done = self.compare("--only", "nosuchcase")
        self.assertEqual(done.returncode, 1)
        with open(self.json, encoding="utf-8") as file:
            self.assertEqual(file.read(), "earlier")


class TerminalTest(CommandTest):
    def test_progress_without_a_terminal_is_plain(self):
        done = self.compare("--allocators", "glibc", "--rounds", "2", command=["true"])
        self.assertRegex(done.stderr, r"\Around 1 of 2: command under glibc, time left not yet known\n\Z")
        self.assertNotIn("\x1b", done.stdout)

    def test_progress_on_a_terminal_is_a_bar(self):
        ours, theirs = pty.openpty()
        process = subprocess.Popen(self.words("--allocators", "glibc", "--rounds", "3", command=["sleep", "0.3"]),
                                   stdin=theirs, stdout=subprocess.DEVNULL, stderr=theirs, cwd=self.folder,
                                   env=dict(os.environ, TERM="xterm-256color", COLUMNS="120"))
        os.close(theirs)
        shown = b""
        try:
            while piece := os.read(ours, 4096):
                shown += piece
        except OSError:
            pass  # how a terminal says that it was hung up
        os.close(ours)
        self.assertEqual(process.wait(DEADLINE), 0)
        self.assertIn(b"\x1b[", shown)
        self.assertIn(b"round 2/3", shown)
        self.assertRegex(shown, rb"about \d s left")

    @unittest.skipUnless(os.getuid() == 0, "needs root to become somebody else")
    def test_an_ordinary_user(self):
        os.chmod(self.folder, 0o777)
        done = self.compare("--allocators", "arenal,glibc", "--rounds", "1", command=["true"], user=NOBODY, group=NOBODY,
                            extra_groups=[], env={"HOME": "/"})
        self.assertEqual(done.returncode, 0, done)


if __name__ == "__main__":
    unittest.main()
