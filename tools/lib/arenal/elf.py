"""Just enough of the ELF format to find the address of one symbol in a program or a shared library, all functions, and the build
ID."""

import array
import os
import struct
from collections import namedtuple

from arenal import files, text

ET_EXEC, ET_DYN = 2, 3
PT_LOAD, PT_INTERP, PT_NOTE = 1, 3, 4
NT_GNU_BUILD_ID = 3
STT_FUNC, STT_GNU_IFUNC = 2, 10
SHT_SYMTAB, SHT_DYNSYM = 2, 11
SHN_UNDEF = 0
SYMBOL_SIZE = 24
# A file may be damaged, or made to keep us busy. These are of a program of some gigabytes.
TABLE_LIMIT = 1 << 26           # bytes of a symbol table, or of its names
SECTIONS_LIMIT, SEGMENTS_LIMIT = 4096, 1024
TABLES_LIMIT, NAMES_LIMIT = 2, 64               # symbol tables; places where a name is

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


def functions(path):
    """The functions that the file's symbol tables name: a sorted list of (start, end, name), addresses as the file counts them.
    Raises NotElf and OSError."""
    found = {}
    try:
        with _open(path) as file:
            for table, strings in _symbol_tables(file, header(file)):
                names = _read(file, strings.offset, strings.size)
                symbols = _read(file, table.offset, table.size)
                whole = len(symbols) // SYMBOL_SIZE * SYMBOL_SIZE
                for st_name, info, _other, shndx, value, size in struct.iter_unpack("<IBBHQQ", symbols[:whole]):
                    if info & 15 in (STT_FUNC, STT_GNU_IFUNC) and shndx != SHN_UNDEF and size > 0:
                        name = text.printable(names[st_name:names.index(b"\0", st_name, st_name + text.LIMIT)].decode(errors="replace"))
                        # Of several names of one function, that without underscores.
                        old = found.get((value, size))
                        if old is None or (name.startswith("_"), name) < (old.startswith("_"), old):
                            found[value, size] = name
    except (struct.error, OverflowError, ValueError) as error:
        raise NotElf(str(error)) from error
    return sorted((value, value + size, name) for (value, size), name in found.items())


def build_id(path):
    """In hexadecimal; "" when the file has none. Raises NotElf and OSError."""
    try:
        with _open(path) as file:
            for segment in segments(file, header(file)):
                if segment.type != PT_NOTE:
                    continue
                notes = _read(file, segment.offset, segment.filesz)
                at = 0
                while at + 12 <= len(notes):
                    name_size, size, kind = struct.unpack_from("<III", notes, at)
                    name = at + 12
                    data = name + (name_size + 3) // 4 * 4
                    if kind == NT_GNU_BUILD_ID and notes[name:name + name_size] == b"GNU\0":
                        return notes[data:data + size].hex()
                    at = data + (size + 3) // 4 * 4
    except (struct.error, OverflowError, ValueError) as error:
        raise NotElf(str(error)) from error
    return ""


def has_section(path, name):
    """Whether the file has a section of this name. Raises NotElf and OSError."""
    try:
        with _open(path) as file:
            head = header(file)
            table = sections(file, head)
            names = table[head.shstrndx]
            all_names = _read(file, names.offset, names.size)
            return any(all_names[s.name:s.name + len(name) + 1] == name.encode() + b"\0" for s in table)
    except (struct.error, OverflowError, ValueError, IndexError) as error:
        raise NotElf(str(error)) from error


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
