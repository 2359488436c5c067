"""Tests of `arenal serve`: whom it answers, and what else it answers: profiles, a page, Prometheus."""

import concurrent.futures
import contextlib
import gzip
import http.client
import json
import os
import re
import shutil
import signal
import socket
import stat
import subprocess
import sys
import threading
import time
import unittest
from unittest import mock

from profile_support import PROFILED
from serve_support import SOON, WORDS, ServeTest
from support import DEADLINE, MIB, TOOL, WORKLOAD, environment

from arenal import convert_profile, facts, fleet, found, listen, origin, pprof_message, remote_profile, serve
from arenal.errors import Failure
from arenal.profile import dump, pprof, stacks
from arenal.window import Window

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "compare"))
from browser import Browser             # pylint: disable=wrong-import-position

PHONE, DESKTOP = (390, 844), (1280, 900)


class Peers(ServeTest):
    def test_slow_and_dead_ones_block_nobody(self):
        _, address = self.serve()
        place = address.rstrip("/").rpartition("/")[2].split(":")
        with contextlib.ExitStack() as open_ones:
            def connected(words):
                peer = open_ones.enter_context(socket.create_connection((place[0], int(place[1])), DEADLINE))
                peer.sendall(words)
                return peer
            slow = [connected(b"GET") for _ in range(serve.PEERS + 50)]
            # They ask, and never take the answer.
            dead = [connected(b"GET /metrics?details=1 HTTP/1.0\r\n\r\n") for _ in range(20)]
            started = time.monotonic()
            self.assertEqual(self.ask(address, "healthz")[::2], (200, "ok\n"))
            self.assertEqual(self.ask(address)[0], 200)
            self.assertLess(time.monotonic() - started, SOON)
            # A new one took the place of the oldest; those that say no more are left in the end.
            self.assertEqual(slow[0].recv(1), b"")
            self.assertEqual(slow[-1].recv(1), b"")
            self.assertTrue(dead[-1].recv(100).startswith(b"HTTP/1.0 200"))

    def test_who_says_more_gets_all_of_his_answer(self):
        """A client that sends its next request before it has read, or a body that nobody wants."""
        listener, whole, ended = listen.on("127.0.0.1:0", False), 8 * MIB, threading.Event()
        self.addCleanup(listener.close)
        server = serve.Server([listener], lambda _: serve.Response(b"x" * whole), lambda request: request.path == "/slow")
        running = threading.Thread(target=server.run, args=(lambda: not ended.is_set(),))
        running.start()
        self.addCleanup(running.join)
        self.addCleanup(ended.set)
        for path in ("", "slow"):
            for more in (b"GET / HTTP/1.1\r\n\r\n", b"y" * 20000):
                with self.subTest(path=path, more=more[:3]), socket.create_connection(listener.socket.getsockname()[:2], DEADLINE) as peer:
                    peer.sendall(f"GET /{path} HTTP/1.1\r\n\r\n".encode())
                    self.assertEqual(peer.recv(1), b"H")            # it is being written, and waits for us
                    peer.sendall(more)
                    self.assertEqual(len(peer.makefile("rb").read().partition(b"\r\n\r\n")[2]), whole)

    def test_what_is_no_request(self):
        tool, address = self.serve()
        place = address.rstrip("/").rpartition("/")[2].split(":")

        def says(words):
            with socket.create_connection((place[0], int(place[1])), DEADLINE) as peer:
                peer.sendall(words)
                peer.shutdown(socket.SHUT_WR)
                return peer.makefile("rb").read().decode()
        for words, answer in ((b"GET /nothing HTTP/1.1\r\n\r\n", "404"), (b"POST /metrics HTTP/1.1\r\n\r\n", "405"), (b"\r\n\r\n", "400"),
                              (b"\xff\xfe\0\r\n\r\n", "400"), (b"GET /healthz HTTP/1.0\n\n", "200"), (b"GET metrics HTTP/1.0\r\n\r\n", "400"),
                              (b"GET /" + b"x" * 20000, "400"), (b"GET /?" + b"&a=1" * 100 + b" HTTP/1.0\r\n\r\n", "400"),
                              (b"GET /debug/pprof/heap?pid=0 HTTP/1.0\r\n\r\n", "404"),
                              (b"GET /debug/pprof/heap?pid=1&seconds=-1 HTTP/1.0\r\n\r\n", "40")):
            self.assertRegex(says(words), f"^HTTP/1.0 {answer}", words)
        head = says(b"HEAD /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
        self.assertRegex(head, r"(?s)^HTTP/1.0 200 OK\r\n.*Content-Length: 3\r\n.*\r\n\r\n$")
        self.assertIsNone(tool.poll())

    def test_pages_of_others_in_a_browser_learn_nothing(self):
        _, address = self.serve()
        self.assertEqual(self.ask(address, Host="evil.example:9257")[0], 403)
        for host in ("localhost:1", "127.0.0.1", "[::1]:9257", socket.gethostname()):
            self.assertEqual(self.ask(address, "healthz", Host=host)[0], 200, host)
        status, _, text = self.ask(address, "debug/pprof/heap?pid=1&seconds=1", Sec_Fetch_Site="cross-site")
        self.assertEqual((status, text), (403, "a page of somebody else asks for a profile\n"))

    def test_where_it_listens(self):
        self.assert_sentence(self.arenal("serve", "--listen", "0.0.0.0:0"), "--remote allows it")
        for place, words in (("[::]:0", "--remote allows it"), ("1.2.3.4:0", "loopback"), ("127.0.0.1", "neither"), ("localhost:x", "neither"),
                             ("example.com:80", "neither"), ("127.0.0.1:99999", "neither")):
            self.assertRaisesRegex(Failure, words, listen.on, place, False)
        _, address = self.serve("--listen", "0.0.0.0:0", "--remote")
        self.assertEqual(self.ask(address.replace("0.0.0.0", "127.0.0.1"), "healthz")[0], 200)
        path = os.path.join(self.folder, "socket")
        tool, told = self.serve("--listen", path)
        self.assertEqual((told[-6:], stat.S_IMODE(os.stat(path).st_mode)), ("socket", 0o600))
        with socket.socket(socket.AF_UNIX) as peer:
            peer.connect(path)
            peer.sendall(b"GET /healthz HTTP/1.0\r\nHost: x\r\n\r\n")
            self.assertTrue(peer.makefile("rb").read().endswith(b"\r\n\r\nok\n"))
        tool.send_signal(signal.SIGTERM)
        self.assertEqual(tool.wait(DEADLINE), 143)
        self.assertFalse(os.path.exists(path))

    def test_sockets_of_systemd(self):
        def given(family, where, *words):
            with socket.socket(family) as listener:
                listener.bind(where)
                listener.listen()
                command = f'exec env LISTEN_PID=$$ LISTEN_FDS=1 "$@" 3<&{listener.fileno()}'
                tool = subprocess.Popen(["bash", "-c", command, "bash", sys.executable, "-B", TOOL, "serve", *words], stderr=subprocess.PIPE,
                                        text=True, env=environment(), pass_fds=[listener.fileno()])
                self.addCleanup(self.stop, tool)
                return tool, tool.stderr.readline(), listener.getsockname()
        tool, line, place = given(socket.AF_INET, ("127.0.0.1", 0))
        self.assertEqual(line, f"arenal: listening on http://127.0.0.1:{place[1]}/\n")
        self.assertEqual(self.ask(f"http://127.0.0.1:{place[1]}/", "healthz")[0], 200)
        path = os.path.join(self.folder, "socket")
        tool, line, _ = given(socket.AF_UNIX, path)
        self.assertIn("listening", line)
        tool.terminate()
        tool.wait(DEADLINE)
        self.assertTrue(os.path.exists(path), "it is systemd's")
        tool, line, _ = given(socket.AF_INET, ("0.0.0.0", 0))
        self.assertIn("--remote allows it", line)


class Profiles(ServeTest):
    def setUp(self):
        super().setUp()
        # It allocates in a function with a name, again and again.
        program = "import sys, threading, time\nprint('ready', flush=True)\nkeep = []\n" \
                  "while True:\n    keep.append(bytearray(200_000)); keep = keep[-50:]; time.sleep(0.001)\n"
        self.process = self.on_arenal("/usr/bin/python3", "-c", program)
        self.tool, self.address = self.serve()

    def sampling(self):
        time.sleep(fleet.FRESH)
        return next(value for labels, value in self.samples(self.address, "arenal_sampling_bytes") if labels["pid"] == str(self.process.pid))

    def fetch(self, path):
        """The comments and the types of a profile, and its bytes of each."""
        request = f"{self.address}debug/pprof/{path}"
        if not shutil.which("go"):
            self.skipTest("there is no go tool pprof (Debian: golang-go)")
        env = environment(HOME=self.folder, PPROF_TMPDIR=self.folder)
        done = subprocess.run(["go", "tool", "pprof", "-raw", request], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=env,
                              timeout=DEADLINE, check=False)
        self.assertEqual(done.returncode, 0, done.stderr)
        return done.stdout

    def test_a_profile_for_some_seconds(self):
        pid = self.process.pid
        status, _, text = self.ask(self.address, f"debug/pprof/heap?pid={pid}")
        self.assertEqual(status, 409)
        self.assertIn("seconds=30", text)
        self.assertEqual(self.sampling(), 0)
        raw = self.fetch(f"allocs?pid={pid}&seconds=1")
        self.assertRegex(raw, r"what was allocated in 1\.\d s: the profile was off, was started for this, and stopped")
        self.assertIn("alloc_space/bytes[dflt]", raw)
        self.assertEqual(self.sampling(), 0, "it stays on")
        taken = sum(int(line.split()[1]) for line in re.findall(r"(?m)^ *\d+ +\d+ +-?\d+ +-?\d+:", raw))
        self.assertGreater(taken, 20 * MIB)
        # Who may read it may not know where things are in the process, unless they are at a fixed place.
        with open(f"/proc/{pid}/maps", encoding="utf-8") as file:
            there = [range(int(low, 16), int(high, 16)) for low, high in re.findall(r"(?m)^([0-9a-f]+)-([0-9a-f]+) ", file.read())]
        told = [int(word, 16) for word in re.findall("0x([0-9a-f]+)", raw.partition("Locations")[2])]
        self.assertGreater(len(told), 5)
        self.assertEqual([hex(word) for word in told if word >= 1 << 32 and any(word in where for where in there)], [])
        # It is on, and stays on: what came meanwhile is the difference of two dumps.
        self.assertEqual(self.arenal("ctl", str(pid), "profile", "start").returncode, 0)
        raw = self.fetch(f"heap?pid={pid}&seconds=1")
        self.assertIn(": the profile was on", raw)
        self.assertIn("inuse_space/bytes[dflt]", raw)
        self.assertGreater(self.sampling(), 0)
        self.assertIn("inuse_space", self.fetch(f"heap?pid={pid}"))

    def test_who_ends_stops_what_he_started(self):
        peer = http.client.HTTPConnection(self.address.split("/")[2], timeout=DEADLINE)
        peer.request("GET", f"/debug/pprof/heap?pid={self.process.pid}&seconds=600")
        self.await_(lambda: self.sampling() > 0, "no profile is on")
        self.assertEqual(self.ask(self.address, "healthz")[0], 200, "others wait for it")
        self.tool.terminate()
        self.assertEqual(self.tool.wait(DEADLINE), 143)
        peer.close()
        found_now = json.loads(self.arenal("stats", str(self.process.pid), "--json").stdout)
        self.assertEqual(found_now["stats"]["sampling"], 0)

    def test_nobody_works_for_who_has_left(self):
        peer = http.client.HTTPConnection(self.address.split("/")[2], timeout=DEADLINE)
        peer.request("GET", f"/debug/pprof/heap?pid={self.process.pid}&seconds=600")
        self.await_(lambda: self.sampling() > 0, "no profile is on")
        peer.close()
        self.await_(lambda: self.sampling() == 0, "it goes on for nobody")
        peer.request("GET", f"/debug/pprof/heap?pid={self.process.pid}")
        self.assertEqual(peer.getresponse().status, 200)
        peer.close()

    def test_who_only_stops_sending_gets_his_answer(self):
        """As `nc -N` does: by TCP and in a Unix socket, also where the kernel does not tell who has left, and before the request is whole."""
        path = os.path.join(self.folder, "socket")
        self.serve("--listen", path)
        program = f"import argparse, sys\nsys.path.insert(0, {os.path.join(os.path.dirname(TOOL), 'lib')!r})\n" \
                  "from arenal import origin\nfrom arenal.commands import serve\norigin._asked = lambda *_: b''\n" \
                  f"serve.main(argparse.Namespace(listen=['127.0.0.1:0'], remote=False, profiles=True, tool={TOOL!r}), [])\n"
        blind = subprocess.Popen([sys.executable, "-B", "-c", program], stderr=subprocess.PIPE, text=True, env=environment())
        self.addCleanup(self.stop, blind)

        def place(address):
            host, port = address.split("/")[2].split(":")
            return socket.AF_INET, (host, int(port))
        here, there, by_path = place(self.address), place(blind.stderr.readline().split()[-1]), (socket.AF_UNIX, path)

        def asks(family, where, words, leaves=False):
            with socket.socket(family) as peer:
                peer.settimeout(DEADLINE)
                peer.connect(where)
                peer.sendall(f"GET /debug/pprof/allocs?pid={self.process.pid}&seconds={600 if leaves else 0.5} {words}".encode())
                if leaves:
                    self.await_(lambda: self.sampling() > 0, "no profile is on")
                    return b""
                peer.shutdown(socket.SHUT_WR)
                return peer.makefile("rb").read()
        cases = ((here, "HTTP/1.1\r\n\r\n", b"HTTP/1.0 200"), (here, "HTTP/1.0\r\n", b"HTTP/1.0 200"),
                 (by_path, "HTTP/1.0\r\n\r\n", b"HTTP/1.0 200"), (there, "HTTP/1.0\r\n\r\n", b"HTTP/1.0 200"),
                 (there, "HTTP/1.1\r\n\r\n", serve.GO_ON + b"HTTP/1.0 200"))
        with concurrent.futures.ThreadPoolExecutor(len(cases)) as threads:
            answers = list(threads.map(lambda case: asks(*case[0], case[1]), cases))
        for (where, words, answer), said in zip(cases, answers):
            with self.subTest(where=where, words=words):
                self.assertTrue(said.startswith(answer), said[:200])
                self.assertIn(b"\x1f\x8b", said)
        for where in (here, there):
            with self.subTest(leaves=where):
                asks(*where, "HTTP/1.1\r\n\r\n", leaves=True)
                self.await_(lambda: self.sampling() == 0, "it goes on for nobody")

    def test_names_are_nobodys_worry_either(self):
        """What names functions goes when whoever asked has left, or serve ends; and comes after others."""
        begun = os.path.join(self.folder, "begun")
        wrapper = os.path.join(self.folder, "python3")
        with open(wrapper, "w", encoding="utf-8") as file:
            file.write(f"#!{sys.executable}\nimport os, sys, time\nsys.path.insert(0, {os.path.join(os.path.dirname(TOOL), 'lib')!r})\n"
                       # Not later, when it has stepped back: on a busy machine, that takes half a minute.
                       "import runpy, arenal.convert_profile, arenal.pprof_message, arenal.profile.dump, arenal.profile.pprof, arenal.profile.stacks\n"
                       f"def parse(*_):\n    open({begun!r} + str(os.getpid()), 'w').write(open('/proc/self/oom_score_adj').read() + ' ' + str(os.nice(0)))\n"
                       "    time.sleep(600)\narenal.profile.dump.parse = parse\nsys.argv = ['x', *sys.argv[4:]]\n"
                       "del sys.modules['arenal.convert_profile']\nrunpy.run_module('arenal.convert_profile', run_name='__main__')\n")
        os.chmod(wrapper, 0o755)
        program = f"import sys\nsys.path.insert(0, {os.path.join(os.path.dirname(TOOL), 'lib')!r})\n" \
                  f"from arenal import remote_profile\nremote_profile.sys = type('', (), {{'executable': {wrapper!r}}})\n" \
                  f"from arenal.commands import serve\nimport argparse\n" \
                  f"serve.main(argparse.Namespace(listen=['127.0.0.1:0'], remote=False, profiles=True, tool={TOOL!r}), [])\n"
        tool = subprocess.Popen([sys.executable, "-B", "-c", program], stderr=subprocess.PIPE, text=True, env=environment())
        self.addCleanup(self.stop, tool)
        place = tool.stderr.readline().split()[-1].split("/")[2]

        def asks(known):
            peer = http.client.HTTPConnection(place, timeout=DEADLINE)
            peer.request("GET", f"/debug/pprof/heap?pid={self.process.pid}&seconds=0.1")
            made = self.await_(lambda: [name for name in os.listdir(self.folder) if name.startswith("begun") and name not in known
                                        and os.path.getsize(os.path.join(self.folder, name))], "nobody names functions")
            return peer, made[0], int(made[0][len("begun"):])
        peer, made, worker = asks(())
        with open(os.path.join(self.folder, made), encoding="ascii") as file:
            self.assertEqual(file.read().split(), ["1000", str(min(os.nice(0) + 10, 19))])
        peer.close()
        self.await_(lambda: facts.started(worker) is None, "it goes on for nobody")
        peer, _, worker = asks((made,))
        tool.terminate()
        tool.wait(DEADLINE)
        self.await_(lambda: facts.started(worker) is None, "it outlives serve")
        peer.close()

    def test_there_are_bounds(self):
        peers = []
        for _ in range(serve.SLOW_WORKERS):
            peers.append(http.client.HTTPConnection(self.address.split("/")[2], timeout=DEADLINE))
            peers[-1].request("GET", f"/debug/pprof/heap?pid={self.process.pid}&seconds=600")
        self.await_(lambda: self.ask(self.address, f"debug/pprof/heap?pid={self.process.pid}")[0] == 503, "there is no bound")
        for peer in peers:
            peer.close()
        _, address = self.serve("--listen", "127.0.0.1:0", "--no-profiles")
        self.assertEqual(self.ask(address, "debug/pprof/heap?pid=1")[0], 403)

    def test_places_are_shared(self):
        """One user never has all places, those that he does not even read from included; and nobody has one for ever."""
        def server():
            return serve.Server([], None)

        def asks(one, who):
            leave = serve.Leave()
            return leave if one._has_place(who, leave) else None       # pylint: disable=protected-access
        one = server()
        first = [asks(one, "greedy") for _ in range(serve.SLOW_WORKERS)]
        self.assertEqual([leave is not None for leave in first], [True] * (serve.SLOW_WORKERS - 1) + [False])
        self.assertTrue(asks(one, "second"))
        self.assertFalse(first[0].is_set())
        self.assertTrue(asks(one, "third"))
        self.assertEqual([leave.is_set() for leave in first[:-1]], [True, False, False])
        self.assertRegex(first[0].why, "somebody else")
        self.assertIsNone(asks(one, "second"))
        one = server()                      # of these, nobody knows who they are
        first = [asks(one, None) for _ in range(serve.SLOW_WORKERS + 1)]
        self.assertEqual([leave is not None for leave in first], [True] * (serve.SLOW_WORKERS - 1) + [False] * 2, "they are one user")
        self.assertTrue(asks(one, "known"))
        self.assertTrue(asks(one, "other"))
        self.assertEqual([leave.is_set() for leave in first[:-2]], [True, False, False])
        self.assertIsNone(asks(one, None))
        one = server()
        first = [asks(one, None) for _ in range(serve.SLOW_WORKERS - 1)]
        with mock.patch.object(serve.time, "monotonic", lambda now=time.monotonic(): now + serve.FAIR + 1):
            self.assertTrue(asks(one, None))
        self.assertTrue(first[0].is_set())

    def test_who_asks(self):
        """The user at the other end, of whatever kind the connection is."""
        path = os.path.join(self.folder, "socket")
        for family, address in ((socket.AF_INET, ("127.0.0.1", 0)), (socket.AF_INET6, ("::1", 0)), (socket.AF_UNIX, path)):
            with self.subTest(family=family), socket.socket(family) as listener:
                listener.bind(address)
                listener.listen(1)
                with socket.socket(family) as there:
                    there.connect(listener.getsockname())
                    here = listener.accept()[0]
                    with here:
                        self.assertEqual(origin.who(here), ("user", os.getuid()))
                        there.shutdown(socket.SHUT_WR)
                        self.assertEqual(here.recv(1), b"")
                        self.assertEqual((origin.who(here), origin.has_left(here)), (("user", os.getuid()), False))
                        with mock.patch.object(origin, "_asked", lambda *_: b""):        # the kernel refuses that
                            self.assertEqual(origin.who(here), ("user", os.getuid()) if family == socket.AF_UNIX else None)
                            self.assertEqual(origin.has_left(here), False if family == socket.AF_UNIX else None)
                        there.close()
                        self.await_(lambda connection=here: origin.has_left(connection), "nobody notices")
                        self.assertEqual(origin.who(here), ("user", os.getuid()) if family == socket.AF_UNIX else None)    # not root

    def test_one_who_loses_his_place(self):
        """He is told so, and the process's profile is off again."""
        with mock.patch.object(serve, "FAIR", 0):
            server = serve.Server([], None)
            leave = serve.Leave()
            self.assertTrue(server._has_place(None, leave))             # pylint: disable=protected-access
            profiles = remote_profile.Profiles()
            with Window(self.process.pid) as window:
                threading.Timer(0.3, lambda: [server._has_place(None, serve.Leave()) for _ in range(serve.SLOW_WORKERS)]).start()   # pylint: disable=protected-access
                with self.assertRaisesRegex(Failure, "somebody else"):
                    profiles._between([(self.process.pid, window)], 600, [], leave)         # pylint: disable=protected-access
                self.assertEqual(window.snapshot().stats["sampling"], 0)

    def test_several_processes_are_one_profile(self):
        """Their functions of one name are one to pprof, whatever their addresses."""
        messages = []
        for number in range(3):
            text = (f"arenal-heap-profile 2\nsample 1024\npid 5\ntime 1700000000\nstack {4096 << number} {1000 << number} 9 9 0\n"
                    f"stack 1 {100 << number} 1 1 {0x1000 + number:x}\nmaps\n00001000-00003000 r-xp 00000000 08:01 17 /nowhere/program{number}\nend\n")
            messages.append(gzip.decompress(pprof.encode(stacks.Profile(dump.parse(text, "it")))))
        whole = pprof_message.completed(pprof_message.merged(messages), "inuse_space", ["one", "two"])
        table = [one.decode() for one in pprof_message.strings(whole)]
        self.assertEqual([table[value] for number, _, value in pprof_message.fields(whole) if number == pprof_message.COMMENT], ["one", "two"])
        ids = [next(v for n, _, v in pprof_message.fields(value) if n == 1) for number, _, value in pprof_message.fields(whole) if number == 4]
        self.assertEqual(len(ids), len(set(ids)), "the IDs of locations are their own")
        if not shutil.which("go"):
            self.skipTest("there is no go tool pprof (Debian: golang-go)")
        path = os.path.join(self.folder, "whole.pb.gz")
        with open(path, "wb") as file:
            file.write(gzip.compress(whole))
        done = subprocess.run(["go", "tool", "pprof", "-raw", path], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                              env=environment(HOME=self.folder), timeout=DEADLINE, check=False)
        self.assertEqual(done.returncode, 0, done.stderr)
        for number in range(3):
            self.assertIn(f"/nowhere/program{number}", done.stdout)
        live = sum(int(line.split()[3].rstrip(":")) for line in re.findall(r"(?m)^ *\d+ +\d+ +-?\d+ +-?\d+:", done.stdout))
        self.assertEqual(live, (1000 + 100) * 7)

    def test_addresses_tell_nothing(self):
        def words(message, number):
            return [{n: v for n, _, v in pprof_message.fields(value)} for found_now, _, value in pprof_message.fields(message) if found_now == number]
        low, high, wild = 0x401000, 0x7f1234567000, 0x7f9999999999
        text = (f"arenal-heap-profile 2\nsample 1024\npid 5\ntime 1700000000\nstack 9 9 9 9 {low + 5:x} {high + 6:x} {high + 0x20007:x} {wild:x}\n"
                f"maps\n{low:08x}-{low + 4096:08x} r-xp 00001000 08:01 17 /nowhere/program\n"
                f"{high:x}-{high + 4096:x} r-xp 00003000 08:01 18 /nowhere/library\n"
                f"{high + 0x20000:x}-{high + 0x21000:x} r-xp 00000000 08:01 19 /nowhere/other\nend\n")
        plain = gzip.decompress(pprof.encode(stacks.Profile(dump.parse(text, "it"))))
        self.assertIn(high, [mapping[2] for mapping in words(plain, 3)])
        message = pprof_message.placeless(plain)
        mappings = {mapping[1]: mapping for mapping in words(message, 3)}
        self.assertEqual([mapping[3] - mapping[2] for mapping in mappings.values()], [4096] * 3)
        self.assertEqual(next(iter(mappings.values()))[2], low, "a fixed place stays")
        places = [(location[3] - mappings[location[2]][2]) if location.get(2) else location[3] for location in words(message, 4)]
        self.assertEqual(places[:3], [5, 6, 7])
        told = [word for one in (*words(message, 3), *words(message, 4)) for name, word in one.items() if name in (2, 3) and word >= 1 << 32]
        self.assertFalse([hex(word) for word in told if word >> 12 in (high >> 12, high + 4096 >> 12, high + 0x20000 >> 12, high + 0x21000 >> 12, wild >> 12)])
        self.assertEqual([value for n, _, value in pprof_message.fields(message) if n not in (3, 4)],
                         [value for n, _, value in pprof_message.fields(plain) if n not in (3, 4)])

    def test_only_files_that_are_mapped_are_read(self):
        """A process may say that it has any file mapped, and we may read more than who asks."""
        place = 0x7e0000000000
        with open("/proc/self/maps", encoding="utf-8") as file:
            own = "".join(line for line in file if " r-xp " in line and "/" in line)
        start, path = own.split("-")[0], own.splitlines()[0].split()[-1]
        text = (f"arenal-heap-profile 2\nsample 1024\npid 5\ntime 1900000000\nstack 9 9 9 9 {place:x} {start}\n"
                f"maps\n{place:x}-{place + (1 << 20):x} r-xp 00000000 00:00 0 {PROFILED}\n{own}end\n")
        handle = os.memfd_create("dump")            # whoever reads it closes it
        os.write(handle, text.encode())
        os.lseek(handle, 0, os.SEEK_SET)
        message, _ = convert_profile._message(f"{os.getpid()}:{handle}")     # pylint: disable=protected-access
        table = [one.decode() for one in pprof_message.strings(message)]
        self.assertIn(path, table)
        self.assertFalse([one for one in table if "profiled" in one])
        whole = dump.parse(text, "it")._replace(pid=os.getpid())
        self.assertEqual(convert_profile.mapped(whole).mappings, whole.mappings[1:])
        # Nor a file in the place of another.
        other = whole._replace(mappings=[m._replace(path=PROFILED) for m in whole.mappings])
        self.assertEqual(convert_profile.mapped(other).mappings, [])

    def test_by_unit(self):
        targets = [found.Target.__new__(found.Target) for _ in range(3)]
        for number, (target, unit) in enumerate(zip(targets, ("a.service", "b.service", "b.service"))):
            target.labels, target.group = {"pid": number, "unit": unit}, f"/system.slice/{unit}"
        seen = fleet.Seen([fleet.Look(target, None) for target in targets], {}, 0, 0)

        def chosen(query):
            return remote_profile._targets(serve.parse(f"GET /?{query} HTTP/1.0\r\n\r\n".encode()), seen)     # pylint: disable=protected-access
        self.assertEqual(chosen("unit=a.service"), targets[:1])
        self.assertEqual(chosen("unit=b.service"), targets[1:])
        self.assertEqual(chosen("pid=2"), targets[2:])
        self.assertRaises(LookupError, chosen, "unit=c.service")
        self.assertRaisesRegex(ValueError, "say which", chosen, "")
        # A user's unit of the same name is another one.
        targets[2].group = "/user.slice/user-1000.slice/b.service"
        self.assertRaisesRegex(ValueError, "there are 2 of this name.*unit=/system.slice/b.service or .*unit=/user", chosen, "unit=b.service")
        self.assertEqual(chosen("unit=/system.slice/b.service"), targets[1:2])
        self.assertRaises(LookupError, chosen, "unit=")


class Scraped(ServeTest):
    def test_by_prometheus(self):
        process = self.on_arenal(*WORDS)
        _, address = self.serve()
        ask = self.prometheus(address)

        def value():
            rows = (ask("query?query=arenal_allocated_bytes") or {"result": ()})["result"]
            return next((row for row in rows if row["metric"]["pid"] == str(process.pid)), None)
        row = self.await_(value, "prometheus has none of it")
        self.assertEqual(row["metric"]["command"], "tools_workload")
        self.assertGreater(int(row["value"][1]), 10 * MIB)
        names = {rule["name"] for group in ask("rules")["groups"] for rule in group["rules"]}
        self.assertIn("ArenalAllocationsFail", names)

    def test_the_page_in_a_browser(self):
        odd = os.path.join(self.folder, "<b>bold<b>")
        os.symlink(WORKLOAD, odd)
        process = self.on_arenal(odd, *WORDS[1:])
        self.fake_window("zeros")
        _, address = self.serve()
        browser = Browser()
        self.addCleanup(browser.close)
        for screen, dark in ((PHONE, True), (DESKTOP, False)):
            with self.subTest(screen=screen):
                browser.screen(*screen, dark)
                browser.driver.get(address)
                self.assertLessEqual(browser.run("return document.documentElement.scrollWidth"), screen[0])
                self.assertEqual(browser.messages(), [])
                self.assertEqual(browser.run("return getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)", not dark)
        self.assertEqual(browser.run("return document.querySelectorAll('main b').length"), 0)
        text = browser.run("return document.querySelector('main').innerText")
        self.assertIn(f"<b>bold<b> {process.pid}, Arenal", text.replace("\n", " "))
        self.assertIn("what it calls a window is none", text)
        browser.run("document.querySelector('a[href=\"/metrics\"]').click()")
        browser.wait("return document.body.innerText.includes('arenal_allocated_bytes{')", "the metrics")


if __name__ == "__main__":
    unittest.main()
