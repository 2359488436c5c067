"""arenal ps"""

import json
import os
import pwd

from arenal import figures, layout, proc
from arenal.commands import SHAPE
from arenal.errors import Failure
from arenal.window import NAME, NotPermitted, NoWindow, Window, threads_of_arenal

HELP = """\
Lists the processes on Arenal: what they hold, what the kernel counts for them (RSS), and whether they have a window, which
`stats`, `ctl` and `top` need. Of processes of other users, only those are found that have a thread of Arenal's."""
CODES = """\
"-": not known. Resident is what of Arenal's memory is in memory; RSS is all that the process has there."""
LIMIT = 0.3             # seconds that one process may take for its answer


def add(commands):
    parser = commands.add_parser("ps", help="list the processes on Arenal", description=HELP, epilog=CODES,
                                 usage="arenal ps [--json]", **SHAPE)
    parser.add_argument("--json", action="store_true", help="print one line of JSON, sizes in bytes")
    parser.set_defaults(main=main, parser=parser)


def main(options, _command):
    rows = [row for row in map(look, sorted(int(name) for name in os.listdir("/proc") if name.isdigit())) if row]
    if options.json:
        print(json.dumps(rows))
        return 0
    print(f"{'PID':>7} {'USER':<10} {'ALLOCATED':>10} {'RESIDENT':>10} {'RSS':>10} {'THREADS':>7}  {'WINDOW':<13} COMMAND")
    for row in rows:
        sizes = " ".join(f"{'-' if row[k] is None else figures.human(row[k]):>10}" for k in ("allocated", "resident", "rss"))
        print(f"{row['pid']:>7} {row['user']:<10} {sizes} {row['threads']:>7}  {row['window']:<13} {row['command']}")
    return 0


def look(pid):
    """What there is to say about the process; None when it is not on Arenal, or has ended."""
    try:
        window, snapshot = _window(pid)
        if window is None:
            return None
        status = proc.status(pid)
        user = os.stat(f"/proc/{pid}").st_uid
    except (Failure, OSError):
        return None
    stats = figures.values(snapshot) if snapshot else {}
    return {"pid": pid, "user": _user_name(user), "window": window, "allocated": stats.get("allocated"),
            "resident": stats.get("resident"), "rss": status.get("VmRSS", 0) * 1024, "threads": status.get("Threads"),
            "command": proc.command_line(pid)}


def _window(pid):
    """What is to say about its window (None: not on Arenal), and a snapshot when there is one."""
    threads = threads_of_arenal(pid)
    try:
        if NAME not in threads:
            with proc.Process(pid) as process:
                if not layout.has_library(process) and not layout.locate(process):
                    return None, None
            return "none", None
        with Window(pid, LIMIT) as window:
            return "open", window.snapshot(resident=True)
    except NotPermitted:
        return "not permitted", None
    except NoWindow as error:
        return ("none" if error.on_arenal else None), None
    except Failure:
        if not os.path.exists(f"/proc/{pid}"):
            return None, None
        if NAME in threads:
            return "no answer", None
        return ("not permitted" if threads else None), None


def _user_name(number):
    try:
        return pwd.getpwuid(number).pw_name
    except KeyError:
        return str(number)
