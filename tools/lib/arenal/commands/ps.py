"""arenal ps"""

import collections
import json
import os
import pwd
import threading
import time

from arenal import facts, figures, layout, proc
from arenal.commands import SHAPE
from arenal.errors import Failure
from arenal.window import Silent, WALK, Window
from arenal.window_file import NAME, NotPermitted, NoWindow, threads_of_arenal

HELP = """\
Lists the processes on Arenal: what they hold, what the kernel counts for them (RSS), and whether they have a window, which
`stats`, `ctl` and `top` need. Of processes of other users, only those are found that have a thread of Arenal's."""
CODES = """\
"-": not known. Resident is what of Arenal's memory is in memory, as far as Arenal knows: at most; --resident asks the kernel. RSS is
all that the process has there. All are asked at once, and have 0.3 s to answer."""
LIMIT = 0.3             # seconds that all of them together may keep us waiting
SLACK = 0.1             # for what is said about who said nothing
RAMP = 0.005            # seconds without an answer after which twice as many are asked at once,
WORKERS = 2048          # but not more than these
MAPS_LIMIT = 16 << 20   # of a process's map, in which a library is looked for


def add(commands):
    parser = commands.add_parser("ps", help="list the processes on Arenal", description=HELP, epilog=CODES,
                                 usage="arenal ps [--resident] [--json]", **SHAPE)
    parser.add_argument("--json", action="store_true", help="print one line of JSON, sizes in bytes")
    parser.add_argument("--resident", action="store_true", help="ask the kernel, by a walk over each heap, what is in memory")
    parser.set_defaults(main=main, parser=parser)


def main(options, _command):
    rows = look_at_all((int(name) for name in os.listdir("/proc") if name.isdigit()), options.resident)
    if options.json:
        print(json.dumps(rows))
        return 0
    print(f"{'PID':>7} {'USER':<10} {'ALLOCATED':>10} {'RESIDENT':>10} {'RSS':>10} {'THREADS':>7}  {'WINDOW':<13} COMMAND")
    for row in rows:
        resident = "resident" if row["in_memory"] is None else "in_memory"
        sizes = " ".join(f"{'-' if row[k] is None else figures.human(row[k]):>10}" for k in ("allocated", resident, "rss"))
        print(f"{row['pid']:>7} {row['user']:<10} {sizes} {row['tasks']:>7}  {row['window']:<13} {row['command_line']}")
    return 0


def look_at_all(pids, resident=False):
    """What there is to say about those that are on Arenal, by their numbers. Nobody waits for another: who says nothing does so
    beside all others, each in a thread of ours that is left behind."""
    pids = sorted(pids)
    found = _side_by_side(lambda pid: look(pid, resident), pids, (WALK if resident else 0) + LIMIT + SLACK)
    rows = (found[pid] if pid in found else _silent(pid) for pid in pids)
    return [row for row in rows if row]


def _side_by_side(work, items, patience):
    """What work(item) returns, by item, without those that had no end when none had one for so many seconds."""
    waiting, results, news = collections.deque(items), {}, threading.Condition()

    def run():
        while True:
            try:
                item = waiting.popleft()
            except IndexError:
                return
            result = work(item)
            with news:
                results[item] = result
                news.notify()
    workers, since = 0, time.monotonic()
    with news:
        while len(results) < len(items):
            before = len(results)
            news.wait(RAMP if workers else 0)
            if len(results) > before:
                since = time.monotonic()
            elif waiting and workers < WORKERS:
                for _ in range(min(max(1, workers), len(waiting))):
                    threading.Thread(target=run, daemon=True).start()
                    workers += 1
                since = time.monotonic()
            elif time.monotonic() - since > patience:
                break
        return dict(results)


def look(pid, resident=False):
    """What there is to say about the process; None when it is not on Arenal, or has ended."""
    try:
        window, snapshot = _window(pid, resident)
        return _row(pid, window, snapshot) if window else None
    except (Failure, OSError):
        return None


def _row(pid, window, snapshot):
    status = facts.status(pid)
    stats = figures.values(snapshot) if snapshot else {}
    return {"schema": figures.SCHEMA, "pid": pid, "user": _user_name(os.stat(f"/proc/{pid}").st_uid), "window": window,
            "allocated": stats.get("allocated"), "resident": stats.get("resident"), "in_memory": stats.get("in_memory"),
            "rss": status.get("VmRSS", 0) * 1024, "tasks": status.get("Threads"), "command": facts.command_name(pid),
            "command_line": facts.command_line(pid)}


def _silent(pid):
    """The line of a process that kept us waiting, by what the kernel says at once."""
    try:
        if NAME not in threads_of_arenal(pid):
            return None
        status = facts.status(pid)
        return {"schema": figures.SCHEMA, "pid": pid, "user": _user_name(os.stat(f"/proc/{pid}").st_uid), "window": "no answer",
                "allocated": None, "resident": None, "in_memory": None, "rss": status.get("VmRSS", 0) * 1024,
                "tasks": status.get("Threads"), "command": facts.command_name(pid), "command_line": f"[{facts.command_name(pid)}]"}
    except OSError:
        return None


def _window(pid, resident):
    """What is to say about its window (None: not on Arenal), and a snapshot when there is one."""
    threads = threads_of_arenal(pid)
    try:
        if NAME not in threads:
            with proc.Process(pid, MAPS_LIMIT) as process:
                if not layout.has_library(process) and not layout.locate(process):
                    return None, None
            return "none", None
        with Window(pid, LIMIT) as window:
            return "open", window.snapshot(resident)
    except NotPermitted:
        return "not permitted", None
    except NoWindow as error:
        return ("none" if error.on_arenal else None), None
    except Silent:
        return "no answer", None
    except Failure:
        if not os.path.exists(f"/proc/{pid}"):
            return None, None
        if NAME in threads:
            return "damaged", None
        return ("not permitted" if threads else None), None


def _user_name(number):
    try:
        return pwd.getpwuid(number).pw_name
    except KeyError:
        return str(number)
