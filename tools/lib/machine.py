"""What a measurement has to know about the machine: which libc, and who else uses its CPUs."""

import os
import platform
import re
import shutil
import subprocess


def our_libc():
    """The libc.so.6 that the servers use, too: preloading it puts its malloc in front of that of a linked jemalloc.
    None when this Python does not use glibc."""
    with open("/proc/self/maps") as maps:
        for line in maps:
            path = line.rstrip("\n").split(None, 5)[-1]
            if os.path.basename(path).startswith("libc.so") or os.path.basename(path).startswith("libc-"):
                return path
    return None


def cpu_seconds():
    """What all processes have used, what ours have used, and the time that there was."""
    with open("/proc/stat") as stat:
        ticks = [int(word) for word in stat.readline().split()[1:9]]
    tick = os.sysconf("SC_CLK_TCK")
    used = sum(ticks[:3]) / tick  # user, nice, system; interrupts cannot be told apart
    own = os.times()
    return used, own.user + own.system + own.children_user + own.children_system, sum(ticks) / tick


def others_share(before, after):
    """The share of the CPUs that other programs used between two calls of cpu_seconds."""
    used, ours, available = (end - start for start, end in zip(before, after))
    return max(0, used - ours) / available if available > 0 else 0


def describe():
    """What a reader of figures needs to know about where they come from."""
    return {"cpu": _cpu(), "cores": len(os.sched_getaffinity(0)),
            "memory_bytes": os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"), "kernel": platform.release(),
            "architecture": platform.machine(), "libc": os.confstr("CS_GNU_LIBC_VERSION"), "compiler": _compiler(),
            "transparent_hugepages": _chosen("/sys/kernel/mm/transparent_hugepage/enabled"),
            "governor": _first_line("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor")}


def _cpu():
    with open("/proc/cpuinfo", encoding="utf-8", errors="replace") as lines:
        found = re.search(r"^(?:model name|Model|cpu model)\s*:\s*(.+)$", lines.read(), re.MULTILINE)
    return " ".join(found.group(1).split()) if found else platform.machine()


def _compiler():
    if not shutil.which("gcc"):
        return None
    version = subprocess.run(["gcc", "-dumpfullversion"], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                             stderr=subprocess.DEVNULL, text=True).stdout.strip()
    return f"gcc {version}" if version else None


def _first_line(path):
    try:
        with open(path, encoding="utf-8") as file:
            return file.readline().strip() or None
    except OSError:
        return None


def _chosen(path):
    """"always [madvise] never" means madvise."""
    found = re.search(r"\[(.+)\]", _first_line(path) or "")
    return found.group(1) if found else None
