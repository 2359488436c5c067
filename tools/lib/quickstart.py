"""Installs what is missing, builds the release, and prints one table: a server under several allocators.

Called by tools/quickstart, which see. The servers are described in quickstart_servers.py.
"""

import argparse
import glob
import json
import os
import platform
import re
import signal
import statistics
import sys
import tempfile
import threading
import time

from machine import cpu_seconds, others_share, our_libc
from preparing import BUILD_PACKAGES, ROOT, NotPrepared, build, need_packages
from compare.allocators import Allocator
from compare.options import number
from compare.process import Launcher
from compare.results import Failed
from quickstart_servers import KEEP_PERCENT, SERVERS

IDLE_SECONDS = 10
MIB = 1024 * 1024


def main():
    options = parse_options()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # SystemExit cleans up, like ctrl-C
    signal.signal(signal.SIGHUP, lambda *_: sys.exit(129))
    try:
        return quickstart(options)
    except (Failed, NotPrepared) as error:
        print(f"quickstart: {error}", file=sys.stderr)
    except OSError as error:  # a full disk, for example
        print(f"quickstart: {error.strerror}" + (f": {error.filename}" if error.filename else ""), file=sys.stderr)
    except KeyboardInterrupt:
        print("quickstart: interrupted", file=sys.stderr)
        return 130
    return 1


def parse_options():
    parser = argparse.ArgumentParser(
        prog="quickstart", formatter_class=argparse.RawDescriptionHelpFormatter,
        description="Build Arenal and compare it with glibc's malloc and jemalloc under a server.\n"
                    "Debian packages that are missing are installed first: as root, or with a sudo that does not ask.",
        epilog="Each round starts each allocator's server anew, fills it, loads it, deletes "
               f"{100 - KEEP_PERCENT}% of the keys and leaves it\nidle for {IDLE_SECONDS} s while the next one is "
               "loaded; the table has the medians of the rounds. Latencies are\nthose of pipelined requests in a "
               "closed loop, on a machine that also runs the clients.\n\n"
               "exit status: 0, 1 when something failed (also a single row), 2 for wrong options, 130 after ctrl-C")
    parser.add_argument("--server", choices=sorted(SERVERS), default="embedded",
                        help="what to run: the cache server in benchmarks/server/ (default), or Debian's redis or memcached")
    parser.add_argument("--seconds", type=number(float, 0.5, 3600), default=3, metavar="S",
                        help="length of each measured phase (default 3)")
    parser.add_argument("--rounds", type=number(int, 1, 100), default=3, metavar="N",
                        help="how often to measure each allocator (default 3)")
    parser.add_argument("--allocators", type=lambda text: text.split(","), default=["glibc", "jemalloc", "arenal"],
                        metavar="LIST",
                        help="some of glibc,jemalloc,arenal (default: all), and paths of other libraries")
    parser.add_argument("--json", metavar="FILE", help="also write everything that was measured to FILE")
    parser.add_argument("--build-dir", metavar="DIR",
                        help="use what is built there, build nothing (default: build with the preset \"release\")")
    options = parser.parse_args()
    for name in options.allocators:
        if name not in ("glibc", "jemalloc", "arenal") and "/" not in name:
            parser.error(f"argument --allocators: \"{name}\" is not glibc, jemalloc, arenal or the path of a library")
    return options


def quickstart(options):
    choice = SERVERS[options.server]
    packages = ["time"] + choice.server.packages + (["libjemalloc2"] if "jemalloc" in options.allocators else [])
    if not need_packages(packages + ([] if options.build_dir else BUILD_PACKAGES), "quickstart"):
        return 1  # it has said why
    build_dir = os.path.abspath(options.build_dir) if options.build_dir else build(["arenal", "arenal_cache_server", "arenal_cache_load"])
    if options.json:
        open(options.json, "a").close()  # a wrong path shall not be found out at the end

    with tempfile.TemporaryDirectory(prefix="arenal-quickstart-") as scratch:
        rows = [Row(name, choice, build_dir, scratch) for name in options.allocators]
        before = cpu_seconds()
        measure(rows, options)
        others = others_share(before, cpu_seconds())
    print_table(rows, choice, options, others)
    if options.json:
        write_json(rows, options)
    return 0 if all(row.rounds and not row.failure for row in rows) else 1


class Row:
    """One allocator: its rounds, or why there are none."""

    def __init__(self, name, choice, build_dir, scratch):
        self.name = os.path.basename(name)
        self.choice = choice
        self.build_dir = build_dir
        self.scratch = scratch
        self.allocator = None
        self.rounds = []
        self.failure = None
        try:
            self.allocator = self.find_allocator(name, build_dir)
        except Failed as error:
            self.failure = str(error)

    def find_allocator(self, name, build_dir):
        if name == "glibc":
            library = our_libc()
            if not library:
                raise Failed("this Python does not use glibc")
        elif name == "jemalloc":
            found = glob.glob("/usr/lib/*/libjemalloc.so.2") + glob.glob("/usr/lib/libjemalloc.so.2")
            library = found[0] if found else "libjemalloc.so.2"
        elif name == "arenal":
            library = os.path.join(build_dir, "src", "libarenal.so")
        else:
            library = name
        if not os.path.exists(library):
            raise Failed(f"not built: {os.path.relpath(library, ROOT)} is missing" if name == "arenal" else
                         f"{library} is missing")
        allocator = Allocator(name, os.path.realpath(library))
        if name != (self.choice.server.linked_malloc or "glibc"):  # else it is used anyway
            # LD_PRELOAD separates its entries by spaces and colons, which a project's path may hold.
            link = os.path.join(tempfile.mkdtemp(dir=self.scratch), os.path.basename(library))
            os.symlink(allocator.library, link)
            if re.search(r"[ :]", link):
                raise Failed(f"nothing can be preloaded from {self.scratch}: set TMPDIR to a path without spaces")
            allocator.preload = link
        return allocator


def measure(rows, options):
    """Interleaves the allocators, so that a slow moment of the machine does not hit one of them alone."""
    stop = threading.Event()
    idlers = []
    try:
        for round_number in range(options.rounds):
            turn = round_number % len(rows)
            for row in rows[turn:] + rows[:turn]:
                if row.failure:
                    continue
                print(f"round {round_number + 1} of {options.rounds}: {row.name}", file=sys.stderr)
                idler = measure_once(row, options.seconds, round_number + 1, stop)
                if idler:
                    idlers.append(idler)
        for idler in idlers:
            idler.join()
    finally:
        # Also after ctrl-C: the threads stop their servers, and nothing is left running.
        stop.set()
        for idler in idlers:
            idler.join()


def measure_once(row, seconds, seed, stop):
    """Loads a new server; returns the thread that watches it while it is idle."""
    server = row.choice.server(Launcher(row.allocator, tempfile.mkdtemp(dir=row.scratch), row.build_dir))
    server.load_timeout = 600 + 10 * seconds
    try:
        server.start()
        result = row.choice.load(server, seconds, seed)
        result["peak_rss_bytes"] = server.service.peak_rss()
        result["rss_after_load_bytes"] = server.service.rss()
    except Failed as error:
        row.failure = str(error)
        server.stop()
        return None
    except BaseException:
        server.stop()
        raise

    def watch_idle():
        try:
            if not stop.wait(IDLE_SECONDS):
                result["rss_idle_bytes"] = server.service.rss()
                row.rounds.append(result)
        except Failed as error:
            row.failure = f"while idle, {error}"
        finally:
            server.stop()

    idler = threading.Thread(target=watch_idle)
    idler.start()
    return idler


def median(row, field):
    return statistics.median(result[field] for result in row.rounds)


def print_table(rows, choice, options, others):
    columns = [("requests/s", lambda row: f"{median(row, 'requests_per_second'):,.0f}"),
               ("p50 µs", lambda row: f"{median(row, 'p50_us'):,.0f}"),
               ("p99 µs", lambda row: f"{median(row, 'p99_us'):,.0f}"),
               ("p99.9 µs", lambda row: f"{median(row, 'p999_us'):,.0f}"),
               ("peak RSS MiB", lambda row: f"{median(row, 'peak_rss_bytes') / MIB:,.1f}"),
               ("idle RSS MiB", lambda row: f"{median(row, 'rss_idle_bytes') / MIB:,.1f}")]
    first = max(len(row.name) for row in rows + [argparse.Namespace(name="allocator")])

    print("\n" + "allocator".ljust(first) + "".join(title.rjust(len(title) + 3) for title, _ in columns))
    for row in rows:
        if row.failure or not row.rounds:
            print(row.name.ljust(first) + "   " + (row.failure or "nothing was measured"))
        else:
            print(row.name.ljust(first) + "".join(text(row).rjust(len(title) + 3) for title, text in columns))

    all_rates = [[result["requests_per_second"] for result in row.rounds] for row in rows]
    spreads = [(max(rates) - min(rates)) / statistics.median(rates) for rates in all_rates if len(rates) > 1]
    rounds = f"Medians of {options.rounds} rounds" if options.rounds > 1 else "One round"
    print(f"\n{rounds} of {options.seconds:g} s"
          + (f"; between its rounds, a row's requests/s differed by up to {max(spreads):.0%}." if spreads else "."))
    if others >= 0.05:
        print(f"Other programs used {others:.0%} of the CPUs meanwhile: expect other figures on a quiet machine.")
    print(f"Idle RSS: {IDLE_SECONDS} s after {100 - KEEP_PERCENT}% of the keys, chosen at random, were deleted.\n"
          f"{choice.note}")


def write_json(rows, options):
    document = {
        "server": options.server, "seconds": options.seconds, "idle_seconds": IDLE_SECONDS,
        "machine": {"cores": os.cpu_count(), "kernel": platform.release(), "architecture": platform.machine(),
                    "libc": " ".join(platform.libc_ver())},
        "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "allocators": [{"name": row.name, "malloc_from": row.allocator and row.allocator.library, "failure": row.failure, "rounds": row.rounds}
                       for row in rows],
    }
    with open(options.json, "w") as file:
        json.dump(document, file, indent=2)
        file.write("\n")


if __name__ == "__main__":
    sys.exit(main())
