"""Finds libarenal.so, and builds the environment that makes a program run on it."""

import ctypes
import glob
import hashlib
import os
import re
import shutil
import stat
import subprocess
import tempfile

from arenal import elf, installed
from arenal.errors import Failure

NAME = "libarenal.so"
# ld.so splits LD_PRELOAD at spaces and colons, without any way to quote them, and expands $ORIGIN, $LIB and $PLATFORM.
UNSAYABLE = set(" :$")


def inherited_environment():
    """The environment this process was started with, as bytes. Not os.environ: in a C locale Python adds LC_CTYPE to
    it, and a command must not behave differently for having been started through us."""
    try:
        with open("/proc/self/environ", "rb") as file:
            entries = file.read().split(b"\0")
    except OSError:
        return dict(os.environb)
    return dict(entry.split(b"=", 1) for entry in entries if b"=" in entry)


def find(tool):
    """The path of the library for `tool`, the real path of the command: what ARENAL_LIBRARY says, else the build tree
    that the tool belongs to, else where it is installed, else what the dynamic linker knows."""
    named = os.environ.get("ARENAL_LIBRARY")
    if named:
        return _checked(os.path.abspath(named), "ARENAL_LIBRARY names")
    here = os.path.dirname(tool)
    above = os.path.dirname(here)
    places = [os.path.join(above, "build", "release", "src", NAME)]
    here_it_is = os.path.normpath(os.path.join(here, installed.LIBRARY))
    for folder in (glob.escape(here_it_is), glob.escape(above) + "/lib*", glob.escape(above) + "/lib*/*"):  # lib64, lib/x86_64-linux-gnu
        places += sorted(glob.glob(os.path.join(folder, NAME + "*")))
    for place in places:
        if os.path.exists(place):
            return _checked(place, "the library is")
    known = _from_linker_cache()
    if known:
        return _checked(known, "the dynamic linker knows")
    raise Failure(f"{NAME} was not found: build it (cmake --preset release && cmake --build --preset release), "
                  "or name it in ARENAL_LIBRARY", 125)


def _checked(path, whence):
    try:
        if elf.is_shared_library(path):
            return path
        raise Failure(f"{whence} {path}, which is not a shared library", 125)
    except OSError as error:
        raise Failure(f"{whence} {path}: {error.strerror}", 125) from error


def _from_linker_cache():
    ldconfig = shutil.which("ldconfig", path=os.environ.get("PATH", "") + ":/usr/sbin:/sbin")
    if not ldconfig:
        return None
    listing = subprocess.run([ldconfig, "-p"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, check=False)
    found = re.search(rb"^\s*libarenal\.so\S* .*=> (/.*)$", listing.stdout, re.M)
    return os.fsdecode(found.group(1)) if found else None


def preload_name(library):
    """A name for the library that LD_PRELOAD can express: the path itself, or that of a symbolic link to it."""
    if not UNSAYABLE & set(library):
        return library
    # The link cannot be removed again: the command replaces us, and its children read LD_PRELOAD whenever they start.
    # So it gets one fixed name per user and library.
    digest = hashlib.sha256(os.fsencode(library)).hexdigest()[:16]
    for parent in (os.environ.get("XDG_RUNTIME_DIR"), "/tmp", "/var/tmp"):
        if parent and os.path.isabs(parent) and not UNSAYABLE & set(parent):
            folder = os.path.join(parent, f"arenal-{os.getuid()}")
            if _make_own_folder(folder):
                link = os.path.join(folder, f"libarenal-{digest}.so")
                try:
                    _make_link(library, link, folder)
                    return link
                except OSError:
                    continue
    raise Failure(f"LD_PRELOAD cannot name {library} (it has a space, a colon or a dollar sign in it), and no link to "
                  "it could be made in XDG_RUNTIME_DIR or /tmp: move the library", 125)


def _make_own_folder(folder):
    """Whoever can write to the folder can make us load a library of theirs: it must be ours alone. Others may look
    in, because the command may change its user before it starts programs."""
    try:
        os.mkdir(folder, 0o755)
    except FileExistsError:
        pass
    except OSError:
        return False
    try:
        found = os.lstat(folder)
    except OSError:
        return False
    return stat.S_ISDIR(found.st_mode) and found.st_uid == os.getuid() and not found.st_mode & 0o022


def _make_link(target, link, folder):
    if os.path.islink(link) and os.readlink(link) == target:
        return
    # Made aside and renamed, so that a program starting right now finds the old link or the new one, never none.
    aside = tempfile.mktemp(prefix="new-", dir=folder)      # the folder is ours: nobody races for the name
    os.symlink(target, aside)
    os.rename(aside, link)


def environment(library, settings=(), stats=False, base=None):
    """The environment (bytes to bytes) for a command on Arenal. `settings` are "name=value" strings."""
    env = dict(inherited_environment() if base is None else base)
    first = os.fsencode(preload_name(library))
    others = [name for name in re.split(b"[ :]+", env.get(b"LD_PRELOAD", b"")) if name and name != first]
    env[b"LD_PRELOAD"] = b":".join([first] + others)
    if settings:
        words = [env[b"ARENAL_CONF"]] if env.get(b"ARENAL_CONF") else []
        env[b"ARENAL_CONF"] = b",".join(words + [os.fsencode(_tunable(word)) for word in settings])
    if stats:
        env[b"ARENAL_STATS"] = b"1"
    return env


def _tunable(word):
    name, equals, value = word.partition("=")
    if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_.]*", name) or not equals or not value or set(",: \t\n") & set(value):
        raise Failure(f"--set {word}: write it as name=value, without commas, colons or spaces", 125)
    return f"{name}:{value}"


def version(tool):
    """That in the header, where it is installed, as in a source tree; else the one that the installation wrote down; else what the library says,
    which makes this process look like one on Arenal."""
    try:
        with open(os.path.join(os.path.dirname(tool), installed.HEADERS, "arenal.h"), encoding="utf-8") as file:
            found = re.search(r'#define\s+ARENAL_VERSION_STRING\s+"([^"]+)"', file.read())
        if found:
            return found.group(1)
    except OSError:
        pass
    if installed.VERSION:
        return installed.VERSION
    try:
        ask = ctypes.CDLL(find(tool)).arenal_version
    except (OSError, AttributeError) as error:
        raise Failure(f"the library cannot tell its version: {error}") from error
    ask.restype = ctypes.c_char_p
    return ask().decode()
