"""What the tests of processes that mean harm share: every command has its sentence, soon."""

import json
import os
import subprocess
import time

from support import WORKLOAD, ToolTest

from arenal import elf   # noqa: E402
from arenal.profile import separate                # noqa: E402

WORDS = [WORKLOAD, "4", "2", "2", "2"]
AT_ONCE = 10.0          # seconds for a command, its start on a busy machine included: it waits for less than one
NO_NAMESPACES = subprocess.run(["unshare", "-U", "-m", "-r", "true"], stderr=subprocess.DEVNULL, check=False).returncode != 0


class HostileTest(ToolTest):
    @staticmethod
    def looks(path):
        """What is read of files for the names in profiles."""
        def at(function, *arguments):
            def look():
                with open(path, "rb") as file:
                    return function(file, *arguments)
            return look
        return (at(elf.functions, range(0, 1 << 20, 64)), at(elf.build_id), at(elf.loads), at(elf.section, ".text"),
                at(elf.contents, ".comment"), at(separate.mini))

    def looked_at(self, pid, at_once=AT_ONCE):
        """What ps says about it; every command has its sentence, soon."""
        started = time.monotonic()
        row = next(row for row in json.loads(self.arenal("ps", "--json").stdout) if row["pid"] == pid)
        self.assertLess(time.monotonic() - started, at_once, "ps")
        return row

    def refused(self, pid, *words):
        for command in (["stats", str(pid)], ["stats", str(pid), "--resident"], ["ctl", str(pid), "get"], ["ctl", str(pid), "purge"],
                        ["ctl", str(pid), "profile", "dump", f"{self.folder}/dump"]):
            started = time.monotonic()
            self.assert_sentence(self.arenal(*command), *words)
            self.assertLess(time.monotonic() - started, AT_ONCE, command)
        self.assertFalse(os.path.exists(f"{self.folder}/dump"))
