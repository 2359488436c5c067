"""What all processes on Arenal hold that we may look into: all are asked at once. Nobody is waited for twice: who did not answer in time
is asked the next time, too, but then its answer is taken only if it is there soon. Who they are is found by found.py."""

import threading
import time
from collections import namedtuple

from arenal.errors import Failure, Gone
from arenal.found import Finder, reason

WAIT = 0.3              # seconds in which all must have answered,
GRACE = 0.02            # and those that did not the last time
STEP, STEP_MAX = 0.0005, 0.01   # between two looks at who has
FRESH = 1.0             # seconds for which what was seen is good enough for the next one who asks

Look = namedtuple("Look", "target snapshot")
Seen = namedtuple("Seen", "looks failed seconds time")       # failed: by Target or Stranger, the reason


class Fleet:
    def __init__(self, most):
        self._finder = Finder(most, WAIT)
        self._turn = threading.Lock()
        self._targets = {}                          # by process ID
        self._seen = None

    def look(self):
        """What all hold now, or held a moment ago."""
        with self._turn:
            if self._seen is None or time.monotonic() - self._seen.time > FRESH:
                self._finder.search()
                self._take_news()
                self._seen = self._look()
            return self._seen

    def _take_news(self):
        """Nobody else opens or closes windows that we look into."""
        new, gone = self._finder.news()
        for target in gone:
            self._forget(target)
        for target in new:
            if target.pid in self._targets:
                self._targets[target.pid].close()
            self._targets[target.pid] = target

    def _look(self):
        begin = time.monotonic()
        looks, failed, asked, unasked = [], {}, [], list(self._targets.values())
        step, steps = STEP, 0
        while True:
            unasked = [target for target in unasked if not self._ask(target, asked, failed)]
            asked = [target for target in asked if not self._take(target, looks, failed, steps)]
            seconds = time.monotonic() - begin
            if seconds > (GRACE if all(target.reason for target in asked + unasked) else WAIT) or not asked + unasked:
                break
            time.sleep(step)
            step, steps = min(step * 1.5, STEP_MAX), steps + 1
        for target in asked:
            target.window.give_up()
            self._failed(target, failed, target.window.silence())
        for target in unasked:
            failed[target] = target.reason = "busy"
        failed.update((one, one.reason) for one in self._finder.strangers())
        looks.sort(key=lambda look: look.target.pid)
        end = time.monotonic()
        return Seen(looks, failed, end - begin, end)

    def _ask(self, target, asked, failed):
        """Whether that is done."""
        try:
            if not target.window.ask_for_snapshot():
                return False
            asked.append(target)
        except (Failure, OSError) as failure:
            self._failed(target, failed, failure)
        return True

    def _take(self, target, looks, failed, steps):
        """Whether it need not be waited for any more."""
        if not target.window.has_answered():
            if steps % 8 == 7 and not target.window.alive():
                self._failed(target, failed, Gone(target.pid))
                return True
            return False
        try:
            looks.append(Look(target, target.window.take_snapshot()))
            target.reason = None
        except (Failure, OSError) as failure:
            self._failed(target, failed, failure)
        return True

    def _failed(self, target, failed, failure):
        if isinstance(failure, Gone):
            self._forget(target)
            self._finder.forget(target)
        else:
            failed[target] = target.reason = reason(target.pid, failure)

    def _forget(self, target):
        if self._targets.get(target.pid) is target:
            del self._targets[target.pid]
        target.close()
