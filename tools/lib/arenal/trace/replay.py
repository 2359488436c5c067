"""`arenal replay`: does again what a trace recorded, under several allocators, and compares them."""

import json
import os
import statistics
import sys

from arenal import library, peers, trace
from arenal.errors import Failure
from arenal.text import counted

MIB = 1 << 20
# what: name, unit, divisor
MEASURES = {"wall": ("time", "s", 1), "cpu": ("CPU time", "s", 1), "peak_rss": ("peak memory", "MiB", MIB),
            "rest_rss": ("at rest", "MiB", MIB)}


def find(tool, names):
    """(name, library to preload or None) of each; without names, all that are there."""
    if not names:
        return [("arenal", library.find(tool)), ("glibc", None),
                *((name, peers.find(name)) for name in peers.DEBIAN if peers.find(name))]
    found = []
    for name in names:
        if name == "arenal":
            found.append((name, library.find(tool)))
        elif name == "glibc":
            found.append((name, None))
        elif name in peers.DEBIAN:
            if not peers.find(name):
                raise Failure(f"{name} is not installed: Debian's package is {peers.DEBIAN[name][0][1][0]}")
            found.append((name, peers.find(name)))
        elif "/" in name and os.path.isfile(name):
            found.append((os.path.basename(name), os.path.abspath(name)))
        else:
            raise Failure(f"{name} is neither the path of a library nor one of arenal, glibc, " + ", ".join(peers.DEBIAN))
    return found


def environment(preload):
    env = {name: value for name, value in library.inherited_environment().items()
           if name not in (b"LD_PRELOAD", b"ARENAL_TRACE_FILE", b"ARENAL_PROFILE_FILE")}
    if preload:
        env[b"LD_PRELOAD"] = os.fsencode(library.preload_name(preload))
    return env


def replay(tool, path, process, names, rounds, seconds, as_json):
    allocators = find(tool, names)
    runs = {name: [] for name, _ in allocators}
    if len(runs) < len(allocators):
        raise Failure("an allocator is named twice")
    summary = trace.ask(tool, "summary", path, process or 0)        # what is wrong with the file is no allocator's fault
    for number in range(rounds):
        for name, preload in allocators:    # one after the other, so that all meet the same weather
            if sys.stderr.isatty():
                print(f"\rround {number + 1} of {rounds}: {name}\033[K", end="", file=sys.stderr, flush=True)
            try:
                runs[name].append(trace.ask(tool, "replay", path, process or 0, seconds, env=environment(preload)))
            except Failure as failure:
                raise Failure(f"under {name}: {failure}") from failure
    if sys.stderr.isatty():
        print("\r\033[K", end="", file=sys.stderr)
    if as_json:
        print(json.dumps({"trace": os.path.abspath(path), "rest_seconds": seconds, "runs": runs}))
    else:
        print(table(runs, seconds))
        print(*trace.told(summary), sep="\n")


def table(runs, seconds):
    first = next(iter(runs))
    medians = {name: {what: statistics.median(run[what] for run in those) for what in MEASURES} for name, those in runs.items()}
    one = runs[first][0]
    lines = [f"{counted(one['allocations'], 'allocation')} and {counted(one['frees'], 'free')} in {counted(one['threads'], 'thread')}; "
             f"{one['peak_live'] / MIB:,.1f} MiB live at most, {one['live'] / MIB:,.1f} at the end", ""]
    width = max(len("allocator"), *map(len, runs))
    lines.append(f"{'allocator':{width}}" + "".join(f"{name + ' ' + unit:>16} {'':>6}" for name, unit, _ in MEASURES.values()))
    for name, values in medians.items():
        cells = []
        for what, (_, _, divisor) in MEASURES.items():
            base = medians[first][what]
            ratio = f"{values[what] / base:6.2f}" if base else f"{'-':>6}"
            cells.append(f"{values[what] / divisor:16,.{3 if divisor == 1 else 1}f} {ratio}")
        lines.append(f"{name:{width}}" + "".join(cells))
    if one["unknown"]:
        lines.append(f"{counted(one['unknown'], 'block')} from before the recording {'was' if one['unknown'] == 1 else 'were'} freed or moved: "
                     "left out, or a new block here")
    lines += ["", f"Medians of {len(runs[first])}; behind each its ratio to {first}'s. Memory is what the replay takes of the kernel, at rest after "
              f"{seconds} s with what was live at the end."]
    return "\n".join(lines)
