"""git: a history is made, packed by several threads, cloned and checked; names are hashes of the content, so equal
names mean equal content."""

import os
import random

from support import ProgramTest, main

WHO = {"GIT_AUTHOR_NAME": "A", "GIT_AUTHOR_EMAIL": "a@example.org", "GIT_AUTHOR_DATE": "1700000000 +0000",
       "GIT_COMMITTER_NAME": "C", "GIT_COMMITTER_EMAIL": "c@example.org", "GIT_COMMITTER_DATE": "1700000000 +0000",
       "GIT_CONFIG_NOSYSTEM": "1", "GIT_TERMINAL_PROMPT": "0"}
# Automatic gc goes to the background, where it would race with the test.
GIT = ["git", "-c", "gc.auto=0", "-c", "pack.threads=4", "-c", "init.defaultBranch=main"]
FILES, COMMITS = 150, 12


def fill(folder):
    """Writes a repository's worth of files."""
    rng = random.Random(1)
    os.makedirs(os.path.join(folder, "work", "sub"))
    for number in range(FILES):
        with open(os.path.join(folder, "work", "sub" if number % 3 else "", f"file{number}"), "w",
                  encoding="utf-8") as file:
            file.writelines(f"line {i}: {rng.randrange(10**6)}\n" for i in range(rng.randrange(1, 600)))


class Git(ProgramTest):
    needs = ("git",)

    def work(self, run):
        fill(run.folder)
        commands = [[*GIT, "init", "-q", "work"]]
        work = [*GIT, "-C", "work"]
        for number in range(COMMITS):
            change = f"for f in work/file* work/sub/file{number}*; do echo change {number} >> $f; done"
            commands += [["sh", "-c", change], [*work, "add", "-A"], [*work, "commit", "-qm", f"change {number}"]]
        commands += [
            [*work, "log", "--stat", "--format=%H %s"],
            [*work, "diff", "HEAD~5", "HEAD", "--shortstat"],
            [*work, "gc", "-q", "--aggressive", "--prune=now"],
            [*work, "fsck", "--full", "--strict"],
            [*work, "count-objects"],
            [*GIT, "clone", "-q", "--no-local", "work", "clone"],
            [*GIT, "-C", "clone", "rev-parse", "HEAD", "HEAD^{tree}"],
            [*GIT, "-C", "clone", "fsck", "--full"],
            [*GIT, "-C", "clone", "status", "--porcelain"],
            ["diff", "-r", "-x", ".git", "work", "clone"],
            [*GIT, "-C", "clone", "blame", "-s", "file0"],
            [*GIT, "-C", "clone", "grep", "-c", "change 11"],
        ]
        output = run.commands(*commands, env=WHO)
        self.assertIn("0 objects, 0 kilobytes\n", output, "everything is packed")
        self.assertIn(f"change {COMMITS - 1}\n", output)
        run.assert_loads("git", "--version")
        return output


if __name__ == "__main__":
    main()
