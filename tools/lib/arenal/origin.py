"""Who is at the other end of a connection: his user, or the address of his machine."""

import ipaddress
import socket
import struct

WAIT = 0.1              # seconds; the kernel answers at once
# linux/netlink.h, linux/sock_diag.h, linux/inet_diag.h: struct nlmsghdr; where struct inet_diag_msg has the user.
NETLINK_SOCK_DIAG, SOCK_DIAG_BY_FAMILY, NLM_F_REQUEST, ALL_STATES, UID_AT = 4, 20, 1, 0xffffffff, 64
_HEAD = struct.Struct("=IHHII")


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
    """The kernel knows his end, and its user: it is asked for this one alone (sock_diag(7)), however many there are."""
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, NETLINK_SOCK_DIAG) as kernel:
        kernel.settimeout(WAIT)
        asked = _asked(family, there, here)
        kernel.send(_HEAD.pack(_HEAD.size + len(asked), SOCK_DIAG_BY_FAMILY, NLM_F_REQUEST, 1, 0) + asked)
        answer = kernel.recv(4096)
    _, kind, _, _, _ = _HEAD.unpack_from(answer)
    if kind != SOCK_DIAG_BY_FAMILY or len(answer) < _HEAD.size + UID_AT + 4:
        return None
    return "user", struct.unpack_from("=I", answer, _HEAD.size + UID_AT)[0]


def _asked(family, there, here):
    """struct inet_diag_req_v2."""
    ends = [socket.inet_pton(family, address[0].partition("%")[0]).ljust(16, b"\0") for address in (there, here)]
    interface = there[3] if family == socket.AF_INET6 else 0
    return struct.pack("=BBBxI", family, socket.IPPROTO_TCP, 0, ALL_STATES) + struct.pack(">HH", there[1], here[1]) + b"".join(ends) + \
        struct.pack("=I8s", interface, b"\xff" * 8)
