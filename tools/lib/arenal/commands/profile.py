"""arenal profile"""

import argparse
import os
import shutil
import sys
import time

from arenal import files, targets
from arenal.commands import SHAPE, environment_options, sample_size, target
from arenal.errors import Failure

HELP = """\
Shows where the memory of a program comes from: by function, an estimate of what is in use (or, with --total, of all that was
allocated), from a sample of the allocations.

DUMP is what a process wrote that was started with ARENAL_PROFILE=1 and ARENAL_PROFILE_FILE=FILE, or what the function
arenal_profile_dump wrote. With COMMAND, runs it on Arenal with the profile on, and shows what it held at its end; of the programs
that it starts, too. With --diff, shows what DUMP has more than OLD, or less, by stack."""
CODES = """\
The exit code is 1 when something cannot be read or written; with COMMAND it is that of the command."""


def add(commands):
    parser = commands.add_parser("profile", help="show where the memory comes from", description=HELP, epilog=CODES,
                                 usage="arenal profile [options] [--diff OLD] DUMP | arenal profile [options] -- COMMAND [ARGUMENT ...]",
                                 **SHAPE)
    parser.add_argument("dump", nargs="?", metavar="DUMP", help="what a process has written")
    parser.add_argument("--diff", metavar="OLD", help="show what has changed since this dump, of the same process or of an earlier run")
    parser.add_argument("--pprof", metavar="FILE.pb.gz", help="write the profile for pprof, too")
    parser.add_argument("--folded", metavar="FILE", help="write folded stacks, for a flame graph, too")
    parser.add_argument("--html", metavar="PAGE", help="write a flame graph as one HTML page, which needs nothing else, too")
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--live", action="store_false", dest="total", help="show what is in use (the default)")
    which.add_argument("--total", action="store_true", help="show all that was allocated since the start")
    parser.add_argument("--top", type=functions, default=20, metavar="NUMBER", help="show so many functions, or stacks that changed (20)")
    parser.add_argument("--sample", type=sample_size, metavar="BYTES",
                        help="with COMMAND: look at one byte in so many (512K); fewer: more exact, and slower")
    parser.add_argument("--pid", type=target, metavar="PID",
                        help="the process, or its unit, container or name, if it still runs and has another number for itself, as in a "
                             "container: its files have the names")
    parser.add_argument("--root", metavar="FOLDER", help="look for its files below FOLDER, a container's or another machine's")
    parser.add_argument("--debug", action="append", default=[], metavar="FOLDER",
                        help="look for separate debug files in FOLDER, too, which is laid out as /usr/lib/debug is")
    environment_options(parser)
    parser.set_defaults(main=main, parser=parser, total=False)


def functions(text):
    if not text.isascii() or not text.isdigit() or not int(text) <= 1_000_000:
        raise argparse.ArgumentTypeError("from 0 to 1000000 functions")
    return int(text)


def _for_process(path, pid):
    """heap.pb.gz becomes heap.PID.pb.gz: the name for a further process."""
    folder, name = os.path.split(path)
    stem, dot, suffix = name.partition(".")
    return os.path.join(folder, f"{stem}.{pid}{dot}{suffix}")


def convert(path, options, pid=None, further=False, since=0):
    """The list of one dump; of a command's, that began then, `pid` wrote it; if that is a `further` process, it has files of its own."""
    from arenal.profile import difference, dump, flame, pprof, stacks

    def profile_in(path):
        return stacks.Profile(dump.read(path, pid is not None), pid=_one_of(options.pid), root=options.root, debug=options.debug, since=since)

    def write(path, data):
        files.replace(_for_process(path, pid) if further else path, data, private=True, named=not further)

    profile = profile_in(path)
    old = profile_in(options.diff) if options.diff else None
    for note in dict.fromkeys(profile.symbols.notes + (old.symbols.notes if old else [])):
        print(f"arenal: {note}", file=sys.stderr)
    if options.pprof:
        write(options.pprof, pprof.encode(profile, old))
    if options.folded:
        lines = difference.folded(old, profile, options.total) if old else stacks.folded(profile, options.total)
        write(options.folded, "".join(line + "\n" for line in lines).encode(errors="replace"))
    if options.html:
        write(options.html, flame.page(profile, old, options.total))
    return difference.text(old, profile, options.total, options.top) if old else stacks.text(profile, options.total, options.top)


def _one_of(word):
    """Any process of a unit, a container or a name has the files."""
    return word and targets.find(word).processes[0]


def _run(options, command):
    from arenal.profile import session

    since = time.time()
    status, child, folder = session.run(options.tool, command, options.settings, options.stats, options.sample)
    try:
        for pid, path in session.dumps(folder, child):
            try:
                print(convert(path, options, pid, pid != child, since), file=sys.stderr)
            except Failure as failure:
                if pid == child:
                    raise
                print(f"arenal: {failure}", file=sys.stderr)
    except Failure as failure:
        raise Failure(str(failure), status or failure.status) from failure
    finally:
        shutil.rmtree(os.path.dirname(folder), ignore_errors=True)
    return status


def main(options, command):
    if (options.dump is None) == (not command):
        options.parser.error('give either the name of a dump, or a command after "--"')
    for option, folder in [("--root", options.root), *(("--debug", folder) for folder in options.debug)]:
        if folder is not None and not os.path.isdir(folder):
            raise Failure(f"{option} {folder}: there is no such folder")
    if command:
        if options.pid or options.root or options.diff:
            options.parser.error("--pid, --root and --diff are for a DUMP")
        return _run(options, command)
    if options.settings or options.stats or options.sample:
        options.parser.error("--sample, --set and --stats are for a COMMAND")
    print(convert(options.dump, options))
    return 0
