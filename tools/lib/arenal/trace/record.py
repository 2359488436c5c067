"""`arenal trace`: runs a command, and every call of malloc and its relatives is recorded."""

import glob
import os
import re
import struct
import sys

from arenal import library, start, trace
from arenal.errors import Failure
from arenal.text import printable

HEADER = struct.Struct("<8sIIIIQQQQQ16sQ")      # struct trace_header of src/observe/trace_format.h, up to `chunks`
MAGIC = b"ARENALTR"
NOT_STARTED = (125, 126)                # exit codes of our own


def record(tool, command, settings, stats, output):
    """Returns the exit code of the command, negative when a signal ended it."""
    if output and os.path.lexists(output):
        raise Failure(f"{output} exists already, and traces overwrite nothing")
    trace.reader(tool)                  # better before than after
    start.find_command(command[0], library.environment(library.find(tool), settings, stats))
    sys.stdout.flush()
    sys.stderr.flush()
    mask = start.hold_signals()
    pid = os.fork()
    if pid == 0:
        start.release_signals(mask)
        _become(tool, command, settings, stats, output)
    path = os.path.abspath(output or f"arenal.{pid}.trace")
    code = start.wait(pid)
    if code not in NOT_STARTED or files(path):          # then it was said why
        tell(tool, path)
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


def files(path):
    """The trace, and those of the programs that its command started: a number behind its name, and perhaps one more."""
    beside = [name for name in glob.glob(glob.escape(path) + ".*")
              if re.fullmatch(r"\.\d+(\.\d+)?", name[len(path):])]
    return [name for name in [path, *sorted(beside)] if os.path.isfile(name)]


def writers(path):
    """The processes that have it mapped, as far as we may know."""
    found = []
    try:
        about = os.stat(path)
    except OSError:
        return found
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{pid}/maps", "rb") as file:
                if re.search(rb" %02x:%02x %d " % (os.major(about.st_dev), os.minor(about.st_dev), about.st_ino), file.read()):
                    found.append(int(pid))
        except OSError:
            continue
    return found


def cut(path):
    """To its length, where the library could not: a process crashed, or was replaced by another program."""
    try:
        with open(path, "r+b", opener=lambda name, flags: os.open(name, flags | os.O_NOFOLLOW)) as file:
            head = file.read(HEADER.size)
            if len(head) == HEADER.size:
                magic, _, chunk, *_, chunks = HEADER.unpack(head)
                if magic == MAGIC and chunk * chunks < os.fstat(file.fileno()).st_size:
                    file.truncate(chunk * chunks)
    except OSError:
        pass                            # it stays long, without contents


def tell(tool, path):
    found = files(path)
    if not found:
        print("arenal: nothing was recorded: the command does not run on Arenal, or never allocated", file=sys.stderr)
    for name in found:
        alive = writers(name)
        if not alive:
            cut(name)
    for name in found[:20]:
        summary = trace.ask(tool, "summary", name)
        calls = summary["calls"]
        where = name if name == path else "  " + os.path.basename(name)
        each = f", {summary['bytes'] / calls:.1f} bytes each" if calls else ""
        line = f"{where}: {summary['name']}, {calls:,} calls{each}, {count(summary['threads'], 'thread')}, {summary['ns'] / 1e9:.3f} s"
        print(f"arenal: {printable(line)}", file=sys.stderr)
    if len(found) > 20:
        print(f"arenal: and {len(found) - 20} more", file=sys.stderr)


def count(number, noun):
    return f"{number:,} {noun}{'' if number == 1 else 's'}"
