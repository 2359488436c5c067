"""redis-server filled with a million keys, nine of ten of which are then deleted at random: what stays resident.

Few pages become free as a whole: what an allocator returns depends on how it packs blocks of a size.
"""

import random

from compare.programs import Program, mode, only_in_full
from compare.programs.redis_server import Redis
from compare.results import Failed

KEYS = {"quick": 20_000, "full": 1_000_000}
IDLE_SECONDS = {"quick": 1, "full": 10}
KEEP_PERCENT = 10
SMALLEST, LARGEST = 100, 1000   # bytes of a value


class RedisMillionCase(Program):
    name = "program/redis/million"
    title = "redis, a million keys"
    about = "A million values of 100 B to 1,000 B are set, 90% of them, chosen at random, deleted; then 10 s of rest."
    unit = "µs/request"
    clock = "CPU"       # redis's own: the client, which is ours, takes a quarter of the time
    packages = Redis.packages
    seconds = 25
    long = True

    def measure_parts(self, launcher, settings):
        keys = KEYS[mode(settings)]
        with Redis(launcher) as server:
            filling = server.fill(values(keys, settings.seed))
            peak = server.service.peak_rss()
            deleting, kept = server.delete(keys, KEEP_PERCENT, settings.seed)
            rest = server.idle(IDLE_SECONDS[mode(settings)])
            check_values(server.values(kept), kept, keys, settings.seed)
        requests = 2 * keys - len(kept)
        return {"": {"time": 1e6 * (filling + deleting) / requests, "peak_rss": peak, "rest_rss": rest}}


def values(keys, seed):
    """That of key 0, of key 1, ...: the key's number over and over, as long as chance wants."""
    chosen = random.Random(seed)
    for key in range(keys):
        size = chosen.randint(SMALLEST, LARGEST)
        yield (b"%012d" % key * (size // 12 + 1))[:size]


def check_values(found, kept, keys, seed):
    """That the keys that were kept have their values."""
    if len(found) != len(kept):
        raise Failed(f"redis gave back {len(found)} values of the {len(kept)} that were not deleted")
    given = dict(zip(kept, found))
    for key, value in enumerate(values(keys, seed)):
        name = f"key:{key:012d}"
        if given.get(name, value) != value:
            raise Failed(f"redis gave back another value of {name} than it was given")


CASES = [RedisMillionCase()]


def cases(settings):
    return only_in_full(CASES, settings)
