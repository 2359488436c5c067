"""memcached under the project's own cache_load. It keeps its items in slabs of its own that it never gives back: malloc
sees the slabs, the connections and little else."""

from compare.programs import Program, mode, only_in_full
from compare.programs.servers import Memcached, request_metrics

KEYS = {"quick": 20000, "full": 60000}
REQUESTS = {"quick": 100000, "full": 300000}
IDLE_SECONDS = 0.5


class MemcachedCase(Program):
    name = "program/memcached"
    title = "memcached"
    about = "70% gets, 25% sets, 5% deletes of values of 16 B to 32 KiB, 8 at once on each of 16 connections."
    unit = "µs/request"
    threads = 2
    packages = Memcached.packages
    seconds = 3

    def measure_parts(self, launcher, settings):
        with Memcached(launcher) as server:
            load = server.load_cache("--keys", KEYS[mode(settings)], "--requests", REQUESTS[mode(settings)],
                                     "--seed", settings.seed, "--keep", 10)
            metrics = dict(request_metrics(load), peak_rss=server.service.peak_rss())
            metrics["rest_rss"] = server.idle(IDLE_SECONDS)
        return {"": metrics}


CASES = [MemcachedCase()]


def cases(settings):
    return only_in_full(CASES, settings)
