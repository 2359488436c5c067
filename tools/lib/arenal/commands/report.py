"""arenal report FILE"""

from arenal.commands import SHAPE, process_id
from arenal.trace import report

HELP = """\
Makes one HTML page of a trace, which needs nothing else: live memory over time, sizes, lifetimes, what threads free of each
other, who holds what at the peak, and a map of the heap."""


def add(commands):
    parser = commands.add_parser("report", help="make a page of a trace", description=HELP,
                                 usage="arenal report [options] FILE", **SHAPE)
    parser.add_argument("file", metavar="FILE", help="what `arenal trace` recorded")
    parser.add_argument("--output", metavar="PAGE", help="instead of FILE.html")
    parser.add_argument("--process", type=process_id, metavar="PID", help="which process, if several were recorded")
    parser.set_defaults(main=main, parser=parser)


def main(options, command):
    if command:
        options.parser.error("give one file")
    report.write(options.tool, options.file, options.process, options.output)
    return 0
