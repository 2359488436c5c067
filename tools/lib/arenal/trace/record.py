"""`arenal trace`: runs a command, and every call of malloc and its relatives is recorded."""

import glob
import os
import re
import struct
import sys

from arenal import files as proc_files
from arenal import library, memfile, start, trace
from arenal.errors import Failure
from arenal.proc import MAPS_LIMIT, folder, started
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
    held = start.hold_signals()
    pid = os.fork()
    if pid == 0:
        start.release_signals(held)
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


def may_be_written(path):
    """Whether a process has it mapped, or may have: programs like ssh-agent hide their maps from their own user. Of those, only such count as
    are younger than we are."""
    try:
        about = os.stat(path)
    except OSError:
        return False
    if not os.path.exists("/proc/1"):
        return True                     # /proc shows us some processes only
    mapping = re.compile(rb" %02x:%02x %d " % (os.major(about.st_dev), os.minor(about.st_dev), about.st_ino))
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            if mapping.search(proc_files.head(f"{folder(pid)}/maps", MAPS_LIMIT)):
                return True
        except PermissionError:
            if os.getuid() in memfile.owners_now(pid) and (started(pid) or 0) >= started(os.getpid()):
                return True
        except OSError:
            continue
    return False


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
        if not may_be_written(name):
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
