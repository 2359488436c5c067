"""Traces: recording, replaying and reporting them. What reads the file is a program, tools/trace, for speed."""

import glob
import json
import os
import re
import signal
import subprocess

from arenal import installed, library
from arenal.errors import Failure
from arenal.trace import ends

NAME = "arenal-trace"


def reader(tool):
    """The path of arenal-trace: where the library was built, else where this tool is installed."""
    built = os.path.dirname(os.path.dirname(library.find(tool)))
    here = os.path.dirname(tool)
    above = os.path.dirname(here)
    places = [os.path.join(built, "tools", "trace", NAME), os.path.normpath(os.path.join(here, installed.PROGRAMS, NAME))]
    places += glob.glob(os.path.join(glob.escape(above), "lib*", "arenal", NAME))
    for place in places:
        if os.access(place, os.X_OK):
            return place
    raise Failure(f"{NAME} was not found: build it (cmake --build --preset release) or install Arenal completely", 125)


def ask(tool, what, path, *more, env=None):
    """What arenal-trace says about a trace. Its file is cut to its length, if nobody writes to it."""
    ends.settle(path)
    done = subprocess.run([reader(tool), what, path, *map(str, more or (0,))], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                          stderr=subprocess.PIPE, env=env, check=False)
    words = done.stderr.decode(errors="replace").strip().splitlines()
    if done.returncode < 0:
        raise Failure(f"{path} could not be read: {NAME} was ended by {signal.Signals(-done.returncode).name}")
    if done.returncode:
        raise Failure(re.sub("^arenal: ", "", words[-1]) if words else f"{path} could not be read")
    found = json.loads(done.stdout.decode(errors="replace"), object_hook=_named)
    summary = found.get("summary", found)
    if "processes" in summary:
        summary["path"] = path
    return found


def _named(found):
    """The program gives names byte by byte, each as a character. They may be cut in the middle of one."""
    if isinstance(found.get("name"), str):
        found["name"] = found["name"].encode("latin-1", "replace").decode(errors="replace")
    return found


def told(summary):
    """What the chosen process told of its end."""
    return [f"The process {ends.describe(one, summary)}." for one in summary["processes"] if one[0] == summary["chosen"]]


def notes(summary):
    """What a reader must know who takes the trace for everything that happened."""
    found = []
    if summary["damaged"]:
        found.append(f"{summary['damaged']} of its chunks are damaged or missing; they were read as far as they make sense.")
    if summary["state"] == 2:
        found.append("Recording stopped before the program did: there was no room for the file.")
    if summary["state"] == 3:
        found.append("Recording stopped before the program did: the file had its greatest length.")
    if summary["late"]:
        found.append("Recording began while the process ran: what it held then is not known.")
    if summary["state"] == 4:
        found.append("Recording was stopped, by hand or after a time, before the program ended.")
    if summary["processes"] and told(summary) != ["The process called exit(0)."]:
        found += told(summary)
    others = len(summary["processes"]) - 1
    if others > 0:
        found.append(f"{others} more process{'es were' if others > 1 else ' was'} forked: this is process {summary['chosen']}, --process "
                     f"chooses another: " + ", ".join(f"{one[0]} ({one[1]:,} calls; it {ends.describe(one, summary)})" for one in summary["processes"][:10]) + ".")
    return found
