"""arenal ctl PID ACTION"""

import argparse
import re

from arenal import door, files
from arenal.commands import SHAPE, number, process_id, sample_size
from arenal.window import Window

HELP = """\
Steers a running process on Arenal: reads and sets tunables, gives free memory back, turns the heap profile on and off.
The process goes on meanwhile. It needs a window: several threads that allocate and more than 16 MiB, or ARENAL_WINDOW=1, or
arenal run; for others, "open" opens one. Only its own user and root may do so."""
USAGE = """\
arenal ctl PID open
       arenal ctl PID get [NAME]
       arenal ctl PID set NAME VALUE
       arenal ctl PID purge
       arenal ctl PID profile start [BYTES] | stop | dump FILE"""
OPEN = """\
Opens a window in a process that has none, having one thread or little memory, without a restart. It has a thread more from then on, and
so have its children. A process that sleeps is stopped for a millisecond or so (ptrace, on x86-64); its system call goes on. One
that cannot be stopped safely is asked, and opens its window as soon as it takes or gives back a little memory: the status is 1 until then."""
CODES = """\
Sizes are in bytes or take K, M or G, as in: arenal ctl 1234 set dirty_max 64M"""


# What misuse and its relatives say what follows: the library's words for 0, 1 and 2.
MISUSE = ("ignore", "report", "end")


def add(commands):
    parser = commands.add_parser("ctl", help="steer a process: open a window, get or set a tunable, purge", description=HELP,
                                 epilog=CODES, usage=USAGE, **SHAPE)
    parser.add_argument("pid", type=process_id, metavar="PID", help="the process to steer")
    actions = parser.add_subparsers(metavar="ACTION", required=True, prog="arenal ctl PID")
    action = actions.add_parser("open", help="open a window, where there is none", description=OPEN, usage="arenal ctl PID open", **SHAPE)
    action.set_defaults(main=open_, parser=action)
    action = actions.add_parser("get", help="print a tunable, or all of them", usage="arenal ctl PID get [NAME]",
                                **SHAPE)
    action.add_argument("name", nargs="?", metavar="NAME")
    action.set_defaults(main=get, parser=action)
    action = actions.add_parser("set", help="set a tunable", usage="arenal ctl PID set NAME VALUE", **SHAPE)
    action.add_argument("name", metavar="NAME")
    action.add_argument("value", nargs="?", metavar="VALUE")
    action.set_defaults(main=set_, parser=action)
    action = actions.add_parser("purge", help="give all free memory back to the system now",
                                usage="arenal ctl PID purge", **SHAPE)
    action.set_defaults(main=purge, parser=action)
    action = actions.add_parser("profile", help="start, stop or dump the heap profile", usage="arenal ctl PID profile "
                                "start [BYTES] | stop | dump FILE", **SHAPE)
    whats = action.add_subparsers(metavar="start | stop | dump", required=True, prog="arenal ctl PID profile")
    what = whats.add_parser("start", help="forget what was collected, and collect; one byte in BYTES is sampled",
                            usage="arenal ctl PID profile start [BYTES]", **SHAPE)
    what.add_argument("bytes", nargs="?", type=sample_size, default=0, metavar="BYTES")
    what.set_defaults(main=profile_start, parser=what)
    what = whats.add_parser("stop", help="collect no more", usage="arenal ctl PID profile stop", **SHAPE)
    what.set_defaults(main=profile_stop, parser=what)
    what = whats.add_parser("dump", help="write what was collected, for arenal profile FILE",
                            usage="arenal ctl PID profile dump FILE", **SHAPE)
    what.add_argument("file", metavar="FILE")
    what.set_defaults(main=profile_dump, parser=what)
    parser.set_defaults(parser=parser)


def open_(options, _command):
    if door.open_window(options.pid):
        print(f"process {options.pid} has a window already")
    return 0


def get(options, _command):
    with Window(options.pid) as window:
        if options.name is not None:
            print(_shown(options.name, window.get(options.name)))
            return 0
        print(f"{'tunable':<16} {'value':>16}  range")
        for tunable in window.snapshot().tunables:
            note = "" if tunable.live else ", counts at the start only"
            note += f": {', '.join(MISUSE)} are 0 to 2" if _has_words(tunable.name) else ""
            print(f"{tunable.name:<16} {_shown(tunable.name, tunable.value):>16}  {tunable.min} to {tunable.max}{note}")
    return 0


def _has_words(name):
    return name.startswith("misuse")


def _shown(name, value):
    return MISUSE[value] if _has_words(name) and 0 <= value < len(MISUSE) else str(value)


def _value(name, text):
    if not _has_words(name):
        return number(text)
    if text in MISUSE:
        return MISUSE.index(text)
    try:
        return number(text)
    except argparse.ArgumentTypeError as error:
        raise argparse.ArgumentTypeError(f"it is none of {', '.join(MISUSE)}, nor a number: {error}") from None


def set_(options, _command):
    if options.value is None:
        options.parser.error(f"say what to set {options.name} to, as in: arenal ctl {options.pid} set {options.name} VALUE")
    try:
        value = _value(options.name, options.value)
    except argparse.ArgumentTypeError as error:
        options.parser.error(f"argument VALUE: {error}")
    with Window(options.pid) as window:
        window.set(options.name, value)
    return 0


def purge(options, _command):
    with Window(options.pid) as window:
        print(f"at most {window.purge()} bytes given back")         # what had gone before is counted again
    return 0


def profile_start(options, _command):
    with Window(options.pid) as window:
        window.profile_start(options.bytes)
    return 0


def profile_stop(options, _command):
    with Window(options.pid) as window:
        window.profile_stop()
    return 0


def profile_dump(options, _command):
    with Window(options.pid) as window:
        data = window.profile_dump()
    # In its container it has another number. That which it has here leads to its files.
    data = re.sub(rb"^pid [0-9]+$", b"pid %d" % options.pid, data, count=1, flags=re.M)
    files.replace(options.file, data, private=True)
    return 0
