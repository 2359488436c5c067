"""The files of programs: where they are, and whether another malloc can be put under them."""

import functools
import os
import shutil

from arenal import elf
from compare.results import Failed


def find_program(name):
    """The path of a program; servers live in sbin, which an ordinary user's PATH may lack."""
    path = shutil.which(name, path=os.environ.get("PATH", "") + ":/usr/bin:/usr/sbin")
    if not path:
        raise Failed(f"{name} is not installed" if "/" not in name else f"{name} is missing")
    return path


_tools = {}


def tool(name):
    if name not in _tools:
        _tools[name] = find_program(name)
    return _tools[name]


def locate(name, cwd, allocator=None):
    """Its path, looked up here rather than by `env`, whose words about a missing one are about itself."""
    path = find_program(name) if "/" not in name else os.path.join(cwd or os.getcwd(), name)
    if not os.path.exists(path):
        raise Failed(f"{name} is missing")
    if os.path.isdir(path) or not os.access(path, os.X_OK):
        raise Failed(f"{name} cannot be executed")
    if allocator and _brings_malloc(path):
        raise Failed(f"{os.path.basename(path)} does not use {allocator.name}: it is linked with a malloc of its own")
    return path


@functools.lru_cache(None)
def _brings_malloc(path):
    """Whether a program cannot be made to use another malloc, as it defines one or never sees the dynamic
    linker."""
    try:
        return elf.is_static_program(path) or elf.symbol(path, "malloc") is not None
    except (elf.NotElf, OSError):
        return False  # a script
