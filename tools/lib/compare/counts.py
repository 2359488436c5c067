"""Instructions per operation, counted by valgrind's callgrind.

Two figures, for two uses. *All* instructions of the process: under the same program, libc and processor, whatever differs
between two builds is due to the allocator, and what it makes libc do (memset, memcpy, starting a thread) counts as well.
The *library's* own: they do not change with libc, which picks its memset by the processor, nor with the program around
it; these can be compared with counts that were taken on another machine."""

import os
import re
import shutil
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from compare.builds import CannotCompare, clean_environment, run

# Enough for the slow paths of each mode to be taken hundreds of times; a run is 0.3 s of valgrind's start and little else.
OPERATIONS = 20_000
OPERATIONS_OF = {"threads": 200}        # one of these is some 30,000 instructions
# In default settings chance decides which blocks are guarded: with 20,000 operations, which have four of them, the counts of one
# build differed by up to 15%.
OPERATIONS_BY_DEFAULT = 100_000

# The number of arenas follows the number of CPUs, unless it is set. By glibc's name, which every revision knows.
# What is given back to the kernel depends on the time that has passed, and counting must not: nothing is, here. A
# revision that does not know one of these says so on stderr, which nobody reads.
SETTINGS = {"MALLOC_ARENA_MAX": "4", "ARENAL_DECAY": "-1", "ARENAL_DIRTY_MAX": "1G", "ARENAL_TRIM_THRESHOLD": "-1",
            "ARENAL_GUARD_SAMPLE": "0"}

# As it is for everybody: the same, but for what is decided by chance and by the clock. These modes ask for new memory, and
# see what that costs by default; their names in the tables get a word more.
BY_DEFAULT = ["pair", "random", "overflow", "medium"]
DEFAULT_SETTINGS = {"MALLOC_ARENA_MAX": "4"}
DEFAULT_WORD = " by default"


@dataclass
class Count:
    """Instructions per operation, start-up left out."""
    library: float
    all: float


def modes_of(program):
    """The names of the program's modes, and what they do."""
    lines = run([program, "--list"], f"cannot run {program}").splitlines()
    found = dict(line.split("\t") for line in lines)
    return {**found, **{mode + DEFAULT_WORD: found[mode] for mode in BY_DEFAULT}}


def parse_costs(profile, library):
    """(instructions inside the library, all) from the text of a callgrind profile without compressed names. The cost of
    a line is that of the function itself; the line after `calls=` repeats what the called function spent."""
    inside = total = 0
    current = None
    lines = iter(profile.splitlines())
    for line in lines:
        if line.startswith("ob="):
            current = line[3:]
        elif line.startswith("calls="):
            next(lines, None)
        elif line[:1].isdigit():
            cost = int(line.split()[1])
            total += cost
            if current == library:
                inside += cost
    return inside, total


def instructions(program, name, operations, library, directory):
    """(inside the library, all) of one run."""
    mode = name.removesuffix(DEFAULT_WORD)
    profile = os.path.join(directory, f"{name.replace(' ', '-')}.{operations}.callgrind")
    # Few variables, and a library with the same short name for every build: what the dynamic linker has to do before
    # the program starts should not differ. --vgdb: no pipes in the directory for temporary files.
    env = {name: value for name, value in clean_environment().items() if name in ("PATH", "VALGRIND_LIB")}
    # Named from its directory: LD_PRELOAD takes no path with a space in it.
    env.update(SETTINGS if name == mode else DEFAULT_SETTINGS, LD_PRELOAD=os.path.join(".", os.path.basename(library)))
    run(["valgrind", "--tool=callgrind", "--vgdb=no", f"--callgrind-out-file={profile}", "--compress-strings=no",
         "--compress-pos=no", program, mode, str(operations)], f"cannot count {mode}", cwd=directory, env=env)
    with open(profile, encoding="utf-8", errors="replace") as file:
        text = file.read()
    os.unlink(profile)
    inside, total = parse_costs(text, library)
    stated = re.search(r"^totals: (\d+)$", text, re.M)
    if stated is None or int(stated[1]) != total:
        raise CannotCompare(f"cannot count {mode}: this version of valgrind writes profiles that are not understood")
    if inside == 0:
        raise CannotCompare(f"cannot count {mode}: the program ran without {os.path.basename(library)}")
    return inside, total


def require_valgrind():
    if shutil.which("valgrind") is None:
        raise CannotCompare("instructions cannot be counted: valgrind is not installed")


def count(program, mode, library, directory):
    n = OPERATIONS_BY_DEFAULT if mode.endswith(DEFAULT_WORD) else OPERATIONS_OF.get(mode, OPERATIONS)
    once = instructions(program, mode, n, library, directory)
    twice = instructions(program, mode, 2 * n, library, directory)
    return Count(*((more - less) / n for less, more in zip(once, twice)))


def count_modes(program, modes, library, directory):
    """{mode: Count} of a library. The runs share the CPUs: load changes no count."""
    os.makedirs(directory, exist_ok=True)
    copy = os.path.join(os.path.realpath(directory), "arenal.so")
    shutil.copyfile(library, copy)
    with ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool:
        return dict(zip(modes, pool.map(lambda mode: count(program, mode, copy, directory), modes)))
