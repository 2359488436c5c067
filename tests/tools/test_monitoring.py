"""What others read: rules and dashboard (promtool), units (systemd-analyze), bpftrace's scripts. Each is checked by the program that it is for,
where that is installed, and by what the tools tell."""

import glob
import json
import os
import re
import shutil
import signal
import subprocess
import tempfile
import unittest

from support import DEADLINE, LIBRARY, TOOL, WORKLOAD, ToolTest
from test_figures import PAGE

FOLDER = os.path.join(os.path.dirname(TOOL), "monitoring")
SCRIPTS = os.path.join(os.path.dirname(TOOL), "bpftrace")
EXPOSURE = 2.0          # of ten: what systemd-analyze calls OK begins at 3
RULES = os.path.join(FOLDER, "arenal-rules.yml")


def read(path):
    with open(path, encoding="utf-8") as file:
        return file.read()


def names_in(expressions):
    """A histogram's buckets go by its name."""
    return {name.removesuffix("_bucket") for one in expressions for name in re.findall(r"\barenal_\w+", one)}


class Checked(ToolTest):
    def program(self, name, package):
        path = shutil.which(name)
        return path or self.skipTest(f"there is no {name} (Debian: {package})")

    def says(self, *command, **options):
        done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL, text=True, errors="replace",
                              timeout=DEADLINE, check=False, **options)
        self.assertEqual(done.returncode, 0, done.stdout)
        return done.stdout

    def expressions(self):
        """Those of the dashboard, with its variables as Grafana would fill them in."""
        board = json.loads(read(os.path.join(FOLDER, "grafana-dashboard.json")))
        found = [target["expr"] for panel in board["panels"] for target in panel["targets"]]
        found += [re.sub(r"^label_values\((.*), \w+\)$", r"\1", variable["query"]["query"]) for variable in board["templating"]["list"]
                  if variable["type"] == "query"]
        return [one.replace("$__rate_interval", "1m").replace("$instance", ".*").replace("$unit", ".*").replace("$command", ".*") for one in found]


class Prometheus(Checked):
    def test_rules(self):
        promtool = self.program("promtool", "prometheus")
        for path in (RULES, os.path.join(os.path.dirname(os.path.abspath(__file__)), "alerts.yml")):
            shutil.copy(path, self.folder)
        self.says(promtool, "check", "rules", RULES)
        self.says(promtool, "test", "rules", os.path.join(self.folder, "alerts.yml"))
        for alert in re.findall(r"alert: (\w+)", read(RULES)):
            self.assertIn(f"alertname: {alert}", read(os.path.join(self.folder, "alerts.yml")), "it is tried, too")
        self.says(promtool, "check", "config", os.path.join(FOLDER, "prometheus.yml"))

    def test_expressions_of_the_dashboard(self):
        promtool = self.program("promtool", "prometheus")
        rules = [{"record": f"panel:{number}", "expr": one} for number, one in enumerate(self.expressions())]
        path = os.path.join(self.folder, "rules.yml")
        with open(path, "w", encoding="utf-8") as file:
            json.dump({"groups": [{"name": "dashboard", "rules": rules}]}, file)        # JSON is YAML
        self.assertIn(f"{len(rules)} rules found", self.says(promtool, "check", "rules", "--lint=none", path))

    def test_names(self):
        """What they ask for is what there is: tools.figures compares the page with the tools."""
        there = set(re.findall(r"`(arenal_\w+)`", read(PAGE)))
        asked = names_in(self.expressions()), names_in(re.findall(r"expr: (.*)", read(RULES)))
        for names in asked:
            self.assertGreater(len(names), 5)
            self.assertEqual(names - there, set())


class Units(Checked):
    def setUp(self):
        super().setUp()
        self.analyze = self.program("systemd-analyze", "systemd")
        text = read(os.path.join(FOLDER, "arenal.service.in")).replace("@CMAKE_INSTALL_FULL_BINDIR@/arenal", TOOL)
        folder = tempfile.mkdtemp(prefix="arenal-")         # systemd splits names at the colon that is in ours
        self.addCleanup(shutil.rmtree, folder)
        self.units = [os.path.join(folder, f"arenal.{kind}") for kind in ("service", "socket")]
        with open(self.units[0], "w", encoding="utf-8") as file:
            file.write(text)
        shutil.copy(os.path.join(FOLDER, "arenal.socket"), folder)

    def test_verified(self):
        self.assertEqual(self.says(self.analyze, "verify", "--man=no", *self.units), "")

    def test_exposure(self):
        done = self.says(self.analyze, "security", "--offline=true", "--no-pager", self.units[0])
        level = float(re.search(r"Overall exposure level for arenal.service: ([0-9.]+)", done)[1])
        self.assertLess(level, EXPOSURE, done)

    def test_they_fit_together(self):
        service, port = read(self.units[0]), re.search(r"(?m)^ListenStream=(\S+)$", read(self.units[1]))[1]
        self.assertIn("Requires=arenal.socket", service)
        self.assertIn(port, read(os.path.join(FOLDER, "prometheus.yml")))


class Bpftrace(Checked):
    def scripts(self):
        """Copies with the library under test in the place of the installed one."""
        for path in sorted(glob.glob(os.path.join(SCRIPTS, "*.bt"))):
            copy = os.path.join(self.folder, os.path.basename(path))
            with open(copy, "w", encoding="utf-8") as file:
                file.write(read(path).replace("/usr/local/lib/libarenal.so", LIBRARY.replace(" ", "\\ ")))
            yield copy

    def setUp(self):
        super().setUp()
        self.bpftrace = self.program("bpftrace", "bpftrace")
        if os.getuid() != 0:
            self.skipTest("bpftrace is for root only")
        with open(LIBRARY, "rb") as file:
            if b"stapsdt" not in file.read():
                self.skipTest("the library has no probes: sys/sdt.h was missing (Debian: systemtap-sdt-dev)")

    def test_scripts(self):
        """bpftrace reads them, and finds their probes in the library."""
        for path in self.scripts():
            self.says(self.bpftrace, "-d", path)

    def traced(self, *words):
        """What bpftrace says of a program on Arenal that takes some memory, given its PID last; None: it cannot trace. Of that program
        only: bpftrace loses whole maps at times, when others add to them while it prints (0.17)."""
        program = subprocess.Popen(["sh", "-c", 'kill -STOP $$; exec env LD_PRELOAD="$0" "$@"', LIBRARY, WORKLOAD, "4", "1", "1", "2"],
                                   stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
        self.addCleanup(self.stop, program)
        os.waitid(os.P_PID, program.pid, os.WSTOPPED | os.WNOWAIT)
        # tracefs in a mount namespace of its own: the machine need not have it.
        mounted = 'mount -t tracefs none /sys/kernel/tracing 2>/dev/null; exec "$@"'
        tracer = subprocess.Popen(["unshare", "-m", "sh", "-c", mounted, "sh", self.bpftrace, "-B", "line", *words, str(program.pid)],
                                  stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        self.addCleanup(self.stop, tracer)
        for line in tracer.stdout:
            if "Ctrl-C" in line:                # of BEGIN, when all probes are there
                program.send_signal(signal.SIGCONT)
                self.assertEqual(program.wait(timeout=DEADLINE), 0)
                tracer.send_signal(signal.SIGINT)       # Ctrl-C: all that the program did is counted by now
                return tracer.communicate(timeout=DEADLINE)[0]
        return None

    def test_one_runs(self):
        control = f'BEGIN {{ printf("Ctrl-C\\n"); }} uprobe:{LIBRARY}:malloc /pid == $1/ {{ @control = count(); }}'
        if "@control: " not in (self.traced("-e", control) or ""):
            self.skipTest("the kernel lets bpftrace trace no program here")
        path = next(path for path in self.scripts() if path.endswith("growth.bt"))
        said = self.traced(path)
        self.assertRegex(said, r"@taken\[tools_workload, \d+\]: [1-9]")


if __name__ == "__main__":
    unittest.main()
