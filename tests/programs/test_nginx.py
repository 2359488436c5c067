"""nginx: a master, two workers, compression and a proxy, under load by wrk."""

import gzip
import os
import re
import signal

import web
from processes import children, wait_for
from support import ProgramTest, main

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


class Nginx(ProgramTest):
    package = "nginx*"
    needs = ("nginx", "wrk")

    def work(self, run):
        web.fill(run, "www")
        run.make("cache")

        def command(port):
            user = "user root;" if os.getuid() == 0 else ""
            path = run.write("nginx.conf", CONFIGURATION.format(folder=run.folder, port=port, user=user))
            return ["nginx", "-p", run.folder, "-e", run.path("error.log"), "-c", path]
        server = run.server(command)
        wait_for(lambda: len(children(server.pid)) >= 2, "nginx to start its workers")
        run.assert_on_arenal(*children(server.pid))
        self.check_bodies(server.port)
        for path in "small", "large", "proxied/small", "cached/large":
            web.load(run, server.port, path)
        self.check_bodies(server.port)
        run.measure(server)

        before = set(children(server.pid))
        server.send_signal(signal.SIGHUP)           # new workers, and the old ones end
        wait_for(lambda: len(now := set(children(server.pid))) >= 2 and not now & before, "nginx to change its workers")
        web.load(run, server.port, "small")
        self.check_bodies(server.port)
        run.stop(server)
        log = run.read("error.log").decode().splitlines()
        self.assertEqual([line for line in log if re.search(r"\[(emerg|alert|crit|error|warn)\]|signal \d+ \(core", line)], [])

    def check_bodies(self, port):
        for place in "", "proxied/", "cached/":
            for name in web.SIZES:
                self.assertEqual(web.get(port, f"/{place}{name}"), (200, web.content(name)))
                body = web.get(port, f"/{place}{name}", headers={"Accept-Encoding": "gzip"})[1]
                self.assertEqual(gzip.decompress(body) if body else b"", web.content(name))


if __name__ == "__main__":
    main()
