"""Files that people name, and files that others control: what goes wrong with them is a sentence, and none of them can make us wait,
or fill our memory."""

import ctypes
import errno
import os
import stat
import tempfile

from arenal.errors import Failure

LINKS_LIMIT = 40        # on the way to one file: the kernel's
# What looks like a file and is the kernel's: proc, sysfs, debugfs, tracefs, configfs, securityfs, cgroups of both versions, pstore, efivarfs,
# bpf, binfmt_misc. Some are used up by who reads them.
_OF_THE_KERNEL = {0x9fa0, 0x62656572, 0x64626720, 0x74726163, 0x62656570, 0x73636673, 0x27e0eb, 0x63677270, 0x6165676c, 0xde5e81e4,
                  0xcafe4a11, 0x42494e4d}
_libc = ctypes.CDLL(None)


def _bytes(data):
    return data.encode("utf-8", "backslashreplace") if isinstance(data, str) else data


def _write(path, data):
    try:
        with open(path, "wb") as file:
            file.write(_bytes(data))
    except OSError as error:
        raise Failure(f"{path}: {error.strerror}") from error


def follows(path):
    """May this be followed, if it is a link? Only who can be trusted made it: it is ours or root's, or nobody else may write to its folder."""
    ours = (os.geteuid(), 0)
    try:
        link, folder = os.lstat(path), os.stat(os.path.dirname(path) or ".")
    except OSError:
        return True
    return not stat.S_ISLNK(link.st_mode) or link.st_uid in ours or (folder.st_uid in ours and not folder.st_mode & 0o022)


def replace(path, data, private=False, named=True):
    """Bytes or text into a new file, or in the place of what was there: readers find the old file or the new one, never half of it. Owner
    and mode of the old one stay; a new one that is `private` is its owner's only. What is no plain file is written to, a pipe, or what
    a link leads to, if the user has `named` this path and nobody else can have put the link there; else it is replaced, too."""
    try:
        old = os.lstat(path)
    except OSError:
        old = None
    if old is not None and not stat.S_ISREG(old.st_mode):
        if named and follows(path):
            _write(path, data)
            return
        old = None
    try:
        handle, aside = tempfile.mkstemp(prefix=".arenal-", dir=os.path.dirname(path) or ".")
        try:
            with open(handle, "wb") as file:
                _look_like(handle, old, private)
                file.write(_bytes(data))
            os.rename(aside, path)
        except BaseException:
            os.unlink(aside)
            raise
    except OSError as error:
        raise Failure(f"{path}: {error.strerror}") from error


def _look_like(handle, old, private):
    if old is None and private:
        return
    if old is None:
        mask = os.umask(0)
        os.umask(mask)
        os.fchmod(handle, 0o666 & ~mask)
        return
    try:
        os.fchown(handle, old.st_uid, old.st_gid)
    except OSError:
        pass                    # only root gives files away: then it is ours
    os.fchmod(handle, stat.S_IMODE(old.st_mode) & 0o777)


def regular(path, follow=True):
    """A descriptor to read a file that others control. A pipe would keep us waiting, a device might do anything when it is opened: so
    it is looked at before. Raises OSError."""
    more = os.O_CLOEXEC | (0 if follow else os.O_NOFOLLOW)
    handle = os.open(path, os.O_PATH | more)
    try:
        return _read_only(handle, path, more)
    finally:
        os.close(handle)


def _read_only(handle, path, more, folder=None):
    about = os.fstat(handle)
    if not stat.S_ISREG(about.st_mode):
        raise OSError(errno.EINVAL, "it is no regular file")
    kind = (ctypes.c_long * 64)()           # the first word of a struct statfs, which has less
    if _libc.fstatfs(handle, kind) == 0 and kind[0] in _OF_THE_KERNEL:
        raise OSError(errno.EINVAL, "it is the kernel's")
    if about.st_size == 0:
        raise OSError(errno.EINVAL, "it is empty")
    flags = os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY
    try:
        return os.open(f"/proc/self/fd/{handle}", flags | os.O_CLOEXEC)
    except FileNotFoundError:       # no /proc: `arenal run` needs none
        return os.open(path, flags | more, dir_fd=folder)


def inside(root, path, follow=True):
    """The same for the file that has this name for processes whose root folder this is: no link leads out of it. Without `follow`, the
    last name may not be a link's. Raises OSError."""
    folders = [os.open(root, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)]
    names, links = [name for name in reversed(path.split("/")) if name], 0
    try:
        while names:
            name = names.pop()
            if name == "..":
                os.close(folders.pop()) if len(folders) > 1 else None
                continue
            handle = os.open(name, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=folders[-1])
            folders.append(handle)
            kind = os.fstat(handle).st_mode
            if stat.S_ISLNK(kind):
                links += 1
                if links > LINKS_LIMIT or not (follow or names):
                    raise OSError(errno.ELOOP, "it is a link, or too many")
                target = os.readlink("", dir_fd=handle)
                os.close(folders.pop())
                while target.startswith("/") and len(folders) > 1:
                    os.close(folders.pop())
                names += [part for part in reversed(target.split("/")) if part not in ("", ".")]
            elif not names:
                return _read_only(handle, name, os.O_NOFOLLOW | os.O_CLOEXEC, folders[-2])
        raise OSError(errno.EISDIR, "it is a folder")
    finally:
        for handle in folders:
            os.close(handle)


def head(path, limit):
    """So many bytes of a file of the kernel's, at most: /proc tells of some processes without end. Raises OSError."""
    with open(path, "rb", buffering=0) as file:
        parts, left = [], limit
        while left > 0 and (part := file.read(min(left, 1 << 20))):
            parts.append(part)
            left -= len(part)
    return b"".join(parts)
