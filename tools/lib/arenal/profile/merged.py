"""Heap profiles of several processes as one, in the format of one: what the same functions hold in all of them
is added up.

Each process has its files at other addresses. All are moved to where the first process has them; files that it
has not are laid behind everything that a process can have (ELSEWHERE). So a stack has the same addresses
whoever it is from. Code that belongs to no file (made at run time) has names for the first process only."""

import bisect

from arenal.profile import dump as dumps

ELSEWHERE, GAP = 1 << 56, 1 << 21       # above all addresses of programs
ADDRESSES, FULL = 1 << 47, 1 << 60      # of programs; of what lies elsewhere: no process that makes it all up gets farther
NO_FILE = 1 << 62                       # what is added to addresses of the other processes that lie in none


class _Files:
    """Of one process: which file an address belongs to, and where the first byte of that lies."""

    def __init__(self, dump):
        self.mappings = sorted(m for m in dump.mappings if m.path.startswith("/") and m.offset <= m.start < m.end <= ADDRESSES)
        self._starts = [m.start for m in self.mappings]
        self._objects = dump.objects
        begins = {}
        self.of = []                    # by mapping: (path, inode, build ID), begin of the file
        for m in self.mappings:
            known = begins.get((m.path, m.inode))
            # A file that is mapped once more begins anew.
            if known is None or m.start in self._objects or m.offset == 0:
                known = begins[m.path, m.inode] = m.start if m.start in self._objects else m.start - m.offset
            self.of.append(((m.path, m.inode, self._objects.get(known)), known))

    def at(self, address):
        """The index of its mapping, or None."""
        found = bisect.bisect_right(self._starts, address) - 1
        return found if found >= 0 and address < self.mappings[found].end else None


class _Space:
    """The addresses of all of them."""

    def __init__(self, first):
        self.mappings, self.objects = list(first.mappings), dict(first.objects)
        self._places, self._named, self._end = {}, {}, ELSEWHERE
        files = _Files(first)
        for key, begin in files.of:
            self._places.setdefault(key, begin)
            self._named.setdefault(key[:2], key[2])

    def moves(self, dump):
        """A function that moves an address of this process."""
        files = _Files(dump)
        for number, (key, begin) in enumerate(files.of):
            if key not in self._places:
                self._add(files, key, begin, number)

        def move(address):
            number = files.at(address)
            if number is None:
                return address + NO_FILE if 0 < address < NO_FILE else address
            key, begin = files.of[number]
            return (address - begin + self._places[key]) % (1 << 64)
        return move

    def _add(self, files, key, begin, first):
        """The mappings of a file that nobody had before. One that is called as another one is has no name: names
        are found by that."""
        own = [m for m, of in zip(files.mappings[first:], files.of[first:]) if of == (key, begin)]
        place = self._places[key] = self._end
        self._end = min(FULL, self._end + own[-1].end - begin + GAP)
        is_known = self._named.setdefault(key[:2], key[2]) == key[2]
        for m in own:
            self.mappings.append(m._replace(start=m.start - begin + place, end=m.end - begin + place,
                                            path=m.path if is_known else ""))
        if key[2] and is_known:
            self.objects[place] = key[2]


def merge(found):
    """One Dump of several; `found`: pairs of a process, as it is called here, and its Dump."""
    first_pid, first = found[0]
    space, stacks = _Space(first), {}
    for _, dump in found:
        move = (lambda address: address) if dump is first else space.moves(dump)
        for stack in dump.stacks:
            frames = tuple(map(move, stack.frames))
            stacks[frames] = dumps.add(stacks.get(frames, dumps.ZERO), stack.counts)
    return first._replace(sample=max(dump.sample for _, dump in found), pid=first_pid, objects=space.objects,
                          time=max(dump.time for _, dump in found), mappings=space.mappings,
                          stacks=[dumps.Stack(counts, frames) for frames, counts in stacks.items()])


def text(dump):
    """As src/observe/profile_output.c writes it."""
    lines = ["arenal-heap-profile 2", f"sample {dump.sample}", f"pid {dump.pid}", f"time {dump.time}"]
    lines += [" ".join(["stack", *map(str, stack.counts), *(f"{frame:x}" for frame in stack.frames)]) for stack in dump.stacks]
    lines += [f"object {start:x} {build_id}" for start, build_id in sorted(dump.objects.items())]
    lines.append("maps")
    lines += [f"{m.start:x}-{m.end:x} {m.perms} {m.offset:x} 00:00 {m.inode} {m.path}".rstrip() for m in sorted(dump.mappings)]
    lines.append("end\n")
    return "\n".join(lines).encode(errors="surrogateescape")
