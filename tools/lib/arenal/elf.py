"""Just enough of the ELF format to find the address of one symbol in a program or a shared library, the functions that addresses lie
in, sections, and the build ID."""

import array
import bisect
import os
import struct
from collections import namedtuple

from arenal import files, text

ET_EXEC, ET_DYN = 2, 3
PT_LOAD, PT_INTERP, PT_NOTE = 1, 3, 4
NT_GNU_BUILD_ID = 3
STT_FUNC, STT_GNU_IFUNC = 2, 10
SHT_SYMTAB, SHT_NOTE, SHT_NOBITS, SHT_DYNSYM = 2, 7, 8, 11
SHF_COMPRESSED = 1 << 11
SHN_UNDEF = 0
SYMBOL_SIZE = 24
# A file may be damaged, or made to keep us busy. These are of a program of some gigabytes.
TABLE_LIMIT = 1 << 26           # bytes of a symbol table, or of its names
SECTIONS_LIMIT, SEGMENTS_LIMIT = 4096, 1024
TABLES_LIMIT, NAMES_LIMIT = 2, 64               # symbol tables; places where a name is
FUNCTIONS_LIMIT, OVERLAP_LIMIT = 1 << 18, 8     # functions that are looked for; those that may begin inside of another one
ALL_NAMES_LIMIT = 1 << 25       # characters of all names that are told
NOTES_LIMIT, NOTE_LIMIT = 1 << 16, 1024         # bytes
KNOWN_LIMIT = 4096              # symbols that are remembered, by who runs for months

Header = namedtuple("Header", "type machine entry phoff shoff flags ehsize phentsize phnum shentsize shnum shstrndx")
Segment = namedtuple("Segment", "type flags offset vaddr paddr filesz memsz align")
Section = namedtuple("Section", "name type flags addr offset size link info align entsize")


class NotElf(Exception):
    """The file is no 64-bit little-endian ELF file, or it is cut short."""


def _read(file, offset, size):
    if not 0 <= size <= TABLE_LIMIT or offset >= 1 << 63:
        raise NotElf("a table of absurd size")
    file.seek(offset)
    data = file.read(size)
    if len(data) != size:
        raise NotElf("cut short")
    return data


def header(file):
    ident = _read(file, 0, 64)
    if ident[:4] != b"\x7fELF" or ident[4] != 2 or ident[5] != 1:
        raise NotElf("not a 64-bit little-endian ELF file")
    kind, machine, _version, *rest = struct.unpack_from("<HHIQQQIHHHHHH", ident, 16)
    return Header(kind, machine, *rest)


def _open(path):
    return open(files.regular(path), "rb")


def _table(file, place, count, limit, size, found):
    if count > limit or (count and size != found):
        raise NotElf("a table of absurd size")
    return _read(file, place, count * size)


def segments(file, head):
    table = _table(file, head.phoff, head.phnum, SEGMENTS_LIMIT, 56, head.phentsize)
    return [Segment(*struct.unpack_from("<IIQQQQQQ", table, i * head.phentsize)) for i in range(head.phnum)]


def sections(file, head):
    table = _table(file, head.shoff, head.shnum, SECTIONS_LIMIT, 64, head.shentsize)
    return [Section(*struct.unpack_from("<IIQQQQIIQQ", table, i * head.shentsize)) for i in range(head.shnum)]


def symbol(path, name):
    """Returns (value, first) of a defined symbol: its address in the file's own numbering, and the address that the
    file's first loaded byte has in the same numbering. None when the file does not define the symbol.
    Raises NotElf and OSError."""
    with _open(path) as file:
        about = os.fstat(file.fileno())
        key = about.st_dev, about.st_ino, about.st_mtime_ns, about.st_size, name
        if key not in _known:
            if len(_known) >= KNOWN_LIMIT:
                _known.clear()
            _known[key] = _symbol(file, name.encode() + b"\0")
        return _known[key]


_known = {}             # symbols of files, for many processes run the same one


def _symbol(file, wanted):
    try:
        head = header(file)
        loads = [s for s in segments(file, head) if s.type == PT_LOAD]
        if not loads:
            return None
        first = loads[0].vaddr - loads[0].offset
        for table, strings in _symbol_tables(file, head):
            value = _lookup(file, table, strings, wanted)
            if value is not None:
                return value, first
    except (struct.error, OverflowError, ValueError) as error:
        raise NotElf(str(error)) from error
    return None


def _symbol_tables(file, head):
    """Pairs of a table and its names, the small one of dynamic symbols first."""
    table = sections(file, head)
    found = [(s, table[s.link]) for s in table if s.type in (SHT_SYMTAB, SHT_DYNSYM) and s.link < len(table)]
    return sorted(found, key=lambda pair: pair[0].type != SHT_DYNSYM)[:TABLES_LIMIT]


def _lookup(file, table, strings, wanted):
    names = _read(file, strings.offset, strings.size)
    # Names are found by searching the string table once, instead of decoding the name of every symbol. A name may also
    # be the tail of a longer one, and occur more than once.
    offsets = set()
    at = names.find(wanted)
    while at >= 0 and len(offsets) < NAMES_LIMIT:
        offsets.add(at)
        at = names.find(wanted, at + 1)
    if not offsets:
        return None
    symbols = _read(file, table.offset, table.size // SYMBOL_SIZE * SYMBOL_SIZE)
    for at, st_name in enumerate(array.array("I", symbols)[::SYMBOL_SIZE // 4]):
        if st_name in offsets:
            _name, _info, _other, shndx, value, _size = struct.unpack_from("<IBBHQQ", symbols, at * SYMBOL_SIZE)
            if shndx != SHN_UNDEF:
                return value
    return None


def loads(file):
    """The segments that are loaded. Raises NotElf and OSError."""
    return [s for s in segments(file, header(file)) if s.type == PT_LOAD]


def functions(file, addresses):
    """From those of the addresses that lie in a function of the file's symbol tables to its name. Raises NotElf and OSError."""
    wanted, names, found = sorted(addresses), [], {}
    try:
        for table, strings in _symbol_tables(file, header(file)):
            if SHT_NOBITS in (table.type, strings.type):
                continue                # in a file that has only what debuggers need
            names.append(_read(file, strings.offset, strings.size))
            symbols = _read(file, table.offset, table.size)
            whole = len(symbols) // SYMBOL_SIZE * SYMBOL_SIZE
            for st_name, info, _other, shndx, value, size in struct.iter_unpack("<IBBHQQ", symbols[:whole]):
                if info & 15 in (STT_FUNC, STT_GNU_IFUNC) and shndx != SHN_UNDEF:
                    at = bisect.bisect_left(wanted, value)
                    if at < len(wanted) and wanted[at] < value + size and len(found) < FUNCTIONS_LIMIT:
                        same = found.setdefault((value, size), [])
                        if len(same) < NAMES_LIMIT:
                            same.append((len(names) - 1, st_name))
    except (struct.error, OverflowError, ValueError) as error:
        raise NotElf(str(error)) from error
    return _innermost(wanted, found, names)


def _innermost(wanted, found, names):
    order, named, result, left = sorted(found), {}, {}, ALL_NAMES_LIMIT
    for address in wanted:
        at = bisect.bisect_right(order, (address, 1 << 64))
        # A function inside of another one, by hand-written assembly: a few steps back will do.
        for value, size in reversed(order[max(at - OVERLAP_LIMIT, 0):at]):
            if address < value + size:
                if (value, size) not in named:
                    # Of several names of one function, that without underscores.
                    texts = [_text(names[table], st_name) for table, st_name in found[value, size]] if left > 0 else [""]
                    named[value, size] = min(texts, key=lambda name: (name == "", name.startswith("_"), name))
                    left -= sum(map(len, texts))
                if named[value, size]:
                    result[address] = named[value, size]
                break
    return result


def _text(names, at):
    return text.printable(names[at:at + text.LIMIT].partition(b"\0")[0].decode(errors="replace"))


def build_id(file):
    """In hexadecimal; "" when the file has none. Raises NotElf and OSError."""
    try:
        head = header(file)
        found = next(filter(None, (_build_id(file, s) for s in segments(file, head) if s.type == PT_NOTE)), "")
        # Of a file that has only what debuggers need, the segments are those of the other one.
        return found or next(filter(None, (_build_id(file, s) for s in sections(file, head) if s.type == SHT_NOTE)), "")
    except (struct.error, OverflowError, ValueError) as error:
        raise NotElf(str(error)) from error


def _build_id(file, place):
    """Of a segment or a section with notes."""
    size, unit = min(place.filesz if isinstance(place, Segment) else place.size, NOTES_LIMIT), 8 if place.align == 8 else 4
    file.seek(place.offset)
    notes, at = file.read(size), 0
    while at + 12 <= len(notes):
        name_size, size, kind = struct.unpack_from("<III", notes, at)
        data = at + (12 + name_size + unit - 1) // unit * unit
        if kind == NT_GNU_BUILD_ID and notes[at + 12:at + 12 + name_size] == b"GNU\0" and size <= NOTE_LIMIT:
            return notes[data:data + size].hex()
        at = data + (size + unit - 1) // unit * unit
    return ""


def section(file, name):
    """The section of this name that has contents in the file, None if there is none. Raises NotElf and OSError."""
    try:
        head = header(file)
        table = sections(file, head)
        if head.shstrndx >= len(table):
            return None
        names = _read(file, table[head.shstrndx].offset, table[head.shstrndx].size)
        wanted = name.encode() + b"\0"
        return next((s for s in table if names[s.name:s.name + len(wanted)] == wanted and s.type != SHT_NOBITS), None)
    except (struct.error, OverflowError, ValueError) as error:
        raise NotElf(str(error)) from error


def contents(file, name):
    """What the section holds; b"" when there is none. Raises NotElf and OSError."""
    found = section(file, name)
    if found is None:
        return b""
    if found.flags & SHF_COMPRESSED:
        raise NotElf("a section that should not be compressed is")
    return _read(file, found.offset, found.size)


def is_shared_library(path):
    """Whether the file can be preloaded at all. Raises OSError when it cannot be read."""
    try:
        with _open(path) as file:
            return header(file).type == ET_DYN
    except (NotElf, struct.error):
        return False


def is_static_program(path):
    """Whether the file is a program that the dynamic linker never sees, so that LD_PRELOAD has no effect on it."""
    try:
        with _open(path) as file:
            head = header(file)
            return head.type in (ET_EXEC, ET_DYN) and all(s.type != PT_INTERP for s in segments(file, head))
    except (NotElf, OSError, struct.error):
        return False


def libc(path):
    """"musl" or "glibc": whose loader starts the program, or which one the shared library was linked with. None: it does not say."""
    try:
        with _open(path) as file:
            loader = next((s for s in segments(file, header(file)) if s.type == PT_INTERP), None)
            names = contents(file, ".dynstr") if loader is None else _read(file, loader.offset, loader.filesz)
    except (NotElf, OSError, struct.error):
        return None
    if loader is not None:
        return "musl" if b"/ld-musl-" in names else "glibc" if b"/ld-linux-" in names else None
    return "glibc" if b"\0libc.so.6\0" in names else "musl" if b"\0libc.so\0" in names or b"\0libc.musl-" in names else None
