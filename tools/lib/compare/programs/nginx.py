"""nginx with two workers under wrk: small files, which hardly allocate, then what is put together for each request."""

import gzip
import json
import os
import random
import urllib.request

from compare.programs import Program, find_program, only_in_full
from compare.programs.servers import Server, request_metrics, tree_memory
from compare.results import Failed

# All paths are relative to the folder given by -p: none has to be quoted.
CONFIGURATION = """
{user}
daemon off;
master_process on;
worker_processes 2;
pid nginx.pid;
error_log error.log warn;
events {{ worker_connections 256; }}
http {{
    access_log off;
    client_body_temp_path body; proxy_temp_path proxy; fastcgi_temp_path fastcgi; uwsgi_temp_path uwsgi;
    scgi_temp_path scgi;
    default_type text/plain;
    keepalive_requests 1000000;
    upstream own {{ server 127.0.0.1:{port}; keepalive 16; }}
    server {{
        listen 127.0.0.1:{port};
        root www;
        location /packed/ {{ alias www/; gzip on; gzip_comp_level 1; gzip_min_length 100; gzip_types text/plain; }}
        location /included/ {{ alias www/included/; ssi on; ssi_types text/plain; }}
        location /replaced/ {{ alias www/; sub_filter the THE; sub_filter_once off; sub_filter_types text/plain; }}
        location /proxied/ {{ proxy_pass http://own/; proxy_http_version 1.1; proxy_set_header Connection ""; }}
        location ~ ^/said/(\\w+)/(\\w+)$ {{ return 200 "$1 and $2 for $arg_who, $request_method $uri"; }}
    }}
}}
"""

# wrk takes the paths in turn, and prints what is needed of its summary.
LOAD_SCRIPT = """
local paths, at = {{ {paths} }}, 0
function request()
    at = at % #paths + 1
    return wrk.format("GET", paths[at], {{ ["Accept-Encoding"] = "gzip" }})
end
function done(summary, latency)
    local errors = summary.errors
    local bad = errors.connect + errors.read + errors.write + errors.status + errors.timeout
    print(string.format('{{"requests": %d, "seconds": %.6f, "bad": %d, "p50_us": %d, "p99_us": %d, "p999_us": %d}}',
        summary.requests, summary.duration / 1e6, bad, latency:percentile(50), latency:percentile(99),
        latency:percentile(99.9)))
end
"""

WORDS = "the server sends the same words again and again because text is what users read".split()
SIZES = {"a": 300, "b": 1500, "c": 4000, "d": 12000}


def text(name):
    chosen = random.Random(name)
    words = []
    while sum(map(len, words)) + len(words) < SIZES[name]:
        words.append(chosen.choice(WORDS))
    return " ".join(words) + "\n"


def answers():
    """{part: {path: what has to come back}}"""
    files = {name: text(name) for name in SIZES}
    parts = {"static": {f"/{name}": content for name, content in files.items()}}
    dynamic = {f"/packed/{name}": files[name] for name in "bcd"}
    dynamic["/included/page"] = "<" + files["a"] + "|" + files["b"] + "|" + files["c"] + ">"
    dynamic["/replaced/c"] = files["c"].replace("the", "THE")
    dynamic.update({f"/proxied/{name}": files[name] for name in "ad"})
    dynamic["/said/this/that?who=me"] = "this and that for me, GET /said/this/that"
    parts["dynamic"] = dynamic
    return parts


class Nginx(Server):
    packages = ["nginx", "wrk"]

    def command(self):
        folder = os.path.join(self.scratch, "nginx")
        os.makedirs(os.path.join(folder, "www", "included"), exist_ok=True)
        for name in SIZES:
            self.write(f"www/{name}", text(name))
        self.write("www/included/page", "<" + "|".join(f'<!--# include virtual="/{name}" -->' for name in "abc") + ">")
        # As root, the workers would become somebody who cannot look into the scratch directory.
        user = "user root;" if os.getuid() == 0 else ""
        self.write("nginx.conf", CONFIGURATION.format(user=user, port=self.port))
        return [find_program("nginx", "nginx"), "-p", folder + "/", "-c", "nginx.conf", "-e", "error.log"]

    def write(self, name, content):
        with open(os.path.join(self.scratch, "nginx", name), "w", encoding="ascii") as file:
            file.write(content)

    def check_answers(self, expected):
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        for path, content in expected.items():
            request = urllib.request.Request(f"http://127.0.0.1:{self.port}{path}", headers={"Accept-Encoding": "gzip"})
            try:
                with opener.open(request, timeout=30) as answer:
                    body = answer.read()
                    body = gzip.decompress(body) if answer.headers.get("Content-Encoding") == "gzip" else body
            except (OSError, EOFError) as error:  # what urllib raises is an OSError, too
                self.service.check_alive()
                raise Failed(f"nginx did not answer {path}: {error}") from None
            if body != content.encode():
                raise Failed(f"nginx answered {path} with other bytes than it has to")

    def load_paths(self, paths, seconds):
        """Runs wrk; returns requests_per_second, p50_us, ..."""
        script = os.path.join(self.scratch, "load.lua")
        with open(script, "w", encoding="ascii") as file:
            file.write(LOAD_SCRIPT.format(paths=", ".join(f'"{path}"' for path in paths)))
        output = self.load([find_program("wrk", "wrk"), "-t", "1", "-c", "16", "-d", str(seconds), "--timeout", "20",
                            "-s", script, f"http://127.0.0.1:{self.port}/"])
        try:
            load = json.loads(output.strip().splitlines()[-1])
            load["requests_per_second"] = load["requests"] / load["seconds"]
        except (ValueError, IndexError, ZeroDivisionError):
            raise Failed(f"wrk printed no result: {output.strip()[-200:]}") from None
        if load["bad"] or not load["requests"]:
            self.service.check_alive()
            raise Failed(f"nginx did not answer {load['bad']} of {load['requests']} requests well")
        return load

    def check_log(self):
        """A worker that crashes is started again by the master; the log tells."""
        with open(os.path.join(self.scratch, "nginx", "error.log"), encoding="utf-8", errors="replace") as log:
            for line in log:
                raise Failed(f"nginx reports: {line.strip()[:200]}")


class NginxCase(Program):
    name = "program/nginx"
    unit = "µs/request"
    threads = 2
    packages = Nginx.packages
    seconds = 3.5
    parts = {
        "static": ("nginx, files", "wrk with 16 connections gets files of 0.3 to 12 kB."),
        "dynamic": ("nginx, put together", "Compressed, included, replaced and proxied text of 0.3 to 12 kB."),
    }

    def measure_parts(self, launcher, settings):
        results = {}
        with Nginx(launcher) as server:
            for part, expected in answers().items():
                server.check_answers(expected)
                load = server.load_paths(list(expected), 1 if settings.quick or part == "static" else 2)
                server.check_answers(expected)
                results[part] = dict(request_metrics(load), peak_rss=tree_memory(server.service.pid, "VmHWM"))
            server.idle(0.5)
            results["dynamic"]["rest_rss"] = tree_memory(server.service.pid, "VmRSS")
            server.check_log()
        return results


CASES = [NginxCase()]


def cases(settings):
    return only_in_full(CASES, settings)
