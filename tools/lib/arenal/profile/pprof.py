"""Writes a heap profile in the format of pprof: perftools.profiles.Profile, a protocol buffer, compressed with gzip. Its messages
are described here, for they are few; the field numbers are the format's."""

import gzip

from arenal.errors import Failure
from arenal.profile.places import plain_path

MESSAGES = {
    "ValueType": "1 int64 type, 2 int64 unit",
    "Label": "1 int64 key, 2 int64 str, 3 int64 num, 4 int64 num_unit",
    "Sample": "1 uint64* location_id, 2 int64* value, 3 Label* label",
    "Mapping": "1 uint64 id, 2 uint64 memory_start, 3 uint64 memory_limit, 4 uint64 file_offset, 5 int64 filename, "
               "6 int64 build_id, 7 bool has_functions, 8 bool has_filenames, 9 bool has_line_numbers, 10 bool has_inline_frames",
    "Line": "1 uint64 function_id, 2 int64 line",
    "Location": "1 uint64 id, 2 uint64 mapping_id, 3 uint64 address, 4 Line* line, 5 bool is_folded",
    "Function": "1 uint64 id, 2 int64 name, 3 int64 system_name, 4 int64 filename, 5 int64 start_line",
    "Profile": "1 ValueType* sample_type, 2 Sample* sample, 3 Mapping* mapping, 4 Location* location, 5 Function* function, "
               "6 string* string_table, 7 int64 drop_frames, 8 int64 keep_frames, 9 int64 time_nanos, 10 int64 duration_nanos, "
               "11 ValueType period_type, 12 int64 period, 13 int64* comment, 14 int64 default_sample_type",
}
PACKAGE = "perftools.profiles"
MOST = (1 << 63) - 1            # an int64


def profile_class():
    """The class of the message Profile."""
    try:
        from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
    except ImportError as error:
        raise Failure("writing pprof's format needs Python's protobuf (Debian: python3-protobuf)") from error
    file = descriptor_pb2.FileDescriptorProto(name="profile.proto", package=PACKAGE, syntax="proto3")
    kind = descriptor_pb2.FieldDescriptorProto
    for name, fields in MESSAGES.items():
        message = file.message_type.add(name=name)
        for field in fields.split(", "):
            number, type_, field_name = field.split()
            label = kind.LABEL_REPEATED if type_.endswith("*") else kind.LABEL_OPTIONAL
            type_ = type_.rstrip("*")
            if type_ in MESSAGES:
                message.field.add(name=field_name, number=int(number), label=label, type=kind.TYPE_MESSAGE,
                                  type_name=f".{PACKAGE}.{type_}")
            else:
                message.field.add(name=field_name, number=int(number), label=label, type=getattr(kind, "TYPE_" + type_.upper()))
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    described = pool.FindMessageTypeByName(f"{PACKAGE}.Profile")
    if hasattr(message_factory, "GetMessageClass"):
        return message_factory.GetMessageClass(described)
    return message_factory.MessageFactory(pool).GetPrototype(described)


class _Writer:
    def __init__(self, profile):
        self.source = profile
        self.out = profile_class()()
        self.strings, self.functions, self.locations, self.mappings = {}, {}, {}, {}
        self.string("")

    def string(self, text):
        if text not in self.strings:
            self.strings[text] = len(self.strings)
            self.out.string_table.append(text.encode(errors="replace").decode())
        return self.strings[text]

    def function(self, frame):
        key = (frame.function, frame.file)
        if key not in self.functions:
            self.functions[key] = len(self.functions) + 1
            name = self.string(frame.function)
            self.out.function.add(id=self.functions[key], name=name, system_name=name, filename=self.string(frame.file))
        return self.functions[key]

    def mapping(self, mapping):
        if mapping is None:
            return 0
        if mapping.start not in self.mappings:
            self.mappings[mapping.start] = len(self.mappings) + 1
            module = self.source.symbols.modules.get(mapping.start)
            build_id = module.build_id if module else self.source.symbols.object_of(mapping)[1]
            # What is not there, pprof looks for itself.
            self.out.mapping.add(id=self.mappings[mapping.start], memory_start=mapping.start, memory_limit=mapping.end,
                                 file_offset=mapping.offset, filename=self.string(plain_path(mapping)), build_id=self.string(build_id),
                                 has_functions=bool(module and module.has_functions), has_filenames=bool(module and module.has_files),
                                 has_line_numbers=bool(module and module.has_lines), has_inline_frames=bool(module and module.has_lines))
        return self.mappings[mapping.start]

    def location(self, address):
        if address not in self.locations:
            self.locations[address] = len(self.locations) + 1
            location = self.out.location.add(id=self.locations[address], address=address,
                                             mapping_id=self.mapping(self.source.symbols.mapping_of(address)))
            for frame in self.source.symbols.frames[address] if address in self.source.symbols.named else ():
                location.line.add(function_id=self.function(frame), line=frame.line)
        return self.locations[address]

    def write(self):
        for kind, unit in (("alloc_objects", "count"), ("alloc_space", "bytes"), ("inuse_objects", "count"),
                           ("inuse_space", "bytes")):
            self.out.sample_type.add(type=self.string(kind), unit=self.string(unit))
        # pprof takes the first mapping for the program: that of the outermost frames, mostly.
        dump = self.source.dump
        program = next((m for m in dump.mappings if m.path.startswith("/") and "x" in m.perms), None)
        self.mapping(program)
        for counts, frames in self.source.stacks:
            self.out.sample.add(location_id=[self.location(frame) for frame in frames],
                                value=[min(value, MOST) for value in
                                       (counts.total_blocks, counts.total_bytes, counts.live_blocks, counts.live_bytes)])
        self.out.time_nanos = min(dump.time * 10 ** 9, MOST)
        self.out.period_type.type, self.out.period_type.unit = self.string("space"), self.string("bytes")
        self.out.period = min(dump.sample, MOST)
        self.out.default_sample_type = self.string("inuse_space")
        return self.out.SerializeToString()


def encode(profile):
    """The bytes of the file."""
    return gzip.compress(_Writer(profile).write())
