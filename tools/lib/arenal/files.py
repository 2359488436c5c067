"""Files that people name: what goes wrong with them is a sentence."""

from arenal.errors import Failure


def write(path, data):
    """Bytes or text, into a new file or over what was there."""
    if isinstance(data, str):
        data = data.encode("utf-8", "backslashreplace")
    try:
        with open(path, "wb") as file:
            file.write(data)
    except OSError as error:
        raise Failure(f"{path}: {error.strerror}") from error
