"""Finds the processes on Arenal, now and then, and opens their windows. What is known of a process stays known while it looks the same from
outside, so that a search costs little; and a process that keeps us waiting, as those may whose files are in a file system of their own
making, holds up a thread, and nobody else."""

import collections
import os
import sys
import threading
import time

from arenal import elf, facts, files, layout, proc
from arenal.errors import Failure, Gone
from arenal.text import printable
from arenal.window import Window
from arenal.window_file import NAME, NotPermitted, NoWindow, threads_of_arenal

SEARCH = 10.0           # seconds between two searches,
SEARCH_SHARE = 400      # or so many times as long as the last one took of a processor
SEARCH_WAIT = 0.3       # seconds that is waited for one
OPENING = 0.05          # seconds for a window that is strange
MEET = 0.5              # seconds for a process that is looked at for the first time, until it is left behind
AT_ONCE, PAUSE = 16, 0.002      # so many at once; seconds between two looks at the first of them
LEFT = 8                # threads that wait for processes of one user
AGAIN, AGAIN_MAX = 60.0, 3600.0     # seconds until one is looked at again that looks as before: twice as many each time
FAILED, FAILED_MAX = 10.0, 300.0    # the same of those that are on Arenal and could not be opened
COST_SHARE = 200        # but so many times as long as that took, in any case
MAPS_LIMIT = 16 << 20   # of a process's map, in which a library is looked for

# Why a process that is on Arenal, or says so, tells nothing.
REASONS = ("busy", "damaged", "frozen", "no_window", "not_permitted", "silent", "stopped", "too_many")


class Target:
    """A process whose window is open here."""

    def __init__(self, pid, started, limit, user=None, key=None):
        self.pid, self.started, self.window = pid, started, Window(pid, limit, OPENING)
        self.user, self.key = user, key
        self.reason = None                  # why it did not answer the last time
        try:
            self.build_id = build_id(pid)
        except (Failure, OSError, elf.NotElf):
            self.build_id = None
        self.refresh()

    def refresh(self):
        where, self.group = facts.group(self.pid)           # the path of its cgroup
        self.labels = {"pid": self.pid, "command": facts.command_name(self.pid), **where}

    def close(self):
        self.window.close()


Meeting = collections.namedtuple("Meeting", "user pid key begin thread why")


class Stranger:
    """A process without a window of ours. `reason`: None, it is not on Arenal. `key`: what it looks like."""

    def __init__(self, pid, key, reason, labels):
        self.pid, self.key, self.reason, self.labels = pid, key, reason, labels
        self.pause = self.due = self.not_before = 0


def _labels(pid):
    return {"pid": pid, "command": facts.command_name(pid), **facts.whereabouts(pid)}


def build_id(pid):
    """That of the library in the process; None: it is part of the program, or its file is another one by now."""
    with proc.Process(pid, MAPS_LIMIT) as process:
        first = next((m for m in process.mappings if os.path.basename(m.path).startswith("libarenal")), None)
    if first is None:
        return None
    with open(files.inside(f"/proc/{pid}/root", first.path), "rb") as file:
        return elf.build_id(file) or None if os.fstat(file.fileno()).st_ino == first.inode else None


class Finder:
    """A thread that searches when it is asked to. Owns all but Targets that it has handed out by news()."""

    def __init__(self, most, limit):
        self._most, self._limit = most, limit
        self._wanted, self._opened = threading.Event(), threading.Event()     # opened: all windows that there were when it was wanted
        self._searches = False
        self._turn = threading.Lock()               # of those who open windows: one takes the last place
        self._known, self._strangers = {}, {}       # by process ID: Targets that were handed out, and Strangers
        self._new, self._gone = collections.deque(), collections.deque()
        self._left = {}                             # by process ID: user, and the thread that waits for it
        self._next = 0.0
        threading.Thread(target=self._run, daemon=True).start()

    def search(self):
        """If it is time. Comes back when all windows are open, or soon."""
        if time.monotonic() >= self._next and not self._searches:
            self._searches = True
            self._opened.clear()
            self._wanted.set()
        self._opened.wait(SEARCH_WAIT)

    def news(self):
        """Targets since the last call: new ones, and those that have ended or are other programs now."""
        new, gone = [], []
        while self._new:
            new.append(self._new.popleft())
        while self._gone:
            gone.append(self._gone.popleft())
        return new, gone

    def strangers(self):
        """Those that are on Arenal."""
        return [one for one in list(self._strangers.values()) if one.reason and one.pid not in self._known]

    def forget(self, target):
        """It has ended, or is another program by now."""
        if self._known.get(target.pid) is target:
            del self._known[target.pid]
            self._next = 0.0

    def _run(self):
        while True:
            self._wanted.wait()
            self._wanted.clear()
            try:
                self._search()
            except Exception as error:              # pylint: disable=broad-except
                print(f"arenal: searching for processes: {type(error).__name__}: {printable(str(error))}", file=sys.stderr)
            finally:
                self._opened.set()
                self._searches = False

    def _search(self):
        processor = time.thread_time()
        found, with_window, others = set(), {}, {}
        for pid, started, key in _processes():
            found.add(pid)
            target = self._known.get(pid)
            if target and target.started == started:
                target.refresh()
            elif target or self._is_due(pid, key):
                has_window = NAME in threads_of_arenal(pid)
                (with_window if has_window else others).setdefault(_user(pid), []).append((pid, started, key))
        for pid in self._known.keys() - found:
            self._drop(pid)
        for pid in self._strangers.keys() - found:
            del self._strangers[pid]
        self._left = {pid: left for pid, left in self._left.items() if left[1].is_alive()}
        self._next = time.monotonic() + max(SEARCH, SEARCH_SHARE * (time.thread_time() - processor))
        self._meet_all(with_window, True)
        self._opened.set()
        self._meet_all(others)

    def _meet_all(self, new, have_windows=False):
        """By user. Whoever starts a thousand processes is one among all users all the same."""
        meetings = []
        for rank in range(max(map(len, new.values()), default=0)):
            for user in new:
                if rank < len(new[user]):
                    meetings = self._wait_for(meetings, AT_ONCE - 1)
                    if have_windows:
                        self._make_room(user, len(meetings))
                    meetings.append(self._meet(user, *new[user][rank]))
        self._wait_for(meetings, 0)

    def _make_room(self, user, coming):
        """Where all places are taken, one of who has most of them is for a user who has fewer."""
        if len(self._known) + coming < self._most:
            return
        targets = list(self._known.values())
        held = collections.Counter(target.user for target in targets)
        most = max(held, key=held.get, default=user)
        if held[most] > held[user] + 1:
            target = next(target for target in reversed(targets) if target.user == most)
            self._drop(target.pid)
            out = self._strangers[target.pid] = Stranger(target.pid, target.key, "too_many", target.labels)
            out.pause, out.due = FAILED, time.monotonic() + FAILED

    def _wait_for(self, meetings, most):
        """Until so many of them are left."""
        while True:
            left = [one for one in meetings if not self._is_over(one)]
            if len(left) <= most:
                return left
            left[0].thread.join(PAUSE)
            meetings = left

    def _drop(self, pid):
        target = self._known.pop(pid, None)
        if target:
            self._gone.append(target)

    def _is_due(self, pid, key):
        stranger, now = self._strangers.get(pid), time.monotonic()
        if stranger is None or (stranger.reason in (None, "no_window") and stranger.key != key and NAME in threads_of_arenal(pid)):
            return True
        return now >= stranger.not_before and (now >= stranger.due or stranger.key != key)

    def _meet(self, user, pid, started, key):
        """Begins to look at a process that we do not know, or that looks another one than before."""
        self._drop(pid)
        why, before = [], self._strangers.get(pid)
        thread = threading.Thread(target=lambda: why.append(self._try(user, pid, started, key)), daemon=True)
        if pid in self._left or sum(left[0] == user for left in self._left.values()) >= LEFT:
            why.append(before.reason if before else None)       # it has had its chance
        else:
            thread.start()
        return Meeting(user, pid, key, time.monotonic(), thread, why)

    def _is_over(self, meeting):
        user, pid, key, begin, thread, why = meeting
        now = time.monotonic()
        if not why and thread.is_alive():
            if now - begin < MEET:
                return False
            self._left[pid] = user, thread
        if pid in self._known:
            self._strangers.pop(pid, None)
            return True
        word, before = why[0] if why else "silent" if NAME in threads_of_arenal(pid) else None, self._strangers.get(pid)
        stranger = Stranger(pid, key, word, _labels(pid) if word else {})
        first, most = (FAILED, FAILED_MAX) if word else (AGAIN, AGAIN_MAX)
        same = before and before.key == key and before.reason == word
        stranger.pause = min(before.pause * 2, most) if same else first
        stranger.due, stranger.not_before = now + stranger.pause, now + COST_SHARE * (now - begin)
        self._strangers[pid] = stranger
        return True

    def _try(self, user, pid, started, key):
        """Opens its window; else, why there is none. None: it is not on Arenal."""
        try:
            if NAME not in threads_of_arenal(pid):
                return "no_window" if _on_arenal(pid) else None
            if len(self._known) >= self._most:
                return "too_many"
            target = Target(pid, started, self._limit, user, key)
            with self._turn:
                if len(self._known) < self._most:
                    self._known[pid] = target
                    self._new.append(target)
                    return None
            target.close()
            return "too_many"
        except NoWindow as none:
            return "no_window" if none.on_arenal else None
        except Gone:
            return None
        except (Failure, OSError) as failure:
            return reason(pid, failure)


def _processes():
    """Of each process its number, when it started, and what it looks like: that, its name, and how many threads it has."""
    for name in os.listdir("/proc"):
        if not name.isdigit():
            continue
        line = facts.read(f"/proc/{name}/stat")
        fields = line.rpartition(b")")[2].split()
        if len(fields) > 20 and (fields[20] != b"0" or fields[0] == b"Z"):      # no thread of the kernel's, which has no memory
            yield int(name), int(fields[19]), (fields[19], fields[17], line[line.find(b"("):line.rfind(b")")])


def _user(pid):
    try:
        return os.stat(f"/proc/{pid}").st_uid
    except OSError:
        return -1


def _on_arenal(pid):
    """Whether it is, though without a window. False, too, where we may not know."""
    try:
        with proc.Process(pid, MAPS_LIMIT) as process:
            return layout.has_library(process) or layout.locate(process) is not None
    except (Failure, OSError):
        return False


def reason(pid, failure):
    """The one of REASONS."""
    if isinstance(failure, NotPermitted):
        return "not_permitted"
    words = str(failure)
    if "somebody else" in words:
        return "busy"
    if "does not answer" not in words:
        return "damaged"
    return "stopped" if facts.thread_state(pid, pid) in "Tt" else "frozen" if facts.is_frozen(pid) else "silent"
