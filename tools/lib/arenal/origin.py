"""Who is at the other end of a connection: his user, or the address of his machine; and whether he still listens there."""

import ipaddress
import select
import socket
import struct

WAIT = 0.1              # seconds; the kernel answers at once
# linux/netlink.h, linux/sock_diag.h, linux/inet_diag.h: struct nlmsghdr; where struct inet_diag_msg has the user, and the inode, which
# is 0 when no process has that socket any more.
NETLINK_SOCK_DIAG, SOCK_DIAG_BY_FAMILY, NLM_F_REQUEST, ALL_STATES, OWNER_AT = 4, 20, 1, 0xffffffff, 64
# Seconds of silence until the kernel asks a machine whether it still has the connection, and between two such questions; and how many.
SILENCE, QUESTIONS, MOST = 30, 10, 3
_HEAD = struct.Struct("=IHHII")


def who(connection):
    """("user", number), ("address", text), or None: it is this machine, and we may not know more (a network namespace of our own), or he has
    left."""
    try:
        if connection.family == socket.AF_UNIX:
            return "user", struct.unpack("iii", connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))[1]
        address = _address(connection)
        if not address.is_loopback:
            return "address", str(address)
        user, inode = _owner(connection)
        return ("user", user) if inode else None
    except (OSError, ValueError):
        return None


def has_left(connection):
    """Whether nobody listens at the other end. A half-closed connection ends here the same way as one that is closed; of this machine, the
    kernel knows better. None: it cannot be told, before something is sent (see keep_asking)."""
    ends = select.poll()
    ends.register(connection, 0)
    if any(seen & (select.POLLHUP | select.POLLERR) for _, seen in ends.poll(0)):
        return True
    if connection.family == socket.AF_UNIX:
        return False
    try:
        return _owner(connection)[1] == 0 if _address(connection).is_loopback else None
    except (OSError, ValueError):
        return None


def keep_asking(connection):
    """The kernel of the other end shall say now and then that it has the connection: a minute after he has left, it has not."""
    if connection.family != socket.AF_UNIX:
        for level, name, value in ((socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1), (socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, SILENCE),
                                   (socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, QUESTIONS), (socket.IPPROTO_TCP, socket.TCP_KEEPCNT, MOST)):
            connection.setsockopt(level, name, value)


def _address(connection):
    address = ipaddress.ip_address(connection.getpeername()[0].partition("%")[0])
    return getattr(address, "ipv4_mapped", None) or address


def _owner(connection):
    """User and inode of his end, by the kernel: it is asked for this one alone (sock_diag(7)), however many there are. Raises OSError,
    ValueError."""
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, NETLINK_SOCK_DIAG) as kernel:
        kernel.settimeout(WAIT)
        asked = _asked(connection.family, connection.getpeername(), connection.getsockname())
        kernel.send(_HEAD.pack(_HEAD.size + len(asked), SOCK_DIAG_BY_FAMILY, NLM_F_REQUEST, 1, 0) + asked)
        answer = kernel.recv(4096)
    _, kind, _, _, _ = _HEAD.unpack_from(answer)
    if kind != SOCK_DIAG_BY_FAMILY or len(answer) < _HEAD.size + OWNER_AT + 8:
        raise ValueError("the kernel does not say")
    return struct.unpack_from("=II", answer, _HEAD.size + OWNER_AT)


def _asked(family, there, here):
    """struct inet_diag_req_v2."""
    ends = [socket.inet_pton(family, address[0].partition("%")[0]).ljust(16, b"\0") for address in (there, here)]
    interface = there[3] if family == socket.AF_INET6 else 0
    return struct.pack("=BBBxI", family, socket.IPPROTO_TCP, 0, ALL_STATES) + struct.pack(">HH", there[1], here[1]) + b"".join(ends) + \
        struct.pack("=I8s", interface, b"\xff" * 8)
