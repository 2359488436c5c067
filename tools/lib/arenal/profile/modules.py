"""A file that was mapped into the process, and the files that have its symbols. That it is the one which ran is known by its build ID,
which the dump tells; without one by the inode's number, if the process had a /proc that told it, and the time of its last change. Nothing else
gives names."""

import errno
import os

from arenal import elf
from arenal.proc import PAGE
from arenal.profile import separate
from arenal.profile.places import DELETED, plain_path
from arenal.text import printable

CLOCKS = 2                      # seconds between those of the kernel, at most
REPLACED = "replaced on disk since it was loaded"
ANOTHER = "another file has its name now, as far as can be told without a build ID"


class Module:
    """`loads`: its segments; none: the file is not there, or not the one that was mapped. `sources`: open files with symbols, the best
    first. `problem`: why there are none. has_*: what was found in them."""

    def __init__(self, mapping, start, build_id, places):
        self.path, self.name = mapping.path, printable(os.path.basename(plain_path(mapping))) or "?"
        self.start, self.build_id, self.loads, self.sources, self.problem = start, build_id, [], [], ""
        self._only_debug = False
        self.has_table = self.has_functions = self.has_files = self.has_lines = False
        if places.is_late():
            self.problem = "there was no time left for it"
            return
        try:
            self._find(mapping, places)
        except (OSError, elf.NotElf) as error:
            self.problem = printable(getattr(error, "strerror", None) or str(error))

    def close(self):
        for file in self.sources:
            file.close()
        self.sources = []

    def _find(self, mapping, places):
        root, file = self._own_file(mapping, places)
        if file:
            self.sources.append(file)
            self.problem = ""
            self.loads = elf.loads(file)
            self.build_id = self.build_id or elf.build_id(file)
        debug = separate.by_build_id(places, self.build_id)
        if file and not debug:
            debug, self.problem = separate.by_link(places, root, plain_path(mapping), file)
        if debug:
            self.sources.insert(0, debug)
            self._only_debug = not file
            self.loads = self.loads or elf.loads(debug)
        if file:
            mini = separate.mini(file)
            self.sources += [mini] if mini else []

    def _own_file(self, mapping, places):
        problems = []
        for root, file in places.open(mapping):
            problem = self._problem(mapping, file, places)
            if not problem:
                return root, file
            problems.append(problem)
            if root:
                file.close()
        # What says most.
        self.problem = next((p for p in problems if p in (REPLACED, ANOTHER)), "") or next((p for p in problems if p != "not found"), "not found")
        if self.problem == "not found":
            self.problem = "deleted" if mapping.path.endswith(DELETED) else "not found here (of a container: --pid, --root)"
        return None, None

    def _problem(self, mapping, file, places):
        """Why this is not the file that was mapped; "" if it is."""
        if isinstance(file, OSError):
            if file.errno in (errno.ENOENT, errno.ENOTDIR):
                return "not found"
            return "no permission" if file.errno in (errno.EACCES, errno.EPERM) else printable(file.strerror or str(file))
        try:
            if self.build_id:
                return "" if elf.build_id(file) == self.build_id else REPLACED
            about = os.fstat(file.fileno())
            # Whoever writes to a file may set its time back (st_mtime), but not that of its last change.
            if mapping.inode not in (0, about.st_ino) or about.st_ctime > places.changed_before() + CLOCKS:
                return ANOTHER
            elf.header(file)
            return ""
        except elf.NotElf as error:
            return REPLACED if self.build_id else f"no program or library: {error}"
        except OSError as error:
            return printable(error.strerror or str(error))

    def address_in_file(self, address, mapping):
        """The address that the file knows a byte by."""
        offset = address - mapping.start + mapping.offset
        if self._only_debug and self.start is not None:         # its segments are where the other file's are, but it has not their bytes
            return address - self.start + (self.loads[0].vaddr & -PAGE)
        for s in self.loads:
            if s.offset <= offset < s.offset + s.filesz:
                return offset - s.offset + s.vaddr
        return offset

    def why_no_names(self):
        return self.problem or ("not in its symbol table" if self.has_table else "stripped, no debug file")
