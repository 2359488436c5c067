"""A process and its descendants, as /proc shows them. Any of them may end between two looks: then it counts nothing."""

import os

PAGE = os.sysconf("SC_PAGE_SIZE")
TICKS = os.sysconf("SC_CLK_TCK")


def processes(pid):
    """The process and all of its descendants, itself first."""
    found = [pid]
    for parent in found:  # grows while it is walked
        found += children(parent)
    return found


def children(pid):
    found = []
    try:
        for task in os.listdir(f"/proc/{pid}/task"):
            with open(f"/proc/{pid}/task/{task}/children", encoding="ascii") as file:
                found += [int(word) for word in file.read().split()]
    except OSError:
        pass
    return found


def rss(pids):
    """What these have in memory together, in bytes. Shared pages count once for each: an allocator's are private."""
    total = 0
    for pid in pids:
        try:
            with open(f"/proc/{pid}/statm", encoding="ascii") as statm:
                total += int(statm.read().split()[1]) * PAGE
        except (OSError, IndexError):
            continue
    return total


def cpu_seconds(pids):
    """What these have used of CPUs so far, in steps of a hundredth of a second."""
    ticks = 0
    for pid in pids:
        try:
            with open(f"/proc/{pid}/stat", "rb") as stat:
                ticks += sum(map(int, stat.read().rpartition(b")")[2].split()[11:13]))
        except (OSError, ValueError):
            continue
    return ticks / TICKS


def uses_library(pid, library):
    """Whether a process has a library in its address space that was to be preloaded. None: that cannot be told, or not yet."""
    try:
        with open(f"/proc/{pid}/maps", encoding="utf-8", errors="surrogateescape") as maps:
            lines = [line.rstrip("\n") for line in maps]
    except PermissionError:
        return False        # a set-user-ID program's, for which the dynamic linker ignores LD_PRELOAD
    except OSError:
        return None
    paths = {line[line.find("/"):] for line in lines if "/" in line}
    if library in paths:
        return True
    # Of a process that ends in this moment, the list breaks off somewhere before the stack.
    if not any(line.endswith("[stack]") for line in lines):
        return None
    # The dynamic linker loads libc after what is preloaded.
    return False if any(os.path.basename(path).startswith("libc.so") for path in paths) else None


def is_program(pid, programs):
    """Whether a process runs one of these executables."""
    try:
        return os.readlink(f"/proc/{pid}/exe") in programs
    except OSError:
        return False
