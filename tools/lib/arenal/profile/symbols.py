"""From addresses of a process to functions and lines, with the files that were mapped into it.

Lines, and functions that were inlined, come from addr2line where the file has debug information, or where there is a file with
it in /usr/lib/debug. All other functions come from the file's symbol tables, by their length: addr2line would take the nearest
one, which in a stripped file is some other function."""

import bisect
import os
import re
import shutil
import subprocess
import sys
from collections import namedtuple

from arenal import elf, files
from arenal.text import printable

DEBUG_FOLDER = "/usr/lib/debug/.build-id"

# A function that an address is in; file "" and line 0: not known. Of inlined functions there are several.
Frame = namedtuple("Frame", "function file line")


class Module:
    """One file that was mapped into the process."""

    def __init__(self, mapping):
        self.path = mapping.path
        self.name = os.path.basename(self.path) or "?"
        self.loads = []         # its segments; none: it is no ELF file, or not the one that was mapped
        self.build_id = ""
        self.functions = []
        try:
            with open(files.regular(self.path), "rb") as file:
                if mapping.inode and os.fstat(file.fileno()).st_ino != mapping.inode:
                    return      # another file has its name now. 0: the process had no /proc, and knew no number
                loads = [s for s in elf.segments(file, elf.header(file)) if s.type == elf.PT_LOAD]
            self.build_id = elf.build_id(self.path)
            self.functions = elf.functions(self._debug_file() or self.path) or elf.functions(self.path)
            self.loads = loads
        except (OSError, elf.NotElf):
            pass

    def _debug_file(self):
        path = os.path.join(DEBUG_FOLDER, self.build_id[:2], self.build_id[2:] + ".debug")
        return path if self.build_id and os.path.exists(path) else None

    def address_in_file(self, offset):
        """The address that the file knows a byte by."""
        for s in self.loads:
            if s.offset <= offset < s.offset + s.filesz:
                return offset - s.offset + s.vaddr
        return offset

    def file_with_lines(self):
        for path in (self._debug_file(), self.path):
            if path and self.loads and elf.has_section(path, ".debug_info"):
                return path
        return None

    def function_at(self, address):
        """None when there is no name."""
        at = bisect.bisect_right(self.functions, (address, 1 << 64, "")) - 1
        # A function inside of another one, by hand-written assembly: a few steps back will do.
        for start, end, name in reversed(self.functions[max(at - 3, 0):at + 1]):
            if start <= address < end:
                return name
        return None


def _ask(command, text):
    """The lines that a tool answers; none when it is not installed."""
    path = shutil.which(command[0])
    if not path:
        return []
    done = subprocess.run([path, *command[1:]], input=text, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
                          encoding="utf-8", errors="replace", check=False)
    return done.stdout.splitlines()


def _lines_of(path, addresses):
    """From addresses in the file to their frames, those that addr2line knows."""
    lines = _ask(["addr2line", "-a", "-f", "-C", "-i", "-e", path], "".join(f"{a:#x}\n" for a in addresses))
    frames, current, function = {}, None, None
    for line in lines:
        if re.fullmatch("0x[0-9a-f]{16}", line):
            current, function = frames.setdefault(int(line, 16), []), None
        elif function is None:
            function = line
        else:
            place = re.sub(r" \(discriminator \d+\)$", "", line)
            file, _, number = place.rpartition(":")
            known = number.isdigit() and not file.startswith("??")
            current.append(Frame(function, os.path.normpath(file) if known else "", int(number) if known else 0))
            function = None
    return {address: found for address, found in frames.items() if found and found[0].function != "??"}


def _demangle(names):
    mangled = [name for name in names if name.startswith(("_Z", "_R"))]
    plain = _ask(["c++filt"], "".join(f"{name}\n" for name in mangled)) if mangled else []
    return dict(zip(mangled, plain)) if len(plain) == len(mangled) else {}


class Symbols:
    """Names addresses. `modules`: for each mapping with a file, by its start. frames[address]: its Frames, innermost first."""

    def __init__(self, mappings, addresses):
        self.mappings = sorted(m for m in mappings if m.path.startswith("/"))
        self._starts = [m.start for m in self.mappings]
        self.modules = {}
        by_path = {}
        places = {}             # by module: from addresses of the process to those of the file
        self.frames = {address: [Frame(f"{address:#x}", "", 0)] for address in addresses}
        for address in self.frames:
            mapping = self.mapping_of(address)
            if mapping is None:
                continue
            module = by_path.get(mapping.path) or by_path.setdefault(mapping.path, Module(mapping))
            self.modules[mapping.start] = module
            places.setdefault(module, {})[address] = module.address_in_file(address - mapping.start + mapping.offset)
        if not shutil.which("addr2line"):
            print("arenal: addr2line is not installed, so that there are no lines (Debian: binutils)", file=sys.stderr)
        for module, inside in places.items():
            self._name(module, inside)

    def mapping_of(self, address):
        at = bisect.bisect_right(self._starts, address) - 1
        return self.mappings[at] if at >= 0 and address < self.mappings[at].end else None

    def _name(self, module, places):
        path = module.file_with_lines()
        lines = _lines_of(path, sorted(set(places.values()))) if path else {}
        names = {place: module.function_at(place) for place in places.values()}
        plain = _demangle({name for name in names.values() if name})
        for address, place in places.items():
            name = names[place]
            unknown = f"{module.name}+{place:#x}"
            found = lines.get(place) or [Frame(plain.get(name, name) if name else unknown, "", 0)]
            self.frames[address] = [Frame(printable(function), printable(file), line) for function, file, line in found]
