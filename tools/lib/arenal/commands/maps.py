"""arenal maps PID"""

import sys

from arenal import look, page_picture, watch
from arenal.commands import SHAPE, environment_options, process_id_or_command, seconds
from arenal.errors import Failure

HELP = """\
Shows the memory that Arenal holds in a process: the brk heap (main arena), the 64 MiB regions (the other arenas) and
the huge blocks that are mapped directly; of each how much is mapped, used, dirty (free, but still backed by memory) and
resident, and where in the range the resident pages are.

With COMMAND, runs it on Arenal and shows how it looked at its peak, on stderr when it has ended. Only the process of the
command itself is looked at, not those it starts."""
CODES = """\
The exit code is 1 when the process does not exist, is not on Arenal or may not be looked at; with COMMAND it is that of
the command."""


def add(commands):
    parser = commands.add_parser("maps", help="show the memory of a process", description=HELP, epilog=CODES,
                                 usage="arenal maps [options] PID | arenal maps [options] -- COMMAND [ARGUMENT ...]",
                                 **SHAPE)
    parser.add_argument("pid", nargs="?", type=process_id_or_command, metavar="PID", help="the process to look at")
    parser.add_argument("--every", type=seconds, metavar="SECONDS", help="show it again and again until it ends")
    parser.add_argument("--json", action="store_true", help="print one line of JSON per look, sizes in bytes")
    parser.add_argument("--output", metavar="FILE", help="write to FILE instead of stdout (PID) or stderr (COMMAND)")
    parser.add_argument("--guess", action="store_true",
                        help="do not read the memory of the process, only the kernel's map of it")
    parser.add_argument("--picture", metavar="FILE",
                        help="with PID: write a picture of all pages, as SVG for a browser, instead of the table")
    environment_options(parser)
    parser.set_defaults(main=main, parser=parser)


def main(options, command):
    if (options.pid is None) == (not command):
        options.parser.error('give either a process ID, or a command after "--"')
    if options.picture and (command or options.every or options.json or options.output):
        options.parser.error("--picture goes with a process ID, and without --every, --json and --output")
    if command:
        output = look.Output(options.output, options.json, sys.stderr)
        return watch.watch(options.tool, command, options.settings, options.stats, output, options.every, options.guess)
    if options.settings or options.stats:
        options.parser.error("--set and --stats count when a program starts: this one is running")
    if options.picture:
        snapshot = look.look(options.pid, options.guess)
        if snapshot.allocator != "arenal":
            raise Failure(look.not_on_arenal(snapshot))
        page_picture.write(options.pid, snapshot, options.picture)
        return 0
    output = look.Output(options.output, options.json, sys.stdout)
    return look.show_process(options.pid, output, options.every, options.guess)
