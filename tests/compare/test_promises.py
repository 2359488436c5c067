"""Tests of the promises that the gate holds a build against: they are kept, and breaking each is seen."""

import os
import shutil
import tempfile
import unittest

from support import BUILD, PROGRAMS
from compare import builds, promises, timings     # pylint: disable=wrong-import-order

LIBRARY = os.path.join(BUILD, "src", "libarenal.so")
SLOW_AND_LARGE = os.path.join(PROGRAMS, "libcompare_slow_and_large.so")


def release():
    with open(os.path.join(BUILD, "CMakeCache.txt"), encoding="utf-8") as file:
        return "CMAKE_BUILD_TYPE:STRING=Release" in file.read()


def broken(*names, library=LIBRARY, **environment):
    """Which of these promises a library breaks."""
    found = promises.judge(library, BUILD, wanted=names.__contains__, environment=environment)
    assert list(found) == list(names)
    return [promise.name for promise in promises.broken(found)]


@unittest.skipUnless(release(), "the gate builds the release preset, whatever is tested")
@unittest.skipUnless(promises.PAGE == 4096, "the limits are for pages of 4 KiB")
class Promises(unittest.TestCase):
    def test_all_are_kept(self):
        found = promises.judge(LIBRARY, BUILD)
        self.assertEqual(list(found), [promise.name for promise in promises.PROMISES])
        self.assertEqual(promises.broken(found), [], found)

    def test_memory_that_stays(self):
        self.assertEqual(broken("rest_1s", "rest_10s", ARENAL_DECAY="-1"), ["rest_1s", "rest_10s"])

    def test_a_higher_peak(self):
        self.assertEqual(broken("peak", library=SLOW_AND_LARGE), ["peak"])

    def test_a_larger_idle_process(self):
        self.assertEqual(broken("idle", ARENAL_PROFILE="1"), ["idle"])

    def test_a_library_that_the_disk_has_not_got_yet(self):
        with tempfile.TemporaryDirectory(dir=BUILD) as folder:
            fresh = shutil.copy(LIBRARY, folder)
            self.assertEqual(broken("idle", library=fresh), [])

    def test_more_address_space(self):
        self.assertEqual(broken("idle_space", ARENAL_HARDEN="1"), ["idle_space"])
        self.assertEqual(broken("limited", library=SLOW_AND_LARGE), ["limited"])

    def test_a_long_call(self):
        self.assertEqual(broken("worst_call", library=SLOW_AND_LARGE), ["worst_call"])

    def test_time(self):
        name = "micro/pair/size:64/threads:1"
        (_, case), = timings.find_cases([name], BUILD)
        pair = builds.Build("old", LIBRARY), builds.Build("new", SLOW_AND_LARGE)
        with tempfile.TemporaryDirectory() as folder:
            verdict, = timings.judge(name, case, pair, BUILD, folder)
        self.assertTrue(verdict.regression, verdict)
        self.assertEqual(verdict.metric, "time")

    def test_misuse_that_is_not_found(self):
        self.assertEqual(broken("misuse", ARENAL_GUARD_SAMPLE="0"), ["misuse"])


class Judgement(unittest.TestCase):
    """With figures that are made up."""

    def setUp(self):
        self.promise = promises.PROMISES[0]

    def judged(self, *figures):
        given = iter(figures)
        measured = []

        def measure(_library, wanted):
            measured.append([one.name for one in promises.PROMISES if wanted(one.name)])
            return {self.promise.name: next(given)}

        real, promises.measure = promises.measure, measure
        self.addCleanup(setattr, promises, "measure", real)
        found = promises.judge("a library", wanted=self.promise.name.__eq__)
        promises.measure = real
        return [one.name for one in promises.broken(found)], len(measured)

    def test_an_alarm_has_to_repeat(self):
        good, bad = self.promise.limit, self.promise.limit + 1
        self.assertEqual(self.judged(good), ([], 1))
        self.assertEqual(self.judged(bad, good), ([], 2))
        self.assertEqual(self.judged(bad, bad), ([self.promise.name], 2))


if __name__ == "__main__":
    unittest.main()
