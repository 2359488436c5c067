"""arenal stats PID"""

import sys
import time

from arenal import figures, files, openmetrics, serve
from arenal.commands import SHAPE, process_id, seconds
from arenal.errors import Gone
from arenal.proc import command_name
from arenal.window import Window

HELP = """\
Prints what Arenal holds in a running process: the table of ARENAL_STATS=1, JSON, or OpenMetrics text. The process goes on
meanwhile, and needs a window (ARENAL_WINDOW=1, or a process with several threads)."""
CODES = """\
For the textfile collector of Prometheus's node_exporter:
    arenal stats PID --openmetrics --every 15 --output /var/lib/prometheus/node-exporter/arenal.prom
For a scraper that speaks HTTP over a Unix socket (as in: curl --unix-socket PATH http://localhost/metrics):
    arenal stats PID --openmetrics --listen PATH

The exit code is 1 when the process does not exist, has no window, or may not be looked at."""


def add(commands):
    parser = commands.add_parser("stats", help="print the statistics of a process", description=HELP, epilog=CODES,
                                 usage="arenal stats PID [options]", **SHAPE)
    parser.add_argument("pid", type=process_id, metavar="PID", help="the process to look at")
    form = parser.add_mutually_exclusive_group()
    form.add_argument("--json", action="store_true", help="print one line of JSON, sizes in bytes")
    form.add_argument("--openmetrics", action="store_true", help="print OpenMetrics text")
    parser.add_argument("--resident", action="store_true",
                        help="ask the kernel, too, what of the memory is resident: a walk over the whole heap of the process")
    parser.add_argument("--output", metavar="FILE", help="write to FILE, which is replaced in one step")
    parser.add_argument("--every", type=seconds, metavar="SECONDS", help="do it again and again until the process ends")
    parser.add_argument("--listen", metavar="PATH",
                        help="answer whoever connects to a Unix socket of this name (mode 0600) until the process ends")
    parser.set_defaults(main=main, parser=parser)


def main(options, _command):
    if options.listen and (options.output or options.every or not options.openmetrics):
        options.parser.error("--listen goes with --openmetrics, and without --output and --every")
    with Window(options.pid) as window:
        def look():
            return _text(options, window)
        if options.listen:
            serve.serve(options.listen, look, openmetrics.CONTENT_TYPE, window.alive)
            return 0
        return _print(options, look)


def _text(options, window):
    name = command_name(options.pid)
    snapshot = window.snapshot(options.resident)
    if options.openmetrics:
        return openmetrics.text(snapshot, options.pid, name)
    if options.json:
        return figures.as_json(snapshot, pid=options.pid, command=name, time=time.time(), library=window.library)
    return figures.table(snapshot, f"arenal {window.library} statistics of process {options.pid} ({name})")


def _print(options, look):
    shown = 0
    while True:
        try:
            text = look()
        except Gone:
            if shown:
                return 0
            raise
        if options.output:
            files.replace(options.output, text)
        else:
            sys.stdout.write(text)
            sys.stdout.flush()
        shown += 1
        if not options.every:
            return 0
        time.sleep(options.every)
