"""What pprof's files are made of: the few things of protocol buffers that they need (protobuf.dev, "Encoding"). A message is bytes, to which
its fields are added."""

NUMBER, BYTES = 0, 2            # what follows a field's key


def varint(number):
    """Seven bits at a time, the lowest first; of negative ones all 64 bits."""
    number &= (1 << 64) - 1
    out = bytearray()
    while number > 0x7f:
        out.append(number & 0x7f | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)


def number(field, value):
    """Of any integer type, or a bool. What is 0 is left out, as readers take it for that."""
    return varint(field << 3 | NUMBER) + varint(value) if value else b""


def data(field, content):
    """A string, or a message in the message."""
    return varint(field << 3 | BYTES) + varint(len(content)) + content


def numbers(field, values):
    """A repeated field of integers, packed."""
    return data(field, b"".join(map(varint, values))) if values else b""
