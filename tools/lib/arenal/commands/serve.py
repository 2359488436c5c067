"""arenal serve"""

import contextlib
import os
import resource
import sys

from arenal import library, listen
from arenal import serve as http
from arenal.commands import SHAPE
from arenal.endpoint import Endpoint
from arenal.text import printable

HELP = """\
Tells about all processes on Arenal that it may look into, over HTTP: /metrics for Prometheus, /debug/pprof/heap and /debug/pprof/allocs for
`go tool pprof`, and a page with links at /. It looks, and never opens a window; while a profile is asked for with seconds=, it is on."""
CODES = """\
For whose processes it tells is the kernel's rule: those of its user, or all for root. Whoever reaches the address can read all of it and start
profiles: of root's, all users of the machine. So other machines are refused without --remote; a Unix socket is its owner's only.
With systemd, arenal.socket and arenal.service start it when the first one asks.

    arenal serve --listen 127.0.0.1:9257 --listen /run/arenal.sock
    go tool pprof 'http://127.0.0.1:9257/debug/pprof/heap?pid=1234'"""
DEFAULT = "127.0.0.1:9257"
HANDLES_KEPT = 768      # descriptors for peers, and for what is looked into for a moment
HANDLES_MOST = 16384    # descriptors that we want
TARGETS = 4096          # processes that are looked into,
HANDLES = 2             # each of which takes so many


def add(commands):
    parser = commands.add_parser("serve", help="answer Prometheus, pprof and browsers about all processes", description=HELP, epilog=CODES,
                                 usage="arenal serve [--listen ADDRESS:PORT | PATH ...] [--remote] [--no-profiles]", **SHAPE)
    parser.add_argument("--listen", action="append", default=[], metavar="ADDRESS:PORT|PATH",
                        help=f"listen there ({DEFAULT}, or the sockets that systemd passes); may be repeated")
    parser.add_argument("--remote", action="store_true", help="let other machines in, without a password")
    parser.add_argument("--no-profiles", action="store_false", dest="profiles", help="metrics only")
    parser.set_defaults(main=main, parser=parser)


def main(options, _command):
    with contextlib.ExitStack() as open_ones:
        listeners = listen.of_systemd(os.environ, options.remote)
        for name in ("LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES"):
            os.environ.pop(name, None)
        for one in listeners:
            open_ones.callback(one.close)
        for place in options.listen or ([] if listeners else [DEFAULT]):
            listeners.append(listen.on(place, options.remote))
            open_ones.callback(listeners[-1].close)
        for one in listeners:
            print(f"arenal: listening on {printable(str(one))}", file=sys.stderr)
        http.end_on_sigterm()
        endpoint = Endpoint(library.version(options.tool), _room(), options.remote, options.profiles)
        server = http.Server(listeners, endpoint.answer, endpoint.is_slow)
        open_ones.callback(endpoint.end)
        open_ones.callback(server.close)
        server.run()
    return 0


def _room():
    """How many processes there are descriptors for."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = HANDLES_MOST if hard == resource.RLIM_INFINITY else min(hard, HANDLES_MOST)
    if most > soft != resource.RLIM_INFINITY:
        with contextlib.suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
            soft = most
    return max(16, min(TARGETS, (soft - HANDLES_KEPT) // HANDLES)) if soft != resource.RLIM_INFINITY else TARGETS
