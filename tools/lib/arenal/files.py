"""Files that people name: what goes wrong with them is a sentence."""

import os
import tempfile

from arenal.errors import Failure


def _bytes(data):
    return data.encode("utf-8", "backslashreplace") if isinstance(data, str) else data


def write(path, data):
    """Bytes or text, into a new file or over what was there."""
    try:
        with open(path, "wb") as file:
            file.write(_bytes(data))
    except OSError as error:
        raise Failure(f"{path}: {error.strerror}") from error


def replace(path, data):
    """The same, but readers find the old file or the new one, never half of it; unless it is no plain file: a pipe, for example."""
    if os.path.exists(path) and not os.path.isfile(path):
        write(path, data)
        return
    there = os.path.realpath(path)      # what a link points to; the link stays
    mask = os.umask(0)
    os.umask(mask)
    try:
        handle, aside = tempfile.mkstemp(prefix=".arenal-", dir=os.path.dirname(there))
        try:
            os.fchmod(handle, 0o666 & ~mask)
            with open(handle, "wb") as file:
                file.write(_bytes(data))
            os.rename(aside, there)
        except BaseException:
            os.unlink(aside)
            raise
    except OSError as error:
        raise Failure(f"{path}: {error.strerror}") from error
