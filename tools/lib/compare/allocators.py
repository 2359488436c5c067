"""The allocators that are compared: which there are, where Debian installed them, and how they are preloaded."""

import hashlib
import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass, field

from arenal import elf, peers
from compare.results import Failed
from machine import our_libc
from preparing import ROOT

# A peer as those run it who have read its manual: it gives memory back by itself, and sooner than after ten seconds.
TUNED = {"jemalloc-tuned": ("jemalloc", {"MALLOC_CONF": "background_thread:true,dirty_decay_ms:1000,muzzy_decay_ms:1000"})}
NAMES = ["arenal", "glibc", *peers.DEBIAN]
NAMES[NAMES.index("jemalloc") + 1:NAMES.index("jemalloc") + 1] = TUNED

# An entry of --allocators: as in a shell, variables may precede what they are for.
VARIABLE = r"([A-Za-z_]\w*)=('[^']*'|[^\s,']*)\s+"
ENTRY = r"\s*((?:[A-Za-z_]\w*=(?:'[^']*'|[^\s,']*)\s+)*)([^,]*)"


@dataclass
class Allocator:
    """What is compared. `library` is the file that malloc comes from, its real path."""

    name: str
    library: str = None
    version: str = ""
    own: bool = False       # Arenal, as opposed to its peers
    problem: str = None     # why it cannot be measured
    preload: str = None     # what LD_PRELOAD is set to: a path without spaces and colons that leads to the library
    package: str = None     # of Debian, when it is missing
    environment: dict = field(default_factory=dict)     # variables that it is run with
    named: bool = False     # its name says what it is: the variables need not

    def to_json(self):
        return {"name": self.name, "library": None if self.name == "glibc" else self.library, "version": self.version,
                "own": self.own, "problem": self.problem, "environment": self.environment}


def find(names, build_dir, scratch, given=()):
    """The allocators of these names or paths, in this order, then those of --allocator; what is not there has a problem."""
    found = find_all(names, build_dir)
    for allocator in found:
        same = [one for one in found if (one.name, one.environment) == (allocator.name, allocator.environment)]
        for one in same[1:]:  # two builds of one library: tell them apart by their folders
            one.name = f"{os.path.basename(os.path.dirname(one.library or ''))}/{one.name}"
    for allocator in found:
        if not allocator.named:
            allocator.name = " ".join([*(f"{name}={value}" for name, value in allocator.environment.items()), allocator.name])
    found += [_named(*one) for one in given]
    for other in [one for one in found if one.own][1:]:
        other.own = False  # Arenal beside itself: the first is compared with the others
    if len({one.name for one in found}) < len(found):
        raise Failed("the same allocator is named twice")
    for allocator in found:
        if not allocator.problem:
            allocator.preload = _preloadable(allocator.library, scratch)
            allocator.version = allocator.version or _told_version(allocator)
    return found


def find_all(names, build_dir=""):
    """Before anything is prepared to preload them."""
    found = []
    for entry in names:
        environment, name = variables(entry)
        found.append(_find_one(name, build_dir))
        found[-1].environment = {**found[-1].environment, **environment}
        found[-1].named &= not environment
    return found


def given(text):
    """(name, path, {variable: value}) of --allocator NAME=PATH.so[,VARIABLE=VALUE]...; a value with a comma in it needs ''
    around it. None when it is none of that."""
    match = re.fullmatch(r"([^=,\s]+)=([^,]+)((?:,[A-Za-z_]\w*=(?:'[^']*'|[^,']*))*)", text)
    if not match or match[1] in NAMES:
        return None
    return match[1], match[2], {name: value.strip("'") for name, value in re.findall(r",(\w+)=('[^']*'|[^,']*)", match[3])}


def _named(name, path, environment):
    found = _given(path)
    found.name, found.environment, found.named = name, environment, True
    return found


def entries(text):
    """The entries of --allocators, separated by commas; a comma in a variable's value needs '' around the value."""
    return [match.group(0)[:-1] for match in re.finditer(ENTRY + ",", text + ",")]


def variables(entry):
    """({variable: value}, name or path) of an entry."""
    words, name = re.match(ENTRY, entry).groups()
    return {variable: value.strip("'") for variable, value in re.findall(VARIABLE, words)}, name


def _find_one(name, build_dir):
    if name == "arenal":
        library = os.path.join(build_dir, "src", "libarenal.so")
        problem = None if os.path.exists(library) else f"not built: {os.path.relpath(library)} is missing"
        return Allocator(name, os.path.realpath(library), _own_version(build_dir), True, problem)
    if name == "glibc":
        # Preloaded, too, so that a program that is linked with another malloc (Debian's redis) uses it.
        library = our_libc()
        return Allocator(name, library and os.path.realpath(library), os.confstr("CS_GNU_LIBC_VERSION").split()[-1],
                         problem=None if library else "this Python does not use glibc")
    if name in TUNED:
        plain, environment = TUNED[name]
        found = _find_one(plain, build_dir)
        found.name, found.environment, found.named = name, dict(environment), True
        return found
    if name in peers.DEBIAN:
        path = peers.find(name)
        if path:
            return Allocator(name, os.path.realpath(path), _package_version(path))
        return Allocator(name, problem="not installed (tools/compare --install gets it)", package=_package(name))
    return _given(name)


def _given(path):
    name = os.path.basename(path)
    library = os.path.realpath(path)
    problem = None
    if not os.path.exists(library):
        problem = f"{path} is missing"
    elif not _is_elf(library):
        problem = f"{path} is no library"
    elif not _defines(library, ("malloc",)):
        problem = f"{path} defines no malloc: preloaded, it would leave libc's, whose figures these would be"
    return Allocator(name, library, "" if problem else _package_version(library), problem=problem)


def _own_version(build_dir):
    """What was built there: the project's version, and the revision of the sources that the build is of."""
    words, source = [], ROOT
    try:
        with open(os.path.join(build_dir, "CMakeCache.txt"), encoding="utf-8", errors="replace") as cache:
            text = cache.read()
        words += re.findall(r"^CMAKE_PROJECT_VERSION:\w+=(.+)$", text, re.MULTILINE)
        source = (re.findall(r"^CMAKE_HOME_DIRECTORY:\w+=(.+)$", text, re.MULTILINE) or [ROOT])[0]
    except OSError:
        pass
    words.append(revision(source, "--exclude=*"))
    return " ".join(word for word in words if word)


def revision(folder, *more):
    """The revision of a checkout; nothing for a folder that only lies in one."""
    top = _output("git", "-C", folder, "rev-parse", "--show-toplevel")
    if not top or os.path.realpath(top) != os.path.realpath(folder):
        return ""
    return _output("git", "-C", folder, "describe", "--always", "--dirty", *more)


def _package_version(path):
    """The version of the package that a library belongs to."""
    owner = _output("dpkg-query", "-S", os.path.realpath(path)).split(":")[0]
    version = _output("dpkg-query", "-W", "-f", "${Version}\n", owner).splitlines() if owner else []
    return version[0] if version else ""


# What those say of themselves that have a function for it.
VERSION_FUNCTIONS = ("mi_version", "tc_version", "mallctl")
VERSION_SCRIPT = """
import ctypes
library = ctypes.CDLL(None)
if hasattr(library, "arenal_version"):
    pass        # which says no more than that it is Arenal; its mallctl names a jemalloc that it is like
elif hasattr(library, "mi_version"):
    print("mimalloc", library.mi_version())
elif hasattr(library, "tc_version"):
    library.tc_version.restype = ctypes.c_char_p
    print(library.tc_version(None, None, None).decode())
elif hasattr(library, "mallctl"):
    text, size = ctypes.c_char_p(), ctypes.c_size_t(8)
    if library.mallctl(b"version", ctypes.byref(text), ctypes.byref(size), None, ctypes.c_size_t(0)) == 0:
        print("jemalloc", text.value.decode())
"""


def _told_version(allocator):
    """What a library that no package has says of itself; of one that says nothing, which file it is."""
    told = _ask_version(allocator) if _defines(allocator.library, VERSION_FUNCTIONS) else ""
    if told:
        return told
    with open(allocator.library, "rb") as file:
        return f"file {hashlib.sha256(file.read()).hexdigest()[:12]}"


def _is_elf(path):
    try:
        elf.symbol(path, "malloc")
        return True
    except (elf.NotElf, OSError):
        return False


def _defines(library, functions):
    try:
        return any(elf.symbol(library, name) for name in functions)
    except (elf.NotElf, OSError):
        return False


def _ask_version(allocator):
    try:
        done = subprocess.run([sys.executable, "-c", VERSION_SCRIPT], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                              stderr=subprocess.DEVNULL, text=True, errors="replace", timeout=20, check=False,
                              env={**os.environ, "LD_PRELOAD": allocator.preload})
    except subprocess.TimeoutExpired:
        return ""
    return dotted(done.stdout.strip()) if done.returncode == 0 else ""


def dotted(told):
    """What mimalloc says is a number: 209 is 2.0.9, 30403 is 3.4.3."""
    if not re.fullmatch(r"mimalloc \d+", told):
        return told
    number = int(told.split()[1])
    parts = str(number) if number < 10000 else (number // 10000, number // 100 % 100, number % 100)
    return "mimalloc " + ".".join(map(str, parts))


def _package(name):
    """The package to install: names differ between releases of Debian."""
    candidates = [package for _, packages in peers.DEBIAN[name] for package in packages]
    return next((package for package in candidates if _output("apt-cache", "show", package)), candidates[-1])


def _output(*command):
    """What a command prints; nothing when it fails or is not there."""
    if not shutil.which(command[0]):
        return ""
    done = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
                          text=True, errors="replace")
    return done.stdout.strip() if done.returncode == 0 else ""


def missing_packages(packages):
    """Those of Debian's packages that are not installed; none where there is no dpkg to ask."""
    if not packages or not shutil.which("dpkg-query"):
        return []
    return [package for package in packages
            if _output("dpkg-query", "-W", "-f", "${db:Status-Status}\n", package).split("\n")[0] != "installed"]


def _preloadable(library, scratch):
    """A path to the library that LD_PRELOAD can name: there, spaces and colons separate the entries, and $ begins a
    word of the dynamic linker's. Only then a link: a library may look for others where it lies."""
    if not re.search(r"[\s:$]", library):
        return library
    folder = os.path.join(scratch, f"preload-{len(os.listdir(scratch))}")
    os.mkdir(folder)
    link = os.path.join(folder, re.sub(r"[\s:$]", "_", os.path.basename(library)))
    os.symlink(library, link)
    return link
