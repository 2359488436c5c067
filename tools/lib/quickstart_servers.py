"""What tools/quickstart does with each server, and what its table says about it."""

from dataclasses import dataclass

from compare.programs.redis_server import Redis
from compare.programs.servers import CacheServer, Memcached

KEYS = 220000
KEEP_PERCENT = 5

# Mixed sizes, over the same random keys: each run replaces part of what the ones before have stored.
REDIS_FILL = [(2048, KEYS), (32, KEYS), (8192, KEYS // 20), (512, KEYS // 2), (128, KEYS // 2)]
REDIS_DEPTH = 8


def load_cache(server, seconds, seed):
    return server.load_cache("--seconds", seconds, "--seed", seed, "--keys", KEYS, "--keep", KEEP_PERCENT)


def load_redis(server, seconds, seed):
    for size, count in REDIS_FILL:
        filled = server.benchmark("set", count, KEYS, size, REDIS_DEPTH)
    # redis-benchmark counts requests, not seconds.
    count = max(10000, int(filled.requests / filled.seconds * seconds))
    result = server.benchmark("set", count, KEYS, 400, REDIS_DEPTH).figures()
    server.delete(KEYS, KEEP_PERCENT, seed)
    return result


@dataclass
class Choice:
    """`load(server, seconds, seed)` returns requests_per_second, p50_us, p99_us, p999_us and whatever else is worth
    keeping."""

    server: type
    load: callable
    note: str


SERVERS = {
    "embedded": Choice(CacheServer, load_cache,
                       "benchmarks/server/cache_server under cache_load: 70% gets, 25% sets, 5% deletes of values of "
                       "16 B to 32 KiB."),
    "memcached": Choice(Memcached, load_cache,
                        "Debian's memcached under cache_load. It keeps its items in slabs of its own that it never "
                        "gives back:\nmalloc sees the slabs, the connections and little else."),
    "redis": Choice(Redis, load_redis,
                    "Debian's redis-server under redis-benchmark: sets of 400 B over keys that held 32 B to 8 KiB. "
                    "Debian links it\nwith libjemalloc: the jemalloc row is what is used anyway (redis runs it with "
                    "its background thread), the glibc row\npreloads libc.so.6."),
}
