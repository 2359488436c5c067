"""/debug/pprof: heap profiles of running processes, for pprof. Where no profile is on, one is started for the seconds that were asked for,
and stopped again, also when we end; if we are killed, it stays on. Dumps are made ready by a process of its own (convert_profile.py)."""

import contextlib
import os
import re
import signal
import subprocess
import sys
import threading
import time

from arenal import convert_profile
from arenal.errors import Failure
from arenal.serve import Response, refusal
from arenal.window import NoProfile, Window

SECONDS_MAX = 600
PROCESSES = 64          # of a unit, that one profile is made of
GROUPS = 5              # units that a sentence names
CONVERT = 150.0         # seconds that it may take to name functions,
STEP = 0.5              # and between two looks whether somebody still waits
ANSWER_MAX = 64 << 20
BINARY = "application/octet-stream"


class Profiles:
    def __init__(self):
        self._turn = threading.Lock()
        self._shared = {}                   # by process ID: the Sharing of those who wait for a profile of it
        self._ending = False
        self._working = {}                  # by thread that has a profile on: what ends its wait

    def end(self):
        """Stops what we started."""
        self._ending = True
        working = list(self._working.items())
        for _, wake in working:
            wake.set()
        for thread, _ in working:
            thread.join(2)

    def answer(self, request, seen, allocs):
        try:
            targets, seconds = _targets(request, seen), _seconds(request)
        except ValueError as error:
            return refusal(400, str(error))
        except LookupError as error:
            return refusal(404, error.args[0])
        problems = []
        with contextlib.ExitStack() as open_ones:
            sources = _each([target.labels["pid"] for target in targets], problems, lambda pid: (pid, open_ones.enter_context(Window(pid))))
            if seconds:
                found, comment = self._between(sources, seconds, problems, request.gone)
            else:
                found, comment = _each(sources, problems, lambda source: (source[0], [source[1].profile_dump()])), ""
        if not found:
            hint = f": &seconds=30 has one for so long, arenal ctl {targets[0].labels['pid']} profile start one from now on"
            off = all(isinstance(problem, NoProfile) for problem in problems)
            return refusal(409, "no heap profile was ever on" + hint) if off else refusal(503, str(problems[0]))
        comment = "; ".join([comment] * bool(comment) + [str(problem) for problem in problems])
        kind = "allocs" if allocs else "heap"
        data = _convert(kind, comment, found, request.gone)
        name = re.sub(r"[^A-Za-z0-9._-]", "_", f"{targets[0].labels['command']}-{targets[0].labels['pid']}-{kind}.pb.gz")
        headers = [("Content-Disposition", f'attachment; filename="{name}"'), ("Cache-Control", "no-store")]
        return Response(data, BINARY, headers=headers + [("X-Arenal-Note", comment)] * bool(comment))

    def _between(self, sources, seconds, problems, gone):
        """Process IDs and the dumps of what was allocated meanwhile, the later one first; and what to say. It ends before, when whoever asked
        has `gone`: four of them would keep all others out for minutes."""
        self._working[threading.current_thread()] = gone
        begun = []
        try:
            begun = _each(sources, problems, lambda source: self._begin(*source))
            begin = time.monotonic()
            if begun and (self._ending or gone.wait(seconds)):
                raise Failure("arenal serve ends" if self._ending else gone.why)
            found = _each(begun, problems, lambda one: (one.pid, [one.window.profile_dump(), *one.before]))
            words = f"what was allocated in {time.monotonic() - begin:.1f} s"
            started = sum(not one.before for one in begun)
            return found, words + (f": the profile was off in {started} of {len(begun)}, was started for this, and stopped" if 0 < started < len(begun)
                                   else ": the profile was off, was started for this, and stopped" if started else ": the profile was on")
        finally:
            _each(begun, problems, lambda one: self._leave(one) or one)
            del self._working[threading.current_thread()]

    def _begin(self, pid, window):
        with self._turn:
            sharing = self._shared.setdefault(pid, Sharing())
            sharing.users += 1
        begun = Begun(pid, window, sharing)
        try:
            with sharing.turn:
                if not sharing.is_ours and not _is_on(window):
                    window.profile_start(0)
                    sharing.is_ours = True
                else:
                    begun.before = [window.profile_dump()]
            return begun
        except BaseException:
            self._leave(begun)
            raise

    def _leave(self, begun):
        """Who comes meanwhile waits for his turn, and finds the profile off."""
        sharing = begun.sharing
        with sharing.turn:
            with self._turn:
                last = sharing.users == 1
            try:
                if last and sharing.is_ours:
                    sharing.is_ours = False
                    begun.window.profile_stop()
            finally:
                with self._turn:
                    sharing.users -= 1
                    if not sharing.users:
                        del self._shared[begun.pid]


class Sharing:
    """Those who wait for a profile of one process. `is_ours`: we started it, and the last one stops it."""

    def __init__(self):
        self.turn, self.users, self.is_ours = threading.Lock(), 0, False


class Begun:
    """One process of a profile that goes on. `before`: the dump to compare with, where the profile was on."""

    def __init__(self, pid, window, sharing):
        self.pid, self.window, self.sharing, self.before = pid, window, sharing, []


def _each(items, problems, work):
    """What work(item) returns, of those for which it does not fail."""
    done = []
    for item in items:
        try:
            done.append(work(item))
        except Failure as failure:
            problems.append(failure)
    return done


def _is_on(window):
    """Of libraries that do not say so: whether there is something to dump."""
    on = window.snapshot().stats.get("sampling")
    if on is not None:
        return on != 0
    try:
        window.profile_dump()
        return True
    except NoProfile:
        return False


def _convert(kind, comment, found, gone):
    """As pprof reads it. Ends when whoever asked has `gone`."""
    handles, sources = [], []
    try:
        for pid, dumps in found:
            numbers = [_in_memory(data, handles) for data in dumps]
            sources.append(":".join(map(str, [pid, *numbers])))
        lib = os.path.dirname(os.path.dirname(os.path.abspath(convert_profile.__file__)))
        environment = {"PYTHONPATH": lib, "PATH": os.environ.get("PATH", os.defpath)}
        with subprocess.Popen([sys.executable, "-B", "-m", "arenal.convert_profile", kind, comment, *sources], stdin=subprocess.DEVNULL,
                              stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment, cwd="/", pass_fds=handles,
                              start_new_session=True) as child:
            until = time.monotonic() + CONVERT
            while True:
                try:
                    data, said = child.communicate(timeout=STEP)
                    break
                except subprocess.TimeoutExpired:
                    if time.monotonic() < until and not gone.is_set():
                        continue
                    os.killpg(child.pid, signal.SIGKILL)
                    raise Failure(gone.why if gone.is_set() else f"to name the functions takes more than {CONVERT:g} s") from None
    finally:
        for handle in handles:
            os.close(handle)
    if child.returncode or len(data) > ANSWER_MAX:
        lines = said.decode(errors="replace").splitlines() or [f"status {child.returncode}"]
        raise Failure(f"the profile cannot be made ready: {lines[-1]}")
    return data


def _in_memory(data, handles):
    handles.append(os.memfd_create("arenal-profile", os.MFD_CLOEXEC))
    with open(handles[-1], "wb", closefd=False) as file:
        file.write(data)
    os.lseek(handles[-1], 0, os.SEEK_SET)
    return handles[-1]


def _seconds(request):
    text = request.query.get("seconds", "")
    if not text:
        return 0
    if not re.fullmatch(r"[0-9]{1,4}(\.[0-9]{1,3})?", text) or not 0 < float(text) <= SECONDS_MAX:
        raise ValueError(f"seconds is a number above 0, and at most {SECONDS_MAX}")
    return float(text)


def _targets(request, seen):
    """Of those that have answered. Raises ValueError, LookupError."""
    targets = [look.target for look in seen.looks]
    if "pid" in request.query:
        number = request.query["pid"]
        found, what = [one for one in targets if str(one.labels["pid"]) == number], f"process {number}"
    elif "unit" in request.query:
        unit = request.query["unit"]
        found = [one for one in targets if unit and unit in (one.labels.get("unit"), one.labels.get("container"), one.group)]
        groups = sorted({one.group for one in found})
        if groups[1:]:
            raise ValueError(f"there are {len(groups)} of this name: say which one, ?unit={' or ?unit='.join(groups[:GROUPS])}")
        what = f"process of {unit}"
    elif len(targets) > 1:
        raise ValueError("say which one: ?pid=PID or ?unit=NAME (of systemd, or a container's)")
    else:
        found, what = targets, "process"
    if not found:
        raise LookupError(f"there is no {what} that has answered")
    if len(found) > PROCESSES:
        raise ValueError(f"{what}: there are {len(found)}, and {PROCESSES} make a profile: ?pid= takes one")
    return found
