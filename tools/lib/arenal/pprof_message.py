"""Messages of pprof's format (perftools.profiles.Profile) as bytes, of which only what is wanted here is read: several are made one, and what
is missing is added. Numbers are varints; a field that comes again counts, and lists go on."""

import hashlib
import os

from arenal.profile.protobuf import varint

# What a field is: a place in the table of strings, the ID of something, another message.
STRING, ID = "string", "id"
LINE = {1: ID}
LOCATION = {1: ID, 2: ID, 4: LINE}
MAPPING = {1: ID, 5: STRING, 6: STRING}
FUNCTION = {1: ID, 2: STRING, 3: STRING, 4: STRING}
SAMPLE = {1: ID, 3: {1: STRING, 2: STRING, 4: STRING}}
MAPPINGS, LOCATIONS, STRING_TABLE, COMMENT, DEFAULT_TYPE = 3, 4, 6, 13, 14
# Of the further messages, that is all that goes into the first.
PROFILE = {2: SAMPLE, MAPPINGS: MAPPING, LOCATIONS: LOCATION, 5: FUNCTION, COMMENT: STRING}
# Where things were: of a location its mapping and address, of a mapping its bounds.
IDENTITY, LOCATION_MAPPING, LOCATION_ADDRESS, MAPPING_START, MAPPING_END = 1, 2, 3, 2, 3
VARINT, FIXED64, LENGTH, FIXED32 = 0, 1, 2, 5
SHIFT = 32                      # IDs of the nth message have n above this bit
# Programs that the kernel puts anywhere, and all libraries, are above; what is below has a place that is no secret.
ANYWHERE = 1 << 32
APART = 1 << 16                 # what new places of mappings are multiples of, as of pages
WIDEST = 1 << 47                # bytes of a mapping: whoever says more makes it up


def _read_varint(data, at):
    number = shift = 0
    while True:
        byte = data[at]
        number |= (byte & 127) << shift
        shift, at = shift + 7, at + 1
        if byte < 128:
            return number, at


def fields(data):
    """Triples of number, kind on the wire, and value: a number, or bytes."""
    at = 0
    while at < len(data):
        key, at = _read_varint(data, at)
        kind = key & 7
        if kind == VARINT:
            value, at = _read_varint(data, at)
        else:
            size = {FIXED64: 8, FIXED32: 4}.get(kind)
            if size is None:
                size, at = _read_varint(data, at)
            value, at = data[at:at + size], at + size
        yield key >> 3, kind, value


def field(number, kind, value):
    head = varint(number << 3 | kind)
    if kind == VARINT:
        return head + varint(value)
    return head + (varint(len(value)) if kind == LENGTH else b"") + value


def strings(data):
    return [value for number, _, value in fields(data) if number == STRING_TABLE]


def merged(messages):
    """One message with the samples of all. What else it says is the first one's."""
    whole, count = [messages[0]], len(strings(messages[0]))
    for rank, data in enumerate(messages[1:], 1):
        table = strings(data)
        whole += [field(STRING_TABLE, LENGTH, one) for one in table]
        whole.append(_moved(data, PROFILE, count, rank << SHIFT, True))
        count += len(table)
    return b"".join(whole)


def _moved(data, known, first, base, only=False):
    """The message with its strings counted from `first`, and `base` added to its IDs. `only`: without the fields that are not known."""
    def number_of(value, what):
        return value + first if what is STRING else value and value + base
    parts = []
    for number, kind, value in fields(data):
        what = known.get(number)
        if isinstance(what, dict):
            value = _moved(value, what, first, base)
        elif what and kind == VARINT:
            value = number_of(value, what)
        elif what:                      # a list in one piece
            at, packed = 0, []
            while at < len(value):
                one, at = _read_varint(value, at)
                packed.append(varint(number_of(one, what)))
            value = b"".join(packed)
        if what or not only:
            parts.append(field(number, kind, value))
    return b"".join(parts)


def placeless(data):
    """The message with its mappings at places that tell nothing of where they are in the process, which is what makes it hard to attack, and
    the addresses in them moved along: pprof wants no more. Other addresses are numbers by chance."""
    moved, place, key = {0: None}, ANYWHERE, os.urandom(16)
    for number, _, value in fields(data):
        if number == MAPPINGS:
            mapping = {name: word for name, _, word in fields(value)}
            start = mapping.get(MAPPING_START, 0)
            moved[mapping.get(IDENTITY, 0)] = place - start if start >= ANYWHERE else 0
            place += -(-min(max(0, mapping.get(MAPPING_END, 0) - start), WIDEST) // APART) * APART
    parts = []
    for number, kind, value in fields(data):
        if number in (MAPPINGS, LOCATIONS):
            known = {name: word for name, _, word in fields(value)}
            by = moved.get(known.get(IDENTITY if number == MAPPINGS else LOCATION_MAPPING, 0))
            words = (MAPPING_START, MAPPING_END) if number == MAPPINGS else (LOCATION_ADDRESS,)
            value = b"".join(field(name, how, (_by_chance(word, key) if by is None else (word + by) % 2 ** 64) if name in words else word)
                             for name, how, word in fields(value))
        parts.append(field(number, kind, value))
    return b"".join(parts)


def _by_chance(address, key):
    return int.from_bytes(hashlib.blake2b(address.to_bytes(8, "little"), key=key, digest_size=6).digest(), "little")


def completed(data, shown, comments):
    """The message with what pprof shows first, and with comments (pprof -comments)."""
    table = strings(data)
    parts = [data]
    for at, comment in enumerate(comments, len(table)):
        parts += [field(STRING_TABLE, LENGTH, comment.encode(errors="replace")), field(COMMENT, VARINT, at)]
    return b"".join(parts) + field(DEFAULT_TYPE, VARINT, table.index(shown.encode()))
