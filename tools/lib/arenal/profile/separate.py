"""Files with the symbols that a stripped program or library has no more: by its build ID, by the name and the checksum that it has
itself (.gnu_debuglink), or compressed in one of its sections (MiniDebugInfo, .gnu_debugdata)."""

import io
import os
import zlib

from arenal import elf, files

SUM_LIMIT, CHUNK = 2 << 30, 1 << 20             # bytes of a file whose checksum is worked out
MINI_LIMIT, MINI_MEMORY = 64 << 20, 256 << 20   # what one may become, and what that may take


def by_build_id(places, build_id):
    """An open file; None: there is none."""
    if len(build_id) < 4:
        return None
    for root, folder in places.debug:
        try:
            file = open(files.inside(root, f"{folder}/.build-id/{build_id[:2]}/{build_id[2:]}.debug"), "rb")
        except (OSError, ValueError):
            continue
        if _has(file, build_id):
            return file
        file.close()
    return None


def _has(file, build_id):
    try:
        return elf.build_id(file) == build_id
    except (OSError, elf.NotElf):
        return False


def by_link(places, root, path, file):
    """The file that `file`, found as `path` below `root`, says it goes with: an open file or None, and what was wrong with it, or ""."""
    data = elf.contents(file, ".gnu_debuglink")
    name, zero, _ = data.partition(b"\0")
    at = (len(name) + 4) // 4 * 4
    if not data or len(data) < at + 4 or not zero:
        return None, ""
    name = os.fsdecode(name)
    if "/" in name or name in ("", ".", ".."):
        return None, "the name of its debug file is none"
    folder, problem = os.path.dirname(path), ""
    tries = [(root, f"{folder}/{name}"), (root, f"{folder}/.debug/{name}")]
    for place, path in tries + [(place, f"{debug}/{folder}/{name}") for place, debug in places.debug]:
        try:
            found = open(files.inside(place, path), "rb")
        except (FileNotFoundError, NotADirectoryError):
            continue
        except (OSError, ValueError) as error:
            problem = f"its debug file {name}: {getattr(error, 'strerror', error)}"
            continue
        if _sum(found, places) == int.from_bytes(data[at:at + 4], "little"):
            return found, ""
        problem = f"its debug file {name} is another one's, by its checksum"
        found.close()
    return None, problem


def _sum(file, places):
    found, left = 0, SUM_LIMIT
    if os.fstat(file.fileno()).st_size > left:
        return None
    while left > 0 and not places.is_late() and (part := file.read(min(left, CHUNK))):
        found = zlib.crc32(part, found)
        left -= len(part)
    return found


def mini(file):
    """What is in the file itself, as a file in memory, or None. Raises NotElf, OSError."""
    data = elf.contents(file, ".gnu_debugdata")
    if not data:
        return None
    try:
        import lzma
    except ImportError as error:
        raise elf.NotElf("this Python has no lzma for its .gnu_debugdata") from error
    try:
        decompressor = lzma.LZMADecompressor(lzma.FORMAT_XZ, MINI_MEMORY)
        plain = decompressor.decompress(data, MINI_LIMIT)
    except (lzma.LZMAError, MemoryError) as error:
        raise elf.NotElf(f"its .gnu_debugdata: {error}") from error
    if not decompressor.eof:
        raise elf.NotElf("its .gnu_debugdata is cut short, or too much")
    return io.BytesIO(plain)
