"""Programs under a cap: what fits works as it does without; what does not is refused, and the program says so, or goes on."""

import re
import subprocess

from processes import installed, program, wait_for
from support import ProgramTest, main

MIB = 1 << 20
CAP = {"ARENAL_CAP": "96M"}
BESIDE = 48                     # MiB of a program that are not Arenal's: code, stacks, what it maps itself

PYTHON = r"""
import threading
def tried(size):
    try:
        return len(bytearray(size)) == size
    except MemoryError:
        return False
large = tried(300 << 20)
blocks, count = [], 0
try:
    while len(blocks) < 250:
        blocks.append(bytes(1 << 20))
except MemoryError:
    count = len(blocks)
del blocks[-5:]                 # up to 1 MiB was left, and at times so little that no thread could be made of it
found = []
thread = threading.Thread(target=lambda: found.append(tried(250 << 20)))
thread.start(); thread.join()
del blocks
print(large, count, found[0], tried(30 << 20), sum(len(str(n)) for n in range(100000)))
"""

NODE = r"""
const tried = (size) => { try { return Buffer.alloc(size).length === size } catch (error) { return error.constructor.name } };
console.log(tried(300 << 20), tried(1 << 20));
"""

SQLITE_FITS = "select sum(length(hex(randomblob(1000)))) from generate_series(1, 5000); select length(hex(zeroblob(4000000)));"
SQLITE_DOES_NOT = "select length(hex(zeroblob(150000000)));\nselect 2 + 2;\n"


def resident_mib(pid):
    with open(f"/proc/{pid}/status", encoding="utf-8") as file:
        return int(re.search(r"^VmHWM:\s+(\d+) kB", file.read(), re.M).group(1)) / 1024


class Cap(ProgramTest):
    package = "redis-server"
    modes = ("control", "plain", "hardened")
    needs = ("redis-server", "redis-benchmark", "sqlite3", "/usr/bin/python3")

    def work(self, run):
        told = [self.redis_fits(run), self.sqlite(run), self.python(run)]
        self.redis_does_not(run)
        if installed("node"):
            self.node(run)
        return told

    def serve(self, run, *options):
        return run.server(lambda port: ["redis-server", "--port", str(port), "--bind", "127.0.0.1", "--dir", run.folder,
                                        "--save", "", "--appendonly", "no", *options], env=CAP)

    @staticmethod
    def bench(run, server, requests, seconds=100):
        return subprocess.run([program("redis-benchmark"), "-p", str(server.port), "-n", str(requests), "-r", "1000000", "-d", "3000",
                               "-P", "16", "-q", "-t", "set"], env=run.environment(), stdout=subprocess.PIPE,
                              stderr=subprocess.STDOUT, timeout=seconds, check=False)

    def redis_fits(self, run):
        server = self.serve(run, "--maxmemory", "30mb", "--maxmemory-policy", "allkeys-random")
        done = self.bench(run, server, 20000)
        self.assertEqual(done.returncode, 0, done.stdout)
        self.assertIsNone(server.poll())
        if run.on_arenal:
            self.assertLess(resident_mib(server.pid), 96 + BESIDE)
        run.stop(server)
        return "redis goes on"

    def redis_does_not(self, run):
        """180 MB of values: redis ends itself when it gets no memory; without a cap, it has all of them."""
        server = self.serve(run)
        if run.on_arenal:
            self.bench(run, server, 60000)
            wait_for(lambda: server.poll() is not None, "redis to end for want of memory")
            run.servers.remove(server)
            log = "".join(text for _, text in run.logs())
            self.assertIn("Out Of Memory allocating", log)
            for name, text in run.logs():               # what it says then is no crash for `end`
                if "Out Of Memory" in text:
                    run.write(name, "")
        else:
            self.assertEqual(self.bench(run, server, 60000).returncode, 0)
            self.assertGreater(resident_mib(server.pid), 96 + BESIDE)
            run.stop(server)

    def sqlite(self, run):
        fits = run.command("sqlite3", ":memory:", SQLITE_FITS, env=CAP).out
        done = run.command("sqlite3", ":memory:", text=SQLITE_DOES_NOT, env=CAP, status=None)
        if run.on_arenal:
            self.assertIn("out of memory", done.err)
            self.assertEqual(done.out, "4\n")           # the next statement is run
        else:
            self.assertEqual(done.out, "300000000\n4\n")
        return fits

    def python(self, run):
        """Small objects are in arenas that Python maps itself: with malloc, each is Arenal's."""
        answers = []
        for kind in "pymalloc", "malloc":
            large, count, thread, small, last = run.command(
                "/usr/bin/python3", "-B", "-c", PYTHON, env={**CAP, "PYTHONMALLOC": kind}).out.split()
            if run.on_arenal:
                self.assertEqual((large, thread), ("False", "False"))
                self.assertTrue(40 <= int(count) <= 96, count)
            else:
                self.assertEqual((large, count, thread), ("True", "0", "True"))
            answers.append((small, last))
        return answers

    def node(self, run):
        out = run.command("node", "-e", NODE, env=CAP).out
        self.assertEqual(out, "RangeError true\n" if run.on_arenal else "true true\n")


if __name__ == "__main__":
    main()
