"""Tests of --tables, which writes the tables of benchmarks/README.md: and of what is there, whose rows are the tool's."""

import json
import os
import re
import shutil
import unittest

from support import BUILD, COMPARE, CommandTest
from sample_results import generate
from compare import cases, pages        # pylint: disable=wrong-import-order
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


def page():
    with open(pages.PAGE, encoding="utf-8") as file:
        return file.read()


class Page(unittest.TestCase):
    def test_its_rows_are_the_cases_of_the_tool(self):
        """Those that are measured once only, if time is short, may be missing."""
        found = cases.collect(cases.Settings(quick=False, build_dir=BUILD))
        for name, block in blocks(page()).items():
            metric, _, group = name.partition(":")
            if metric != "time":
                continue
            with self.subTest(name):
                some = [case for case in found if case.group == group]
                every, often = ({pages.short(one) for case in some if not (usual and case.long)
                                 for one in case.names(cases.Settings(quick=False, build_dir=BUILD))} for usual in (False, True))
                shown = rows(block)
                self.assertEqual(len(shown), len(set(shown)))
                self.assertEqual((set(shown) - every, often - set(shown)), (set(), set()))

    def test_every_table_has_its_place(self):
        self.assertEqual(set(blocks(page())), {"run", "behind", "summary", "latency", "time:micro", *(
            f"{metric}:{group}" for metric in pages.METRICS for group in ("program", "workload"))})
        outside = pages.BLOCK.sub("", page())
        self.assertNotIn("ns/op |", outside)


class Written(CommandTest):
    def test_all_tables_are_the_results(self):
        results = generate()
        copy = os.path.join(self.folder, "README.md")
        shutil.copy(pages.PAGE, copy)
        names = pages.write(results, copy)
        with open(copy, encoding="utf-8") as file:
            text = file.read()
        self.assertEqual(pages.BLOCK.sub("", text), pages.BLOCK.sub("", page()))
        self.assertEqual(list(blocks(text)), names)
        for name, block in blocks(text).items():
            metric, _, group = name.partition(":")
            if metric in pages.METRICS:
                have = [pages.short(case["name"]) for case in results["cases"] if case["group"] == group
                        and any(metric in run["metrics"] for one in case["results"].values() for run in one["runs"])]
                self.assertEqual(rows(block), have, name)
        run = blocks(text)["run"]
        for word in ("0.1.0 7fb0612", "2026-03-01", "Example CPU", "7 rounds", "jemalloc 5.3.0"):
            self.assertIn(word, run)
        self.assertRegex(blocks(text)["time:program"], r"(?m)^\| sqlite3, s \| [\d. |]+ \d\.\d\d~? \(\d\.\d\d\.\.\d\.\d\d\) \|$")
        pages.write(results, copy)
        with open(copy, encoding="utf-8") as file:
            self.assertEqual(file.read(), text)

    def test_few_rounds_are_marked(self):
        text = pages.block("time:workload", generate(rounds=3))
        self.assertTrue(all("~" in line for line in text.splitlines()[2:]))
        self.assertIn("takes 7 rounds", pages.block("run", generate(rounds=3)))
        self.assertNotRegex(pages.block("behind", generate(rounds=3)), r"(?m)^\|")
        self.assertEqual(len(set(re.findall(r"\| (arenal|glibc) \|", pages.block("latency", generate())))), 2)

    def test_what_is_wrong(self):
        with self.assertRaisesRegex(Failed, "no place for tables"):
            pages.write(generate(), COMPARE)
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
