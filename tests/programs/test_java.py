"""java: a JVM catches SIGSEGV all the time, checks whether its handlers are still there, and writes a report when it crashes."""

import os
import re
import resource

from support import FILES, ProgramTest, main


def no_core():
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


class Java(ProgramTest):
    package = "openjdk-*-jre-headless"
    needs = ("javac", "java")

    def work(self, run):
        java = ["java", "-Xmx64m", "-XX:TieredStopAtLevel=1", "-Xcheck:jni", "-cp", run.folder]
        run.command("javac", "-J-XX:TieredStopAtLevel=1", "-d", run.folder, os.path.join(FILES, "Crash.java"))
        run.memory = 0
        output = run.commands([*java, "Crash"])
        self.assertEqual(output, "20001 100000\n")      # and no warning that a handler was modified
        done = run.command(*java, f"-XX:ErrorFile={run.folder}/report", "Crash", "crash", status=-6, preexec=no_core)
        told = re.search(r"^siginfo:.*", run.read("report").decode(), re.M).group(0)
        self.assertIn("SIGSEGV", told)
        return output + done.out.splitlines()[0] + re.sub(r"pid: \d+", "pid", told)


if __name__ == "__main__":
    main()
