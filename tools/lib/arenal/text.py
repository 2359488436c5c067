"""Strings that others made up, as they may be shown: what a terminal would obey or cannot show is a question mark."""

LIMIT = 4096


def printable(text, limit=LIMIT):
    """At most so many characters, without control characters, escapes, and those that change the direction of what follows."""
    text = text[:limit]
    return text if text.isprintable() else "".join(c if c.isprintable() else "?" for c in text)


def counted(number, noun):
    """1 thread, 2 threads."""
    return f"{number:,} {noun}{'s' if number != 1 else ''}"


def field(data):
    """A string of C in a field of fixed size."""
    return printable(data.split(b"\0")[0].decode(errors="replace"))
