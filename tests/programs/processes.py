"""What the tests of real programs know of the machine: programs and their versions, processes, ports."""

import glob
import os
import re
import shutil
import socket
import subprocess
import time

READY = 60                      # seconds for a server to come up, and to end
# The distribution's programs before those that a user has in other places.
PATH = "/usr/sbin:/usr/bin:/sbin:/bin:" + os.environ["PATH"]


def installed(name):
    """The path of a program, or of the newest file of a pattern; None where there is none."""
    if name.startswith("."):
        return name                                 # of the run's own folder
    if "/" in name:
        return max(glob.glob(name), default=None)
    return shutil.which(name, path=PATH)


def program(name):
    path = installed(name)
    if not path:
        raise AssertionError(f"{name} is not installed")
    return path


def children(pid):
    found = []
    for path in glob.glob(f"/proc/{pid}/task/*/children"):
        try:
            with open(path, encoding="utf-8") as file:
                found += [int(child) for child in file.read().split()]
        except OSError:
            pass
    return found


def descendants(pid):
    found = []
    for child in children(pid):
        found += [child, *descendants(child)]
    return found


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def accepts(port):
    try:
        socket.create_connection(("127.0.0.1", port), timeout=5).close()
        return True
    except OSError:
        return False


def wait_for(condition, what, seconds=READY):
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            raise AssertionError(f"waited {seconds} seconds in vain for {what}")
        time.sleep(0.02)


def version(package):
    """The version of the newest Debian package whose name fits, without the parts that are Debian's."""
    shown = subprocess.run(["dpkg-query", "-W", "-f=${db:Status-Status} ${Version}\n", package], stdout=subprocess.PIPE,
                           stderr=subprocess.DEVNULL, text=True, check=False).stdout
    found = [line.split()[1] for line in shown.splitlines() if line.startswith("installed ")]
    return re.sub(r"^\d+:|[-+~](?:\d+[+~])?(?:dfsg|deb|ds|really).*$|-[^-]*$", "", max(found)) if found else ""
