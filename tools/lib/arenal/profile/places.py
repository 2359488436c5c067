"""Where the files of a process are looked for: through the process itself while it runs, which has the files that were replaced since,
and those of its container; then below other root folders."""

import os
import re
import time

from arenal import facts, files, memfile, proc
from arenal.errors import Failure

DEBUG_FOLDER = "/usr/lib/debug"
DELETED = " (deleted)"
# For all that is read and asked about one profile. A process that somebody controls can have any number of files that take long.
SECONDS = 120


def plain_path(mapping):
    """Without what the kernel adds when the file has that name no more."""
    return mapping.path[:-len(DELETED)] if mapping.path.endswith(DELETED) else mapping.path


class Places:
    """For one dump. `pid`: the process, if its dump has another number (that of its container); `root`: of a folder that has its files;
    `debug`: folders that are laid out like /usr/lib/debug; `since`: when it started at the earliest."""

    def __init__(self, dump, pid=None, root=None, debug=(), since=0):
        self.dump, self.since, self.until = dump, since, time.monotonic() + SECONDS
        self.process = next((one for one in (pid, dump.pid) if one and self._is_it(one)), None)
        if pid and self.process != pid:
            raise Failure(f"process {pid} is not the one that this profile is of, or may not be looked at")
        self.roots = [root or "/"]
        if self.process:
            self.roots.insert(0, f"{facts.folder(self.process)}/root")
        self.debug = [("/", os.path.abspath(folder)) for folder in debug]
        self.debug += [(root, DEBUG_FOLDER) for root in dict.fromkeys(["/", *reversed(self.roots)])]

    def _is_it(self, pid):
        """Has this process, which may be another one by now, mapped the same files to the same places?"""
        code = {(m.start, plain_path(m)) for m in self.dump.mappings if m.path.startswith("/") and "x" in m.perms}
        try:
            now = proc.parse_mappings(files.head(f"{facts.folder(pid)}/maps", proc.MAPS_LIMIT))
        except OSError:
            return False
        return sum((m.start, plain_path(m)) in code for m in now) * 2 > len(code)

    def is_late(self):
        return time.monotonic() > self.until

    def open(self, mapping):
        """Pairs of a root folder and an open file, which may be the one that was mapped; or of None and the OSError. The caller closes."""
        if self.process:
            found = self._try(self.roots[0], files.regular, f"/proc/{self.process}/map_files/{mapping.start:x}-{mapping.end:x}")
            if found[0]:                # only root may
                yield found
        for root in self.roots:
            yield self._try(root, files.inside, root, plain_path(mapping))

    @staticmethod
    def _try(root, function, *arguments):
        try:
            return root, open(function(*arguments), "rb")
        except OSError as error:
            return None, error
        except ValueError:
            return None, OSError("its name makes no sense")

    def number_inside(self):
        """The number that the process has for itself."""
        if self.process:
            try:
                status = files.head(f"/proc/{self.process}/status", 1 << 16)
            except OSError:
                return self.process
            found = re.search(rb"^NSpid:.*\s(\d+)$", status, re.M)
            return int(found[1]) if found else self.process
        return self.dump.pid

    def owners(self):
        """Whose files may say something about the process."""
        found = {0, os.geteuid(), *self.dump.owners}
        if self.process:
            try:
                found |= memfile.owners(self.process)
            except (OSError, ValueError):
                pass
        return found

    def begin(self):
        """When the process started, in seconds since 1970, as far as we know."""
        started = facts.started(self.process) if self.process else None
        found = re.search(rb"^btime (\d+)$", files.head("/proc/stat", 1 << 22), re.M) if started else None
        return int(found[1]) + started / os.sysconf("SC_CLK_TCK") if found else self.since

    def changed_before(self):
        """Files that ran were not changed since, in seconds since 1970, as far as we know. By then a process that runs had mapped them,
        but for its plugins; of one that has ended, we know no more than when it wrote the dump."""
        return (self.begin() if self.process else 0) or self.dump.time
