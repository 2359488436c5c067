"""The names of figures: those that FIGURES.md lists are those that the tools tell, so that none changes by mistake."""

import json
import os
import re
import unittest

from prometheus_client.openmetrics.parser import text_string_to_metric_families

from support import TOOL, WORKLOAD, ToolTest

from arenal import endpoint, serve

PAGE = os.path.join(os.path.dirname(TOOL), "lib", "arenal", "FIGURES.md")


def sections():
    """The rows of each section's table, as lists of cells; what stands in backquotes in a cell is a name."""
    with open(PAGE, encoding="utf-8") as file:
        for part in re.split(r"(?m)^## ", file.read())[1:]:
            title, _, rest = part.partition("\n")
            rows = [line.strip("| ").split(" | ") for line in rest.splitlines() if line.startswith("| ")]
            yield title, [[re.findall(r"`([^`]+)`", cell) for cell in row[:2]] + row[2:3] for row in rows if "`" in row[0]]


class Figures(ToolTest):
    def setUp(self):
        super().setUp()
        self.page = dict(sections())
        self.pid = str(self.on_arenal(WORKLOAD, "4", "2", "2", "2").pid)

    def names(self, title):
        return [name for row in self.page[title] for name in row[0]]

    def metrics(self, title):
        return {row[1][0]: row[2].strip() for row in self.page[title] if len(row) > 2 and row[1]}

    def json(self, *words):
        done = self.arenal(*words)
        self.assertEqual((done.returncode, done.stderr), (0, ""))
        return json.loads(done.stdout)

    def test_json(self):
        found = self.json("stats", self.pid, "--json", "--resident")
        times = {**found["times"], **found["times"]["purge"]}
        for title, told in (("A process", found["stats"]), ("Times", times), ("An arena", found["arenas"][0]), ("A region", found["regions"][0]),
                            ("The rest of `stats --json`", found)):
            self.assertEqual(sorted(told), sorted(self.names(title)), title)
        self.assertEqual(sorted([*found["classes"][0], "spans_bytes"]), sorted(self.names("A size class")))
        row = next(row for row in self.json("ps", "--json") if row["pid"] == int(self.pid))
        self.assertEqual(sorted(row), sorted(self.names("`ps --json`")))
        maps = self.json("maps", self.pid, "--json")
        self.assertEqual(sorted([*maps, "moment", "seconds", "looks"]), sorted(self.names("`maps --json`")))
        with open(PAGE, encoding="utf-8") as file:
            page = file.read()
        for name in [*maps["ranges"][0], *maps["totals"]["all"]]:
            self.assertIn(f"`{name}`", page[page.index("## `maps --json`"):])
        self.assertEqual([found["schema"], row["schema"], maps["schema"]], [int(re.search(r'"schema": (\d+)', page)[1])] * 3)
        self.assertEqual(next(iter(found)), "schema")

    def test_metrics(self):
        done = self.arenal("stats", self.pid, "--openmetrics", "--resident")
        whole = endpoint.Endpoint("0", 64, False, False)
        response = whole.answer(serve.parse(b"GET /metrics?details=1 HTTP/1.0\r\nAccept: application/openmetrics-text\r\n\r\n"))
        process = {**self.metrics("A process"), **self.metrics("Times"), "arenal_build_info": "gauge"}
        details = {**self.metrics("An arena"), **self.metrics("A size class")}
        # In the last table, the metric is the first cell.
        own = {row[0][0]: row[1] for row in self.own()}
        for text, expected in ((done.stdout, {**process, **details}),
                               (response.body.decode(), {**process, **details, **own})):
            expected.pop("arenal_in_memory_bytes") if "arenal_serve_info" in expected else None
            told = {}
            for family in text_string_to_metric_families(text):
                kind = "gauge" if family.type == "info" else family.type
                told.update({family.name if kind == "histogram" else sample.name: kind for sample in family.samples})
            self.assertEqual(told, expected)

    def own(self):
        with open(PAGE, encoding="utf-8") as file:
            part = file.read().partition("## `arenal serve`")[2]
        rows = [line.strip("| ").split(" | ") for line in part.splitlines() if line.startswith("| `")]
        return [([re.findall(r"`([^`]+)`", row[0])[0]], row[1].strip()) for row in rows]


if __name__ == "__main__":
    unittest.main()
