#!/usr/bin/env python3
"""stage.py GENERATOR FOLDER COMPONENT=PACKAGE...: makes what cpack has installed to FOLDER fit for packages.

Of Debian's: what debhelper would do, as the policy wants it. Each component lies in a folder of its own. Of the tarball: it may be unpacked
anywhere, and what must name a path names the one that the README proposes."""

import argparse
import datetime
import email.utils
import gzip
import os
import shutil
import subprocess
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, HERE)
import sources      # pylint: disable=wrong-import-position

TARBALL_PREFIX = "/opt/arenal"
NAMES_PATHS = (".service", ".bt")


def seconds(day):
    """From 1970 to a day."""
    return int(datetime.datetime.fromisoformat(day).replace(tzinfo=datetime.timezone.utc).timestamp())


def files_below(folder):
    for place, _, names in os.walk(folder):
        for name in names:
            yield os.path.join(place, name)


def rename(root, *pairs):
    """In the files that name paths: each old word becomes the new one."""
    for path in files_below(root):
        if path.endswith(NAMES_PATHS):
            with open(path, encoding="utf-8") as file:
                text = file.read()
            for old, new in pairs:
                text = text.replace(old, new)
            with open(path, "w", encoding="utf-8") as file:
                file.write(text)


def move(source, target):
    os.makedirs(os.path.dirname(target), exist_ok=True)
    os.rename(source, target)


def compress(path, data=None):
    if data is None:
        with open(path, "rb") as file:
            data = file.read()
        os.unlink(path)
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path + ".gz", "wb") as file:
        file.write(gzip.compress(data, 9, mtime=0))


def compress_manual(folder):
    for path in list(files_below(folder)):
        with open(path, "rb") as file:
            first = file.read(512)
        if not first.startswith(b".so "):
            compress(path)
            continue
        os.unlink(path)             # a page that is another one
        os.symlink(os.path.basename(first[4:].strip().decode()) + ".gz", path + ".gz")


def documents(root, package, options):
    """What the policy wants of each package."""
    folder = f"{root}/usr/share/doc/{package}"
    os.makedirs(folder, exist_ok=True)
    with open(f"{folder}/copyright", "w", encoding="utf-8") as file:
        file.write(copyright_text())
    compress(f"{folder}/changelog", sources.read("CHANGELOG.md").encode())
    entries = [f"arenal ({version}-{options.release}) unstable; urgency=medium\n\n  * Version {version}: changelog.gz has what is new.\n\n"
               f" -- {options.maintainer}  {email.utils.formatdate(seconds(day))}\n" for version, day in sources.versions()]
    compress(f"{folder}/changelog.Debian", "\n".join(entries).encode())
    for path in files_below(root):          # that it was made by a compiler
        if os.path.basename(path) == "arenal-trace" or (".so." in path and not os.path.islink(path)):
            subprocess.run([options.objcopy, "--remove-section=.comment", path], check=True)


def copyright_text():
    """LICENSE in the policy's format."""
    lines = sources.read("LICENSE").strip().split("\n")
    holder = lines[2].replace("Copyright (c) ", "")
    licence = "\n".join(f" {line}" if line else " ." for line in lines[4:])
    return ("Format: https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/\nUpstream-Name: Arenal\n\n"
            f"Files: *\nCopyright: {holder}\nLicense: Expat\n\nLicense: Expat\n{licence}\n")


def debian(options, packages):
    roots = {component: f"{options.folder}/{component}" for component in packages}
    # The name that a linker wants is the development package's; all others take the one that programs are linked with.
    library = f"usr/{options.libdir}/libarenal.so"
    soname = os.readlink(f"{roots['library']}/{library}")
    move(f"{roots['library']}/{library}", f"{roots['dev']}/{library}")
    for component, package in packages.items():
        root = roots[component]
        rename(root, (f"{root}/usr", "/usr"), ("/libarenal.so:", f"/{soname}:"))
        documents(root, package, options)
        compress_manual(f"{root}/usr/share/man")
    subprocess.run([options.objcopy, "--strip-debug", "--remove-section=.comment", "--enable-deterministic-archives",
                    f"{roots['dev']}/usr/{options.libdir}/libarenal.a"],
                   check=True)
    tools = roots["tools"]
    move(f"{tools}/usr/lib/systemd", f"{tools}/lib/systemd")
    os.rmdir(f"{tools}/usr/lib")
    overrides = f"{tools}/usr/share/lintian/overrides"
    os.makedirs(overrides)
    shutil.copy(os.path.join(HERE, "debian", "tools", "lintian-overrides"), f"{overrides}/{packages['tools']}")
    move(f"{tools}/usr/share/zsh/site-functions", f"{tools}/usr/share/zsh/vendor-completions")
    documents_of_tools = f"{tools}/usr/share/doc/arenal"
    os.unlink(f"{documents_of_tools}/CHANGELOG.md")     # it is changelog.gz
    for name in os.listdir(documents_of_tools):
        os.rename(f"{documents_of_tools}/{name}", f"{tools}/usr/share/doc/{packages['tools']}/{name}")
    os.rmdir(documents_of_tools)


def tarball(options):
    rename(options.folder, (options.folder, TARBALL_PREFIX))
    shutil.copy(os.path.join(sources.ROOT, "LICENSE"), options.folder)


def settle(folder):
    """Modes and times are the same, whoever has built it and when."""
    day = int(os.environ.get("SOURCE_DATE_EPOCH") or seconds(sources.versions()[0][1]))
    for place, folders, names in os.walk(folder):
        for name in folders + names:
            path = os.path.join(place, name)
            if not os.path.islink(path):
                os.chmod(path, 0o755 if os.path.isdir(path) or os.stat(path).st_mode & 0o111 else 0o644)
            os.utime(path, (day, day), follow_symlinks=False)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("generator")
    parser.add_argument("folder")
    parser.add_argument("packages", nargs="+")
    for name in ("maintainer", "release", "objcopy", "libdir"):
        parser.add_argument(f"--{name}", required=True)
    options = parser.parse_args()
    if options.generator == "DEB":
        debian(options, dict(pair.split("=") for pair in options.packages))
    else:
        tarball(options)
    settle(options.folder)


main()
