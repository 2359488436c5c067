"""arenal run -- COMMAND"""

from arenal import start
from arenal.commands import SHAPE, environment_options

HELP = """\
Runs COMMAND on Arenal: libarenal.so is preloaded into it and into every program it starts.

The library is the one that ARENAL_LIBRARY names, else that of the build tree or the installation that this tool belongs
to, else the one that the dynamic linker knows.

Sets ARENAL_WINDOW=1, so that `ps`, `stats`, `ctl` and `top` can look into each of these processes from its start. That is a
thread; for programs that must have no other, say --set window=0, or set ARENAL_WINDOW yourself."""
CODES = """\
The exit code is that of COMMAND; 125 when there is no library, 126 when COMMAND cannot be executed, 127 when there is
no such command."""


def add(commands):
    parser = commands.add_parser("run", help="run a program on Arenal", description=HELP, epilog=CODES,
                                 usage="arenal run [options] -- COMMAND [ARGUMENT ...]", **SHAPE)
    environment_options(parser)
    parser.set_defaults(main=main, parser=parser)


def main(options, command):
    if not command:
        options.parser.error('say what to run after "--", as in: arenal run -- ls -l')
    return start.run(options.tool, command, options.settings, options.stats)
