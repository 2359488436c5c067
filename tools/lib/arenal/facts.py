"""What the kernel tells of a process in /proc/PID, but for its memory (proc.py): its folder there, names,
state, start and cgroup; and who may ask."""

import errno
import os
import re

from arenal import files
from arenal.text import LIMIT, printable

CGROUPS = "/sys/fs/cgroup"
TASKS = 16                      # threads that are looked at for one that lives


def is_ending(pid):
    """Has it no memory any more? Then all that is left of it is root's."""
    try:
        return files.head(f"/proc/{pid}/statm", 64).startswith(b"0 ")
    except OSError as error:
        return error.errno in (errno.ENOENT, errno.ESRCH)


def who_may():
    """What to do where the kernel does not permit it."""
    return "become its user, or root" if os.geteuid() else root_may()


def root_may():
    """What to do where the kernel permits it to root only."""
    if os.geteuid():
        return "become root"
    return ("the kernel refuses, to this root, too (another user namespace, or no CAP_SYS_PTRACE or "
            "CAP_SYS_ADMIN)")


def read(path):
    """The beginning of one of these small files; nothing when it is not to be had."""
    try:
        return files.head(path, 4096)
    except OSError:
        return b""


def folder(pid):
    """/proc/PID, or that of another thread when the first one has ended before it: of that one, the kernel
    shows no memory, and no group."""
    top = f"/proc/{pid}"
    if _state(f"{top}/stat") == b"Z":
        try:
            for task in os.listdir(f"{top}/task")[:TASKS]:
                if _state(f"{top}/task/{task}/stat") not in (b"Z", b"X", b""):
                    return f"{top}/task/{task}"
        except OSError:
            pass
    return top


def _state(path):
    return read(path).rpartition(b") ")[2][:1]


def thread_state(pid, thread):
    """The letter of the thread's state, "?" when there is no such thread."""
    return _state(f"/proc/{pid}/task/{thread}/stat").decode() or "?"


def thread_status(pid, thread):
    """The numbers in the thread's status, by name; none when there is no such thread."""
    try:
        return status(f"{pid}/task/{thread}")
    except OSError:
        return {}


def comm(pid):
    """The process's short name. Raises OSError when it has ended."""
    return printable(files.head(f"/proc/{pid}/comm", 64).rstrip(b"\n").decode(errors="replace"))


def command_name(pid):
    """The process's short name. "" when it has ended."""
    try:
        return comm(pid)
    except OSError:
        return ""


def command_line(pid):
    """The command, but not more than its first thousands of characters; its short name in brackets where
    there is none."""
    try:
        words = files.head(f"{folder(pid)}/cmdline", LIMIT).rstrip(b"\0").replace(b"\0", b" ")
        words = words.decode(errors="replace")
    except OSError:
        words = ""
    return printable(words) or f"[{command_name(pid)}]"


def status(pid):
    """The numbers in /proc/PID/status, by name. Raises OSError when the process has ended."""
    lines = files.head(f"{folder(pid)}/status", 1 << 16)
    found = re.findall(rb"^(\w+):\s+(\d+)(?: kB)?$", lines, re.M)
    return {name.decode(): int(value) for name, value in found}


def started(pid):
    """When the process started, in ticks since boot: with its number, what it is known by, also after exec.
    None: it has ended."""
    fields = read(f"/proc/{pid}/stat").rpartition(b")")[2].split()
    lives = len(fields) > 19 and (fields[0] not in (b"Z", b"X") or folder(pid) != f"/proc/{pid}")
    return int(fields[19]) if lives else None


def whereabouts(pid):
    """The unit of systemd, or the container, that the process belongs to, by its cgroups: {"unit": ...} or
    {"container": ...} or neither."""
    return group(pid)[0]


def group(pid):
    """The same, and the whole path of that cgroup: whoever was given a part of the cgroups, as each user is, may have a unit of any name."""
    try:
        lines = files.head(f"{folder(pid)}/cgroup", 1 << 16).decode(errors="replace").splitlines()
    except OSError:
        return {}, ""
    # Of v1, whichever says most: systemd's hierarchy knows units, all know containers.
    paths = (line.split(":", 2)[2].split("/") for line in lines if line.count(":") >= 2)
    for parts in sorted(paths, key=len, reverse=True):
        for at, part in reversed(list(enumerate(parts, 1))):
            container = re.search(r"(?:^|[-_:])([0-9a-f]{64})(?:\.scope)?$", part)
            if container:
                return {"container": container[1][:12]}, "/".join(parts[:at])
            if part.endswith((".service", ".scope")):
                return {"unit": printable(part)}, "/".join(parts[:at])
    return {}, ""


def is_frozen(pid):
    """Whether the freezer of its cgroup holds it, as far as we can see: v2's, or v1's."""
    try:
        for line in files.head(f"{folder(pid)}/cgroup", 1 << 16).splitlines():
            _, names, path = line.decode(errors="surrogateescape").split(":", 2)
            if names == "" and any(b"frozen 1" in read(f"{top}{path}/cgroup.events")
                                   for top in (CGROUPS, f"{CGROUPS}/unified")):
                return True
            state = read(f"{CGROUPS}/freezer{path}/freezer.state") if names == "freezer" else b""
            if state.startswith((b"FROZEN", b"FREEZING")):
                return True
    except (OSError, ValueError):
        pass
    return False
