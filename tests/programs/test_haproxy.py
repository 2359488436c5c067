"""HAProxy: threads, with a limit on its own memory (-m, which is one on its address space), HTTP in front of HTTP, a reload."""

import os
import signal

import web
from processes import children, wait_for
from support import ProgramTest, main

CONFIGURATION = """
global
    maxconn 200
    nbthread 4
    stats socket {folder}/stats.sock mode 600 level admin
defaults
    mode http
    timeout client 30s
    timeout server 30s
    timeout connect 30s
frontend front
    bind 127.0.0.1:{port}
    http-request return status 200 content-type text/plain file {folder}/www/small if {{ path /small }}
    http-request return status 200  if {{ path /empty }}
    compression algo gzip
    compression type text/plain
    default_backend again
backend again
    http-request set-path /%[path,regsub(^/proxied/,,)]
    http-response set-header X-Seen %[rand(1)]
    server self 127.0.0.1:{port} maxconn 60
"""


class Haproxy(ProgramTest):
    needs = ("haproxy",)
    # Of 500 reloads without Arenal, 9 crash in _fd_delete_orphan, when the old worker's deinit() closes its listeners after
    # its threads are gone (haproxy 2.6.12, two busy CPUs).
    own_crash = r"Former worker \(\d+\) exited with code 139"

    def work(self, run):
        web.fill(run, "www")

        def command(port):
            path = run.write("haproxy.cfg", CONFIGURATION.format(folder=run.folder, port=port))
            return ["haproxy", "-W", "-m", "256", "-f", path]
        server = run.server(command)
        paths = ["/small", "/proxied/small", "/proxied/empty"]
        told = [web.get_many(server.port, paths),
                web.get_many(server.port, paths, times=10, headers={"Accept-Encoding": "gzip"})]
        run.measure(server)
        before = set(children(server.pid))
        os.kill(server.pid, signal.SIGUSR2)         # a new worker; the old one ends
        wait_for(lambda: (now := set(children(server.pid))) and not now & before, "haproxy to change its worker")
        told.append(web.get_many(server.port, paths))
        run.stop(server)
        return "\n".join(told)


if __name__ == "__main__":
    main()
