"""java: a JVM catches SIGSEGV all the time, checks whether its handlers are still there, and writes a report when it crashes."""

import os
import re
import resource
import shutil
import subprocess
import tempfile
import unittest

from support import FILES, ProgramTest, environment, program


def no_core():
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


class Java(ProgramTest):
    @classmethod
    def setUpClass(cls):
        classes = tempfile.mkdtemp(prefix="arenal-programs-")
        cls.addClassCleanup(shutil.rmtree, classes, ignore_errors=True)
        subprocess.run([program("javac"), "-J-XX:TieredStopAtLevel=1", "-d", classes, os.path.join(FILES, "Crash.java")], check=True)
        cls.java = [program("java"), "-Xmx64m", "-XX:TieredStopAtLevel=1", "-Xcheck:jni", "-cp", classes]

    def run_crash(self, on_arenal, env):
        """Status, output, and what the report says of the signal."""
        folder = self.folders()[on_arenal]
        done = subprocess.run([*self.java, "-XX:ErrorFile=report", "Crash", "crash"], cwd=folder,
                              env=environment(on_arenal, folder, **env), stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                              encoding="utf-8", timeout=100, check=False, preexec_fn=no_core)
        report = os.path.join(folder, "report")
        self.assertTrue(os.path.exists(report), f"{env}: status {done.returncode}, and no report:\n{done.stdout[-2000:]}")
        with open(report, encoding="utf-8") as file:
            told = re.search(r"^siginfo:.*", file.read(), re.MULTILINE)
        return done.returncode, done.stdout.splitlines()[0], re.sub(r"pid: \d+", "pid", told.group(0))

    def test_all_is_well(self):
        for sample in "1", "5000":
            output, _ = self.compare([*self.java, "Crash"], env={"ARENAL_GUARD_SAMPLE": sample})
            self.assertEqual(output, "20001 100000\n")  # and no warning that a handler was modified

    def test_crash(self):
        usual = self.run_crash(False, {})
        self.assertEqual(usual[0], -6)
        self.assertIn("SIGSEGV", usual[2])
        self.assertEqual(self.run_crash(True, {"ARENAL_GUARD_SAMPLE": "1"}), usual)
        self.assertEqual(self.run_crash(True, {}), usual)


if __name__ == "__main__":
    unittest.main()
