"""Real programs, as Debian packages them: each module starts one under the allocator, gives it work, checks its answers
and defines CASES.

A module without CASES is what the others share, or input of theirs.
"""

import os
import shutil

from compare.cases import Case
from compare.results import Failed, Run

# Debian's own first: a version manager may have put wrappers around many versions into PATH.
DEBIAN_PATH = "/usr/bin:/usr/sbin:/bin:/sbin"


def find_program(name, package):
    path = shutil.which(name, path=f"{DEBIAN_PATH}:{os.environ.get('PATH', '')}")
    if not path:
        raise Failed(f"{name} is not installed; it is in Debian's package {package}")
    return path


class Program(Case):
    """A program that is measured."""

    group = "program"

    def measure(self, launcher, settings):
        """What programs measure is called after their parts; here, results get their names and are selected."""
        results = self.measure_parts(launcher, settings)
        return self.selected([(f"{self.name}/{part}" if part else self.name, Run(metrics=metrics))
                              for part, metrics in results.items()])

    def measure_parts(self, launcher, settings):
        """{part: metrics}; the part of a program with one result only is ""."""
        raise NotImplementedError


class Batch(Program):
    """A program that runs from start to end: its time is the wall clock's."""

    unit = "s"

    def command(self, folder, settings):
        """The command; may put its input into the folder, which is its current directory."""
        raise NotImplementedError

    def standard_input(self, settings):
        return None

    def environment(self):
        return {}

    def check(self, finished, launcher, folder, settings):
        """Raises Failed when the answer is wrong."""
        raise NotImplementedError

    def measure_parts(self, launcher, settings):
        folder = launcher.scratch
        finished = launcher.run(self.command(folder, settings), timeout=self.timeout, cwd=folder,
                                env=self.environment(), input=self.standard_input(settings))
        self.check(finished, launcher, folder, settings)
        return {"": {"time": finished.seconds, "peak_rss": finished.peak_rss}}


def expect(program, output, expected):
    """Fails when a program printed something else."""
    found = output.strip()
    if found != expected:
        raise Failed(f"{program} gave a wrong answer: {shortened(found)} instead of {shortened(expected)}")


def shortened(text):
    text = " ".join(text.split())
    return "nothing" if not text else text if len(text) <= 60 else text[:57] + "..."


def mode(settings):
    return "quick" if settings.quick else "full"


def only_in_full(cases, settings):
    """The cases of a module, none in --quick: there, redis stands for the programs."""
    return [] if settings.quick else cases
