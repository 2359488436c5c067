"""The servers that tools/quickstart measures: how each is started, loaded, checked and stopped.

A server is started with an allocator preloaded, on a port of its own on 127.0.0.1. Only processes started here are ever
signalled.
"""

import glob
import json
import os
import random
import re
import select
import shutil
import signal
import socket
import subprocess
import time

KEYS = 220000
KEEP_PERCENT = 5
START_SECONDS = 10


class Failed(Exception):
    """Something that ends the run, or one row of the table; the text is shown as it is."""


class Server:
    """One running server process. Subclasses say how to start it and how to load it."""

    packages = []  # of Debian, beside what the build needs
    note = ""
    linked_malloc = "glibc"  # the allocator that is used when nothing is preloaded

    def __init__(self, allocator, bench_dir, scratch):
        self.allocator = allocator
        self.bench_dir = bench_dir
        self.scratch = scratch
        self.process = None
        self.port = None

    # What differs between the servers.

    def command(self):
        raise NotImplementedError

    def version_command(self):
        """Ends at once, without serving: shows the dynamic linker's choices."""
        raise NotImplementedError

    def find_port(self):
        """Waits until the server listens; sets self.port."""
        raise NotImplementedError

    def load(self, seconds, seed):
        """Runs the load; returns requests_per_second, p50_us, p99_us, p999_us and whatever else is worth keeping."""
        command = [os.path.join(self.bench_dir, "cache_load"), "--port", str(self.port), "--seconds", str(seconds),
                   "--seed", str(seed), "--keys", str(KEYS), "--keep", str(KEEP_PERCENT)]
        result = run(command, self)
        try:
            return json.loads(result)
        except ValueError:
            raise Failed(f"cache_load printed no result: {last_line(result)}") from None

    # What they share.

    def environment(self):
        environment = {name: value for name, value in os.environ.items() if not name.startswith("LD_")}
        environment["LC_ALL"] = "C"
        if self.allocator.preload:
            environment["LD_PRELOAD"] = self.allocator.preload
        return environment

    def start(self):
        self.log_path = os.path.join(self.scratch, "server.log")
        with open(self.log_path, "wb") as log:
            # A session of its own: the terminal's ctrl-C goes to us, and we stop the server.
            self.process = subprocess.Popen(self.command(), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                                            stderr=log, cwd=self.scratch, env=self.environment(),
                                            start_new_session=True)
        self.find_port()

    def wait_for(self, condition):
        """Polls until condition() returns something true, as long as the server lives."""
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline:
            self.check_alive()
            found = condition()
            if found:
                return found
            time.sleep(0.02)
        raise Failed(f"the server did not answer within {START_SECONDS} s")

    def check_alive(self):
        status = self.process.poll()
        if status is None:
            return
        with open(self.log_path, errors="replace") as log:
            reason = last_line(log.read())
        how = f"was killed by {signal_name(-status)}" if status < 0 else f"ended with status {status}"
        raise Failed(f"the server {how}" + (f": {reason}" if reason else ""))

    def memory(self, field):
        """VmRSS or VmHWM, in bytes."""
        self.check_alive()
        with open(f"/proc/{self.process.pid}/status") as status:
            for line in status:
                if line.startswith(field + ":"):
                    return int(line.split()[1]) * 1024
        raise Failed(f"/proc/PID/status has no {field}")

    def malloc_in_use(self):
        """The file that the server takes malloc from, as the dynamic linker says; the running server maps it."""
        trace = os.path.join(self.scratch, "bindings")
        environment = dict(self.environment(), LD_DEBUG="bindings", LD_BIND_NOW="1", LD_DEBUG_OUTPUT=trace)
        subprocess.run(self.version_command(), env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                       stderr=subprocess.DEVNULL, timeout=30)
        program = re.escape(self.version_command()[0])
        pattern = re.compile(rf"binding file {program} \[0\] to (.+) \[0\]: normal symbol `malloc'")
        library = None
        for path in glob.glob(glob.escape(trace) + ".*"):
            with open(path, errors="replace") as lines:
                for line in lines:
                    library = library or pattern.search(line)
            os.unlink(path)
        if not library:
            return None
        library = os.path.realpath(library.group(1))
        with open(f"/proc/{self.process.pid}/maps") as maps:
            if not any(line.rstrip("\n").endswith(library) for line in maps):
                raise Failed(f"{library} is not mapped into the server")
        return library

    def stop(self):
        if self.process is None:
            return
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(5)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        self.process.stdout.close()


class EmbeddedServer(Server):
    note = ("benchmarks/server/cache_server under cache_load: 70% gets, 25% sets, 5% deletes of values of 16 B to "
            "32 KiB.")

    def command(self):
        return [os.path.join(self.bench_dir, "cache_server"), "--memory", "192"]

    def version_command(self):
        return [self.command()[0], "--help"]

    def find_port(self):
        readable, _, _ = select.select([self.process.stdout], [], [], START_SECONDS)
        words = self.process.stdout.readline().split() if readable else []
        if len(words) != 2 or words[0] != b"port":
            time.sleep(0.1)  # a server that dies has closed its output a moment before it can be waited for
            self.check_alive()
            raise Failed("the server did not say which port it listens on")
        self.port = int(words[1])


class MemcachedServer(Server):
    packages = ["memcached"]
    note = ("Debian's memcached under cache_load. It keeps its items in slabs of its own that it never "
            "gives back:\nmalloc sees the slabs, the connections and little else.")

    def command(self):
        command = [find_program("memcached"), "-l", "127.0.0.1", "-p", "-1", "-U", "0", "-m", "192", "-t", "2"]
        return command + ["-u", "root"] if os.getuid() == 0 else command

    def version_command(self):
        return [self.command()[0], "--version"]

    def environment(self):
        self.port_path = os.path.join(self.scratch, "port")
        return dict(super().environment(), MEMCACHED_PORT_FILENAME=self.port_path)

    def find_port(self):
        def read_port():
            try:
                with open(self.port_path) as lines:
                    return re.search(r"TCP INET: (\d+)\n", lines.read())
            except FileNotFoundError:
                return None
        self.port = int(self.wait_for(read_port).group(1))


class RedisServer(Server):
    packages = ["redis-server", "redis-tools"]
    note = ("Debian's redis-server under redis-benchmark: sets of 400 B over keys that held 32 B to 8 KiB. Debian "
            "links it\nwith libjemalloc: the jemalloc row preloads nothing (redis runs it with its background thread), "
            "the glibc row\npreloads libc.so.6.")
    linked_malloc = "jemalloc"
    # Mixed sizes, over the same random keys: each run replaces part of what the ones before have stored.
    fill = [(2048, KEYS), (32, KEYS), (8192, KEYS // 20), (512, KEYS // 2), (128, KEYS // 2)]

    def command(self):
        return [find_program("redis-server"), "--bind", "127.0.0.1", "--port", str(self.port), "--save", "",
                "--appendonly", "no", "--daemonize", "no", "--dir", self.scratch, "--logfile", "redis.log"]

    def version_command(self):
        return [find_program("redis-server"), "--version"]

    def start(self):
        # redis cannot choose a port itself; somebody may take the free one first, hence the attempts.
        for attempt in range(5):
            self.port = free_port()
            try:
                super().start()
                return
            except Failed:
                self.stop()
                if attempt == 4:
                    raise

    def find_port(self):
        def is_ours():
            try:
                with socket.create_connection(("127.0.0.1", self.port), timeout=5) as connection:
                    connection.sendall(b"INFO server\r\nQUIT\r\n")
                    with connection.makefile("rb") as answer:
                        return f"process_id:{self.process.pid}\r\n".encode() in answer.read()
            except OSError:
                return False
        self.wait_for(is_ours)

    def load(self, seconds, seed):
        for size, count in self.fill:
            filled = self.benchmark(size, count)
        # redis-benchmark counts requests, not seconds.
        result = self.benchmark(400, max(10000, int(filled["requests_per_second"] * seconds)))
        self.delete_most(seed)
        return result

    def benchmark(self, size, count):
        text = run([find_program("redis-benchmark"), "-h", "127.0.0.1", "-p", str(self.port), "-t", "set",
                    "-d", str(size), "-n", str(count), "-r", str(KEYS), "-P", "8", "-c", "16"], self)
        rate = re.search(r"throughput summary: ([\d.]+) requests per second", text)
        percentiles = [(float(share), float(value) * 1000)
                       for share, value in re.findall(r"^([\d.]+)% <= ([\d.]+) milliseconds", text, re.MULTILINE)]
        if not rate or not percentiles:
            raise Failed(f"redis-benchmark printed no result: {last_line(text)}")

        def percentile(wanted):  # the first one listed that covers the share wanted: 99.902 for 99.9
            return next(value for share, value in percentiles if share >= wanted)
        return {"requests_per_second": float(rate.group(1)), "p50_us": percentile(50), "p99_us": percentile(99),
                "p999_us": percentile(99.9), "requests": count}

    def delete_most(self, seed):
        chosen = random.Random(seed)
        doomed = [f"key:{key:012d}" for key in range(KEYS) if chosen.random() * 100 >= KEEP_PERCENT]
        try:
            with socket.create_connection(("127.0.0.1", self.port), timeout=30) as connection:
                with connection.makefile("rb") as answers:
                    for start in range(0, len(doomed), 100):
                        connection.sendall(("DEL " + " ".join(doomed[start:start + 100]) + "\r\n").encode())
                        if not answers.readline().startswith(b":"):
                            raise Failed("redis refused to delete keys")
        except OSError as error:
            self.check_alive()
            raise Failed(f"deleting keys from redis: {error}") from None


SERVERS = {"embedded": EmbeddedServer, "redis": RedisServer, "memcached": MemcachedServer}


def run(command, server):
    """The output of a load generator; a dead server explains a failure better than the generator does."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("LD_")}
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                               text=True, errors="replace", env=dict(environment, LC_ALL="C"), start_new_session=True)
    try:
        output, errors = process.communicate()
    except BaseException:
        process.kill()
        process.wait()
        raise
    if process.returncode != 0:
        time.sleep(0.1)
        server.check_alive()
        reason = last_line(errors) or last_line(output)
        raise Failed(f"{os.path.basename(command[0])} ended with status {process.returncode}: {reason}")
    return output


def find_program(name):
    path = shutil.which(name, path=os.environ.get("PATH", "") + ":/usr/bin:/usr/sbin")
    if not path:
        raise Failed(f"{name} is not installed")
    return path


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def last_line(text):
    lines = text.strip().splitlines()
    return lines[-1] if lines else ""


def signal_name(number):
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
