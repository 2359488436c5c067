"""arenal trace -- COMMAND"""

from arenal.commands import SHAPE, environment_options
from arenal.trace import record

HELP = """\
Runs COMMAND on Arenal and records every call of malloc, free and their relatives: what, how much, which address, which
thread, when. Processes that it forks are recorded in the same file; programs that it starts in files of their own,
FILE.PID. Nothing is overwritten. What a crash leaves is readable.

`arenal report FILE` makes a page of it, `arenal replay FILE` does it again under other allocators."""
CODES = """\
The exit code is that of COMMAND; 125 when there is no library, 126 when COMMAND cannot be executed, 127 when there is
no such command."""


def add(commands):
    parser = commands.add_parser("trace", help="record every call of a program", description=HELP, epilog=CODES,
                                 usage="arenal trace [options] -- COMMAND [ARGUMENT ...]", **SHAPE)
    parser.add_argument("--output", metavar="FILE", help="instead of arenal.PID.trace in the current directory")
    environment_options(parser)
    parser.set_defaults(main=main, parser=parser)


def main(options, command):
    if not command:
        options.parser.error('say what to run after "--", as in: arenal trace -- ls -l')
    return record.record(options.tool, command, options.settings, options.stats, options.output)
