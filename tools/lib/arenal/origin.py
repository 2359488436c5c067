"""Who is at the other end of a connection: his user, or the address of his machine."""

import ipaddress
import re
import socket
import struct
import sys

from arenal import files

LIMIT = 4 << 20         # bytes of the kernel's list of connections


def who(connection):
    """("user", number), ("address", text), or None: it is this machine, and we may not know more (a network namespace of our own)."""
    try:
        if connection.family == socket.AF_UNIX:
            return "user", struct.unpack("iii", connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))[1]
        there, here = connection.getpeername(), connection.getsockname()
        address = ipaddress.ip_address(there[0].partition("%")[0])
        if not (getattr(address, "ipv4_mapped", None) or address).is_loopback:
            return "address", str(address)
        return _user(connection.family, there, here)
    except (OSError, ValueError):
        return None


def _user(family, there, here):
    """The kernel lists his end with his user."""
    ends = f"{_as_listed(family, there)} {_as_listed(family, here)}".encode()
    listed = files.head("/proc/thread-self/net/tcp6" if family == socket.AF_INET6 else "/proc/thread-self/net/tcp", LIMIT)
    found = re.search(rb"^ *\d+: " + ends + rb" \S+ \S+ \S+ \S+ +(\d+) ", listed, re.M)
    return ("user", int(found[1])) if found else None


def _as_listed(family, address):
    """Words in the machine's order of bytes."""
    packed = socket.inet_pton(family, address[0].partition("%")[0])
    words = [packed[at:at + 4][::-1 if sys.byteorder == "little" else 1] for at in range(0, len(packed), 4)]
    return f"{b''.join(words).hex().upper()}:{address[1]:04X}"
