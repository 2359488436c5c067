"""arenal ctl PID ACTION"""

import argparse
import os
import re
import sys

from arenal import door, figures, files, targets, together, window_format
from arenal.commands import SHAPE, number, sample_size, seconds, target
from arenal.errors import Failure, Gone
from arenal.text import printable
from arenal.window import Window
from arenal.window_file import NoWindow

HELP = """\
Steers a running process on Arenal: reads and sets tunables, gives free memory back, turns the heap profile and the trace on and off.
The process goes on meanwhile. It needs a window: several threads that allocate and more than 16 MiB, or ARENAL_WINDOW=1, or
arenal run; for others, "open" opens one. Only its own user and root may do so."""
USAGE = """\
arenal ctl PID open
       arenal ctl PID get [NAME]
       arenal ctl PID set NAME VALUE
       arenal ctl PID purge
       arenal ctl PID profile start [BYTES] | stop | dump FILE
       arenal ctl PID trace start FILE [--seconds N] [--max BYTES] | stop | status"""
OPEN = """\
Opens a window in a process that has none, having one thread or little memory, without a restart. It has a thread more from then on, and
so have its children. A process that sleeps is stopped for a millisecond or so (ptrace, on x86-64); its system call goes on. One that computes
is stopped in its own code, for as long, again and again for up to 5 seconds, until that was not in the middle of something. One
that cannot be stopped safely is asked, and opens its window as soon as it takes or gives back a little memory: the status is 1 until then."""
TRACE = """\
Records every call of malloc, free and their relatives from now on, as arenal trace does from the start: of all threads, and of the children
that are forked from now on. Blocks that were there before are not known: the report says how many of them were freed.

The process makes FILE, as its own user, in its own file system; a file that exists is never overwritten. Of several processes, each
has its own: FILE.PID."""
TRACE_MOST = 1 << 30
CODES = """\
Sizes are in bytes or take K, M or G, as in: arenal ctl 1234 set dirty_max 64M

In place of PID: a unit (redis-server.service, or unit:redis-server), a container (container:ID, or how its ID begins) or a program's
name (name:redis-server). It is done in all of its processes that are on Arenal, with a line for each; the dump of the profile is that of
all of them. One that ends meanwhile is left out. The exit code is 1 when another one refused."""


# What misuse and its relatives say what follows: the library's words for 0, 1 and 2.
MISUSE = ("ignore", "report", "end")


def add(commands):
    parser = commands.add_parser("ctl", help="steer a process: open a window, get or set a tunable, purge", description=HELP,
                                 epilog=CODES, usage=USAGE, **SHAPE)
    parser.add_argument("pid", type=target, metavar="PID",
                        help="the process to steer; or a unit, a container or a program's name: all of its processes")
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
    action = actions.add_parser("trace", help="record every call from now on", description=TRACE, usage="arenal ctl PID trace "
                                "start FILE [--seconds N] [--max BYTES] | stop | status", **SHAPE)
    whats = action.add_subparsers(metavar="start | stop | status", required=True, prog="arenal ctl PID trace")
    what = whats.add_parser("start", help="record into FILE", usage="arenal ctl PID trace start FILE [--seconds N] [--max BYTES]", **SHAPE)
    what.add_argument("file", metavar="FILE")
    what.add_argument("--seconds", type=seconds, metavar="N", help="for so long; default: until it is stopped, or the process ends")
    what.add_argument("--max", type=trace_size, default=TRACE_MOST, metavar="BYTES", help="until FILE is so long; default 1G")
    what.set_defaults(main=trace_start, parser=what)
    what = whats.add_parser("stop", help="record no more", usage="arenal ctl PID trace stop", **SHAPE)
    what.set_defaults(main=trace_stop, parser=what)
    what = whats.add_parser("status", help="say whether calls are recorded", usage="arenal ctl PID trace status", **SHAPE)
    what.set_defaults(main=trace_status, parser=what)
    parser.set_defaults(parser=parser)


def trace_size(text):
    found = number(text)
    if not 1 << 20 <= found <= 64 << 30:
        raise argparse.ArgumentTypeError("from 1M to 64G")
    return found


def _complain(pid, failure):
    """Of one of several. Returns whether that is a failure of the command: who has ended need not do anything."""
    words = printable(str(failure))
    which = "" if f"process {pid}" in words else f"process {pid}: "
    print(f"arenal: {'left out: ' if isinstance(failure, Gone) else ''}{which}{words}", file=sys.stderr)
    return not isinstance(failure, Gone)


def _done(lines):
    """Prints what was done, and in which process, in order."""
    for pid, name, text in lines:
        print(f"process {pid} ({name}): {text}")


def _in_each(options, work, walks=False):
    """What came of it in each of several processes: triples as Looked has them, and the exit code."""
    with together.Group(options.pid) as group:
        looked = group.each(work, walks)
    refused = [_complain(pid, failure) for pid, _, failure in looked.left]
    return looked.done, 1 if any(refused) else 0


def _is_one(options):
    return isinstance(options.pid, int)


def open_(options, _command):
    if _is_one(options):
        if door.open_window(options.pid):
            print(f"process {options.pid} has a window already")
        return 0
    wanted = targets.find(options.pid)
    status, on_arenal = 0, 0
    for pid in wanted.processes:
        try:
            had = door.open_window(pid)
            print(f"process {pid} has a window{' already' if had else ''}", flush=True)
        except Failure as failure:
            if isinstance(failure, NoWindow) and not failure.on_arenal:
                continue
            status = max(status, int(_complain(pid, failure)))
        on_arenal += 1
    if not on_arenal:
        raise Failure(f"{targets.label(wanted)}: none of its processes is on Arenal ({targets.count_of(len(wanted.processes))})")
    return status


def get(options, _command):
    if not _is_one(options):
        return _get_of_each(options)
    with Window(options.pid) as window:
        if options.name is not None:
            print(_shown(options.name, window.get(options.name)))
            return 0
        _print_all(window.snapshot().tunables)
    return 0


def _get_of_each(options):
    if options.name is not None:
        done, status = _in_each(options, lambda window: window.get(options.name))
        _done((pid, command, _shown(options.name, value)) for pid, command, value in done)
        return status
    done, status = _in_each(options, lambda window: window.snapshot().tunables)
    for pid, command, tunables in done:
        print(f"process {pid} ({command}):")
        _print_all(tunables)
    return status


def _print_all(tunables):
    print(f"{'tunable':<16} {'value':>16}  range")
    for tunable in tunables:
        note = "" if tunable.live else ", counts at the start only"
        note += f": {', '.join(MISUSE)} are 0 to 2" if _has_words(tunable.name) else ""
        print(f"{tunable.name:<16} {_shown(tunable.name, tunable.value):>16}  {tunable.min} to {tunable.max}{note}")


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
        raise argparse.ArgumentTypeError(f"it is not one of {', '.join(MISUSE)}, nor a number: {error}") from None


def set_(options, _command):
    if options.value is None:
        options.parser.error(f"say what to set {options.name} to, as in: arenal ctl {options.pid} set {options.name} VALUE")
    try:
        value = _value(options.name, options.value)
    except argparse.ArgumentTypeError as error:
        options.parser.error(f"argument VALUE: {error}")
    if not _is_one(options):
        done, status = _in_each(options, lambda window: window.set(options.name, value))
        _done((pid, command, f"{options.name} is {_shown(options.name, value)}") for pid, command, _ in done)
        return status
    with Window(options.pid) as window:
        window.set(options.name, value)
    return 0


def purge(options, _command):
    if not _is_one(options):
        done, status = _in_each(options, lambda window: window.purge(), True)
        _done((pid, command, f"at most {given} bytes given back") for pid, command, given in done)
        return status
    with Window(options.pid) as window:
        print(f"at most {window.purge()} bytes given back")         # what had gone before is counted again
    return 0


def profile_start(options, _command):
    if not _is_one(options):
        done, status = _in_each(options, lambda window: window.profile_start(options.bytes))
        _done((pid, command, "the heap profile is on") for pid, command, _ in done)
        return status
    with Window(options.pid) as window:
        window.profile_start(options.bytes)
    return 0


def profile_stop(options, _command):
    if not _is_one(options):
        done, status = _in_each(options, lambda window: window.profile_stop())
        _done((pid, command, "the heap profile is off") for pid, command, _ in done)
        return status
    with Window(options.pid) as window:
        window.profile_stop()
    return 0


def profile_dump(options, _command):
    if not _is_one(options):
        from arenal.profile import dump, merged

        done, status = _in_each(options, lambda window: dump.parse(window.profile_dump().decode(errors="surrogateescape"),
                                                                   f"the profile of process {window.pid}"), True)
        files.replace(options.file, merged.text(merged.merge([(pid, found) for pid, _, found in done])), private=True)
        _done((pid, command, "is in the profile") for pid, command, _ in done)
        return status
    with Window(options.pid) as window:
        data = window.profile_dump()
    # In its container it has another number. That which it has here leads to its files.
    data = re.sub(rb"^pid [0-9]+$", b"pid %d" % options.pid, data, count=1, flags=re.M)
    files.replace(options.file, data, private=True)
    return 0


# Traces

def _told(state):
    """What there is to say of a trace."""
    if not state.path:
        return "its calls are not recorded"
    lasted = f"{state.path}: {state.milliseconds / 1000:.1f} s, {figures.human(state.bytes)}"
    if state.is_on:
        return f"recording into {lasted} so far" + (f", {state.left / 1000:.1f} s left" if state.left else "")
    why = {window_format.NO_SPACE: ": there was no room any more", window_format.FULL: ": it has its greatest length"}
    return f"recorded into {lasted}{why.get(state.state, '')}"


def _trace(options, work):
    if not _is_one(options):
        done, status = _in_each(options, work, True)
        _done((pid, command, _told(state)) for pid, command, state in done)
        return status
    with Window(options.pid) as window:
        print(_told(work(window)))
    return 0


def trace_start(options, _command):
    path, milliseconds = os.path.abspath(options.file), int(1000 * (options.seconds or 0))
    return _trace(options, lambda window: window.trace_start(path if _is_one(options) else f"{path}.{window.pid}", options.max, milliseconds))


def trace_stop(options, _command):
    return _trace(options, lambda window: window.trace_stop())


def trace_status(options, _command):
    return _trace(options, lambda window: window.trace_state())
