"""Debian's lintian finds nothing in the packages."""

import glob
import os

from support import PACKAGES, PackageTest, environment, file_of, main, ran


class Lintian(PackageTest):
    def test_packages(self):
        files = [file_of(package) for package in PACKAGES]
        done = ran(["lintian", "--allow-root", "--no-tag-display-limit", "--fail-on", "error,warning", *files], status=None,
                   env=environment(TMPDIR=self.folder()))
        self.assertEqual((done.returncode, done.stdout), (0, ""), done.stderr)

    def test_overrides_have_reasons(self):
        """A line that lets lintian pass over something has a comment in front of it."""
        for path in glob.glob(f"{glob.escape(self.unpacked())}/usr/share/lintian/overrides/*"):
            with open(path, encoding="utf-8") as file:
                lines = ["", *file.read().splitlines()]
            for before, line in zip(lines, lines[1:]):
                self.assertTrue(line.startswith("#") or before.startswith("#"), f"{os.path.basename(path)}: {line}")


if __name__ == "__main__":
    main()
