"""nginx: a master, two workers, compression and a proxy, under load by wrk."""

import gzip
import os
import random
import re
import signal
import subprocess
import unittest
import urllib.request

from support import DEADLINE, ProgramTest, accepts, environment, program, wait_for

CONFIGURATION = """
{user}
daemon off;
worker_processes 2;
pid {folder}/nginx.pid;
error_log {folder}/error.log notice;
events {{ worker_connections 512; }}
http {{
    access_log {folder}/access.log;
    client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy; fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi; scgi_temp_path {folder}/scgi;
    proxy_cache_path {folder}/cache keys_zone=cache:1m;
    gzip on; gzip_min_length 100; gzip_types text/plain;
    default_type text/plain;
    # The load opens and closes many connections to itself: keep them, or the ports run out.
    upstream own {{ server 127.0.0.1:{port}; keepalive 32; }}
    server {{
        listen 127.0.0.1:{port} reuseport;
        keepalive_requests 100000;
        root {folder}/www;
        location /proxied/ {{
            proxy_pass http://own/;
            proxy_http_version 1.1; proxy_set_header Connection "";
        }}
        location /cached/ {{ proxy_pass http://own/; proxy_cache cache; proxy_cache_valid 200 1s; }}
    }}
}}
"""
FILES = {"small": 800, "large": 300_000, "empty": 0}


def content(name):
    rng = random.Random(name)
    return "".join(rng.choice("etaoin shrdlu\n") for _ in range(FILES[name])).encode()


class Nginx(ProgramTest):
    def setUp(self):
        super().setUp()
        os.chmod(self.folder, 0o755)
        for folder in ("www", "cache"):
            os.mkdir(os.path.join(self.folder, folder))
        for name in FILES:
            with open(os.path.join(self.folder, "www", name), "wb") as file:
                file.write(content(name))
        def command(port):
            user = "user root;" if os.getuid() == 0 else ""
            path = self.write("nginx.conf", CONFIGURATION.format(folder=self.folder, port=port, user=user))
            return ["nginx", "-p", self.folder, "-e", os.path.join(self.folder, "error.log"), "-c", path]
        self.server, self.port = self.start_server(command, accepts)

    def workers(self):
        with open(f"/proc/{self.server.pid}/task/{self.server.pid}/children", encoding="utf-8") as file:
            return {int(pid) for pid in file.read().split()}

    def get(self, path, compressed):
        headers = {"Accept-Encoding": "gzip"} if compressed else {}
        request = urllib.request.Request(f"http://127.0.0.1:{self.port}/{path}", headers=headers)
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with opener.open(request, timeout=DEADLINE) as answer:
            body = answer.read()
            return gzip.decompress(body) if answer.headers.get("Content-Encoding") == "gzip" else body

    def check_bodies(self):
        for place in ("", "proxied/", "cached/"):
            for name in FILES:
                for compressed in (False, True):
                    self.assertEqual(self.get(place + name, compressed), content(name), place + name)

    def load(self, path, seconds):
        """Runs wrk, on Arenal as well; returns how many requests were answered."""
        done = subprocess.run([program("wrk"), "-t2", "-c40", f"-d{seconds}s", "--timeout", "30s", "-H", "Accept-Encoding: gzip",
                               f"http://127.0.0.1:{self.port}/{path}"], cwd=self.folder, stdout=subprocess.PIPE,
                              stderr=subprocess.PIPE, text=True, env=environment(True, self.folder),
                              timeout=DEADLINE, check=False)
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertNotIn("Non-2xx", done.stdout)
        self.assertNotIn("Socket errors", done.stdout)
        return int(re.search(r"(\d+) requests in", done.stdout).group(1))

    def test_under_load(self):
        for pid in self.workers():
            self.assert_process_on_arenal(pid)
        self.check_bodies()
        for path, seconds in (("small", 2), ("large", 2), ("proxied/small", 2), ("cached/large", 1)):
            self.assertGreater(self.load(path, seconds), 20, path)
        self.check_bodies()

        before = self.workers()
        self.server.send_signal(signal.SIGHUP)      # new workers, and the old ones end
        wait_for(lambda: len(self.workers()) >= 2 and not self.workers() & before, "nginx to change its workers")
        self.assertGreater(self.load("small", 1), 20)
        self.check_bodies()
        self.stop_server(self.server, expected=0)
        with open(os.path.join(self.folder, "error.log"), encoding="utf-8") as file:
            bad = [line for line in file if re.search(r"\[(emerg|alert|crit|error|warn)\]|signal \d+ \(core", line)
                   or "exited on signal" in line]
        self.assertEqual(bad, [])


if __name__ == "__main__":
    unittest.main()
