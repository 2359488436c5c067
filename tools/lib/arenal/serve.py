"""Answers HTTP requests. One loop talks to all peers and waits for none: a peer that is slow to ask or to listen has a deadline, and takes
nothing from others but a place, which it loses to a new one when all are taken. What there is to say is worked out in threads, a few
at a time, that never touch a socket."""

import collections
import errno
import os
import selectors
import signal
import socket
import threading
import time
import urllib.parse
from http import HTTPStatus

from arenal import origin
from arenal.errors import Failure, Gone
from arenal.text import printable

ASK = 1.0               # seconds that a peer may take to ask,
LISTEN = 10.0           # and to take its answer,
REST = 2.0              # and, when that is sent, to close: what it has said that nobody reads would make the kernel throw away the answer
PEERS = 256             # that are connected at once
PAUSE = 0.02            # seconds, when there are no descriptors
LOOK = 1.0              # seconds between two looks whether there is anything left to tell about
REQUEST_MAX = 16384
WORKERS = 4             # answers that are worked out at once,
SLOW_WORKERS = 4        # and those that take their time by intent: one is kept for who has none of them,
FAIR = 60.0             # and who had one for so many seconds may lose it to somebody who finds none
GO_ON = b"HTTP/1.1 100 Continue\r\n\r\n"
PLAIN = "text/plain; charset=utf-8"

# `gone`: a Leave.
Request = collections.namedtuple("Request", "method path query headers loopback gone")
Response = collections.namedtuple("Response", "body content_type status headers", defaults=(PLAIN, HTTPStatus.OK, ()))


class Leave(threading.Event):
    """Set when nobody wants the answer any more: whoever asked has left, as far as we watch it, or somebody else gets his place. `why`
    says it."""
    why = "whoever asked has closed the connection"


# An answer that takes its time. `who`: a user or an address; None: all those of whom that is not known, as one user. `begin`: by
# time.monotonic().
Place = collections.namedtuple("Place", "who begin gone")


def refusal(status, sentence):
    return Response(f"{printable(sentence)}\n", status=HTTPStatus(status))


class Peer:
    """A connection. `out`: what is left of the answer, None before there is one, empty when it is sent and we wait for the peer to close. `said_all`: while it waits, nothing that it says counts, and
    it may have closed its sending side: whether it has left is looked at now and then."""

    def __init__(self, connection, loopback):
        self.socket, self.loopback = connection, loopback
        self.data, self.out = b"", None
        self.gone = None                            # the Leave of a request that takes its time
        self.said_all = False
        self.deadline = time.monotonic() + ASK      # None: we are working for it


class Server:
    """Talks to whoever connects. answer(request) is a Response, in a thread of its own; of requests that is_slow names, there are
    SLOW_WORKERS at once, and further ones are refused."""

    def __init__(self, listeners, answer, is_slow=lambda request: False):
        self._listeners, self._answer, self._is_slow = listeners, answer, is_slow
        self._selector = selectors.DefaultSelector()
        self._peers = {}                            # the oldest first
        self._waiting, self._done = collections.deque(), collections.deque()
        self._busy = {False: 0, True: 0}
        self._places = []                           # of slow answers, the oldest first; without those that lose theirs
        self._wake_in, self._wake_out = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        self._selector.register(self._wake_in, selectors.EVENT_READ, None)
        for one in listeners:
            self._selector.register(one.socket, selectors.EVENT_READ, one)

    def run(self, alive=lambda: True):
        """Until alive() says no, or an exception comes, as that of SIGTERM."""
        looked = time.monotonic()
        while True:
            until = min((p.deadline for p in self._peers.values() if p.deadline is not None), default=looked + LOOK)
            for key, _ in self._selector.select(max(0, min(until, looked + LOOK) - time.monotonic())):
                if key.data is None:
                    os.read(self._wake_in, 4096)
                elif isinstance(key.data, Peer):
                    self._go_on(key.data)
                else:
                    self._accept(key.data)
            while self._done:
                self._reply(*self._done.popleft())
            now = time.monotonic()
            for peer in [p for p in self._peers.values() if p.deadline is not None and p.deadline <= now]:
                self._drop(peer)
            if now - looked >= LOOK:
                looked = now
                for peer in [p for p in self._peers.values() if p.said_all and origin.has_left(p.socket)]:
                    peer.gone.set()
                if not alive():
                    return

    def close(self):
        for one in self._listeners:
            one.close()
        for peer in list(self._peers.values()):
            self._drop(peer)

    # Peers

    def _accept(self, listener):
        try:
            connection, _ = listener.socket.accept()
        except OSError as error:
            if error.errno in (errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOBUFS):
                self._make_room()
                time.sleep(PAUSE)               # it is still there, and select would not wait
            return
        connection.setblocking(False)
        if len(self._peers) >= PEERS and not self._make_room():
            connection.close()
            return
        peer = Peer(connection, listener.is_loopback)
        self._peers[connection] = peer
        self._selector.register(connection, selectors.EVENT_READ, peer)
        self._go_on(peer)                       # most have asked by now

    def _make_room(self):
        """Leaves the peer that we have waited for longest. False: we work for all of them."""
        old = next((p for p in self._peers.values() if p.deadline is not None), None)
        if old is not None:
            self._drop(old)
        return old is not None

    def _drop(self, peer):
        if self._peers.pop(peer.socket, None):
            self._leave_alone(peer)
            peer.socket.close()

    def _go_on(self, peer):
        try:
            if peer.out:
                self._write(peer)
            elif peer.out is not None:
                self._pass_over(peer)
            elif peer.gone:
                self._watch(peer)
            else:
                self._read(peer)
        except BlockingIOError:
            pass
        except OSError:
            self._drop(peer)

    def _read(self, peer):
        part = peer.socket.recv(4096)
        peer.data += part
        end = min((at for at in (peer.data.find(b"\r\n\r\n"), peer.data.find(b"\n\n")) if at >= 0), default=-1)
        if end < 0 and part and len(peer.data) <= REQUEST_MAX:
            return
        if not peer.data:
            self._drop(peer)
            return
        peer.deadline = None
        try:
            if end < 0 and part:
                raise ValueError
            request = parse(peer.data, peer.loopback)
        except ValueError:
            self._leave_alone(peer)
            self._reply(peer, None, refusal(400, "that is no request of HTTP, or too long"))
            return
        slow = self._is_slow(request)
        if slow:
            peer.gone = request.gone                # it is watched
            origin.keep_asking(peer.socket)
        if not slow or not part:
            self._leave_alone(peer)
            peer.said_all = slow
        if slow and not self._has_place(origin.who(peer.socket), request.gone):
            self._reply(peer, request, refusal(503, f"{SLOW_WORKERS} of these are being made: try again later"))
        elif not slow and self._busy[False] >= WORKERS:
            self._waiting.append((peer, request))
        else:
            self._work(peer, request, slow)

    def _has_place(self, who, gone):
        """Whether there is one for a slow answer, of which it is a Place then. Nobody has all of them while others have none, and nobody
        for ever."""
        held = collections.Counter(place.who for place in self._places)
        now = time.monotonic()

        def loses(may):
            loser = next((place for place in self._places if may(place)), None)
            if loser:
                self._places.remove(loser)
                loser.gone.why = "somebody else had no place for a profile, and gets this one"
                loser.gone.set()
            return loser is not None
        if len(self._places) >= SLOW_WORKERS - 1 and held[who]:
            # He has his share already. Among those of whom nobody knows who they are, it may be another one.
            if who is not None or not loses(lambda place: place.who is None and now - place.begin > FAIR):
                return False
        elif len(self._places) >= SLOW_WORKERS:
            most = max(held, key=held.get)
            if not loses(lambda place: held[most] > 1 and place.who == most or now - place.begin > FAIR):
                return False
        self._places.append(Place(who, now, gone))
        return True

    def _watch(self, peer):
        """While an answer takes its time: has he who wants it left? Who has only closed his sending side, as `nc -N` does, still listens."""
        try:
            part = peer.socket.recv(4096)
            left = origin.has_left(peer.socket)
            if left is None and not part and b" HTTP/1.1" in peer.data.partition(b"\n")[0]:
                peer.socket.send(GO_ON)             # who has left refuses it; others have to pass over it (RFC 9110, 15.2)
        except BlockingIOError:
            return
        except OSError:
            left = True
        if left:
            peer.gone.set()
        peer.said_all = True
        self._leave_alone(peer)                     # nothing else that he says counts

    def _leave_alone(self, peer):
        try:
            self._selector.unregister(peer.socket)
        except (KeyError, ValueError):
            pass                                    # it is already, or closed

    def _work(self, peer, request, slow=False):
        def work():
            response = respond(self._answer, request)
            self._done.append((peer, request, response, slow))      # and its place is free
            try:
                os.write(self._wake_out, b"x")
            except BlockingIOError:
                pass                            # it is full of wakes
        self._busy[slow] += 1
        threading.Thread(target=work, daemon=True).start()

    def _reply(self, peer, request, response, slow=None):
        """`slow`: of which workers one is free again."""
        if slow is not None:
            self._busy[slow] -= 1
            self._places = [place for place in self._places if place.gone is not request.gone]
            while self._waiting and self._busy[False] < WORKERS:
                self._work(*self._waiting.popleft())
        body = response.body if isinstance(response.body, bytes) else response.body.encode("utf-8", "backslashreplace")
        lines = [f"HTTP/1.0 {int(response.status)} {HTTPStatus(response.status).phrase}", f"Content-Type: {response.content_type}",
                 f"Content-Length: {len(body)}", "Connection: close", "X-Content-Type-Options: nosniff",
                 *(f"{name}: {printable(value)}" for name, value in response.headers)]
        head = "\r\n".join(lines + ["", ""]).encode("ascii", "backslashreplace")
        # The body is not copied: many peers may be given the same.
        self._leave_alone(peer)
        peer.said_all = False
        peer.out = [memoryview(head)] + ([] if request and request.method == "HEAD" else [memoryview(body)])
        peer.deadline = time.monotonic() + LISTEN
        try:
            self._selector.register(peer.socket, selectors.EVENT_WRITE, peer)
        except (ValueError, KeyError):
            return                              # closed meanwhile
        self._go_on(peer)

    def _write(self, peer):
        while peer.out:
            sent = peer.socket.send(peer.out[0])
            peer.out[0] = peer.out[0][sent:]
            if not peer.out[0]:
                peer.out.pop(0)
        peer.socket.shutdown(socket.SHUT_WR)
        peer.deadline = time.monotonic() + REST
        self._selector.modify(peer.socket, selectors.EVENT_READ, peer)
        self._pass_over(peer)

    def _pass_over(self, peer):
        """What it says is for nobody: a further request, or the body of one that was refused."""
        if not peer.socket.recv(1 << 16):
            self._drop(peer)


def parse(data, loopback=False):
    """The Request. Raises ValueError."""
    lines = data.decode("latin-1").split("\n")
    method, target, _ = (lines[0].rstrip("\r") + " HTTP/0.9").split(" ", 2)
    if not method.isalpha() or not target.startswith("/") or not target.isprintable():
        raise ValueError("it has no path")
    path, _, query = target.partition("?")
    headers = {}
    for line in lines[1:]:
        name, colon, value = line.partition(":")
        if colon:
            headers[name.strip().lower()] = value.strip()
    return Request(method, urllib.parse.unquote(path), dict(urllib.parse.parse_qsl(query, keep_blank_values=True, max_num_fields=32)),
                   headers, loopback, Leave())


def respond(answer, request):
    """What there is to say, also when something goes wrong."""
    try:
        if request.method not in ("GET", "HEAD"):
            return refusal(405, "only GET and HEAD are known here")
        return answer(request)
    except Failure as failure:
        return refusal(503, str(failure))
    except Exception as error:                  # pylint: disable=broad-except
        return refusal(500, f"{type(error).__name__}: {error}")


def end_on_sigterm():
    def end(number, _frame):
        raise SystemExit(128 + number)
    signal.signal(signal.SIGTERM, end)


def serve(listener, look, content_type, alive):
    """Answers every request with what look() returns, until alive() says no, or look() that there is nothing left. It is called by one at a
    time."""
    end_on_sigterm()
    turn, gone = threading.Lock(), threading.Event()

    def answer(_request):
        with turn:
            try:
                return Response(look(), content_type)
            except Gone:
                gone.set()
                raise
    server = Server([listener], answer)
    try:
        server.run(lambda: not gone.is_set() and alive())
    finally:
        server.close()
