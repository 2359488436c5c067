"""Servers on the loopback interface: how each is started under an allocator, loaded, checked and stopped.

tools/compare and tools/quickstart share them; Redis has a file of its own. The programs that make the load
run without the allocator."""

import glob
import json
import os
import socket
import time

from compare import process_tree
from compare.process_life import last_line
from compare.programs import find_program
from compare.results import Failed

START_SECONDS = 10
ATTEMPTS = 5


class Server:
    """A server; a context manager that starts it and stops it. Subclasses say how."""

    packages = []  # of Debian, beside what the build needs
    takes_port = True  # False for one that chooses a free port itself, which is safer
    linked_malloc = None  # the allocator that the program is linked with, when that is not libc's
    load_timeout = 60  # seconds; a load generator that takes longer hangs

    def __init__(self, launcher):
        self.launcher = launcher
        self.scratch = launcher.scratch
        self.bench_dir = os.path.join(launcher.build_dir, "benchmarks", "server")
        self.service = None
        self.port = None

    def command(self):
        """The command; self.port is a port that was free a moment ago."""
        raise NotImplementedError

    def __enter__(self):
        self.start()
        return self

    def __exit__(self, *_):
        self.stop()

    def start(self):
        for attempt in range(ATTEMPTS):
            self.port = free_port()
            self.service = self.launcher.start(self.command(), cwd=self.scratch)
            try:
                self.port = self.service.wait_for(self.own_port, START_SECONDS)
                return
            except Failed:
                self.stop()
                # Somebody may have taken the port first; whatever else went wrong would go wrong again.
                if not self.takes_port or attempt == ATTEMPTS - 1 or is_free(self.port):
                    raise
            except BaseException:
                self.stop()
                raise

    def own_port(self):
        """The port that this very process listens on: another program's must not be measured in its place."""
        ports = listening_ports(self.service.pid)
        return next((port for port in ports if port == self.port or not self.takes_port), None)

    def stop(self):
        if self.service:
            self.service.stop()

    def load(self, command):
        """The output of a load generator. A dead server explains a failure better than the generator does,
        which may also try to connect for ever."""
        name = os.path.basename(command[0])
        timeout = min(self.load_timeout, self.launcher.timeout or self.load_timeout)
        deadline = time.monotonic() + timeout
        with self.launcher.start(command, preload=False) as generator:
            while generator.process.poll() is None:
                self.service.check_alive()
                if time.monotonic() > deadline:
                    raise Failed(f"{name} hung: killed after {timeout:g} s")
                time.sleep(0.02)
            output = generator.log()
        if generator.process.returncode != 0:
            time.sleep(0.1)  # a process has closed its connections a moment before it can be waited for
            self.service.check_alive()
            raise Failed(f"{name} ended with status {generator.process.returncode}: {last_line(output)}")
        return output

    def connect(self):
        try:
            return socket.create_connection(("127.0.0.1", self.port), timeout=30)
        except OSError as error:
            self.service.check_alive()
            raise Failed(f"connecting to the server: {error}") from None

    def idle(self, seconds):
        """Leaves it alone; returns what it has in memory then. One that dies meanwhile is found out."""
        time.sleep(seconds)
        return self.service.rss()


class CacheServer(Server):
    """benchmarks/server/cache_server: the project's own, multithreaded."""

    takes_port = False
    memory = 192  # MiB

    def command(self):
        return [os.path.join(self.bench_dir, "cache_server"), "--memory", str(self.memory)]

    def load_cache(self, *options):
        """Runs cache_load, which checks every answer; returns what it prints: requests_per_second, p50_us,
        ..."""
        output = self.load([os.path.join(self.bench_dir, "cache_load"), "--port", str(self.port), *map(str, options)])
        try:
            return json.loads(output)
        except ValueError:
            raise Failed(f"cache_load printed no result: {output.strip()[-200:]}") from None


class Memcached(CacheServer):
    packages = ["memcached"]

    def command(self):
        command = [find_program("memcached", "memcached"), "-l", "127.0.0.1", "-p", "-1", "-U", "0",
                   "-m", str(self.memory), "-t", "2"]
        return command + ["-u", "root"] if os.getuid() == 0 else command


def request_metrics(load):
    """The metrics of tools/compare for a load: its cost is the time of a request."""
    metrics = {"time": 1e6 / load["requests_per_second"], "requests_per_second": load["requests_per_second"],
               "p50_us": load["p50_us"], "p99_us": load["p99_us"]}
    if "p999_us" in load:
        metrics["p99.9_us"] = load["p999_us"]
    return metrics


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def is_free(port):
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # connections that wait for their end do not count
        try:
            probe.bind(("127.0.0.1", port))
            return True
        except OSError:
            return False


def listening_ports(pid):
    """The TCP ports on 127.0.0.1 that a process listens on."""
    sockets = set()
    try:
        for link in glob.glob(f"/proc/{pid}/fd/*"):
            try:
                sockets.add(os.readlink(link))
            except OSError:
                continue  # closed meanwhile
        with open(f"/proc/{pid}/net/tcp", encoding="ascii") as table:
            rows = [line.split() for line in table][1:]
    except OSError:
        return []
    listening = "0A"  # the kernel's TCP_LISTEN
    return [int(row[1].split(":")[1], 16) for row in rows
            if row[1].startswith("0100007F:") and row[3] == listening and f"socket:[{row[9]}]" in sockets]


def tree_memory(pid, name):
    """VmRSS or VmHWM of a server and its workers together, in bytes."""
    total = 0
    for process in process_tree.processes(pid):
        try:
            with open(f"/proc/{process}/status", encoding="ascii", errors="replace") as status:
                total += sum(int(line.split()[1]) * 1024 for line in status if line.startswith(name + ":"))
        except OSError:
            continue  # has just ended
    return total
