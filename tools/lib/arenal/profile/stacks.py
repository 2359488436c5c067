"""The stacks of a heap profile with their functions named, and what is made of them: folded stacks, and a list of the top."""

import re
import time
from collections import namedtuple

from arenal import picture
from arenal.profile import dump as dumps
from arenal.profile.places import Places
from arenal.profile.symbols import Frame, Symbols

# Functions of Arenal's own: in a program that it is linked into, stacks begin inside of it.
OWN = {"profile_add", "profile_allocated", "sample_allocated", "fetch_sample", "fetch_or_sample",
       "malloc_slow", "malloc_medium", "calloc_slow", "calloc_large", "allocate_aligned", "aligned_large",
       "aligned_or_enomem", "resize_block", "resize_large", "move", "plain_allocate", "plain_allocate_zeroed",
       "plain_allocate_aligned", "plain_resize", "hardened_allocate", "hardened_allocate_zeroed",
       "hardened_allocate_aligned", "hardened_resize", "traced_allocate", "traced_allocate_zeroed",
       "traced_allocate_aligned", "traced_resize", "malloc", "calloc", "realloc", "reallocarray",
       "aligned_alloc", "posix_memalign", "memalign", "valloc", "pvalloc", "new_", "new_slowly", "new_array",
       "new_array_slowly", "new_nothrow", "new_array_nothrow", "new_nothrow_slowly", "new_aligned",
       "new_array_aligned", "new_aligned_nothrow", "new_array_aligned_nothrow", "new_aligned_nothrow_slowly"}
# What functions are called besides: their second names outside, their names in the static library, and parts of them.
NAME_OF_OWN = re.compile(r"^(?:__libc_|__(?=posix_memalign)|arenal_inner_)?([^.]*)")

Row = namedtuple("Row", "function flat_bytes flat_blocks bytes")


class Profile:
    """A dump with names; `where` as Places has it. `stacks` are pairs of Counts and of addresses, innermost first."""

    def __init__(self, dump, **where):
        self.dump = dump
        self.symbols = Symbols(dump, Places(dump, **where))
        self.stacks = [(stack.counts, self._without_own(stack.frames)) for stack in dump.stacks]

    def _without_own(self, frames):
        first = 0
        while first < len(frames) - 1 and NAME_OF_OWN.match(self.symbols.frames[frames[first]][0].function).group(1) in OWN:
            first += 1
        return frames[first:]

    def functions(self, frames):
        """The Frames of a stack, innermost first, with those that were inlined."""
        return [frame for address in frames for frame in self.symbols.frames[address]] or [Frame("(no stack)", "", 0)]


def size(count):
    return picture.size(count) if count >= 1024 else f"{count}B"


def value(counts, total):
    """Blocks and bytes: of all since the start, or of what is not freed."""
    return (counts.total_blocks, counts.total_bytes) if total else (counts.live_blocks, counts.live_bytes)


def names(profile, frames):
    """The functions of a stack, outermost first."""
    return tuple(frame.function for frame in reversed(profile.functions(frames)))


def folded_name(functions):
    return ";".join(re.sub(r"[;\s]+", lambda found: ":" if ";" in found.group() else " ", function) for function in functions)


def folded(profile, total):
    """Lines of "outermost;...;innermost BYTES", as tools for flame graphs read them."""
    lines = {}
    for counts, frames in profile.stacks:
        name, number = folded_name(names(profile, frames)), value(counts, total)[1]
        if number > 0:
            lines[name] = lines.get(name, 0) + number
    return [f"{name} {number}" for name, number in sorted(lines.items())]


def rows(profile, total):
    """By function: what it asked for itself, and together with the functions that it called. The largest first."""
    flat, all_bytes = {}, {}
    for counts, frames in profile.stacks:
        blocks, number = value(counts, total)
        functions = names(profile, frames)
        old = flat.get(functions[-1], (0, 0))
        flat[functions[-1]] = (old[0] + number, old[1] + blocks)
        for name in set(functions):
            all_bytes[name] = all_bytes.get(name, 0) + number
    found = [Row(name, *flat.get(name, (0, 0)), number) for name, number in all_bytes.items() if number > 0]
    return sorted(found, key=lambda row: (-row.flat_bytes, -row.bytes, row.function))


def when(dump):
    try:
        return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(dump.time))
    except (ValueError, OverflowError, OSError):
        return "at no time"


def text(profile, total, count):
    """The list that a person reads."""
    dump = profile.dump
    everything = dumps.ZERO
    for counts, _ in profile.stacks:
        everything = dumps.add(everything, counts)
    blocks, number = value(everything, total)
    found = rows(profile, total)
    what = "allocated since the start" if total else "in use"
    lines = [f"Process {dump.pid}, {when(dump)}: about {size(number)} in {blocks:,} blocks {what}, estimated from a sample "
             f"of one byte in {size(dump.sample)}."]
    if found:
        lines.append(f"{'flat':>8} {'%':>5} {'blocks':>12} {'with calls':>10} {'%':>5}  function")
    for row in found[:count]:
        lines.append(f"{size(row.flat_bytes):>8} {100 * row.flat_bytes / number:5.1f} {row.flat_blocks:12,} "
                     f"{size(row.bytes):>10} {100 * row.bytes / number:5.1f}  {row.function}")
    if len(found) > count:
        lines.append(f"... and {len(found) - count} more functions")
    return "\n".join(lines)
