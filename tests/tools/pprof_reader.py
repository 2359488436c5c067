"""Reads pprof's format by somebody else's hand: protobuf's library, and the messages as pprof's profile.proto has them."""

import gzip

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


def _profile_class():
    from google.protobuf import descriptor_pb2, descriptor_pool, message_factory    # pylint: disable=import-outside-toplevel
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


def read(test, path):
    """The message Profile in the file; skips the test where the library is missing."""
    try:
        message = _profile_class()()
    except ImportError:
        test.skipTest("there is no protobuf for Python (Debian: python3-protobuf)")
    with gzip.open(path) as file:
        message.ParseFromString(file.read())
    return message
