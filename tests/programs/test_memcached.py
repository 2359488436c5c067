"""memcached: its own slab memory comes in large blocks; connections, buffers and threads from malloc. Every value that
comes back is the one that was stored."""

import os
import random
import socket
import threading

from support import DEADLINE, ProgramTest, main

CLIENTS = 6
ROUNDS = 1500


class Memcached:
    def __init__(self, port):
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=DEADLINE)
        self.stream = self.socket.makefile("rb")

    def close(self):
        self.stream.close()
        self.socket.close()

    def line(self, request):
        self.socket.sendall(request)
        return self.stream.readline().rstrip(b"\r\n")

    def set(self, key, flags, value):
        return self.line(b"set %s %d 0 %d\r\n%s\r\n" % (key, flags, len(value), value))

    def get(self, *keys):
        """What is stored under the keys: a dictionary of key to (flags, value)."""
        self.socket.sendall(b"get " + b" ".join(keys) + b"\r\n")
        found = {}
        while True:
            words = self.stream.readline().split()
            if words == [b"END"]:
                return found
            assert words[0] == b"VALUE", words
            found[words[1]] = int(words[2]), self.stream.read(int(words[3]) + 2)[:-2]

    def stats(self):
        self.socket.sendall(b"stats\r\n")
        found = {}
        while True:
            words = self.stream.readline().split()
            if words == [b"END"]:
                return found
            found[words[1]] = words[2]


def value(seed):
    rng = random.Random(seed)
    return rng.randbytes(rng.choice((0, 1, 30, 100, 1000, 5000, 60000)))


class MemcachedServer(ProgramTest):
    package = "memcached"
    needs = ("memcached",)

    def work(self, run):
        self.stored_comes_back(run)
        self.full_cache(run)

    def serve(self, run, *options):
        user = ["-u", "root"] if os.getuid() == 0 else []
        server = run.server(lambda port: ["memcached", "-l", "127.0.0.1", "-p", str(port), "-U", "0", "-t", "4", *user, *options])
        return server, server.port

    def in_threads(self, work):
        errors = []
        def guarded(number):
            try:
                work(number)
            except BaseException as error:      # an assertion in a thread must fail the test too
                errors.append(error)
        threads = [threading.Thread(target=guarded, args=(number,)) for number in range(CLIENTS)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        if errors:
            raise errors[0]

    def stored_comes_back(self, run):
        server, port = self.serve(run, "-m", "1024")
        def work(number):
            client = Memcached(port)
            for n in range(ROUNDS):
                key = b"key-%d-%d" % (number, n % 400)
                self.assertEqual(client.set(key, n, value(n)), b"STORED")
                if n % 3 == 0:
                    self.assertEqual(client.get(key), {key: (n, value(n))})
                if n % 50 == 0:         # connections come and go
                    client.close()
                    client = Memcached(port)
            for n in range(ROUNDS - 400, ROUNDS):
                key = b"key-%d-%d" % (number, n % 400)
                self.assertEqual(client.get(key), {key: (n, value(n))})
            keys = [b"key-%d-%d" % (number, n) for n in range(100)]
            self.assertEqual(set(client.get(*keys)), set(keys))
            self.assertEqual(client.line(b"delete " + keys[0] + b"\r\n"), b"DELETED")
            self.assertEqual(client.get(keys[0]), {})
            client.close()
        self.in_threads(work)
        client = Memcached(port)
        stats = client.stats()
        self.assertEqual(int(stats[b"curr_items"]), CLIENTS * 399)
        self.assertEqual(int(stats[b"evictions"]), 0)
        self.assertEqual(client.line(b"flush_all\r\n"), b"OK")
        self.assertEqual(client.get(b"key-1-5"), {})
        client.close()
        run.measure(server)
        run.stop(server)

    def full_cache(self, run):
        server, port = self.serve(run, "-m", "32", "-I", "4m")
        def work(number):
            client = Memcached(port)
            for n in range(60):
                big = random.Random(n).randbytes(300_000 + n * 20_000)
                key = b"big-%d-%d" % (number, n)
                self.assertEqual(client.set(key, 1, big), b"STORED")
                for stored in client.get(key).values():     # it may have been evicted meanwhile
                    self.assertEqual(stored, (1, big))
            client.close()
        self.in_threads(work)
        client = Memcached(port)
        self.assertGreater(int(client.stats()[b"evictions"]), 0)
        client.close()
        run.stop(server)


if __name__ == "__main__":
    main()
