"""Reads the dump of a heap profile, in the format that src/observe/profile_output.c describes."""

import os
import re
from collections import namedtuple

from arenal import files
from arenal.errors import Failure
from arenal.proc import parse_mappings

MAGIC = "arenal-heap-profile"
VERSIONS = ("1", "2")
LIMIT = 256 << 20

# All estimates, for one stack or for many: what was not freed yet, and all since the start.
Counts = namedtuple("Counts", "live_blocks live_bytes total_blocks total_bytes")
Stack = namedtuple("Stack", "counts frames")        # frames: addresses, innermost first
Dump = namedtuple("Dump", "sample pid time stacks mappings objects owners")    # objects: build IDs, by where a file begins

ZERO = Counts(0, 0, 0, 0)


def add(a, b):
    return Counts(*map(int.__add__, a, b))


def _header(lines, path):
    values = {}
    for name in (MAGIC, "sample", "pid", "time"):
        word, _, value = next(lines, "").partition(" ")
        if word != name:
            raise Failure(f"{path} is not the dump of a heap profile" if name == MAGIC else
                          f"{path} is damaged: there is no line with the {name}")
        if name == MAGIC and value not in VERSIONS:
            raise Failure(f"{path} has version {value} of the format; this tool knows version {VERSIONS[-1]}")
        values[name] = value
    return tuple(_number(values[name]) for name in ("sample", "pid", "time"))


def _number(text, base=10):
    """Of 64 bits, and without what int() takes besides: signs, for example."""
    if not re.fullmatch("[0-9]{1,20}" if base == 10 else "[0-9a-f]{1,16}", text):
        raise ValueError
    return int(text, base)


def parse(text, path, owners=()):
    """The Dump in this text; `path` is for messages. `owners`: the users whose process may have written it."""
    lines = iter(text.split("\n")[:-1] if text.endswith("\n") else text.split("\n"))
    try:
        sample, pid, time = _header(lines, path)
        stacks, objects = [], {}
        for line in lines:
            if line == "maps":
                break
            word, *numbers = line.split(" ")
            if word == "object" and len(numbers) == 2 and re.fullmatch("([0-9a-f]{2}){1,64}", numbers[1]):
                objects[_number(numbers[0], 16)] = numbers[1]
                continue
            if word != "stack" or len(numbers) < 4:
                raise ValueError
            stacks.append(Stack(Counts(*map(_number, numbers[:4])), tuple(_number(n, 16) for n in numbers[4:])))
        rest = list(lines)
        if not rest or rest.pop() != "end" or not text.endswith("\n"):
            raise Failure(f"{path} is cut short: was the disk full, or is it still being written?")
        return Dump(sample, pid, time, stacks, parse_mappings("\n".join(rest).encode(errors="surrogateescape")),
                    objects, owners)
    except ValueError as error:
        raise Failure(f"{path} is damaged: it has a line that does not belong there") from error


def read(path, of_others=False):
    """The Dump in this file. `of_others`: in a folder where everybody may write, so that it may be anything."""
    try:
        with open(files.regular(path, follow=False) if of_others else path, "rb") as file:
            data, owner = file.read(LIMIT + 1), os.fstat(file.fileno()).st_uid
    except OSError as error:
        raise Failure(f"{path}: {error.strerror}") from error
    if len(data) > LIMIT:
        raise Failure(f"{path} is too long for the dump of a heap profile")
    return parse(data.decode(errors="surrogateescape"), path, {owner})
