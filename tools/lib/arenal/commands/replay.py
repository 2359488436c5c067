"""arenal replay FILE"""

import argparse

from arenal.commands import SHAPE, process_id
from arenal.trace import replay

HELP = """\
Does again what a trace recorded, with as many threads and in the same order, as fast as it can, under each allocator,
and compares time, peak memory and memory at rest. The table comes when all is done: each allocator is run --rounds times, and rests for
--rest seconds each time, so that a small trace takes some 6 seconds for each, too."""


def count(text):
    if not text.isascii() or not text.isdigit() or not 0 <= int(text) <= 3600:
        raise argparse.ArgumentTypeError("from 0 to 3600")
    return int(text)


def add(commands):
    parser = commands.add_parser("replay", help="do what a trace recorded again, under any allocator", description=HELP,
                                 usage="arenal replay [options] FILE", **SHAPE)
    parser.add_argument("file", metavar="FILE", help="what `arenal trace` recorded")
    parser.add_argument("--allocator", action="append", default=[], metavar="NAME", dest="allocators",
                        help="arenal, glibc, jemalloc, mimalloc, tcmalloc, tbbmalloc, or the path of a library; may be repeated. "
                             "Without it: all that are installed")
    parser.add_argument("--rounds", type=count, default=3, metavar="N", help="how often each is run (3)")
    parser.add_argument("--rest", type=count, default=2, metavar="SECONDS", help="how long it rests before memory is measured (2)")
    parser.add_argument("--process", type=process_id, metavar="PID", help="which process, if several were recorded")
    parser.add_argument("--json", action="store_true", help="print the figures of all runs as JSON, in seconds and bytes")
    parser.set_defaults(main=main, parser=parser)


def main(options, command):
    if command or not options.rounds:
        options.parser.error("give one file, and at least one round")
    replay.replay(options.tool, options.file, options.process, options.allocators, options.rounds, options.rest, options.json)
    return 0
