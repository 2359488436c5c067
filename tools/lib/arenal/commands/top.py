"""arenal top"""

import os
import signal
import sys
import time

from arenal import picture
from arenal import top as content
from arenal.commands import SHAPE, seconds, target
from arenal.errors import Failure

HELP = """\
Shows what Arenal holds in a process, live: memory, rates, thread caches, arenas, size classes with what they waste, regions,
and how much of the resident memory is allocated, over time. Without a process ID, it starts with a list of processes.
The process is never stopped; it needs a window: several threads that allocate and more than 16 MiB, or ARENAL_WINDOW=1, or
arenal run; `arenal ctl PID open` opens one in others."""
CODES = """\
The key h shows the keys. The exit code is 1 when the process does not exist, has no window, or may not be looked at."""


def add(commands):
    parser = commands.add_parser("top", help="watch a process live", description=HELP, epilog=CODES,
                                 usage="arenal top [options] [PID]", **SHAPE)
    parser.add_argument("pid", nargs="?", type=target, metavar="PID",
                        help="the process to look at; or a unit, a container or a program's name: the sum of its processes")
    parser.add_argument("-d", "--delay", type=seconds, default=1.0, metavar="SECONDS", help="between two looks; default 1")
    parser.add_argument("--batch", action="store_true", help="print plain text, for a file or a pipe")
    parser.add_argument("-n", type=int, default=None, metavar="COUNT", help="with --batch: so many looks; default: to its end")
    parser.set_defaults(main=main, parser=parser)


def main(options, _command):
    if options.n is not None and (not options.batch or options.n < 1):
        options.parser.error("-n counts looks of --batch, and is 1 or more")
    if options.batch:
        if options.pid is None:
            options.parser.error("--batch needs a process ID: arenal ps lists them")
        return batch(options.pid, options.delay, options.n)
    if not sys.stdin.isatty() or not sys.stdout.isatty():
        raise Failure("top needs a terminal: use arenal top --batch without one")
    if os.environ.get("TERM", "dumb") in ("", "dumb", "unknown"):
        raise Failure("top needs a terminal whose cursor it can move (TERM says it is none): use arenal top --batch")
    try:
        from arenal import top_screen
    except ImportError as error:
        raise Failure(f"top needs Python's curses (Debian: libpython3-stdlib): {error}") from error
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda number, _: sys.exit(128 + number))      # and leaves the terminal as it was
    return top_screen.run(options.pid, options.delay)


def batch(pid, delay, count):
    view = content.View(picture.utf8_locale())
    try:
        width = int(os.environ.get("COLUMNS", ""))
    except ValueError:
        width = 80
    sampler = content.sampler(pid)
    shown = 0
    try:
        while count is None or shown < count:
            if shown:
                time.sleep(delay)
            sampler.look()
            if sampler.ended:
                if sampler.last is None:
                    raise Failure(sampler.problem)
                return 0
            lines = [line.text.rstrip() for line in content.frame(sampler, view, width)]
            sys.stdout.write("\n".join(lines) + "\n\n")
            sys.stdout.flush()
            shown += 1
    finally:
        sampler.close()
    return 0
