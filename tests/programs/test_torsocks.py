"""torsocks: a library that takes a program's connections, system calls and descriptors; behind a proxy of the test's own."""

import re
import socket
import socketserver
import struct
import threading

import web
from support import ProgramTest, main


FETCH = """
import hashlib, urllib.request
for _ in range(10):
    blocks = [bytes(n) for n in range(2000)]
    print(hashlib.md5(urllib.request.urlopen("http://203.0.113.9/x", timeout=20).read()).hexdigest(), flush=True)
"""


class Proxy(socketserver.BaseRequestHandler):
    """Speaks SOCKS 5, whatever the password, and answers HTTP itself, whoever was asked for."""

    def handle(self):
        stream = self.request.makefile("rb")
        _, methods = stream.read(2)
        offered = stream.read(methods)
        self.request.sendall(b"\x05\x02" if 2 in offered else b"\x05\x00")
        if 2 in offered:
            stream.read(1)
            for _ in range(2):
                stream.read(stream.read(1)[0])
            self.request.sendall(b"\x01\x00")
        _, asked, _, kind = stream.read(4)
        host = stream.read(4) if kind == 1 else stream.read(16) if kind == 4 else stream.read(stream.read(1)[0])
        stream.read(2)
        if asked == 0xF0:                       # Tor's own: the address of a name
            self.request.sendall(b"\x05\x00\x00\x01" + bytes([203, 0, 113, 7]) + b"\x00\x00")
            return
        self.request.sendall(b"\x05\x00\x00\x01" + struct.pack(">4sH", socket.inet_aton("127.0.0.1"), 80))
        while stream.readline().strip():
            pass
        body = web.content("large") + host
        self.request.sendall(b"HTTP/1.0 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body) + body)


class Server(socketserver.ThreadingTCPServer):
    daemon_threads = True


class Torsocks(ProgramTest):
    needs = ("torsocks", "curl", "/usr/lib/*/torsocks/libtorsocks.so")

    def work(self, run):
        server = Server(("127.0.0.1", 0), Proxy)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        self.addCleanup(server.server_close)
        self.addCleanup(server.shutdown)
        tor = ["torsocks", "-a", "127.0.0.1", "-P", str(server.server_address[1])]
        told = []
        for _ in range(3):
            told.append(run.command(*tor, "sh", "-c", "curl -s --max-time 20 http://203.0.113.5/ | cksum", seconds=60).out)
            told.append(run.command(*tor, "/usr/bin/python3", "-c", FETCH, seconds=60).out)
        # Debian's script shows what was preloaded before.
        return re.sub(r'(?m)^LD_PRELOAD=".*"$', "", "\n".join(told))


if __name__ == "__main__":
    main()
