"""fakeroot: a library that stands between a program and libc, with Arenal before it and behind it; dpkg-deb and tar under it."""

from support import ProgramTest, main

SCRIPT = r"""
mkdir -p tree/DEBIAN tree/usr
printf 'Package: tree\nVersion: 1\nArchitecture: all\nMaintainer: a <a@example.org>\nDescription: b\n' >tree/DEBIAN/control
for i in 1 2 3 4 5 6 7 8; do printf '%d\n' $i >tree/usr/file$i; chown $i:$((i + 1)) tree/usr/file$i; done
mknod tree/usr/null c 1 3
tar -c --sort=name --mtime=@0 -C tree . | tar -tv
SOURCE_DATE_EPOCH=0 dpkg-deb -b tree tree.deb | wc -l
dpkg-deb -c tree.deb | awk '{print $1, $2, $3, $6}'
id -u
"""


class Fakeroot(ProgramTest):
    needs = ("fakeroot-sysv", "dpkg-deb")
    user = "nobody"

    def work(self, run):
        return run.command("fakeroot-sysv", "sh", "-eu", "-c", SCRIPT).out


if __name__ == "__main__":
    main()
