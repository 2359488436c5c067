"""squid: a cache in front of a web server, in memory and on disk, whose requests all go through it."""

import http.server
import threading

import web
from support import ProgramTest, main

CONFIGURATION = """
http_port 127.0.0.1:{port}
visible_hostname localhost
pid_filename {folder}/squid.pid
coredump_dir {folder}
cache_log {folder}/cache.log
access_log stdio:{folder}/access.log
cache_store_log none
cache_mem 4 MB
maximum_object_size_in_memory 64 KB
cache_dir ufs {folder}/cache 20 16 16
pinger_enable off
netdb_filename none
http_access allow all
shutdown_lifetime 1 second
refresh_pattern . 1 50% 10 override-expire ignore-reload
"""


class Origin(http.server.BaseHTTPRequestHandler):
    """Answers each path with a content that depends on it alone; some may be cached."""
    protocol_version = "HTTP/1.1"

    def do_GET(self):                       # pylint: disable=invalid-name
        path = self.path.split("//")[-1].partition("/")[2]
        body = (path * 20000)[:int(path.split("-")[-1])].encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Cache-Control", "no-store" if path.startswith("never") else "max-age=600")
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):              # pylint: disable=arguments-differ
        pass


class Squid(ProgramTest):
    package = "squid*"
    needs = ("squid",)
    user = "proxy"
    # It deletes objects by the size of their base, whose destructor is not virtual.
    mistakes = r"arenal: operator delete\(\w+\): the size 16 is wrong[^;]*"

    def work(self, run):
        origin = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Origin)
        threading.Thread(target=origin.serve_forever, daemon=True).start()
        self.addCleanup(origin.server_close)
        self.addCleanup(origin.shutdown)

        def command(port):
            path = run.write("squid.conf", CONFIGURATION.format(folder=run.folder, port=port))
            run.command("squid", "-N", "-z", "-f", path, status=None)
            return ["squid", "-N", "-f", path]
        server = run.server(command)
        base = f"http://127.0.0.1:{origin.server_port}/"
        paths = [f"{base}cached{number}-{number * number * 40 + 1}" for number in range(40)] + [f"{base}never-5000"]
        told = web.get_many(server.port, paths, times=4)
        run.measure(server)
        run.stop(server)
        return told.replace(base, "BASE/")


if __name__ == "__main__":
    main()
