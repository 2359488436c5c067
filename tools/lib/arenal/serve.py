"""Answers HTTP requests on a Unix socket with one text."""

import errno
import os
import signal
import socket
import stat
import threading
import time

from arenal.errors import Failure, Gone

PATIENCE = 1.0          # seconds that a peer may take to ask, and to listen
PEERS = 32              # that are answered at once
LOOK = 1.0              # seconds between two looks whether there is anything left to tell about
REQUEST_MAX = 65536


def serve(path, look, content_type, alive):
    """Answers every connection with what look() returns, until alive() says no. Each peer has a thread, so that a slow one keeps nobody
    waiting; look() is called by one at a time. The socket is removed at the end, also on SIGTERM."""
    def end(number, _frame):
        raise SystemExit(128 + number)
    signal.signal(signal.SIGTERM, end)
    listener = _listen(path)
    made = os.stat(path)
    places, turn, gone = threading.Semaphore(PEERS), threading.Lock(), threading.Event()

    def one_at_a_time():
        with turn:
            return look()

    def answer(peer):
        with peer:
            try:
                _answer(peer, one_at_a_time, content_type)
            except Gone:
                gone.set()
            except OSError:
                pass                    # the peer went away, or is slow
            finally:
                places.release()
    try:
        listener.settimeout(LOOK)
        while alive() and not gone.is_set():
            try:
                peer, _ = listener.accept()
            except socket.timeout:      # TimeoutError, since Python 3.10
                continue
            places.acquire()            # they keep them for as long as a peer may be slow
            threading.Thread(target=answer, args=(peer,), daemon=True).start()
    finally:
        listener.close()
        try:
            found = os.stat(path)
            if (found.st_dev, found.st_ino) == (made.st_dev, made.st_ino):
                os.unlink(path)
        except OSError:
            pass


def _answer(peer, look, content_type):
    request, until = b"", time.monotonic() + PATIENCE
    while b"\r\n\r\n" not in request and b"\n\n" not in request and len(request) < REQUEST_MAX:
        left = until - time.monotonic()
        if left <= 0:
            return
        peer.settimeout(left)
        part = peer.recv(4096)
        if not part:
            break
        request += part
    status = "200 OK"
    try:
        body = look()
    except Gone:
        raise
    except Failure as failure:
        status, content_type, body = "503 Service Unavailable", "text/plain; charset=utf-8", f"{failure}\n"
    body = body.encode("utf-8", "backslashreplace")
    head = f"HTTP/1.0 {status}\r\nContent-Type: {content_type}\r\nContent-Length: {len(body)}\r\n\r\n".encode()
    peer.settimeout(PATIENCE)
    peer.sendall(head + (b"" if request.startswith(b"HEAD ") else body))


def _listen(path):
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    mask = os.umask(0o177)          # the socket is made with the mode 0600, not changed to it
    try:
        try:
            listener.bind(path)
        except OSError as error:
            if error.errno != errno.EADDRINUSE or not _is_stale(path):
                raise
            os.unlink(path)
            listener.bind(path)
        listener.listen(8)
        return listener
    except OSError as error:
        listener.close()
        raise Failure(f"{path}: {error.strerror or error}") from error
    finally:
        os.umask(mask)


def _is_stale(path):
    """Whether it is a socket that nobody answers on."""
    if not stat.S_ISSOCK(os.lstat(path).st_mode):
        return False
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(PATIENCE)
        try:
            probe.connect(path)
        except ConnectionRefusedError:
            return True
        except OSError:
            pass
    return False
