"""Writes a heap profile in the format of pprof: perftools.profiles.Profile, a protocol buffer, compressed with gzip. The fields' numbers are
those of its profile.proto."""

import gzip

from arenal.profile.places import plain_path
from arenal.profile.protobuf import data, number, numbers

MOST = (1 << 63) - 1            # an int64
KINDS = (("alloc_objects", "count"), ("alloc_space", "bytes"), ("inuse_objects", "count"), ("inuse_space", "bytes"))
# What pprof's own -diff_base gives the samples that it subtracts, so that shares are of what was there before.
BASE = ("pprof::base", "true")

PROFILE = {"sample_type": 1, "sample": 2, "mapping": 3, "location": 4, "function": 5, "string": 6, "time": 9, "period_type": 11,
           "period": 12, "default_sample_type": 14}


class _Writer:
    """Messages by what they tell; a message's place in its table is its ID, from 1 on."""

    def __init__(self):
        self.strings, self.functions, self.locations, self.mappings = {"": 0}, {}, {}, {}
        self.samples = []

    def string(self, text):
        return self.strings.setdefault(text, len(self.strings))

    @staticmethod
    def _place(table, message):
        return table.setdefault(message, len(table) + 1)

    def function(self, frame):
        name = self.string(frame.function)
        return self._place(self.functions, number(2, name) + number(3, name) + number(4, self.string(frame.file)))

    def mapping(self, symbols, mapping):
        if mapping is None:
            return 0
        module = symbols.modules.get(mapping.start)
        build_id = module.build_id if module else symbols.object_of(mapping)[1]
        # What is not there, pprof looks for itself.
        return self._place(self.mappings, number(2, mapping.start) + number(3, mapping.end) + number(4, mapping.offset)
                           + number(5, self.string(plain_path(mapping))) + number(6, self.string(build_id))
                           + number(7, bool(module and module.has_functions)) + number(8, bool(module and module.has_files))
                           + number(9, bool(module and module.has_lines)) + number(10, bool(module and module.has_lines)))

    def location(self, symbols, address):
        lines = b"".join(data(4, number(1, self.function(frame)) + number(2, frame.line))
                         for frame in (symbols.frames[address] if address in symbols.named else ()))
        return self._place(self.locations, number(2, self.mapping(symbols, symbols.mapping_of(address))) + number(3, address) + lines)

    def add(self, profile, is_base):
        symbols, places, sign = profile.symbols, {}, -1 if is_base else 1
        # pprof takes the first mapping for the program: that of the outermost frames, mostly.
        self.mapping(symbols, next((m for m in profile.dump.mappings if m.path.startswith("/") and "x" in m.perms), None))
        label = data(3, number(1, self.string(BASE[0])) + number(2, self.string(BASE[1]))) if is_base else b""
        for counts, frames in profile.stacks:
            for address in frames:
                if address not in places:
                    places[address] = self.location(symbols, address)
            values = (counts.total_blocks, counts.total_bytes, counts.live_blocks, counts.live_bytes)
            self.samples.append(numbers(1, [places[address] for address in frames])
                                + numbers(2, [sign * min(value, MOST) for value in values]) + label)

    def write(self, dump):
        types = [number(1, self.string(kind)) + number(2, self.string(unit)) for kind, unit in KINDS]
        period = number(1, self.string("space")) + number(2, self.string("bytes"))
        inuse = self.string("inuse_space")
        parts = [data(PROFILE["sample_type"], type_) for type_ in types]
        parts += [data(PROFILE["sample"], sample) for sample in self.samples]
        for name, table in (("mapping", self.mappings), ("location", self.locations), ("function", self.functions)):
            parts += [data(PROFILE[name], number(1, place) + message) for message, place in table.items()]
        parts += [data(PROFILE["string"], text.encode(errors="replace")) for text in self.strings]
        parts += [number(PROFILE["time"], min(dump.time * 10 ** 9, MOST)), data(PROFILE["period_type"], period),
                  number(PROFILE["period"], min(dump.sample, MOST)), number(PROFILE["default_sample_type"], inuse)]
        return b"".join(parts)


def encode(profile, base=None):
    """The bytes of the file. With a base, of what is there more than in that one, or less."""
    writer = _Writer()
    writer.add(profile, False)
    if base:
        writer.add(base, True)
    return gzip.compress(writer.write(profile.dump))
