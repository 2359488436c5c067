"""Runs a command with the heap profile on, and finds what its processes have written at their ends."""

import os
import re
import secrets
import shutil
import sys
import tempfile

from arenal import library, start


def run(tool, command, settings, stats, sample):
    """Returns the exit code of the command, negative when a signal ended it, its process, and a folder of dumps by process; it is
    all that is in the folder above it, which the caller removes."""
    outer = tempfile.mkdtemp(prefix="arenal-profile-")
    try:
        # The command may change its user, so everybody may write there: whoever knows its name, which nobody can list or guess.
        os.chmod(outer, 0o711)
        folder = os.path.join(outer, secrets.token_hex(16))
        os.mkdir(folder)
        os.chmod(folder, 0o1777)
        env = library.environment(library.find(tool), settings, stats)
        env[b"ARENAL_PROFILE"] = b"1"
        env[b"ARENAL_PROFILE_FILE"] = os.fsencode(os.path.join(folder, "%p"))
        if sample:
            env[b"ARENAL_PROFILE_SAMPLE"] = b"%d" % sample
        child = start.child(command, env)
        return start.wait(child), child, folder
    except BaseException:
        shutil.rmtree(outer, ignore_errors=True)
        raise


def dumps(folder, first):
    """Pairs of process and path, the command's own process first."""
    found = sorted((int(name) != first, int(name), os.path.join(folder, name)) for name in os.listdir(folder)
                   if re.fullmatch("[0-9]+", name))
    if not found or found[0][1] != first:
        print(f"arenal: process {first} wrote no profile: it ended by a signal, by _exit, or is not on Arenal", file=sys.stderr)
    return [(pid, path) for _, pid, path in found]
