"""Results as tools/compare writes them, made up and the same for the same seed: the tests' material.

Run by hand, it prints them:  sample_results.py > results.json
"""

import json
import random
import sys

ALLOCATORS = (("arenal", "/usr/local/lib/libarenal.so", "0.1.0 7fb0612", True),
              ("glibc", None, "2.36", False),
              ("jemalloc", "/usr/lib/x86_64-linux-gnu/libjemalloc.so.2", "5.3.0", False),
              ("mimalloc", "/usr/lib/x86_64-linux-gnu/libmimalloc.so.2.0", "2.0.9", False),
              ("tbbmalloc", "/usr/lib/x86_64-linux-gnu/libtbbmalloc.so.2", "2021.8", False))
MISSING = ("tcmalloc", None, None, False)
SPEED = {"arenal": 0.95, "glibc": 1.6, "jemalloc": 1.2, "mimalloc": 1.05, "tbbmalloc": 1.15}
MEMORY = {"arenal": 1.0, "glibc": 1.05, "jemalloc": 1.3, "mimalloc": 1.7, "tbbmalloc": 1.5}
MIB = 1 << 20
PERCENTILES = (("p50", 1), ("p90", 1.8), ("p99", 6), ("p99.9", 45), ("p99.99", 600), ("max", 30000))

WORKLOADS = (("session_churn", "Sessions that outlive their threads", 4),
             ("producer_consumer", "Blocks freed elsewhere", 2),
             ("growth_decay", "Phases of growth and decay", 2), ("burst_idle", "A burst, then nothing", 2),
             ("fragmentation", "Hours of traffic, compressed", 1), ("mostly_idle", "1,000 mostly idle threads", 1000),
             ("key_value", "A key-value store that evicts", 4))
PROGRAMS = (("redis/pipelined", "redis, pipelined", "s"), ("memcached", "memcached", "s"), ("sqlite3", "sqlite3", "s"),
            ("python3", "python3", "s"), ("gcc", "gcc compiling", "s"))
HOSTILE = "</script><script>document.title='broken'</script><b>&amp; \"quoted\" 'name'\u2028next"


def case(name, title, unit="ns/op", threads=1, family=None):
    group, _, rest = name.partition("/")
    return {"name": name, "group": group, "family": family or rest, "title": title,
            "about": f"{title}, as the tests imagine it.", "unit": unit, "threads": threads, "results": {}}


def series(generator, peak, rest):
    """RSS of a process that grows for a second, stays, and shrinks."""
    points = []
    for tick in range(41):
        share = min(1, tick / 10) if tick < 28 else max(rest / peak, 1 - (tick - 28) / 6)
        points.append([round(tick * 0.1, 3), int(peak * share * generator.uniform(0.98, 1.0))])
    return points


def latency(generator, middle):
    calls = {}
    for call, share in (("malloc", 1.0), ("free", 0.8)):
        calls[call] = {name: round(middle * share * factor * generator.uniform(0.8, 1.25), 1)
                       for name, factor in PERCENTILES}
        calls[call]["count"] = 1_000_000
    return calls


def measure(generator, one, allocator, rounds, base):
    """One case under one allocator. The rounds differ by some percent, as on a quiet machine."""
    middle = base * SPEED.get(allocator, 1.3) * generator.uniform(0.75, 1.3)
    memory = 40 * MIB * MEMORY.get(allocator, 1.4) * generator.uniform(0.9, 1.15)
    workload, program = one["group"] == "workload", one["group"] == "program"
    runs = []
    for number in range(1, rounds + 1):
        time = middle * generator.uniform(0.97, 1.06)
        metrics = {"time": time, "peak_rss": int(memory * generator.uniform(0.99, 1.01))}
        if one["unit"] == "ns/op":
            metrics["operations_per_second"] = 1e9 / time
        if workload or program:
            metrics["rest_rss"] = int(memory * generator.uniform(0.55, 0.6))
        if program:
            metrics.update({"requests_per_second": 1e5 / time, "p99_us": 900 * time / base})
        runs.append({"round": number, "metrics": metrics,
                     "latency": latency(generator, middle) if workload else {},
                     "series": series(generator, memory, metrics["rest_rss"]) if workload else []})
    return {"runs": runs, "failure": None}


def cases(generator):
    for size in (16, 64, 256, 1024, 4096, 65536):
        yield case(f"micro/pair/{size}", f"malloc and free of {size} bytes"), size ** 0.3 * 4
    for count in (25, 100, 400, 1600):
        yield case(f"micro/batch_fifo/{count}", f"{count} blocks, first in, first out"), 18
    for threads in (1, 2, 4, 8, 16):
        for family, title in (("random_replace", "Random replacement, Pareto sizes"), ("churn", "Threads come and go")):
            one = case(f"micro/{family}/{threads}", f"{title}, {threads} threads", threads=threads, family=family)
            yield one, 25 * (1 + threads / 8)
    for name, title, threads in WORKLOADS:
        yield case(f"workload/{name}", title, threads=threads), generator.uniform(60, 160)
    for name, title, unit in PROGRAMS:
        yield case(f"program/{name}", title, unit=unit), generator.uniform(0.8, 2.5)


def generate(seed=1, rounds=7, missing=True, failures=True, hostile=False, many=0, allocators=ALLOCATORS):
    """`hostile` adds an allocator and a case with names that are markup, `many` so many cases more."""
    generator = random.Random(seed)
    listed = [dict(zip(("name", "library", "version", "own"), one), problem=None) for one in allocators]
    if hostile:
        listed.append({"name": HOSTILE, "library": f"/{HOSTILE}.so", "version": HOSTILE, "own": False, "problem": None})
    made = list(cases(generator))
    made += [(case(f"micro/many/{number}", f"One of many, number {number}"), 30) for number in range(many)]
    for one, base in made:
        for allocator in listed:
            one["results"][allocator["name"]] = measure(generator, one, allocator["name"], rounds, base)
    made = [one for one, _ in made]
    if failures:
        by_name = {one["name"]: one["results"] for one in made}
        for name, failure in (("workload/burst_idle", "crashed: SIGSEGV after 0.3 s"),
                              ("program/gcc", "hung: killed after 60 s")):
            if "tbbmalloc" in by_name[name]:
                by_name[name]["tbbmalloc"] = {"runs": [], "failure": failure}
        made.append(case("program/nginx", "nginx with wrk", unit="s"))
        made[-1]["results"] = {one["name"]: {"runs": [], "failure": "nginx is not installed; --install gets it"}
                               for one in listed}
    if hostile:
        made.append(case(f"workload/{HOSTILE}", HOSTILE, unit=HOSTILE, family=HOSTILE))
        made[-1]["about"] = HOSTILE
        for allocator in listed:
            made[-1]["results"][allocator["name"]] = measure(generator, made[-1], allocator["name"], rounds, 50)
        made[-1]["results"][listed[-1]["name"]] = {"runs": [], "failure": HOSTILE}
    if missing:
        listed.append(dict(zip(("name", "library", "version", "own"), MISSING),
                           problem="libtcmalloc-minimal4 is not installed; --install gets it"))
    return {"version": 1, "tool": "arenal compare", "command": "tools/compare --quick", "started": "2026-03-01T12:00:00Z",
            "seconds": 151.2, "mode": "quick", "rounds": rounds, "interrupted": False, "other_load": 0.01,
            "machine": {"cpu": "Example CPU @ 2.60GHz", "cores": 2, "memory_bytes": 8 << 30, "kernel": "6.1.0",
                        "libc": "glibc 2.36", "compiler": "gcc 12.2", "transparent_hugepages": "madvise", "governor": None},
            "allocators": listed, "cases": made}


if __name__ == "__main__":
    json.dump(generate(), sys.stdout, indent=1)
