"""Real servers behind one `arenal serve`, as an operator has them: started without a window, and looked at by curl, Debian's prometheus and
`go tool pprof`."""

import glob
import os
import re
import shutil
import socket
import subprocess
import threading
import unittest

from serve_support import ServeTest, free_port
from support import DEADLINE, LIBRARY, MIB, WORKLOAD, as_nobody, environment

POSTGRES = next(iter(sorted(glob.glob("/usr/lib/postgresql/*/bin/initdb"))), None)      # Debian: postgresql
THREADS = 64


class Servers(ServeTest):
    def server(self, *command, prefix=()):
        """On Arenal as a service is: preloaded, nothing else."""
        errors = open(os.path.join(self.folder, f"log.{len(os.listdir(self.folder))}"), "w", encoding="utf-8")    # pylint: disable=consider-using-with
        self.addCleanup(errors.close)
        # A prefix becomes another user, and executes the server.
        process = subprocess.Popen([*prefix, "env", f"LD_PRELOAD={LIBRARY}", *command], stdin=subprocess.DEVNULL, stdout=errors, stderr=errors,
                                   env=environment(), cwd="/")
        self.addCleanup(self.end, process)
        return process

    def end(self, process):
        """PostgreSQL's processes end with the first one, if that may say so to them."""
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            pass
        self.stop(process)

    def await_port(self, process, port, ask, answer):
        def answers():
            self.assertIsNone(process.poll(), "it has ended")
            try:
                with socket.create_connection(("127.0.0.1", port), DEADLINE) as peer:
                    peer.sendall(ask)
                    return peer.recv(100).startswith(answer)
            except OSError:
                return False
        self.await_(answers, "it does not answer")

    def redis(self):
        port = free_port()
        process = self.server("redis-server", "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--dir", self.folder)
        self.await_port(process, port, b"PING\r\n", b"+PONG")
        return process, port

    def memcached(self):
        port = free_port()
        process = self.server("memcached", "-u", "root", "-l", "127.0.0.1", "-p", str(port))
        self.await_port(process, port, b"version\r\n", b"VERSION")
        return process

    def postgres(self):
        """PostgreSQL refuses root."""
        data, user, port = os.path.join(self.folder, "data"), as_nobody(), free_port()
        os.chmod(self.folder, 0o1777)
        subprocess.run([*user, POSTGRES, "-D", data, "--no-sync", "-A", "trust", "-U", "tester", "--no-locale"], cwd="/", env=environment(),
                       stdout=subprocess.DEVNULL, timeout=DEADLINE, check=True)
        folder = os.path.dirname(POSTGRES)
        process = self.server(f"{folder}/postgres", "-D", data, "-p", str(port), "-h", "127.0.0.1", "-k", data, "-c", "fsync=off",
                              "-c", "dynamic_shared_memory_type=mmap", "-c", "shared_buffers=16MB", prefix=user)
        self.await_(lambda: subprocess.run([f"{folder}/pg_isready", "-q", "-h", "127.0.0.1", "-p", str(port)], check=False).returncode == 0,
                    "postgres is not ready")
        return process

    def test_behind_one_endpoint(self):
        """All at once, from the window that none of them has to what everybody reads."""
        redis, port = self.redis()
        expected = {redis.pid: "redis-server", self.memcached().pid: "memcached"}
        expected[self.on_arenal(WORKLOAD, "4", str(THREADS), "1", "2").pid] = "tools_workload"
        if POSTGRES:
            expected[self.postgres().pid] = "postgres"
        else:
            print("skipped: a part of it: there is no PostgreSQL (Debian: postgresql)")
        for pid, name in expected.items():
            if name != "tools_workload":
                done = self.arenal("ctl", str(pid), "open")
                self.assertEqual(done.returncode, 0, (name, done))
        _, address = self.serve()
        self.await_(lambda: set(expected) <= self.pids(address), "some are not told of")

        for accept, last in (("application/openmetrics-text", "# EOF"), ("text/plain", "")):
            done = subprocess.run(["curl", "-fsS", "-m", "20", "-H", f"Accept: {accept}", f"{address}metrics"], stdout=subprocess.PIPE, text=True,
                                  check=True)
            found = dict(re.findall(r'^arenal_allocated_bytes\{pid="(\d+)",command="([^"]+)"', done.stdout, re.M))
            self.assertEqual({pid: found.get(str(pid)) for pid in expected}, expected)
            self.assertEqual(done.stdout.splitlines()[-1] == "# EOF", bool(last))
        threads, = [value for labels, value in self.samples(address, "arenal_threads") if expected.get(int(labels["pid"])) == "tools_workload"]
        self.assertGreaterEqual(threads, THREADS)

        ask = self.prometheus(address)

        def told():
            rows = (ask("query?query=arenal_allocated_bytes") or {"result": ()})["result"]
            rows = {int(row["metric"]["pid"]): (row["metric"]["command"], int(row["value"][1])) for row in rows}
            return set(expected) <= set(rows) and rows
        rows = self.await_(told, "prometheus has not all of them")
        self.assertEqual({pid: rows[pid][0] for pid in expected}, expected)
        self.assertTrue(all(0 < rows[pid][1] < 1000 * MIB for pid in expected), rows)
        self.profile_of_redis(address, redis.pid, port)

    def profile_of_redis(self, address, pid, port):
        if not shutil.which("go"):
            self.skipTest("there is no go tool pprof (Debian: golang-go)")
        stop = threading.Event()

        def write():
            with socket.create_connection(("127.0.0.1", port), DEADLINE) as peer:
                number = 0
                while not stop.is_set():
                    number += 1
                    peer.sendall(f"SET key:{number} {'x' * 20000}\r\n".encode())
                    peer.recv(100)
        writer = threading.Thread(target=write)
        writer.start()
        try:
            done = subprocess.run(["go", "tool", "pprof", "-top", "-sample_index=alloc_space", f"{address}debug/pprof/allocs?pid={pid}&seconds=1"],
                                  stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, timeout=DEADLINE, check=False,
                                  env=environment(HOME=self.folder, PPROF_TMPDIR=self.folder))
        finally:
            stop.set()
            writer.join()
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertRegex(done.stdout, r"(?s)Type: alloc_space.*(MB|kB).*zmalloc|sds", done.stdout)


if __name__ == "__main__":
    unittest.main()
