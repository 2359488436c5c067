"""The memory of a running process, through /proc/PID: its mappings, their bytes, and which pages are
resident. What else the kernel tells of a process is in facts.py."""

import bisect
import errno
import os
import re
from collections import namedtuple

from arenal import facts, files
from arenal.errors import Failure, Gone, Torn

PAGE = os.sysconf("SC_PAGE_SIZE")
MAPS_LIMIT = 128 << 20          # of the text of a maps file that is read: a million mappings

Mapping = namedtuple("Mapping", "start end perms offset inode path")
Residency = namedtuple("Residency", "resident swapped cells")       # bytes, bytes, one fraction 0..1 per cell

_LINE = re.compile(rb"^([0-9a-f]{1,16})-([0-9a-f]{1,16}) (\S{4}) ([0-9a-f]{1,16}) \S+ (\d{1,20}) *(.*)$", re.M)

# An entry of /proc/PID/pagemap is 8 bytes; its last byte holds bit 63 (in memory) and bit 62 (swapped out).
# Translating that byte to a letter and counting letters keeps the work over millions of pages inside C
# functions.
_LETTERS = bytes(ord("r") if byte & 0x80 else ord("s") if byte & 0x40 else ord("-") for byte in range(256))
_CHUNK = 1 << 17        # pages per read: 1 MiB of pagemap, 512 MiB of address space
# pagemap has an entry for every page, backed or not, and some programs reserve terabytes that they never
# touch.
_PAGEMAP_LIMIT = 1 << 36


def parse_mappings(text):
    """The mappings in the text of a maps file."""
    return [Mapping(int(start, 16), int(end, 16), perms.decode(), int(offset, 16), int(inode), os.fsdecode(path))
            for start, end, perms, offset, inode, path in _LINE.findall(text)]


class Process:
    """One look at a process. Use it as a context manager: it keeps files open. `is_cut`: its map is longer than what we read of it, and
    nobody knows what is mapped behind that; libraries are, most of the time."""

    def __init__(self, pid, limit=None):
        self.pid, self._limit, self.is_cut = pid, limit or MAPS_LIMIT, False
        self.root = facts.folder(pid)
        self._memory = None
        self._pagemap = None        # -1 when the kernel does not let us have it
        self._smaps = None
        if not os.path.isdir(self.root):
            raise Gone(pid, f"there is no process {pid}")
        self.name = self._name()
        self.mappings = self._read_mappings()
        self._ends = [m.end for m in self.mappings]

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for file in (self._memory, self._pagemap):
            if file is not None and file >= 0:
                os.close(file)

    def _failure(self, error, what):
        """The exception that explains why a file in /proc/PID could not be read."""
        if error.errno in (errno.ENOENT, errno.ESRCH) or facts.is_ending(self.pid):
            return Gone(self.pid)
        if error.errno in (errno.EACCES, errno.EPERM):
            return Failure(f"not permitted to read {what} of process {self.pid}: {facts.who_may()}")
        return Failure(f"reading {what} of process {self.pid}: {error.strerror}")

    def _name(self):
        try:
            return facts.comm(self.pid)
        except OSError as error:
            raise self._failure(error, "the name") from error

    def _read_mappings(self):
        try:
            text = files.head(f"{self.root}/maps", self._limit)
        except OSError as error:
            raise self._failure(error, "the memory map") from error
        if not text:
            # A zombie and a kernel thread have a maps file with nothing in it.
            raise Gone(self.pid, f"process {self.pid} has no memory of its own: it has ended, or is a kernel thread")
        if len(text) >= self._limit:
            self.is_cut, text = True, text[:text.rfind(b"\n") + 1]
        return parse_mappings(text)

    def check_whole(self):
        """Raises Failure, where what is not in `mappings` is not known to be missing."""
        if self.is_cut:
            raise Failure(f"the memory map of process {self.pid} ({self.name}) is longer than {self._limit >> 20} MiB, and is read no further: "
                          "what it has is not known")

    def executable(self):
        """The path of the program, or "" when that is hidden from us."""
        try:
            return os.readlink(f"{self.root}/exe")
        except OSError:
            return ""

    def file_of(self, mapping):
        """Names under which the file behind a mapping may be opened, best first. The first works for files
        that have been replaced since, but for root only; the second for processes that live in a
        container, if the file is not another one by now."""
        names, by_path = [f"{self.root}/map_files/{mapping.start:x}-{mapping.end:x}"], f"{self.root}/root{mapping.path}"
        try:
            # Its device has other numbers there than here, on btrfs and overlayfs.
            if os.stat(by_path).st_ino == mapping.inode:
                names.append(by_path)
        except (OSError, ValueError):
            pass
        return names

    def mapped(self, start, end):
        """How many bytes between the two addresses are mapped at all."""
        found = 0
        for at in range(bisect.bisect_right(self._ends, start), len(self.mappings)):
            m = self.mappings[at]
            if m.start >= end:
                break
            found += min(end, m.end) - max(start, m.start)
        return found

    # Memory

    def read(self, address, size):
        """Bytes of the process's memory. Raises PermissionError when we may not look, Torn when they are not
        there."""
        try:
            if self._memory is None:
                self._memory = os.open(f"{self.root}/mem", os.O_RDONLY | os.O_CLOEXEC)
            data = os.pread(self._memory, size, address)
        except PermissionError:
            raise
        except (OSError, OverflowError) as error:
            if getattr(error, "errno", None) in (errno.ENOENT, errno.ESRCH):
                raise Gone(self.pid) from error
            raise Torn(f"nothing readable at {address:#x}") from error
        if len(data) != size:
            if not data and not self.alive():
                raise Gone(self.pid)
            raise Torn(f"only {len(data)} of {size} bytes at {address:#x}")
        return data

    def alive(self):
        try:
            with open(f"{self.root}/maps", "rb") as file:
                return file.read(1) != b""
        except OSError:
            return False

    # Residency

    def residency(self, start, end, cells):
        """What part of a range is in memory, as totals and as `cells` fractions from the first byte to the
        last."""
        pages = self.pages(start, end)
        if pages is None:
            return self._residency_from_smaps(start, end, cells)
        count = len(pages)
        shares = []
        for cell in range(cells):
            # Ranges of fewer pages than cells show one page in several cells.
            first = cell * count // cells
            last = max(first + 1, (cell + 1) * count // cells)
            shares.append(pages.count(b"r", first, last) / max(1, min(last, count) - first))
        return Residency(pages.count(b"r") * PAGE, pages.count(b"s") * PAGE, shares)

    def pages(self, start, end):
        """One letter per page, as bytes: r resident, s swapped out, - neither. None when the kernel does not
        let us know, and for ranges that are too long to look at."""
        if end - start > _PAGEMAP_LIMIT:
            return None
        if self._pagemap is None:
            try:
                self._pagemap = os.open(f"{self.root}/pagemap", os.O_RDONLY | os.O_CLOEXEC)
            except OSError as error:
                if error.errno in (errno.ENOENT, errno.ESRCH) and not self.alive():
                    raise Gone(self.pid) from error
                self._pagemap = -1
        if self._pagemap < 0:
            return None
        parts = []
        page, last = start // PAGE, -(-end // PAGE)
        while page < last:
            count = min(last - page, _CHUNK)
            try:
                entries = os.pread(self._pagemap, count * 8, page * 8)
            except OSError as error:
                raise self._failure(error, "the page map") from error
            if not entries:
                raise Gone(self.pid)
            parts.append(entries[7::8].translate(_LETTERS))
            page += len(entries) // 8
        return b"".join(parts)

    @property
    def residency_is_estimated(self):
        """Whether any answer so far came from smaps."""
        return self._smaps is not None

    def hide_pagemap(self):
        """Behave as on a kernel without pagemap."""
        self._pagemap = -1

    def _residency_from_smaps(self, start, end, cells):
        """smaps has one figure per mapping, which is spread evenly over it."""
        if self._smaps is None:
            self._smaps = self._read_smaps()
        resident = swapped = 0
        shares = [0.0] * cells
        width = (end - start) / cells
        for low, high, rss, swap in self._smaps:
            overlap = min(end, high) - max(start, low)
            if overlap <= 0:
                continue
            resident += rss * overlap // (high - low)
            swapped += swap * overlap // (high - low)
            for cell in range(cells):
                left, right = start + cell * width, start + (cell + 1) * width
                inside = max(0, min(right, high) - max(left, low))
                shares[cell] += rss / (high - low) * inside / width
        return Residency(resident, swapped, [min(1.0, share) for share in shares])

    def _read_smaps(self):
        try:
            text = files.head(f"{self.root}/smaps", 8 * MAPS_LIMIT)
        except OSError as error:
            raise self._failure(error, "the resident set") from error
        found = []
        for entry in re.split(rb"\n(?=[0-9a-f]+-[0-9a-f]+ )", text):
            line = _LINE.match(entry)
            if line:
                sizes = dict(re.findall(rb"^(Rss|Swap): +(\d+) kB$", entry, re.M))
                found.append((int(line.group(1), 16), int(line.group(2), 16),
                              int(sizes.get(b"Rss", 0)) * 1024, int(sizes.get(b"Swap", 0)) * 1024))
        return found
