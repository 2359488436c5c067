"""Runs tools that read files of others, and that were not written for such: as nobody, if we are root, with bounds to memory, time and
what they say."""

import os
import resource
import shutil
import subprocess
import tempfile
import time

NOBODY = 65534
MEMORY, ANSWER, COPY = 4 << 30, 32 << 20, 256 << 20
MODE_OTHERS_READ = 0o004


def ask(command, text, until, file=None):
    """The lines that it answers to the text; none when it is not installed, or needs too much. `file`: it is given as its last word."""
    path = shutil.which(command[0])
    if not path or time.monotonic() >= until:
        return
    with tempfile.TemporaryFile() as questions, tempfile.TemporaryFile() as answers:
        questions.write(text.encode(errors="replace"))
        questions.seek(0)
        copy = _readable(file) if file else None
        if file and copy is None:
            return
        words = [f"/proc/self/fd/{copy}"] if file else []
        try:
            subprocess.run([path, *command[1:], *words], stdin=questions, stdout=answers, stderr=subprocess.DEVNULL, check=False,
                           env={"LC_ALL": "C.UTF-8"}, pass_fds=[copy] if file else [], preexec_fn=_give_up, timeout=until - time.monotonic())
        except (OSError, subprocess.SubprocessError):
            pass
        finally:
            if file and copy != file.fileno():
                os.close(copy)
        answers.seek(0)
        for line in answers:
            yield line.decode(errors="replace").rstrip("\n")


def _give_up():
    for what, most in ((resource.RLIMIT_AS, MEMORY), (resource.RLIMIT_FSIZE, ANSWER), (resource.RLIMIT_CORE, 0)):
        hard = resource.getrlimit(what)[1]
        most = most if hard == resource.RLIM_INFINITY else min(most, hard)
        resource.setrlimit(what, (most, most))
    if os.geteuid() == 0:
        try:
            os.setgroups([])
            os.setgid(NOBODY)
            os.setuid(NOBODY)
        except OSError:
            pass                # in a user namespace without others, root is an ordinary user outside


def _readable(file):
    """A descriptor of the file, or of a copy, that nobody may open anew. None: that would be too long."""
    about = os.fstat(file.fileno())
    if os.geteuid() != 0 or about.st_mode & MODE_OTHERS_READ:
        return file.fileno()
    if about.st_size > COPY:
        return None
    copy, at = os.memfd_create("arenal-copy", os.MFD_CLOEXEC), 0
    while at < about.st_size and (part := os.pread(file.fileno(), min(about.st_size - at, 1 << 20), at)):
        at += os.write(copy, part)
    return copy
