"""Redis under an allocator: its load by redis-benchmark, and the keys that are set, deleted and read by
hand."""

import itertools
import random
import re

from compare.programs import find_program
from compare.programs.servers import Server
from compare.results import Failed


class Redis(Server):
    packages = ["redis-server", "redis-tools"]
    linked_malloc = "jemalloc"

    def command(self):
        return [find_program("redis-server", "redis-server"), "--bind", "127.0.0.1", "--port", str(self.port),
                "--save", "", "--appendonly", "no", "--daemonize", "no", "--dir", "."]

    def benchmark(self, kind, count, keys, size, depth, connections=16):
        """Runs redis-benchmark; returns its Load. It ends with the first answer that is an error."""
        output = self.load([find_program("redis-benchmark", "redis-tools"), "-h", "127.0.0.1", "-p", str(self.port),
                            "-t", kind, "-d", str(size), "-n", str(count), "-r", str(keys), "-P", str(depth),
                            "-c", str(connections)])
        return Load.parse(output, count)

    def fill(self, values):
        """Sets keys that are called like redis-benchmark's to these values, a batch at a time; returns the
        server's seconds of processor time: what this client takes is not redis's."""
        count = 0
        start = self.service.cpu_seconds()
        try:
            with self.connect() as connection, connection.makefile("rb") as answers:
                while batch := list(itertools.islice(values, 200)):
                    connection.sendall(b"".join(
                        b"*3\r\n$3\r\nSET\r\n$16\r\nkey:%012d\r\n$%d\r\n%b\r\n" % (count + at, len(value), value)
                        for at, value in enumerate(batch)))
                    count += len(batch)
                    for _ in batch:
                        if (answer := answers.readline()) != b"+OK\r\n":
                            raise ValueError(answer.decode(errors="replace").strip())
        except (OSError, ValueError) as error:
            self.service.check_alive()
            raise Failed(f"filling redis: {error}") from None
        return self.service.cpu_seconds() - start

    def delete(self, keys, keep_percent, seed):
        """Deletes all keys of redis-benchmark's but a few random ones; returns the server's seconds of
        processor time, and the keys that were not chosen."""
        chosen = random.Random(seed)
        names = [f"key:{key:012d}" for key in range(keys)]
        kept = [name for name in names if chosen.random() * 100 < keep_percent]
        doomed = sorted(set(names) - set(kept))
        chosen.shuffle(doomed)
        batches = [(len(batch), "".join(f"DEL {name}\r\n" for name in batch).encode())
                   for batch in (doomed[start:start + 200] for start in range(0, len(doomed), 200))]
        before = self.count_keys()
        deleted = 0
        start = self.service.cpu_seconds()
        try:
            with self.connect() as connection, connection.makefile("rb") as answers:
                for length, batch in batches:
                    connection.sendall(batch)
                    for _ in range(length):
                        deleted += int(answers.readline().removeprefix(b":"))
        except (OSError, ValueError) as error:
            self.service.check_alive()
            raise Failed(f"deleting keys from redis: {error}") from None
        seconds = self.service.cpu_seconds() - start
        if self.count_keys() != before - deleted:
            raise Failed(f"redis had {before} keys, deleted {deleted} and has {self.count_keys()}")
        return seconds, kept

    def count_keys(self):
        with self.connect() as connection, connection.makefile("rb") as answers:
            connection.sendall(b"DBSIZE\r\n")
            return int(answers.readline().removeprefix(b":"))

    def values(self, names):
        """The values of the keys that are there."""
        found = []
        try:
            with self.connect() as connection, connection.makefile("rb") as answers:
                for start in range(0, len(names), 100):
                    batch = names[start:start + 100]
                    connection.sendall("".join(f"GET {name}\r\n" for name in batch).encode())
                    for _ in batch:
                        size = int(answers.readline().removeprefix(b"$"))
                        if size >= 0:
                            found.append(answers.read(size + 2)[:-2])
        except (OSError, ValueError) as error:
            self.service.check_alive()
            raise Failed(f"reading values from redis: {error}") from None
        return found


class Load:
    """What redis-benchmark measured, in one run or in several together."""

    def __init__(self, requests, seconds, steps):
        self.requests = requests
        self.seconds = seconds
        self.steps = steps  # [(µs, requests that took at most this, and more than the step before), ...]

    def __add__(self, other):
        return Load(self.requests + other.requests, self.seconds + other.seconds, self.steps + other.steps)

    @classmethod
    def parse(cls, text, requests):
        rate = re.search(r"throughput summary: ([\d.]+) requests per second", text)
        # Two tables, of shares and of even distances, are points of one curve.
        points = {(float(time) * 1000, int(count)) for time, count in
                  re.findall(r"^[\d.]+% <= ([\d.]+) milliseconds \(cumulative count (\d+)\)", text, re.MULTILINE)}
        if not rate or float(rate.group(1)) <= 0 or not points:
            raise Failed(f"redis-benchmark printed no result: {text.strip()[-200:]}")
        steps, before = [], 0
        for time_us, count in sorted(points):
            steps.append((time_us, count - before))
            before = count
        if before != requests:
            raise Failed(f"redis answered {before} of {requests} requests")
        return cls(requests, requests / float(rate.group(1)), steps)

    def percentile(self, share):
        seen = 0
        for time_us, count in sorted(self.steps):
            seen += count
            if seen >= share / 100 * self.requests:
                return time_us
        return max(self.steps)[0]

    def figures(self):
        """Called as in the output of cache_load."""
        return {"requests_per_second": self.requests / self.seconds, "p50_us": self.percentile(50),
                "p99_us": self.percentile(99), "p999_us": self.percentile(99.9), "requests": self.requests}
