"""redis-server: data of every type goes in and comes out again, also through snapshots that a forked child writes while
the parent goes on, and under redis-benchmark."""

import random
import socket

from processes import wait_for
from support import DEADLINE, ProgramTest, main

KEYS = 4000


class Redis:
    """A client of the few words of the protocol that the test speaks."""

    def __init__(self, port):
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=DEADLINE)
        self.stream = self.socket.makefile("rb")

    def close(self):
        self.stream.close()
        self.socket.close()

    def send(self, *words):
        parts = [word if isinstance(word, bytes) else str(word).encode() for word in words]
        self.socket.sendall(b"*%d\r\n" % len(parts) + b"".join(b"$%d\r\n%s\r\n" % (len(p), p) for p in parts))

    def reply(self):
        line = self.stream.readline()
        kind, rest = line[:1], line[1:-2]
        if kind == b"+":
            return rest.decode()
        if kind == b":":
            return int(rest)
        if kind == b"$":
            size = int(rest)
            return None if size < 0 else self.stream.read(size + 2)[:-2]
        if kind == b"*":
            return [self.reply() for _ in range(int(rest))]
        raise AssertionError(f"redis says {line!r}")

    def __call__(self, *words):
        self.send(*words)
        return self.reply()

    def many(self, commands):
        for words in commands:
            self.send(*words)
        return [self.reply() for _ in commands]

    def info(self, name):
        for line in self("info").decode().splitlines():
            if line.startswith(name + ":"):
                return line.split(":", 1)[1]
        raise AssertionError(f"no {name} in INFO")


def value(number):
    return random.Random(number).randbytes(number * 37 % 5000)


def commands():
    """What fills the database: strings of all sizes, and every compound type, small and large."""
    for n in range(KEYS):
        yield "set", f"string:{n}", value(n)
        yield "hset", f"hash:{n % 50}", f"field{n}", value(n % 300)
        yield "rpush", f"list:{n % 40}", n, value(n % 100)
        yield "sadd", f"set:{n % 30}", n, f"member {n}"
        yield "zadd", f"zset:{n % 20}", n * 7 % 1000, f"entry {n}"
        if n % 5 == 0:
            yield "del", f"string:{n // 2}"
            yield "append", f"string:{n}", b"tail" * (n % 400)
        if n % 500 == 0:
            yield "eval", "local t = {} for i = 1, 5000 do t[i] = tostring(i) end return table.concat(t):len()", 0


class RedisServer(ProgramTest):
    package = "redis-server"
    needs = ("redis-server", "redis-benchmark")

    def work(self, run):
        digest = self.data_survives(run)
        self.under_load(run)
        self.background_threads(run)
        return digest

    def serve(self, run):
        def command(port):
            return ["redis-server", "--port", str(port), "--bind", "127.0.0.1", "--dir", run.folder, "--save", "",
                    "--appendonly", "no", "--enable-debug-command", "local", "--daemonize", "no"]
        server = run.server(command)
        client = Redis(server.port)
        self.addCleanup(client.close)
        wait_for(lambda: client.info("loading") == "0", "redis to load its snapshot")
        return server, client

    def fill(self, client):
        batch = []
        for words in commands():
            batch.append(words)
            if len(batch) == 100:
                client.many(batch)
                batch = []
        client.many(batch)

    def check(self, client):
        for n in range(KEYS - 1, KEYS // 2, -1):
            expected = value(n) + (b"tail" * (n % 400) if n % 5 == 0 else b"")
            self.assertEqual(client("get", f"string:{n}"), expected)
        self.assertEqual(client("hget", "hash:7", "field57"), value(57))
        self.assertEqual(client("lrange", "list:3", 0, 1), [b"3", value(3)])
        self.assertEqual(client("llen", "list:3"), KEYS // 40 * 2)
        self.assertEqual(client("scard", "set:4"), 2 * len(range(4, KEYS, 30)))
        self.assertEqual(client("zscore", "zset:1", "entry 21"), b"147")

    def save(self, client):
        """Lets a forked child write a snapshot, while the parent's data changes under it."""
        client("bgsave")
        changes = 0
        while client.info("rdb_bgsave_in_progress") == "1":
            client.many([("set", f"other:{changes % 1000}", value(changes))])
            changes += 1
        self.assertEqual(client.info("rdb_last_bgsave_status"), "ok")
        client.many([("del", f"other:{n}") for n in range(1000)])

    def data_survives(self, run):
        server, client = self.serve(run)
        self.fill(client)
        self.check(client)
        digest = client("debug", "digest")
        for _ in range(2):
            self.save(client)
            self.check(client)
        self.assertEqual(client("debug", "digest"), digest)
        client("save")
        self.assertEqual(client("debug", "reload"), "OK")
        self.assertEqual(client("debug", "digest"), digest)
        run.measure(server)
        run.stop(server)

        server, client = self.serve(run)
        self.assertEqual(client("debug", "digest"), digest, "the snapshot is read by a new server")
        self.assertEqual(client("flushall"), "OK")
        self.assertEqual(client("dbsize"), 0)
        run.stop(server)
        return digest

    def under_load(self, run):
        server, client = self.serve(run)
        memory = run.memory
        # The load itself runs in the same mode, with threads of its own.
        done = run.command("redis-benchmark", "-p", str(server.port), "-c", "40", "-n", "10000", "-r", "10000", "-d", "300",
                           "-P", "8", "--csv", "-t", "set,get,incr,lpush,rpush,lpop,sadd,hset,zadd,zpopmin,lrange_100,mset",
                           "--threads", "2")
        run.memory = memory
        self.assertGreaterEqual(len(done.out.splitlines()), 12, done.out)
        self.assertNotIn("rror", done.out + done.err)
        self.assertEqual(client.info("total_error_replies"), "0")
        self.assertEqual(client("get", "key:__rand_int__"), None)
        self.save(client)
        run.stop(server)

    def background_threads(self, run):
        """UNLINK and FLUSHALL ASYNC free in another thread what the main one allocated. And redis is told what all of it takes."""
        server, client = self.serve(run)
        for _ in range(2):
            self.fill(client)
            wait_for(lambda: self.memory(client)[1], "redis to be told what its data takes")    # it asks ten times a second
            client("unlink", *[f"hash:{n}" for n in range(50)], *[f"list:{n}" for n in range(40)])
            full = self.memory(client)[0]
            self.assertEqual(client("flushall", "async"), "OK")
        wait_for(lambda: client.info("lazyfree_pending_objects") == "0", "redis to free in the background")
        self.assertEqual(client("dbsize"), 0)
        self.memory_goes_back(client, full)
        run.stop(server)

    def memory(self, client):
        """What is resident, and whether what is allocated is about what redis counts itself. It asks its allocator by jemalloc's
        interface: that is who has its memory."""
        names = "used_memory", "allocator_allocated", "allocator_active", "allocator_resident"
        info = dict(line.split(":", 1) for line in client("info", "memory").decode().splitlines() if ":" in line)
        used, allocated, active, resident = (int(info[name]) for name in names)
        self.assertLessEqual(allocated, active)
        self.assertLessEqual(active, resident)
        return resident, used * 0.95 <= allocated <= used * 1.5 + (2 << 20)

    def memory_goes_back(self, client, full):
        self.assertIsInstance(client("memory", "doctor"), bytes)
        self.assertIn(b"\nAllocated: ", client("memory", "malloc-stats"))
        self.assertEqual(client("memory", "purge"), "OK")
        wait_for(lambda: self.memory(client)[1] and self.memory(client)[0] < full / 2, "redis to be told that memory went back")


if __name__ == "__main__":
    main()
