"""What programs that make code at run time (node, Java, .NET) say of it, where perf looks for it, too: /tmp/perf-PID.map, a line for each
function, of its address, its size, and its name. Anybody may write to that folder: the file must be the process's own, or root's."""

import bisect
import os

from arenal import files
from arenal.text import printable

LIMIT, CHUNK = 256 << 20, 1 << 16       # bytes of the file
LINE = 4096                             # bytes; a longer one is none of such a map
SLACK = 2                               # seconds, between the kernel's clocks


def names(places, addresses):
    """From addresses to names, and why there are no more of them: one of the two may be empty."""
    name = f"/tmp/perf-{places.number_inside()}.map"
    try:
        with open(files.inside(places.roots[0], name, follow=False), "rb") as file:
            about = os.fstat(file.fileno())
            if about.st_uid not in places.owners():
                return {}, f"{name} belongs to somebody else"
            if about.st_mtime + SLACK < places.begin():
                return {}, f"{name} is older than the process"
            if not places.process and about.st_mtime > places.dump.time + SLACK:      # a later process had the number, too
                return {}, f"{name} is newer than the profile of the process, which has ended"
            return _read(file, sorted(addresses), places), f"not in {name}"
    except FileNotFoundError:
        return {}, f"made at run time, and there is no {name}"
    except OSError as error:
        return {}, f"{name}: {error.strerror}"


def _read(file, wanted, places):
    count, found = len(wanted), {}
    # Lines may overlap, and any number of them each other: of those that were at one place, the last counts. In this tree, the leaves are
    # the addresses, and a line is noted at the few nodes that its own have above them.
    tree = [None] * (2 * count)
    for number, line in enumerate(_lines(file, places)):
        start, _, rest = line.partition(b" ")
        size, _, name = rest.partition(b" ")
        try:
            start, size = int(start, 16), int(size, 16)
        except ValueError:
            continue
        at, end = bisect.bisect_left(wanted, start) + count, bisect.bisect_left(wanted, start + size) + count
        while at < end:
            if at & 1:
                tree[at] = number, name
                at += 1
            if end & 1:
                end -= 1
                tree[end] = number, name
            at, end = at >> 1, end >> 1
    for leaf, address in enumerate(wanted, count):
        above = (tree[leaf >> level] for level in range(leaf.bit_length()))
        last = max((entry for entry in above if entry), default=None)
        if last:
            found[address] = printable(last[1].decode(errors="replace").strip()) or "?"
    return found


def _lines(file, places):
    """Those that are not too long, as far as there is time."""
    left, begun, skip = LIMIT, b"", False
    while left > 0 and not places.is_late() and (part := file.read(min(left, CHUNK))):
        left -= len(part)
        lines = (begun + part).split(b"\n")
        begun = lines.pop()
        for line in lines:
            if not skip and len(line) <= LINE:
                yield line
            skip = False
        if len(begun) > LINE:
            begun, skip = b"", True
    if begun and not skip:
        yield begun
