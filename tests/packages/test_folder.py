"""What tools/packages does with the folder that it is given, and with other people's: in a tree of its own, with a cmake and a cpack that only
write down what they are asked for."""

import os
import shutil
import unittest

from support import ROOT, PackageTest, environment, main, ran

# As the real one, it fails in a folder that was configured for another machine.
CMAKE = r"""#!/bin/bash
set -eu
[ "$1" = --preset ] || exit 0
while [ "$1" != -B ]; do shift; done
mkdir -p "$2"
machine=native; case "$*" in *aarch64*) machine=aarch64 ;; esac
[ ! -e "$2/machine" ] || [ "$(cat "$2/machine")" = $machine ] || exit 1
echo $machine >"$2/machine"
"""
CPACK = r"""#!/bin/bash
set -eu
[ -z "${FAILS-}" ] || { echo 'cpack says no'; exit 1; }
while [ "$1" != -B ]; do [ "$1" != --config ] || build=$(dirname "$2"); shift; done
mkdir -p "$2/_CPack_Packages"
machine=$(cat "$build/machine"); debian=amd64; [ $machine = native ] || debian=arm64
for name in libarenal0_$VERSION-1_$debian.deb libarenal0-dbgsym_$VERSION-1_$debian.ddeb libarenal-dev_$VERSION-1_$debian.deb \
    arenal-tools_$VERSION-1_$debian.deb arenal-tools-dbgsym_$VERSION-1_$debian.ddeb arenal-$VERSION-linux-$machine.tar.gz; do
    echo new >"$2/$name"
done
"""
OTHERS = ("other_1.0_amd64.deb", "backup.tar.gz", "arenal-notes.tar.gz", "libarena_1_amd64.deb", "build.log", "build/CMakeCache.txt")


def names(version, debian="amd64", machine="native"):
    packages = [f"{name}_{version}-1_{debian}.deb" for name in ("libarenal0", "libarenal-dev", "arenal-tools")]
    symbols = [f"{name}-dbgsym_{version}-1_{debian}.ddeb" for name in ("libarenal0", "arenal-tools")]
    return sorted(packages + symbols + [f"arenal-{version}-linux-{machine}.tar.gz"])


class Folder(PackageTest):
    def setUp(self):
        self.tree = f"{self.folder()}/tree"
        os.makedirs(f"{self.tree}/tools/lib")
        os.makedirs(f"{self.tree}/programs")
        shutil.copy(f"{ROOT}/tools/packages", f"{self.tree}/tools")
        for name, text in (("tools/lib/packages.sh", "need_packages() { :; }\n"), ("programs/cmake", CMAKE), ("programs/cpack", CPACK)):
            with open(f"{self.tree}/{name}", "w", encoding="utf-8") as file:
                file.write(text)
            os.chmod(f"{self.tree}/{name}", 0o755)
        self.place = self.folder()
        os.chmod(self.place, 0o755)

    def packages(self, *words, version="2.0", status=0, as_nobody=False, **more):
        env = environment(PATH=f"{self.tree}/programs:{os.environ['PATH']}", VERSION=version, **more)
        as_whom = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"] if as_nobody else []
        return ran([*as_whom, f"{self.tree}/tools/packages", *words], status=status, env=env, cwd="/")

    def listed(self):
        return sorted(os.path.relpath(os.path.join(place, name), self.place) for place, _, files in os.walk(self.place) for name in files)

    def test_others_stay(self):
        """Files of others stay as they are, those of an earlier version of ours go, once there are new ones."""
        os.mkdir(f"{self.place}/build")
        for name in OTHERS:
            with open(f"{self.place}/{name}", "w", encoding="utf-8") as file:
                file.write("precious")
        self.packages(self.place, version="1.0")
        done = self.packages(self.place, version="2.0", status=1, FAILS="1")
        self.assertIn("cpack says no", done.stderr)
        self.assertEqual(self.listed(), sorted([*OTHERS, *names("1.0")]))
        said = self.packages(self.place, version="2.0").stdout
        self.assertEqual(self.listed(), sorted([*OTHERS, *names("2.0")]))
        self.assertEqual(sorted(line.rpartition("/")[2] for line in said.splitlines()), names("2.0"))
        for name in OTHERS:
            with open(f"{self.place}/{name}", encoding="utf-8") as file:
                self.assertEqual(file.read(), "precious", name)

    def test_links_are_not_followed(self):
        """In a folder of somebody else's, names may lead anywhere."""
        target = f"{self.folder()}/target"
        with open(target, "w", encoding="utf-8") as file:
            file.write("precious")
        for name in ("build.log", *names("2.0")):
            os.symlink(target, f"{self.place}/{name}")
        self.packages(self.place)
        with open(target, encoding="utf-8") as file:
            self.assertEqual(file.read(), "precious")
        self.assertFalse([name for name in names("2.0") if os.path.islink(f"{self.place}/{name}")])

    def test_machines(self):
        """Packages for another machine can be built between those of this one, and lie beside them."""
        for words in ((), ("--aarch64",), ()):
            self.packages(*words, self.place)
        self.assertEqual(self.listed(), sorted([*names("2.0"), *names("2.0", "arm64", "aarch64")]))

    def test_default_folder(self):
        self.packages()
        self.packages("--aarch64")
        self.assertEqual(sorted(os.listdir(f"{self.tree}/build/packages")), names("2.0"))
        self.assertEqual(sorted(os.listdir(f"{self.tree}/build/packages-aarch64")), names("2.0", "arm64", "aarch64"))

    @unittest.skipIf(os.getuid() != 0, "only root can be followed by another user")
    def test_another_user(self):
        """Where another user has built before, a sentence, and no old packages as if they were new."""
        os.chmod(os.path.dirname(self.tree), 0o755)
        self.packages(self.place)
        os.chmod(self.place, 0o777)
        done = self.packages(self.place, status=1, as_nobody=True)
        self.assertRegex(done.stderr, r"^tools/packages: cannot write to .*/build/package: .*\n$")
        self.assertEqual(done.stdout, "")
        os.chmod(self.place, 0o755)
        done = self.packages(self.place, status=1, as_nobody=True)
        self.assertRegex(done.stderr, r"^tools/packages: cannot write to .*\n$")


if __name__ == "__main__":
    main()
