"""What people call processes by: a number; or a unit of systemd, a container, or a program's name, whose
processes are taken together.

Names and groups are read in /proc/PID/comm, exe and cgroup. Anybody may call his process anything, and who
was given a part of the cgroups may call them anything: both say which processes to look at, and no more. What
is looked at is checked as every process is; what is shown of a name is printable."""

import os
import re
from collections import namedtuple

from arenal import facts, files
from arenal.errors import Failure
from arenal.text import printable

KINDS = ("unit", "container", "name")
UNITS = (".service", ".scope", ".slice", ".socket", ".mount", ".swap")
COMM = 15               # bytes of a process's short name
PREFIX = 4              # characters that the beginning of a container's ID has at least, where no kind is said
SHOWN = 5               # things that it may be, in a sentence
CGROUP_LIMIT = 1 << 16

# What is asked for; `kind` "process": a number. `processes` are their numbers, in order.
Target = namedtuple("Target", "kind name processes")
# What /proc says of a process: what it is called by, and the paths of its cgroups, systemd's first.
Seen = namedtuple("Seen", "pid names paths")

# Docker: /docker/ID, docker-ID.scope; podman: libpod-ID.scope; containerd and CRI-O in Kubernetes:
# cri-containerd-ID.scope, crio-ID, .../podUID/ID. LXC: lxc.payload.NAME, lxc.payload/NAME, lxc/NAME;
# systemd-nspawn: machine-NAME.scope.
_BY_ID = re.compile(r"(?:^|[-_:])([0-9a-f]{64})(?:\.scope)?$")
_BY_NAME = re.compile(r"/(?:lxc\.payload[./]|lxc/|machine-)([^/]+?)(?:\.scope)?(?=/|$)")


class Nothing(Failure):
    """There is no such process."""


def find(word, seen=None):
    """The Target that is meant by a number (an int), or by a word, with or without its kind before it.
    `seen`: the processes that there are. Raises Failure."""
    if isinstance(word, int):
        return Target("process", str(word), (word,))
    kind, colon, name = word.partition(":")
    if not colon or kind not in KINDS:
        kind, name = "", word
    found = {}
    for process in look() if seen is None else seen:
        for candidate in _candidates(process, kind, name):
            found.setdefault(candidate, []).append(process.pid)
    if seen is None:
        found = {candidate: alive for candidate, pids in found.items()
                 if (alive := [pid for pid in pids if facts.started(pid) is not None])}
    if not found:
        raise Nothing(_nothing(kind, name))
    if len(set(map(tuple, found.values()))) > 1:
        raise Failure(_ambiguous(word, found))
    candidate = min(found, key=lambda c: KINDS.index(c[0]))
    return Target(*candidate, tuple(sorted(found[candidate])))


def label(target):
    """The target in a sentence."""
    return f"{'program' if target.kind == 'name' else target.kind} {_shown(target)}"


def look():
    """All processes, but this one."""
    for name in os.listdir("/proc"):
        if name.isdigit() and int(name) != os.getpid():
            try:
                yield Seen(int(name), _names(name), paths(name))
            except OSError:
                pass                # it has ended


def paths(pid):
    """The paths of its cgroups: one under v2; under v1, as many as it has hierarchies. systemd's come first."""
    lines = files.head(f"{facts.folder(pid)}/cgroup", CGROUP_LIMIT).decode(errors="surrogateescape")
    fields = [line.split(":", 2) for line in lines.split("\n") if line.count(":") >= 2]
    return [path for _, _, path in sorted(fields, key=lambda field: field[1] not in ("name=systemd", ""))]


def _names(pid):
    """Its short name, and that of its program's file, where that may be known."""
    found = {os.fsdecode(files.head(f"/proc/{pid}/comm", 64).rstrip(b"\n"))}
    try:
        path = os.readlink(f"/proc/{pid}/exe")
        found.add(os.path.basename(path[:-len(" (deleted)")] if path.endswith(" (deleted)") else path))
    except OSError:
        pass
    return found


def _candidates(process, kind, name):
    """Pairs of a kind and a precise name that the process goes by, and that may be meant."""
    if kind in ("", "unit"):
        path = _unit(process, name if kind == "" or name.endswith(UNITS) or "/" in name else f"{name}.service")
        if path:
            yield "unit", path
    if kind in ("", "container"):
        for one in sorted(set().union(*map(containers, process.paths))):
            if one.startswith(name) and (kind or len(name) >= PREFIX or one == name):
                yield "container", one
    if kind in ("", "name"):
        short = os.fsdecode(os.fsencode(name)[:COMM])
        if name in process.names or (short != name and process.names == {short}):
            yield "name", name


def _unit(process, name):
    """The path of the cgroup of the unit of this name that the process is in; "": it is in none. There may be
    several units of one name: each user has some, and each container."""
    for path in process.paths:
        if name.startswith("/"):
            if f"{path}/".startswith(f"{name.rstrip('/')}/") and name.strip("/"):
                return name.rstrip("/")
        elif name.endswith(UNITS) and f"/{name}/" in f"{path}/":
            return path[:f"{path}/".index(f"/{name}/") + 1 + len(name)]
    return ""


def containers(path):
    """The containers that a cgroup of this path belongs to: IDs of 64 digits, or names."""
    parts = path.split("/")
    return {found[1] for found in map(_BY_ID.search, parts) if found} | \
        {_unescaped(found[1]) for found in _BY_NAME.finditer(path) if not _BY_ID.search(found[1])}


def _unescaped(name):
    """What systemd escapes in the names of machines."""
    return re.sub(r"\\x([0-9a-f]{2})", lambda found: chr(int(found[1], 16)), name)


# What there is to say

def count_of(number):
    """1 process, 2 processes."""
    return f"{number:,} process{'es' if number != 1 else ''}"


def _shown(candidate):
    name = candidate[1]
    if candidate[0] == "container" and re.fullmatch("[0-9a-f]{64}", name):
        name = name[:12]
    if candidate[0] == "unit":
        name = name.rpartition("/")[2]
    return printable(name, 256)


def _precise(candidate, others):
    """How to write it, so that nothing else is meant."""
    kind, name = candidate
    if kind == "unit" and not any(other[0] == "unit" and other != candidate for other in others):
        name = name.rpartition("/")[2]
    if kind == "container" and re.fullmatch("[0-9a-f]{64}", name):
        name = name[:12]
    return printable(f"{kind}:{name}", 512)


def _nothing(kind, name):
    shown = printable(name, 256)
    if kind == "unit":
        return f"no process is in a unit {shown}: none of the paths in /proc/PID/cgroup has that name in it"
    if kind == "container":
        return f"no process is in a container {shown}: none of the paths in /proc/PID/cgroup has an ID or a name that begins so"
    if kind == "name":
        return f"no process is called {shown}: neither its short name (/proc/PID/comm) nor its program's file is"
    hint = "" if name.endswith(UNITS) else f" (a unit's name ends in .service, or write unit:{shown})"
    return f"nothing is called {shown}: no unit of systemd, no container's ID or name begins so, and no process has that name{hint}"


def _ambiguous(word, found):
    some = sorted(found, key=lambda c: (KINDS.index(c[0]), c[1]))
    words = [f"{_precise(candidate, found)} ({count_of(len(found[candidate]))})"
             for candidate in some[:SHOWN]]
    more = f", or {len(some) - SHOWN} more" if len(some) > SHOWN else ""
    return f"{printable(word, 256)} may be several things: write {' or '.join(words)}{more}"
