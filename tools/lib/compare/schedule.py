"""Which run comes when: rounds, the order inside them, and what still fits into the time.

A round runs every case under every allocator. The allocators of a case follow each other directly, so that what slows
the machine for a minute slows all of them. Their order is drawn anew for each case and round: what it is worth to come first,
or after a certain other one, is then as likely anybody's, which the test of what may be chance relies on.
"""

import os
import random
import shutil
import tempfile
import time
from dataclasses import dataclass

from compare.process import Launcher
from compare.results import Absent, Failed, run_to_json

SLACK = 0.04            # of the budget; a round that was begun may need so much more


@dataclass
class Limits:
    rounds: int             # at most
    seconds: float = None   # for all of them; None: as long as it takes
    timeout: float = None   # for one run; None: what the case says


class Schedule:
    """Runs everything and gathers the results: `entries` is what the results file lists as cases."""

    def __init__(self, cases, allocators, settings, limits, scratch, *, wanted=lambda name: True, progress=None,
                 clock=time.monotonic, launcher=Launcher):
        self.cases = cases
        self.allocators = [one for one in allocators if not one.problem]
        self.settings = settings
        self.limits = limits
        self.scratch = scratch
        self.wanted = wanted
        self.progress = progress or (lambda *_: None)
        self.clock = clock
        self.launcher = launcher
        self.cpu = max(os.sched_getaffinity(0))  # the first one serves most interrupts
        self.entries = {}
        self.rounds = 0             # begun
        self.interrupted = False
        self.left_out = []          # sentences
        self._failed = set()        # (case, allocator) that are not tried again
        self._lasted = {}           # (case, allocator): seconds of the last run

    def run(self):
        self.started = self.clock()
        try:
            for number in range(1, self.limits.rounds + 1):
                if not self._fits(number):
                    break
                self.rounds = number
                self._round(number)
                if all(self._is_over(case) for case in self.cases):
                    break  # nothing is left that works
        except KeyboardInterrupt:
            self.interrupted = True
            self.left_out.append(f"interrupted in round {self.rounds}: its ratios are of the cases that it reached")

    def results(self):
        """The cases of the results file, in the order in which they were collected."""
        order = {case.name: position for position, case in enumerate(self.cases)}
        entries = sorted(self.entries.values(), key=lambda pair: order[pair[0]])  # stable: as a case reported them
        return [entry for _, entry in entries]

    def _due(self, number):
        """The cases of a round."""
        return [case for case in self.cases if number == 1 or self.limits.seconds is None or not case.long]

    def _seconds_of_round(self, number):
        return sum(self._estimate(case) for case in self._due(number))

    def _round(self, number):
        cases = self._due(number)
        # Not always in the same order: neither the neighbours of a case nor what a slow machine leaves out shall be
        # the same each time.
        random.Random(self.settings.seed * 1000 + number).shuffle(cases)
        skipped = []
        done = 0
        for position, case in enumerate(cases):
            left = self._seconds_left()
            if left is not None and done and self._estimate(case) > left:
                skipped.append(case.name)
                continue
            self._block(number, case, cases[position:])
            done += 1
        if skipped:
            names = ", ".join(sorted(skipped)[:8]) + (", ..." if len(skipped) > 8 else "")
            self.left_out.append(f"time was up in round {number}, which left out {len(skipped)} of {len(cases)} "
                                 f"cases: {names}")

    def _block(self, number, case, coming):
        """One case under every allocator."""
        order = list(self.allocators)
        random.Random(f"{self.settings.seed} {number} {case.name}").shuffle(order)
        for allocator in order:
            if (case.name, allocator.name) in self._failed:
                continue
            self.progress(number, self._last_round(number), case, allocator, self._expected_end(number, coming),
                          self.clock() - self.started)
            self._measure(number, case, allocator)

    def _measure(self, number, case, allocator):
        scratch = tempfile.mkdtemp(prefix="run-", dir=self.scratch)
        launcher = self.launcher(allocator, scratch, self.settings.build_dir)
        launcher.timeout = self.limits.timeout
        launcher.cpu = self.cpu if case.pinned else None
        start = self.clock()
        try:
            measured = case.measure(launcher, self.settings) or [(case.name, Failed("it gave no result"))]
        except Failed as failure:
            measured = self._all_failed(case, failure)
        except OSError as error:  # a full disk, for example
            where = f": {error.filename}" if error.filename else ""
            measured = self._all_failed(case, Failed(f"{error.strerror}{where}"))
        except Exception as error:  # a mistake in one case must not cost the results of the others
            measured = self._all_failed(case, Failed(f"tools/compare itself failed: {type(error).__name__}: {error}"))
        finally:
            shutil.rmtree(scratch, ignore_errors=True)
        self._lasted[case.name, allocator.name] = self.clock() - start
        self._keep(number, case, allocator, measured)

    def _all_failed(self, case, failure):
        return [(name, failure) for name in case.names(self.settings) if self.wanted(name)] or [(case.name, failure)]

    def _keep(self, number, case, allocator, measured):
        for name, run in measured:
            result = self._entry(case, name)["results"][allocator.name]
            if isinstance(run, Failed):
                result["failure"] = str(run)
                result["absent"] = isinstance(run, Absent)
            else:
                run.round = number
                result["runs"].append(run_to_json(run))
        if all(isinstance(run, Failed) for _, run in measured):
            self._failed.add((case.name, allocator.name))

    def _entry(self, case, name):
        if name not in self.entries:
            entry = case.describe(name)
            entry["results"] = {one.name: {"runs": [], "failure": None, "absent": False} for one in self.allocators}
            self.entries[name] = (case.name, entry)
        return self.entries[name][1]

    # Time.

    def _is_over(self, case):
        return all((case.name, one.name) in self._failed for one in self.allocators)

    def _estimate(self, case):
        """Seconds that a case takes under all allocators: as the last time, before that as a guess."""
        known = [self._lasted[case.name, one.name] for one in self.allocators if (case.name, one.name) in self._lasted]
        guess = sum(known) / len(known) if known else case.seconds
        return sum(self._lasted.get((case.name, one.name), guess) for one in self.allocators
                   if (case.name, one.name) not in self._failed)

    def _seconds_left(self):
        if self.limits.seconds is None:
            return None
        return self.limits.seconds * (1 + SLACK if self.rounds > 1 else 1) - (self.clock() - self.started)

    def _fits(self, number):
        if number == 1 or self.limits.seconds is None:
            return True
        if not self._due(number):
            return False
        return self._seconds_of_round(number) <= self.limits.seconds - (self.clock() - self.started)

    def _last_round(self, number):
        """The last round there will be, as far as can be told."""
        if self.limits.seconds is None:
            return self.limits.rounds
        later = self.limits.seconds - self._seconds_of_round(1)
        return max(number, min(self.limits.rounds, 1 + int(later / max(0.001, self._seconds_of_round(2)))))

    def _expected_end(self, number, coming):
        """Seconds from now until everything is done, about; None before anything is known."""
        if not self._lasted:
            return None
        seconds = sum(self._estimate(case) for case in coming)
        seconds += self._seconds_of_round(number + 1) * (self._last_round(number) - number)
        left = self._seconds_left()
        return max(0, seconds if left is None else min(seconds, left))
