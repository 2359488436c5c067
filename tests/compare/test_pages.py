"""Tests of --tables, which writes the tables of README.md and benchmarks/README.md: and of what is there, whose rows are the
tool's."""

import json
import os
import re
import shutil
import unittest

from support import BUILD, COMPARE, CommandTest
from sample_results import generate
from compare import cases, pages, suite        # pylint: disable=wrong-import-order
from compare.main import parse          # pylint: disable=wrong-import-order
from compare.results import Failed      # pylint: disable=wrong-import-order


def blocks(text):
    return {match[2]: match[3] for match in pages.BLOCK.finditer(text)}


def rows(block):
    """The first cells of its tables, without a unit."""
    lines = [line for line in block.splitlines() if line.startswith("|")]
    ruler = re.compile(r"\| ?---")
    return [line.split(" | ")[0][2:].split(", ")[0] for line, after in zip(lines, [*lines[1:], ""])
            if not ruler.match(line) and not ruler.match(after)]


README, PAGE = pages.PAGES


def page(path=PAGE):
    with open(path, encoding="utf-8") as file:
        return file.read()


def of_full(results):
    results["mode"] = "full"
    return results


def of_suite(results):
    """The results as if they were of --suite."""
    results.update(mode="suite", suite={"name": "mimalloc-bench", "version": "v9", "missing": ["barnes"]})
    results["cases"] = [dict(case, name=f"suite/{case['name'].partition('/')[2]}", group="suite")
                        for case in results["cases"] if case["group"] == "micro"]
    return results


class Page(unittest.TestCase):
    def test_its_rows_are_the_cases_of_the_tool(self):
        """Those that are measured once only, if time is short, may be missing."""
        found = cases.collect(cases.Settings(quick=False, build_dir=BUILD))
        for name, block in blocks(page()).items():
            metric, _, group = name.partition(":")
            if metric != "time" or group == "suite":    # the suite's: below
                continue
            with self.subTest(name):
                some = [case for case in found if case.group == group]
                every, often = ({pages.short(one) for case in some if not (usual and case.long)
                                 for one in case.names(cases.Settings(quick=False, build_dir=BUILD))} for usual in (False, True))
                shown = rows(block)
                self.assertEqual(len(shown), len(set(shown)))
                self.assertEqual((set(shown) - every, often - set(shown)), (set(), set()))

    def test_the_rows_of_the_suite_are_its_tests(self):
        known = {test.name for test in suite.TESTS}
        for metric in ("time", "peak_rss"):
            shown = rows(blocks(page())[f"{metric}:suite"])
            missing = re.search(r"without ([^.]*)\.$", blocks(page())["run:suite"], re.MULTILINE)
            self.assertEqual(sorted(shown), sorted(known - set(missing[1].split(", ") if missing else ())))

    def test_every_table_has_its_place(self):
        self.assertEqual(set(blocks(page())), {"run", "behind", "summary", "latency", "time:micro", *(
            f"{metric}:{group}" for metric in pages.METRICS for group in ("program", "workload")),
            "run:suite", "time:suite", "peak_rss:suite"})
        self.assertEqual(set(blocks(page(README))), {"means:suite", "calls"})
        outside = pages.BLOCK.sub("", page())
        self.assertNotIn("ns/op |", outside)


class Written(CommandTest):
    def test_all_tables_are_the_results(self):
        results = of_full(generate())
        copy = os.path.join(self.folder, "README.md")
        shutil.copy(PAGE, copy)
        names = pages.write(results, [copy])
        with open(copy, encoding="utf-8") as file:
            text = file.read()
        self.assertEqual(pages.BLOCK.sub("", text), pages.BLOCK.sub("", page()))
        self.assertEqual([name for name in blocks(text) if not name.endswith(":suite")], names)
        for name in names:
            block = blocks(text)[name]
            metric, _, group = name.partition(":")
            if metric in pages.METRICS:
                have = [pages.short(case["name"]) for case in results["cases"] if case["group"] == group
                        and any(metric in run["metrics"] for one in case["results"].values() for run in one["runs"])]
                self.assertEqual(rows(block), have, name)
        run = blocks(text)["run"]
        for word in ("0.1.0 7fb0612", "2026-03-01", "Example CPU", "7 rounds", "jemalloc 5.3.0"):
            self.assertIn(word, run)
        self.assertRegex(blocks(text)["time:program"], r"(?m)^\| sqlite3, s \| [\d. |]+ \d\.\d\d~? \(\d\.\d\d\.\.\d\.\d\d\) \|$")
        pages.write(results, [copy])
        self.assertEqual(page(copy), text)

    def test_tables_of_the_suite_are_its_results(self):
        """And the others stay."""
        copy = os.path.join(self.folder, "README.md")
        shutil.copy(PAGE, copy)
        results = of_suite(generate())
        self.assertEqual(pages.write(results, [copy]), ["run:suite", "time:suite", "peak_rss:suite"])
        before, after = blocks(page()), blocks(page(copy))
        for name in before.keys() - {"run:suite", "time:suite", "peak_rss:suite"}:
            self.assertEqual(before[name], after[name])
        self.assertEqual(rows(after["peak_rss:suite"]), [pages.short(case["name"]) for case in results["cases"]])
        self.assertIn("mimalloc-bench v9, without barnes.\n", after["run:suite"])

    def test_the_readme_has_the_means_by_glibc(self):
        copy = os.path.join(self.folder, "README.md")
        shutil.copy(README, copy)
        results = of_suite(generate())
        for case in results["cases"]:
            for name, factor in (("arenal", 0.5), ("glibc", 1), ("jemalloc", 0.8)):
                for run in case["results"][name]["runs"]:
                    run["metrics"] = {"time": 3 * factor, "peak_rss": 100 * (2 - factor)}
        results["cases"][0]["results"]["mimalloc"] = {"runs": [], "failure": "crashed: SIGSEGV"}
        self.assertEqual(pages.write(results, [copy]), ["means:suite"])
        text = blocks(page(copy))["means:suite"]
        count = len(results["cases"])
        self.assertIn(f"| arenal | 0.50 | 1.50 | {count} tests |\n| glibc | 1 | 1 | {count} tests |\n"
                      f"| jemalloc | 0.80 | 1.20 | {count} tests |\n| mimalloc | - | - | failed in 1 |\n", text)
        del results["allocators"][1]
        with self.assertRaisesRegex(Failed, "are without glibc"):
            pages.write(results, [copy])
        self.assertEqual(blocks(page(copy))["means:suite"], text)

    def test_the_readme_has_the_slowest_calls(self):
        results = generate(allocators=(("arenal", "x", "1", True), ("glibc", None, "2", False)), missing=False)
        results["cases"] = [dict(case, name=f"latency/{case['name'].partition('/')[2]}", group="latency")
                            for case in results["cases"] if case["group"] == "workload"][:3]
        for factor, case in zip((1, 10, 100), results["cases"]):
            for number, name in enumerate(("arenal", "glibc"), 1):
                for run in case["results"][name]["runs"]:
                    run["latency"] = {"malloc": {"p99.9": 5 * number * factor}, "free": {"p99.9": 7}}
        for run in results["cases"][0]["results"]["glibc"]["runs"]:
            del run["latency"]["free"]
        self.assertEqual(pages.block("calls", results).splitlines()[2:], [
            "| slowest thousandth of `malloc`, ns | 50 | 100 | 3 workloads |",
            "| slowest thousandth of `free`, ns | 7 | 7 | 2 workloads |",
            "| slowest thousandth of `realloc`, ns | - | - | 0 workloads |"])

    def test_few_rounds_are_marked(self):
        text = pages.block("time:workload", generate(rounds=3))
        self.assertTrue(all("~" in line for line in text.splitlines()[2:]))
        self.assertIn("takes 7 rounds", pages.block("run", generate(rounds=3)))
        self.assertNotRegex(pages.block("behind", generate(rounds=3)), r"(?m)^\|")
        self.assertEqual(len(set(re.findall(r"\| (arenal|glibc) \|", pages.block("latency", generate())))), 2)

    def test_what_is_wrong(self):
        with self.assertRaisesRegex(Failed, "no place for tables"):
            pages.write(of_full(generate()), [COMPARE])
        with self.assertRaisesRegex(Failed, "no tables called speed:micro"):
            pages.block("speed:micro", generate())
        some = generate()
        some["cases"] = [case for case in some["cases"] if case["group"] != "program"]
        with self.assertRaisesRegex(Failed, "no cases of the group program"):
            pages.block("time:program", some)
        with open(self.json, "w", encoding="utf-8") as file:
            json.dump({}, file)
        with self.assertRaises(SystemExit):
            parse(["--tables", self.json, "--rounds", "3"])


if __name__ == "__main__":
    unittest.main()
