"""varnish: hundreds of threads, a cache that is smaller than what it is asked for, and a program compiled from its settings."""

import http.server
import threading

import web
from processes import children, wait_for
from support import ProgramTest, main
from test_squid import Origin

SETTINGS = """
vcl 4.1;
backend origin {{ .host = "127.0.0.1"; .port = "{port}"; .max_connections = 100; }}
sub vcl_recv {{ return (hash); }}
sub vcl_deliver {{ set resp.http.X-Seen = regsuball(req.url, "[0-9]+", "n"); }}
"""


class Varnish(ProgramTest):
    needs = ("varnishd", "gcc")

    def work(self, run):
        origin = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Origin)
        threading.Thread(target=origin.serve_forever, daemon=True).start()
        self.addCleanup(origin.server_close)
        self.addCleanup(origin.shutdown)
        settings = run.write("settings.vcl", SETTINGS.format(port=origin.server_port))
        run.make("state")
        server = run.server(lambda port: ["varnishd", "-F", "-j", "none", "-n", run.path("state"), "-f", settings,
                                          "-a", f"127.0.0.1:{port}", "-s", "malloc,3m", "-T", "none",
                                          "-p", "thread_pool_min=50", "-p", "vsl_space=2M"])
        wait_for(lambda: children(server.pid), "varnish to start its child")
        run.assert_on_arenal(*children(server.pid))
        paths = [f"/cached{number}-{number * number * 100 + 1}" for number in range(50)] + ["/never-5000"]
        told = web.get_many(server.port, paths, times=4)
        run.measure(server)
        run.stop(server)
        return told


if __name__ == "__main__":
    main()
