#!/usr/bin/env python3
"""order.py VALGRIND LIBRARY: what a small process runs and reads of the library lies close together in its file, and what it
writes to in few pages (the order of the sources in src/CMakeLists.txt).

The kernel maps 64 KiB of a file around what is touched, and counts that as the memory of each process. How much it is of this file
differs from process to process, by where the library is mapped, and from kernel to kernel, by how it keeps the file. So valgrind
tells here which pages are touched, and what that makes is worked out: the mean for all places where a mapping may begin."""

import os
import subprocess
import sys

PAGE, AROUND = 4096, 16     # the kernel maps so many pages at once, from a multiple of that
# Today 70 of 92 pages (by clang 78 of 93), and 18 of data; with the sources in the order of their names, 101 of 102 and 21.
MOST_OF_FILE, MOST_WRITTEN = 0.9, 19


def main(valgrind, library):
    library = os.path.realpath(library)
    # The program says where the library lies in it.
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("ARENAL_", "MALLOC_", "LD_"))}
    log_end, log = os.pipe()
    with subprocess.Popen([valgrind, "--tool=lackey", "--trace-mem=yes", "--basic-counts=no", f"--log-fd={log}", "cat", "/proc/self/maps"],
                          env={**environment, "LD_PRELOAD": library, "ARENAL_GUARD_SAMPLE": "0"}, pass_fds=[log],
                          stdout=subprocess.PIPE, text=True) as process:
        os.close(log)
        touched, written = set(), set()
        with open(log_end, encoding="ascii", errors="replace") as lines:
            for line in lines:
                # "I  0483c000,3", " L 1ffeffe7c8,8": instruction, load; " S", " M": store, both
                if line[:2] in ("I ", " L", " S", " M") and line[2] == " ":
                    address, _, size = line[3:].partition(",")
                    pages = range(int(address, 16) // PAGE, (int(address, 16) + int(size) - 1) // PAGE + 1)
                    touched.update(pages)
                    if line[1] in "SM":
                        written.update(pages)
        maps = process.stdout.read()
    if process.returncode != 0:
        sys.exit(f"valgrind ended with status {process.returncode}")

    # Code and constants: the mappings of the file nobody writes to. Data: those after them, and what lies behind without a file.
    code, data, before = set(), set(), None
    for line in maps.splitlines():
        place, access, _, _, _, *name = line.split(maxsplit=5)
        start, end = (int(part, 16) // PAGE for part in place.split("-"))
        if name == [library]:
            (code if "x" in access else data).update(range(start, end))
            before = end
        elif start == before and not name:
            data.update(range(start, end))
    if not code & touched or not data & written:
        sys.exit(f"nothing of {library} is touched:\n{maps}")

    first, resident = min(code), 0
    for shift in range(AROUND):
        around = {(page - first + shift) // AROUND for page in code & touched}
        resident += sum((page - first + shift) // AROUND in around for page in code)
    resident /= AROUND
    print(f"of the file {resident:.0f} of {len(code)} pages are in memory, {len(code & touched)} touched; {len(data & written)} pages "
          "of data are written to")
    if resident > MOST_OF_FILE * len(code) or len(data & written) > MOST_WRITTEN:
        sys.exit(f"at most {MOST_OF_FILE * len(code):.0f} and {MOST_WRITTEN} should be: what runs, or is written to, at each start lies "
                 "too far apart (src/CMakeLists.txt)")


main(*sys.argv[1:])
