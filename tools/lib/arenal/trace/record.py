"""`arenal trace`: runs a command, and every call of malloc and its relatives is recorded."""

import glob
import os
import re
import sys

from arenal import library, start, trace
from arenal.errors import Failure
from arenal.text import printable
from arenal.trace import ends

NOT_STARTED = (125, 126)                # exit codes of our own


def record(tool, command, settings, stats, output):
    """Returns the exit code of the command, negative when a signal ended it."""
    if output and os.path.lexists(output):
        raise Failure(f"{output} exists already, and traces overwrite nothing")
    trace.reader(tool)                  # better before than after
    before = _names(os.path.dirname(output or "") or ".")
    start.find_command(command[0], library.environment(library.find(tool), settings, stats))
    sys.stdout.flush()
    sys.stderr.flush()
    held = start.hold_signals()
    pid = os.fork()
    if pid == 0:
        start.release_signals(held)
        _become(tool, command, settings, stats, output)
    path = os.path.abspath(output or f"arenal.{pid}.trace")
    code = start.wait(pid)
    found = files(path, before)
    if code not in NOT_STARTED or found:                # then it was said why
        tell(tool, path, found, pid, -code if code < 0 else None)
    return code


def _become(tool, command, settings, stats, output):
    status = 125
    try:
        path = os.path.abspath(output or f"arenal.{os.getpid()}.trace")
        start.run(tool, command, settings, stats, {b"ARENAL_TRACE_FILE": os.fsencode(path)})
    except Failure as failure:
        print(f"arenal: {failure}", file=sys.stderr)
        status = failure.status
    finally:
        sys.stderr.flush()
        os._exit(status)


def _names(folder):
    try:
        return set(os.listdir(folder))
    except OSError:
        return set()


def files(path, before):
    """The trace, and those of the programs that its command started: a number behind its name, and perhaps one more. Not those of an
    earlier run, whose names were there `before`."""
    beside = [name for name in glob.glob(glob.escape(path) + ".*")
              if re.fullmatch(r"\.\d+(\.\d+)?", name[len(path):])]
    return [name for name in [path, *sorted(beside)] if os.path.basename(name) not in before and os.path.isfile(name)]


def outcome(summary, command, signalled):
    """What is known of the file's first process, and of the others."""
    first = [row for row in summary["processes"] if row[0] == summary["pid"]]
    words = [ends.describe(row, summary, *((signalled, True) if row[0] == command else ())) for row in first]
    if summary["writers"] == 1 and words not in (["runs still"], []):
        words.append("more is being recorded")
    return "".join(f"; {word}" for word in words)


def tell(tool, path, found, command, signalled):
    if not found:
        print("arenal: nothing was recorded. If nothing above says why, the command does not run on Arenal, or never allocated", file=sys.stderr)
    for name in found[20:]:
        ends.settle(name)
    for name in found[:20]:
        try:
            summary = trace.ask(tool, "summary", name)
        except Failure as failure:      # the command has run: its exit code is the one that counts
            print(f"arenal: {printable(str(failure))}", file=sys.stderr)
            continue
        calls = summary["calls"]
        where = name if name == path else "  " + os.path.basename(name)
        each = f", {summary['bytes'] / calls:.1f} bytes each" if calls else ""
        line = f"{where}: {summary['name']}, {calls:,} calls{each}, {count(summary['threads'], 'thread')}, {summary['ns'] / 1e9:.3f} s"
        line += outcome(summary, command, signalled)
        print(f"arenal: {printable(line)}", file=sys.stderr)
    if len(found) > 20:
        print(f"arenal: and {len(found) - 20} more", file=sys.stderr)


def count(number, noun):
    return f"{number:,} {noun}{'' if number == 1 else 's'}"
