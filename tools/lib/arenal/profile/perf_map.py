"""What programs that make code at run time (node, Java, .NET) say of it, where perf looks for it, too: /tmp/perf-PID.map, a line for each
function, of its address, its size, and its name. Anybody may write to that folder: the file must be the process's own, or root's."""

import bisect
import os

from arenal import files
from arenal.text import printable

LIMIT = 256 << 20               # bytes of the file


def names(places, addresses):
    """From addresses to names, and why there are no more of them: one of the two may be empty."""
    name = f"/tmp/perf-{places.number_inside()}.map"
    try:
        with open(files.inside(places.roots[0], name, follow=False), "rb") as file:
            about = os.fstat(file.fileno())
            if about.st_uid not in places.owners():
                return {}, f"{name} belongs to somebody else"
            if about.st_mtime + 2 < places.begin():
                return {}, f"{name} is older than the process"
            return _read(file, sorted(addresses), places), f"not in {name}"
    except FileNotFoundError:
        return {}, f"made at run time, and there is no {name}"
    except OSError as error:
        return {}, f"{name}: {error.strerror}"


def _read(file, wanted, places):
    found, left = {}, LIMIT
    while left > 0 and not places.is_late() and (lines := file.readlines(min(left, 1 << 20))):
        for line in lines:
            left -= len(line)
            start, _, rest = line.partition(b" ")
            size, _, name = rest.partition(b" ")
            try:
                start, size = int(start, 16), int(size, 16)
            except ValueError:
                continue
            at = bisect.bisect_left(wanted, start)
            while at < len(wanted) and wanted[at] < start + size:       # of those that were at one place, the last
                found[wanted[at]] = name
                at += 1
    return {address: printable(name.decode(errors="replace").strip()) or "?" for address, name in found.items()}
