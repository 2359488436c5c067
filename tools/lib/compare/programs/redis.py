"""redis-server under redis-benchmark: requests one by one, then many at once and of mixed sizes, then deletes.

Debian links redis with libjemalloc. The allocator is preloaded all the same, glibc's libc.so.6 too.
"""

from compare.programs import Program, mode
from compare.programs.redis_server import Redis
from compare.programs.servers import request_metrics
from compare.results import Failed

KEYS = {"quick": 20000, "full": 40000}
PLAIN_REQUESTS = {"quick": 20000, "full": 40000}
IDLE_SECONDS = {"quick": 1, "full": 3}
KEEP_PERCENT = 10
DEPTH = 16
PLAIN_SIZE = 100
# Over the same random keys: each run replaces part of what the ones before have stored. (bytes, requests per key)
MIXED = [(2048, 1), (32, 1.5), (8192, 0.1), (512, 1), (128, 1)]


class RedisCase(Program):
    name = "program/redis"
    unit = "µs/request"
    packages = Redis.packages
    seconds = 2.5
    parts = {
        "plain": ("redis, one by one", "Sets of 100 B by 16 connections of redis-benchmark, no pipelining."),
        "pipelined": ("redis, pipelined", "In batches of 16: sets of 32 B to 8 KiB that replace each other, then gets."),
        "deleted": ("redis, after deletes", "90% of the keys, chosen at random, are deleted, and what stays then."),
    }

    def measure_parts(self, launcher, settings):
        keys = KEYS[mode(settings)]
        results = {}
        with Redis(launcher) as server:
            load = server.benchmark("set", PLAIN_REQUESTS[mode(settings)], keys, PLAIN_SIZE, depth=1)
            results["plain"] = dict(request_metrics(load.figures()), peak_rss=server.service.peak_rss())

            loads = [server.benchmark("set", int(keys * share), keys, size, DEPTH) for size, share in MIXED]
            loads.append(server.benchmark("get", keys, keys, 0, DEPTH))
            load = sum(loads[1:], loads[0])
            results["pipelined"] = dict(request_metrics(load.figures()), peak_rss=server.service.peak_rss())

            seconds, kept = server.delete(keys, KEEP_PERCENT, settings.seed)
            rest = server.idle(IDLE_SECONDS[mode(settings)])
            check_values(server.values(kept), server.count_keys())
            results["deleted"] = {"time": 1e6 * seconds / (keys - len(kept)), "rest_rss": rest}
        return results

    def describe(self, name):
        """The client that deletes is ours, and its time is left out."""
        return {**super().describe(name), **({"clock": "CPU"} if name.endswith("/deleted") else {})}


def check_values(values, count):
    """redis-benchmark stores the same bytes whenever it stores so many of them."""
    sizes = {PLAIN_SIZE} | {size for size, _ in MIXED}
    first = {}
    for value in values:
        if len(value) not in sizes or first.setdefault(len(value), value) != value:
            raise Failed(f"redis gave back a value of {len(value)} B that was never stored")
    if len(values) != count:
        raise Failed(f"redis gave back {len(values)} values, but says that it has {count}")


CASES = [RedisCase()]
