"""Runs tools that read files of others, and that were not written for such: if we are root, as a user that nobody else is, with bounds to
memory, time and what they say."""

import os
import resource
import shutil
import subprocess
import tempfile
import time

from arenal import files

# Processes of one user may look into each other: so `nobody`, whom many are, will do only for what everybody may read. The other one is of
# no range that users are taken from (systemd's list of them: "Users, Groups, UIDs and GIDs on systemd systems"), and of this process.
NOBODY, OWN_USERS = 65534, 0x7F000000
REFUSED = "addr2line and c++filt were not run: root may not become another user here, and they are not to have root's rights"
MEMORY, ANSWER, COPY = 4 << 30, 32 << 20, 256 << 20
MODE_OTHERS_READ = 0o004


def ask(command, text, until, file=None, notes=None):
    """The lines that it answers to the text; none when it is not installed, or needs too much. `file`: it is given as its last word.
    `notes`: where is told, once, that nothing was run."""
    path = shutil.which(command[0])
    if not path or time.monotonic() >= until:
        return
    with tempfile.TemporaryFile() as questions, tempfile.TemporaryFile() as answers:
        questions.write(text.encode(errors="replace"))
        questions.seek(0)
        copy = _readable(file) if file else None
        if file and copy is None:
            return
        words, is_copy = [f"/proc/self/fd/{copy}"] if file else [], file and copy != file.fileno()
        users = _users(is_copy)
        try:
            subprocess.run([path, *command[1:], *words], stdin=questions, stdout=answers, stderr=subprocess.DEVNULL, check=False,
                           env={"LC_ALL": "C.UTF-8"}, pass_fds=[copy] if file else [], preexec_fn=lambda: _give_up(users),
                           timeout=until - time.monotonic())
        except (OSError, subprocess.TimeoutExpired):
            pass
        except subprocess.SubprocessError:      # of _give_up
            if notes is not None and REFUSED not in notes:
                notes.append(REFUSED)
        finally:
            if is_copy:
                os.close(copy)
        answers.seek(0)
        for line in answers:
            yield line.decode(errors="replace").rstrip("\n")


def _users(alone):
    """Whom the tool may run as, the best first; none: as we. In a user namespace without others, root is an ordinary user outside."""
    if os.geteuid() != 0:
        return []
    try:
        lines = files.head("/proc/self/uid_map", 1 << 16).split(b"\n")
        if sum(int(line.split()[2]) for line in lines if line) == 1:
            return []
    except (OSError, ValueError, IndexError):
        pass
    own = OWN_USERS + os.getpid()
    return [own] if alone else [own, NOBODY]


def _give_up(users):
    """What fails here, subprocess.SubprocessError is made of, and nothing is run."""
    for what, most in ((resource.RLIMIT_AS, MEMORY), (resource.RLIMIT_FSIZE, ANSWER), (resource.RLIMIT_CORE, 0)):
        hard = resource.getrlimit(what)[1]
        most = most if hard == resource.RLIM_INFINITY else min(most, hard)
        resource.setrlimit(what, (most, most))
    for user in users:
        try:
            os.setgroups([])
            os.setresgid(user, user, user)
            os.setresuid(user, user, user)
            return
        except OSError:         # a container may have no such user
            if user == users[-1]:
                raise


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
