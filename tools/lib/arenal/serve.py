"""Answers HTTP requests on a Unix socket with one text."""

import errno
import os
import signal
import socket
import stat

from arenal.errors import Failure, Gone

PATIENCE = 1.0          # seconds that a peer may keep us waiting
LOOK = 1.0              # seconds between two looks whether there is anything left to tell about
REQUEST_MAX = 65536


def serve(path, look, content_type, alive):
    """Answers every connection with what look() returns, one after the other, until alive() says no. The socket is
    removed at the end, also on SIGTERM."""
    def end(number, _frame):
        raise SystemExit(128 + number)
    signal.signal(signal.SIGTERM, end)
    listener = _listen(path)
    made = os.stat(path)
    try:
        listener.settimeout(LOOK)
        while alive():
            try:
                peer, _ = listener.accept()
            except socket.timeout:         # TimeoutError, since Python 3.10
                continue
            with peer:
                peer.settimeout(PATIENCE)
                try:
                    _answer(peer, look, content_type)
                except Gone:
                    break
                except OSError:
                    pass                # the peer went away, or is slow
    finally:
        listener.close()
        try:
            found = os.stat(path)
            if (found.st_dev, found.st_ino) == (made.st_dev, made.st_ino):
                os.unlink(path)
        except OSError:
            pass


def _answer(peer, look, content_type):
    request = b""
    while b"\r\n\r\n" not in request and b"\n\n" not in request and len(request) < REQUEST_MAX:
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
