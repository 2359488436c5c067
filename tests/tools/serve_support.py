"""What the tests of `arenal serve` share."""

import json
import os
import shutil
import socket
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

    def prometheus(self, address):
        """Debian's, which scrapes `serve`, with our rules. Returns what asks its API: ask(path), None while it does not answer."""
        if not shutil.which("prometheus"):
            self.skipTest("there is no prometheus (Debian: prometheus)")
        port = free_port()
        rules = os.path.join(os.path.dirname(TOOL), "monitoring", "arenal-rules.yml")
        with open(f"{self.folder}/prometheus.yml", "w", encoding="utf-8") as file:
            file.write(f"global: {{scrape_interval: 300ms, scrape_timeout: 300ms}}\nrule_files: [{rules}]\nscrape_configs:\n"
                       f"- job_name: arenal\n  static_configs: [{{targets: ['{address.split('/')[2]}']}}]\n")
        log = open(f"{self.folder}/log", "w", encoding="utf-8")    # pylint: disable=consider-using-with
        self.addCleanup(log.close)
        server = subprocess.Popen(["prometheus", f"--config.file={self.folder}/prometheus.yml", f"--storage.tsdb.path={self.folder}/data",
                                   f"--web.listen-address=127.0.0.1:{port}"], stderr=log)
        self.addCleanup(self.stop, server)

        def ask(path):
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{port}/api/v1/{path}", timeout=DEADLINE) as answer:
                    return json.load(answer)["data"]
            except OSError:
                return None
        return ask


def free_port():
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]
