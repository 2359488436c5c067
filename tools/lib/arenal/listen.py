"""Sockets to listen on: a Unix path, an address of TCP, and those that systemd opened for us."""

import errno
import ipaddress
import os
import re
import socket
import stat

from arenal.errors import Failure

PATIENCE = 1.0          # seconds in which somebody who listens on a Unix socket would take us
BACKLOG = 64
FIRST_OF_SYSTEMD = 3    # its descriptors begin there: sd_listen_fds(3)


class Listener:
    """A socket that listens; close() removes its path, if that is still ours."""

    def __init__(self, listener, path=None):
        self.socket, self.path = listener, path
        self.made = os.stat(path) if path else None
        listener.setblocking(False)

    @property
    def is_unix(self):
        return self.socket.family == socket.AF_UNIX

    @property
    def is_loopback(self):
        return not self.is_unix and ipaddress.ip_address(_plain(self.socket.getsockname()[0])).is_loopback

    @property
    def url(self):
        """None: a browser has no way there."""
        if self.is_unix:
            return None
        host, port = self.socket.getsockname()[:2]
        return f"http://[{host}]:{port}/" if ":" in host else f"http://{host}:{port}/"

    def __str__(self):
        return self.url or self.path or "a socket of systemd's"

    def close(self):
        self.socket.close()
        if self.path is None:
            return
        try:
            found = os.stat(self.path)
            if (found.st_dev, found.st_ino) == (self.made.st_dev, self.made.st_ino):
                os.unlink(self.path)
        except OSError:
            pass


def _plain(host):
    """An address without what says on which network card it is."""
    return host.partition("%")[0]


def on(place, remote):
    """A Listener on a Unix socket, where the place has a slash, or on ADDRESS:PORT. Unless `remote`, other machines must not get there."""
    if "/" in place:
        return unix(place)
    host, colon, port = place.rpartition(":")
    host = "127.0.0.1" if host == "localhost" else re.sub(r"^\[(.*)\]$", r"\1", host)
    try:
        address = ipaddress.ip_address(_plain(host))
        if not colon or not re.fullmatch("[0-9]{1,5}", port) or int(port) > 65535:
            raise ValueError
    except ValueError:
        raise Failure(f"{place} is neither ADDRESS:PORT, with an address in numbers, nor a path with a slash") from None
    if not (remote or address.is_loopback):
        raise Failure(f"{place} is not a loopback address: whoever reaches it could read all of this, and start profiles. --remote allows it")
    listener = socket.socket(socket.AF_INET6 if address.version == 6 else socket.AF_INET, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if address.version == 6:
            listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        listener.bind((host, int(port)))
        listener.listen(BACKLOG)
    except OSError as error:
        listener.close()
        raise Failure(f"{place}: {error.strerror or error}") from error
    return Listener(listener)


def of_systemd(environment, remote):
    """The Listeners that systemd started us with (socket activation)."""
    if environment.get("LISTEN_PID") != str(os.getpid()):
        return []
    try:
        count = int(environment.get("LISTEN_FDS", "0"))
    except ValueError:
        count = 0
    found = []
    for number in range(FIRST_OF_SYSTEMD, FIRST_OF_SYSTEMD + min(count, 64)):
        try:
            one = socket.socket(fileno=number)
            listens = one.type == socket.SOCK_STREAM and one.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)
        except OSError:
            listens = False
        if not listens:
            raise Failure(f"descriptor {number}, which systemd passed, is no stream socket that listens")
        os.set_inheritable(number, False)
        found.append(Listener(one))
        if not (remote or found[-1].is_unix or found[-1].is_loopback):
            raise Failure(f"the socket {found[-1]}, which systemd passed, is not on a loopback address: --remote allows it")
    return found


def unix(path):
    """A Listener on a Unix socket that only its owner may connect to, in the place of one that nobody answers on any more."""
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
        listener.listen(BACKLOG)
        return Listener(listener, path)
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
