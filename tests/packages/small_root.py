"""A small Debian to install packages in: the essential packages of this machine and those that are named, with what they depend on and nothing
else, copied from where they are installed, with dpkg's records of them. It takes no network and some seconds."""

import os
import re
import subprocess
from collections import namedtuple

RECORDS = "/var/lib/dpkg"
# What nobody needs to run programs, and is much.
LEFT_OUT = re.compile("/usr/share/(doc|man|locale|info|zoneinfo|i18n)/.|/usr/lib/[^/]*/gconv/.|/usr/lib/python3[^/]*/(test|idlelib|lib2to3)/.")

Package = namedtuple("Package", "name stanza fields")


def installed():
    """The packages of this machine by name; those of other architectures are left out."""
    with open(f"{RECORDS}/status", encoding="utf-8") as file:
        stanzas = file.read().strip().split("\n\n")
    found = {}
    for stanza in stanzas:
        fields = dict(re.findall(r"^([A-Za-z-]+): *(.*(?:\n .*)*)$", stanza, re.M))
        if fields["Status"] == "install ok installed" and fields["Architecture"] in ("all", _architecture()):
            found[fields["Package"]] = Package(fields["Package"], stanza, fields)
    return found


def _architecture():
    return subprocess.run(["dpkg", "--print-architecture"], stdout=subprocess.PIPE, text=True, check=True).stdout.strip()


def closure(names, packages):
    """The essential ones, those of these names, and all that they depend on."""
    providers = {}
    for package in packages.values():
        for name in _names(package.fields.get("Provides", "")):
            providers.setdefault(name, package.name)
    wanted, todo = {}, [name for name, package in packages.items() if package.fields.get("Essential") == "yes"] + list(names)
    while todo:
        name = todo.pop()
        if name in wanted:
            continue
        wanted[name] = packages[name]
        for field in ("Pre-Depends", "Depends"):
            for clause in filter(None, packages[name].fields.get(field, "").split(",")):
                choices = [one if one in packages else providers.get(one) for one in _names(clause.replace("|", ","))]
                todo.append(next(choice for choice in choices if choice))
    return wanted


def _names(text):
    return [re.match(r"[^ (:]+", one.strip())[0] for one in text.split(",") if one.strip()]


def make(root, names):
    """Makes it in the folder `root`."""
    packages = closure(names, installed())
    for folder in ("bin", "sbin", "lib", "lib32", "lib64", "libx32"):
        if os.path.islink(f"/{folder}"):
            os.makedirs(f"{root}/{os.readlink(f'/{folder}')}", exist_ok=True)
            os.symlink(os.readlink(f"/{folder}"), f"{root}/{folder}")
    listed = subprocess.run(["dpkg-query", "-L", *packages], stdout=subprocess.PIPE, text=True, check=True).stdout
    files = sorted({line for line in listed.split("\n") if line.startswith("/") and line != "/." and os.path.lexists(line)
                    and not LEFT_OUT.match(line)})
    writer = subprocess.Popen(["tar", "-C", "/", "--no-recursion", "-cf", "-", "-T", "-"], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                              stderr=subprocess.DEVNULL)
    with subprocess.Popen(["tar", "-C", root, "--keep-directory-symlink", "-xpf", "-"], stdin=writer.stdout) as reader:
        writer.stdout.close()
        writer.stdin.write("\n".join(path[1:] for path in files).encode())
        writer.stdin.close()
    if writer.wait() or reader.returncode:
        raise RuntimeError("the files of installed packages could not be copied")
    _records(root, packages)
    for name in ("passwd", "group"):
        subprocess.run(["cp", f"/etc/{name}", f"{root}/etc/{name}"], check=True)


def _records(root, packages):
    """dpkg's."""
    for folder in ("info", "updates", "triggers", "alternatives", "parts"):
        os.makedirs(f"{root}{RECORDS}/{folder}", exist_ok=True)
    with open(f"{root}{RECORDS}/status", "w", encoding="utf-8") as file:
        file.write("".join(package.stanza + "\n\n" for package in packages.values()))
    names = [name for name in os.listdir(f"{RECORDS}/info") if name == "format" or re.split(r":|\.(?=[a-z0-9]+$)", name)[0] in packages]
    subprocess.run(["cp", *(f"{RECORDS}/info/{name}" for name in names), f"{root}{RECORDS}/info"], check=True)
    for name in ("File", "Unincorp"):
        with open(f"{root}{RECORDS}/triggers/{name}", "w", encoding="utf-8"):
            pass
    subprocess.run(["cp", f"{RECORDS}/triggers/ldconfig", f"{root}{RECORDS}/triggers"], check=True)


def inside(root):
    """The words in front of a command that runs in there, with processes of its own, without a network."""
    return ["unshare", "--mount", "--pid", "--net", "--fork", "--kill-child", f"--mount-proc={root}/proc",
            "sh", "-c", 'mount --bind /dev "$0/dev" && ip link set lo up 2>/dev/null; exec chroot "$0" "$@"', root]
