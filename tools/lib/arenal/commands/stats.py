"""arenal stats PID"""

import contextlib
import os
import signal
import stat
import sys
import time

from arenal import facts, figures, files, listen, openmetrics, serve, targets, together
from arenal.commands import SHAPE, seconds, target
from arenal.errors import Failure, Gone
from arenal.text import printable
from arenal.window import Window

PATIENCE = 5.0          # seconds that a program which the process executes has for its window

HELP = """\
Prints what Arenal holds in a running process: the table of ARENAL_STATS=1, JSON, or OpenMetrics text. The process goes on
meanwhile, and needs a window: several threads that allocate and more than 16 MiB, or ARENAL_WINDOW=1, or arenal run;
`arenal ctl PID open` opens one in others."""
CODES = """\
For the textfile collector of Prometheus's node_exporter, which takes the older format; the file goes with the process:
    arenal stats PID --prometheus --every 15 --output /var/lib/prometheus/node-exporter/arenal.prom
For a scraper that speaks HTTP over a Unix socket (as in: curl --unix-socket PATH http://localhost/metrics):
    arenal stats PID --openmetrics --listen PATH

In place of PID: a unit (redis-server.service, or unit:redis-server), a container (container:ID, or how its ID begins) or a program's
name (name:redis-server). Figures of its processes on Arenal are added up; what they share since a fork is counted in each. --json says
which they are; the metrics are each process's. Who cannot be looked into is left out, with a word on stderr.

The exit code is 1 when the process does not exist, has no window, or may not be looked at."""


def add(commands):
    parser = commands.add_parser("stats", help="print the statistics of a process", description=HELP, epilog=CODES,
                                 usage="arenal stats PID [options]", **SHAPE)
    parser.add_argument("pid", type=target, metavar="PID",
                        help="the process to look at; or a unit, a container or a program's name: the sum of its processes")
    form = parser.add_mutually_exclusive_group()
    form.add_argument("--json", action="store_true", help="print one line of JSON, sizes in bytes")
    form.add_argument("--openmetrics", action="store_true", help="print OpenMetrics text")
    form.add_argument("--prometheus", action="store_true", help="print the text format of Prometheus (0.0.4)")
    parser.add_argument("--resident", action="store_true",
                        help="ask the kernel, too, what of the memory is resident: a walk over the whole heap of the process")
    parser.add_argument("--output", metavar="FILE", help="write to FILE, which is replaced in one step")
    parser.add_argument("--every", type=seconds, metavar="SECONDS",
                        help="do it again and again until the process ends, whatever programs it executes; FILE is removed then, "
                             "and while it cannot be written")
    parser.add_argument("--listen", metavar="PATH",
                        help="answer whoever connects to a Unix socket of this name (mode 0600) until the process ends")
    parser.set_defaults(main=main, parser=parser)


def main(options, _command):
    if options.listen and (options.output or options.every or not options.openmetrics):
        options.parser.error("--listen goes with --openmetrics, and without --output and --every")
    wanted = targets.find(options.pid)
    with (Subject(options.pid, options.resident) if wanted.kind == "process" else Several(options.pid, options.resident)) as subject:
        def look():
            return subject.text(options)
        if options.listen:
            serve.serve(listen.unix(options.listen), look, openmetrics.CONTENT_TYPE, subject.alive)
            return 0
        return _print(options, look)


class Subject:
    """The process that is looked at again and again. When it executes another program, its window is another one."""

    def __init__(self, pid, resident):
        self.pid, self.resident = pid, resident
        self.started = facts.started(pid)
        self.window = Window(pid)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.window.close()

    def alive(self):
        return self.started is not None and facts.started(self.pid) == self.started

    def snapshot(self):
        try:
            return self.window.snapshot(self.resident)
        except Gone:
            self._open_again()
        return self.window.snapshot(self.resident)

    def _open_again(self):
        until = time.monotonic() + PATIENCE
        while True:
            if not self.alive():
                raise Gone(self.pid)
            try:
                window = Window(self.pid)
                break
            except Failure as failure:
                if time.monotonic() > until:
                    raise Gone(self.pid, f"process {self.pid} has no window any more: {failure}") from failure
            time.sleep(0.02)
        self.window.close()
        self.window = window

    def text(self, options):
        snapshot = self.snapshot()
        name = facts.command_name(self.pid)
        if _is_old(options) or options.openmetrics:
            return openmetrics.text(snapshot, self.pid, name, facts.whereabouts(self.pid), _is_old(options), self.window.library)
        if options.json:
            return figures.as_json(snapshot, pid=self.pid, command=name, time=time.time(), library=self.window.library)
        return figures.table(snapshot, f"arenal {self.window.library} statistics of process {self.pid} ({name})")


class Several:
    """The processes of a unit, a container or a name. Who is left out is said once, and again when that changes."""

    def __init__(self, word, resident):
        self.group, self.resident, self.said = together.Group(word), resident, None

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.group.close()

    def _snapshot(self, window):
        snapshot = window.snapshot(self.resident)
        snapshot.library = window.library
        return snapshot

    def alive(self):
        try:
            targets.find(self.group.word)
            return True
        except Failure:
            return False

    def text(self, options):
        try:
            looked = self.group.each(self._snapshot, self.resident)
        except targets.Nothing as nothing:
            raise Gone(0, str(nothing)) from nothing
        said = together.left_out(looked)
        if said != self.said and said:
            print(f"arenal: {said}", file=sys.stderr)
        self.said = said
        if _is_old(options) or options.openmetrics:
            return together.metrics([openmetrics.text(snapshot, pid, name, facts.whereabouts(pid), _is_old(options), snapshot.library)
                                     for pid, name, snapshot in looked.done])
        all_of_them = together.Sum(snapshot for _, _, snapshot in looked.done)
        if options.json:
            return together.as_json(self.group.target, looked, all_of_them)
        heading = f"arenal statistics of {self.group.label}: {targets.count_of(len(looked.done))}"
        return figures.table(all_of_them, heading) + together.table(looked)


def _is_old(options):
    return options.prometheus or bool(options.openmetrics and options.output and options.output.endswith(".prom"))


def _print(options, look):
    shown = 0
    written = None          # the file that is ours
    failing = False
    if options.output and options.every:
        signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))
    try:
        while True:
            try:
                text = look()
            except Gone:
                if shown:
                    return 0
                raise
            if options.output:
                try:
                    files.replace(options.output, text)
                    written, failing = _identity(options.output), False
                except Failure as failure:
                    if not shown:
                        raise
                    # Nobody may take the figures of before for those of now; and a disk that is full has room again, some day.
                    _remove(options.output, written)
                    if not failing:
                        print(f"arenal: {printable(str(failure))}: it is tried again until it works", file=sys.stderr)
                    written, failing = None, True
            else:
                sys.stdout.write(text)
                sys.stdout.flush()
            shown += 1
            if not options.every:
                written = None
                return 0
            time.sleep(options.every)
    finally:
        # Of a process that has ended, or that nobody looks at any more, Prometheus would go on to hear the last figures.
        _remove(options.output, written)


def _remove(path, written):
    """If it is still the file that we wrote."""
    if written and written == _identity(path):
        with contextlib.suppress(OSError):
            os.unlink(path)


def _identity(path):
    """None: it is no plain file."""
    try:
        about = os.lstat(path)
    except OSError:
        return None
    return (about.st_dev, about.st_ino) if stat.S_ISREG(about.st_mode) else None
