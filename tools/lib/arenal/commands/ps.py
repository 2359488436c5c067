"""arenal ps"""

import json
import os
import pwd

from arenal import facts, figures, layout, proc, targets
from arenal.commands import SHAPE, target
from arenal.errors import Failure
from arenal.together import SLACK, side_by_side
from arenal.window import Silent, WALK, Window
from arenal.window_file import NAME, NotPermitted, NoWindow, threads_of_arenal

HELP = """\
Lists the processes on Arenal: what they hold, what the kernel counts for them (RSS), and whether they have a window, which
`stats`, `ctl` and `top` need. Of processes of other users, only those are found that have a thread of Arenal's."""
CODES = """\
"-": not known. Resident is what of Arenal's memory is in memory, as far as Arenal knows: at most; --resident asks the kernel. RSS is
all that the process has there. All are asked at once, and have 0.3 s to answer."""
LIMIT = 0.3             # seconds that all of them together may keep us waiting
MAPS_LIMIT = 16 << 20   # of a process's map, in which a library is looked for


def add(commands):
    parser = commands.add_parser("ps", help="list the processes on Arenal", description=HELP, epilog=CODES,
                                 usage="arenal ps [--resident] [--json] [PID]", **SHAPE)
    parser.add_argument("pid", nargs="?", type=target, metavar="PID", help="only this one, or those of a unit, container or name")
    parser.add_argument("--json", action="store_true", help="print one line of JSON, sizes in bytes")
    parser.add_argument("--resident", action="store_true", help="ask the kernel, by a walk over each heap, what is in memory")
    parser.set_defaults(main=main, parser=parser)


def main(options, _command):
    wanted = None if options.pid is None else targets.find(options.pid)
    pids = (int(name) for name in os.listdir("/proc") if name.isdigit()) if wanted is None else wanted.processes
    rows = look_at_all(pids, options.resident)
    if wanted and not rows:
        _check_maps(wanted.processes)
        raise Failure(f"{targets.label(wanted)}: {'it is' if wanted.kind == 'process' else 'none of its processes is'} not on Arenal, "
                      "as far as this user may know, or has ended")
    if options.json:
        print(json.dumps(rows))
        return 0
    print(f"{'PID':>7} {'USER':<10} {'ALLOCATED':>10} {'RESIDENT':>10} {'RSS':>10} {'THREADS':>7}  {'WINDOW':<13} COMMAND")
    for row in rows:
        print(f"{row['pid']:>7} {row['user']:<10} {_sizes([row])} {row['tasks']:>7}  {row['window']:<13} {row['command_line']}")
    if wanted and wanted.kind != "process":
        print(f"{'all':>7} {'':<10} {_sizes(rows)} {sum(row['tasks'] or 0 for row in rows):>7}  {'':<13} {targets.label(wanted)}")
    return 0


def _sizes(rows):
    """Three columns: of one process, or of several together."""
    columns = []
    for key in ("allocated", "resident", "rss"):
        known = [row["in_memory"] if key == "resident" and row["in_memory"] is not None else row[key] for row in rows]
        known = [size for size in known if size is not None]
        columns.append(f"{figures.human(sum(known)) if known else '-':>10}")
    return " ".join(columns)


def _check_maps(pids):
    """Raises Failure when one is so long that nobody knows whether the process is on Arenal."""
    for pid in pids:
        try:
            process = proc.Process(pid, MAPS_LIMIT)
        except (Failure, OSError):
            continue
        with process:
            process.check_whole()


def look_at_all(pids, resident=False):
    """What there is to say about those that are on Arenal, by their numbers. Nobody waits for another: who says nothing does so
    beside all others, each in a thread of ours that is left behind."""
    pids = sorted(pids)
    found = side_by_side(lambda pid: look(pid, resident), pids, (WALK if resident else 0) + LIMIT + SLACK)
    rows = (found[pid] if pid in found else _silent(pid) for pid in pids)
    return [row for row in rows if row]


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
