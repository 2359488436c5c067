"""From addresses of a process to functions and lines, with the files that were mapped into it.

Lines, and functions that were inlined, come from addr2line where there is debug information. All other functions come from symbol tables,
by their length: addr2line would take the nearest one, which in a stripped file is some other function."""

import bisect
import io
import os
import re
import shutil
from collections import namedtuple

from arenal import elf
from arenal.profile import bounded, perf_map
from arenal.profile.modules import Module
from arenal.text import printable

OTHERS = 0                      # the frame of more stacks than the library tells apart
NOTES_LIMIT = 100               # lines on stderr
INLINED_LIMIT = 256             # functions in one another

# A function that an address is in; file "" and line 0: not known. Of inlined functions there are several.
Frame = namedtuple("Frame", "function file line")


def _lines_of(file, addresses, until, notes):
    """From addresses in the file to their frames, those that addr2line knows."""
    lines = bounded.ask(["addr2line", "-a", "-f", "-C", "-i", "-e"], "".join(f"{a:#x}\n" for a in addresses), until, file, notes)
    frames, current, function = {address: [] for address in addresses}, None, None
    for line in lines:
        if re.fullmatch("0x[0-9a-f]{16}", line):
            current, function = frames.get(int(line, 16)), None
        elif current is None or len(current) >= INLINED_LIMIT:
            continue
        elif function is None:
            function = line
        else:
            place = re.sub(r" \(discriminator \d+\)$", "", line)
            name, _, number = place.rpartition(":")
            known = re.fullmatch("[0-9]{1,9}", number) and not name.startswith("??")
            current.append(Frame(function, os.path.normpath(name) if known else "", int(number) if known else 0))
            function = None
    return {address: found for address, found in frames.items() if found and found[0].function != "??"}


def _demangle(names, until, notes):
    mangled = [name for name in names if name.startswith(("_Z", "_R"))]
    plain = list(bounded.ask(["c++filt"], "".join(f"{name}\n" for name in mangled), until, notes=notes)) if mangled else []
    return dict(zip(mangled, plain)) if len(plain) == len(mangled) else {}


class Symbols:
    """Names addresses. `modules`: for each mapping with a file, by its start. frames[address]: its Frames, innermost first; `named`: those
    addresses whose frames are functions. `notes`: what has no names, and why."""

    def __init__(self, dump, places):
        self.mappings = sorted(m for m in dump.mappings if m.path.startswith("/"))
        self._starts = [m.start for m in self.mappings]
        self._objects, self._build_ids = sorted(dump.objects), dump.objects
        self.modules, self.named, self.notes = {}, set(), []
        addresses = {frame for stack in dump.stacks for frame in stack.frames} - {OTHERS}
        self.frames = {address: [Frame(f"{address:#x}", "", 0)] for address in addresses}
        self.frames[OTHERS] = [Frame("(other)", "", 0)]
        self.named.add(OTHERS)
        if not shutil.which("addr2line"):
            self.notes.append("addr2line is not installed, so that there are no lines (Debian: binutils)")
        by_file = {}
        for address in sorted(addresses):
            mapping = self.mapping_of(address)
            if mapping:
                by_file.setdefault((mapping.path, mapping.inode), []).append((address, mapping))
        modules = [(self._name(inside, places), inside) for inside in by_file.values()]
        self._name_by_perf_map(addresses - self.named, places)
        for module, inside in modules:
            self._note(module.name, module.why_no_names(), [address for address, _ in inside])
        if len(self.notes) > NOTES_LIMIT:
            self.notes[NOTES_LIMIT:] = [f"and so for {len(self.notes) - NOTES_LIMIT} files more"]

    def mapping_of(self, address):
        at = bisect.bisect_right(self._starts, address) - 1
        return self.mappings[at] if at >= 0 and address < self.mappings[at].end else None

    def object_of(self, mapping):
        """Where the file of a mapping with code begins in memory, and its build ID: None and "" when the dump does not say."""
        at = bisect.bisect_right(self._objects, mapping.start) - 1
        begin = self.mapping_of(self._objects[at]) if at >= 0 else None
        if begin and (begin.path, begin.inode) == (mapping.path, mapping.inode):
            return self._objects[at], self._build_ids[self._objects[at]]
        return None, ""

    def _name(self, inside, places):
        """The addresses of one file."""
        module = Module(inside[0][1], *self.object_of(inside[0][1]), places)
        try:
            for _, mapping in inside:
                self.modules[mapping.start] = module
            self._name_by(module, {address: module.address_in_file(address, mapping) for address, mapping in inside}, places)
            return module
        finally:
            module.close()

    def _name_by(self, module, inside, places):
        lines, names, missing = {}, {}, set(inside.values())
        for file in module.sources if module.loads else []:
            try:
                if not lines and not isinstance(file, io.BytesIO) and elf.section(file, ".debug_info"):
                    lines = _lines_of(file, sorted(missing), places.until, self.notes)
                    if not lines and bounded.REFUSED not in self.notes:
                        self.notes.append(f"{module.name}: no lines: addr2line found none, or needed too much")
                names.update(elf.functions(file, missing - set(names)))
                module.has_table = module.has_table or elf.section(file, ".symtab") is not None
            except (OSError, elf.NotElf) as error:
                module.problem = module.problem or f"damaged: {printable(str(error))}"
        plain = _demangle(set(names.values()), places.until, self.notes)
        for address, place in inside.items():
            name = names.get(place)
            found = lines.get(place) or [Frame(plain.get(name, name) if name else f"{module.name}+{place:#x}", "", 0)]
            self.frames[address] = [Frame(printable(function), printable(file), line) for function, file, line in found]
            if name or place in lines:
                self.named.add(address)
                module.has_functions = True
                module.has_files = module.has_files or any(frame.file for frame in found)
                module.has_lines = module.has_lines or any(frame.line for frame in found)

    def _name_by_perf_map(self, addresses, places):
        """Those that no file has a name for, which may be code that was made at run time."""
        made = [address for address in addresses if not self.mapping_of(address)]
        names, problem = perf_map.names(places, addresses) if addresses else ({}, "")
        for address, name in names.items():
            self.frames[address] = [Frame(name, "", 0)]
            self.named.add(address)
        self._note("code without a file", problem, made)

    def _note(self, name, why, addresses):
        missing = sum(address not in self.named for address in addresses)
        if missing:
            part = f" ({missing} of {len(addresses)} addresses have no name)" if missing < len(addresses) else ""
            self.notes.append(f"no names for {name}: {why}{part}")
