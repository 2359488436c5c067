"""A process and its descendants, as /proc shows them. Any of them may end between two looks: then it counts nothing."""

import os

PAGE = os.sysconf("SC_PAGE_SIZE")


def processes(pid):
    """The process and all of its descendants, itself first."""
    found = [pid]
    for parent in found:  # grows while it is walked
        try:
            for task in os.listdir(f"/proc/{parent}/task"):
                with open(f"/proc/{parent}/task/{task}/children", encoding="ascii") as children:
                    found += [int(word) for word in children.read().split()]
        except OSError:
            continue
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


def maps_library(pid, library):
    """Whether a process has a library in its address space."""
    try:
        with open(f"/proc/{pid}/maps", encoding="utf-8", errors="surrogateescape") as maps:
            return any(line.rstrip("\n").endswith(" " + library) for line in maps)
    except OSError:
        return False
