"""What the tests of `arenal serve` share."""

import subprocess
import sys
import urllib.error
import urllib.request

from prometheus_client.openmetrics.parser import text_string_to_metric_families

from support import DEADLINE, TOOL, WORKLOAD, ToolTest, environment

from arenal import openmetrics

WORDS = [WORKLOAD, "4", "2", "2", "2"]
SOON = 5.0              # seconds for an answer on a busy machine, where it waits for less than one


class ServeTest(ToolTest):
    def serve(self, *words, prefix=(), **options):
        """Its process, and its address; it takes a port that is free."""
        words = words or ("--listen", "127.0.0.1:0")
        tool = subprocess.Popen([*prefix, sys.executable, "-B", TOOL, "serve", *words], stderr=subprocess.PIPE, text=True,
                                env=environment(), **options)
        self.addCleanup(self.stop, tool)
        line = tool.stderr.readline()
        self.assertTrue(line.startswith("arenal: listening on "), line)
        return tool, line.split()[-1]

    def ask(self, address, path="metrics", **headers):
        """Status, headers and body."""
        request = urllib.request.Request(address + path, headers={name.replace("_", "-"): value for name, value in headers.items()})
        try:
            with urllib.request.urlopen(request, timeout=DEADLINE) as answer:
                return answer.status, answer.headers, answer.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.headers, error.read().decode()

    def samples(self, address, name, query=""):
        """Of one metric: pairs of labels and value."""
        _, _, text = self.ask(address, f"metrics{query}", Accept=openmetrics.CONTENT_TYPE)
        return [(sample.labels, sample.value) for family in text_string_to_metric_families(text) for sample in family.samples
                if sample.name == name]

    def pids(self, address):
        return {int(labels["pid"]) for labels, _ in self.samples(address, "arenal_allocated_bytes")}

    def failed(self, address):
        return {labels["reason"]: value for labels, value in self.samples(address, "arenal_scrape_failed")}
