"""What the packages and the tarball hold, and what they say of themselves."""

import glob
import os
import re
import stat

from support import BUILT, FOLDER, PACKAGES, ROOT, PackageTest, environment, file_of, main, ran


def sections(path):
    return ran(["readelf", "--sections", "--wide", path]).stdout


def build_id(path):
    return re.search(r"Build ID: (\w+)", ran(["readelf", "-n", path]).stdout)[1]


class Debian(PackageTest):
    def names(self, package):
        """All that is in a package but folders, without the first slash."""
        root = self.unpacked(package)
        return sorted(os.path.relpath(os.path.join(place, name), root) for place, folders, names in os.walk(root)
                      for name in names + [one for one in folders if os.path.islink(os.path.join(place, one))])

    def assert_has(self, package, *patterns):
        names = self.names(package)
        for pattern in patterns:
            self.assertTrue(any(re.fullmatch(pattern, name) for name in names), f"{package} has no {pattern} but {names}")

    def assert_not_newer(self, path, version):
        """No symbol of libc that a file needs came after this version."""
        symbols = set(re.findall(r"\bGLIBC_([0-9.]+)", ran(["readelf", "--version-info", "--wide", path]).stdout))
        self.assertTrue(symbols)
        for symbol in symbols:
            ran(["dpkg", "--compare-versions", symbol, "le", version])

    def test_fields(self):
        with open(f"{ROOT}/include/arenal/arenal.h", encoding="utf-8") as file:
            version = re.search(r'ARENAL_VERSION_STRING "(.*)"', file.read())[1]
        for package in PACKAGES:
            self.assertEqual(self.field(package, "Version"), f"{version}-1")
            self.assertEqual(self.field(package, "Source"), "arenal")
            self.assertEqual(self.field(package, "Architecture"), ran(["dpkg", "--print-architecture"]).stdout.strip())
            self.assertNotIn("\n", self.field(package, "Description").partition("\n")[0])
        for package, value in (("libarenal0", "same"), ("libarenal-dev", "same"), ("arenal-tools", "foreign")):
            self.assertEqual(self.field(package, "Multi-Arch"), value)
        same = rf"libarenal0 \(= {re.escape(version)}-1\)"
        # What the README says; no function is of a newer one.
        with open(f"{ROOT}/README.md", encoding="utf-8") as file:
            oldest = re.search(r"with glibc ([0-9.]+) or newer", file.read())[1]
        self.assertEqual(self.field("libarenal0", "Depends"), f"libc6 (>= {oldest})")
        root = self.unpacked()
        self.assert_not_newer(self.library_in(root), oldest)
        self.assertRegex(self.field("libarenal-dev", "Depends"), rf"^{same}, libc6-dev$")
        self.assertRegex(self.field("arenal-tools", "Depends"), rf"^{same}, python3 \(>= 3\.8\), libc6 \(>= 2\.[0-9]+\)$")
        needed = re.search(r"libc6 \(>= ([0-9.]+)\)", self.field("arenal-tools", "Depends"))[1]
        self.assert_not_newer(f"{root}/usr/libexec/arenal/arenal-trace", needed)
        # That of packages for other machines, where nothing can tell.
        with open(f"{ROOT}/tools/packaging/packages.cmake", encoding="utf-8") as file:
            said = re.search(r'program_libc "libc6 \(>= ([0-9.]+)\)"', file.read())[1]
        ran(["dpkg", "--compare-versions", said, "ge", needed])
        # What the tools go without, saying so.
        self.assertEqual(set(self.field("arenal-tools", "Recommends").split(", ")), {"binutils", "libjs-chart.js", "python3-jinja2"})

    def test_files(self):
        machine = r"usr/lib/[a-z0-9_]+-linux-gnu"
        library = self.names("libarenal0")
        self.assertEqual([name for name in library if not name.startswith("usr/share/doc/libarenal0/")],
                         [name for name in library if re.fullmatch(machine + r"/libarenal\.so\.0(\.[0-9.]+)?", name)])
        self.assert_has("libarenal-dev", machine + r"/libarenal\.so", machine + r"/libarenal\.a", "usr/include/arenal/arenal.h",
                        machine + r"/pkgconfig/arenal\.pc", machine + r"/cmake/arenal/arenal-config\.cmake", r"usr/share/man/man3/arenal\.3\.gz")
        self.assert_has("arenal-tools", "usr/bin/arenal", "usr/libexec/arenal/arenal-trace", "lib/systemd/system/arenal.service",
                        "lib/systemd/system/arenal.socket", r"usr/share/man/man1/arenal\.1\.gz", r"usr/share/man/man7/arenal\.7\.gz",
                        "usr/share/bash-completion/completions/arenal", "usr/share/zsh/vendor-completions/_arenal",
                        r"usr/share/arenal/monitoring/arenal-rules\.yml", r"usr/share/arenal/bpftrace/.*\.bt", r"usr/share/doc/arenal-tools/README\.md")
        for package in PACKAGES:
            documents = f"usr/share/doc/{package}"
            self.assert_has(package, f"{documents}/copyright", rf"{documents}/changelog\.gz", rf"{documents}/changelog\.Debian\.gz")
            # Nothing is preloaded, enabled or configured by being installed.
            self.assertFalse([name for name in self.names(package) if name.startswith(("etc/", "usr/etc/", "var/"))])

    def test_modes(self):
        root = self.unpacked()
        for place, folders, names in os.walk(root):
            for name in folders + names:
                mode = os.lstat(os.path.join(place, name)).st_mode
                if not stat.S_ISLNK(mode):
                    self.assertIn(stat.S_IMODE(mode), (0o755,) if stat.S_ISDIR(mode) else (0o644, 0o755), os.path.join(place, name))

    def test_paths(self):
        """No file names the folder that the package was built in."""
        root = self.unpacked()
        for word in (FOLDER, ROOT, "_CPack_Packages"):
            found = ran(["grep", "-rlF", "--", word, root], status=None).stdout
            self.assertEqual(found, "", word)
        with open(f"{root}/lib/systemd/system/arenal.service", encoding="utf-8") as file:
            self.assertIn('ExecStart="/usr/bin/arenal" serve\n', file.read())
        without_dev = self.unpacked("libarenal0", "arenal-tools")
        named = set()
        for path in glob.glob(f"{glob.escape(without_dev)}/usr/share/arenal/bpftrace/*.bt"):
            with open(path, encoding="utf-8") as file:
                named.update(re.findall(r"(?:usdt|probe):(/[^:]*)", file.read()))
        self.assertEqual({os.path.exists(without_dev + library) for library in named}, {True}, named)

    def test_documents(self):
        """A link leads to what is there."""
        folder = f"{self.unpacked()}/usr/share/doc/arenal-tools"
        documents = glob.glob(f"{glob.escape(folder)}/*.md")
        self.assertIn("FIGURES.md", map(os.path.basename, documents))
        for document in documents:
            with open(document, encoding="utf-8") as file:
                text = file.read()
            for target in re.findall(r"\[[^\]]*\]\(([^)#\s]+)[^)]*\)", text):
                self.assertTrue("://" in target or os.path.exists(f"{folder}/{target}"), f"{os.path.basename(document)}: {target}")

    def test_symbols(self):
        """The library is stripped, but for what its own package of debug symbols has, by its build ID; tracers find its probes."""
        root = self.unpacked("libarenal0")
        library = self.library_in(root)
        built, = glob.glob(f"{glob.escape(BUILT)}/src/libarenal.so.0.*")
        self.assertNotRegex(sections(library), r"\.debug_|\.symtab")
        self.assertEqual(build_id(library), build_id(built))
        self.assertEqual(ran(["readelf", "-n", library]).stdout.count("stapsdt"), ran(["readelf", "-n", built]).stdout.count("stapsdt"))
        self.assertNotRegex(sections(glob.glob(f"{glob.escape(self.unpacked('arenal-tools'))}/usr/libexec/arenal/arenal-trace")[0]), r"\.debug_|\.symtab")
        folder = self.folder()
        for package, path in (("libarenal0", library), ("arenal-tools", None)):
            ran(["dpkg-deb", "-x", file_of(f"{package}-dbgsym", "ddeb"), folder])
            if path:
                number = build_id(path)
                debug = f"{folder}/usr/lib/debug/.build-id/{number[:2]}/{number[2:]}.debug"
                self.assertRegex(sections(debug), r"\.debug_info")
                said = ran(["addr2line", "-f", "-e", debug, "0x" + re.search(r"(\w+) T malloc\n", ran(["nm", "-D", path]).stdout)[1]]).stdout
                function, place = said.split()
                self.assertIn("malloc", function)
                self.assertRegex(os.path.normpath(place), r"^/usr/src/arenal/src/api/malloc\.[ch]:[0-9]+$")

    def test_code(self):
        """It is the code that is measured: release's, whatever debug information there is."""
        if os.environ["TEST_FLAGS"]:
            self.skipTest("this build has flags of its own for the compiler")
        texts = []
        for path in (os.environ["TEST_LIBRARY"], self.library_in(self.unpacked("libarenal0"))):
            text = f"{self.folder()}/text"
            ran(["objcopy", "-O", "binary", "--only-section=.text", path, text])
            with open(text, "rb") as file:
                texts.append(file.read())
        self.assertTrue(texts[0])
        self.assertEqual(texts[0], texts[1])


class Tarball(PackageTest):
    def test_unpacked_anywhere(self):
        archive, = glob.glob(f"{glob.escape(FOLDER)}/arenal-*-linux-*.tar.gz")
        folder = self.folder()
        ran(["tar", "-xzf", archive, "-C", folder])
        root, = glob.glob(f"{glob.escape(folder)}/*")
        self.assertEqual(os.path.basename(archive), os.path.basename(root) + ".tar.gz")
        self.assertRegex(ran([f"{root}/bin/arenal", "--version"]).stdout, r"^arenal [0-9.]+\n$")
        said = ran([f"{root}/bin/arenal", "run", "--", "cat", "/proc/self/maps"]).stdout
        self.assertRegex(said, r"libarenal")
        for name in ("LICENSE", "share/doc/arenal/README.md", "share/doc/arenal/CHANGELOG.md", "share/man/man7/arenal.7", "include/arenal/arenal.h"):
            self.assertTrue(os.path.exists(f"{root}/{name}"), name)
        with open(f"{root}/lib/systemd/system/arenal.service", encoding="utf-8") as file:
            self.assertIn('ExecStart="/opt/arenal/bin/arenal" serve\n', file.read())
        self.assertEqual(ran(["grep", "-rlF", "--exclude=*.so.0*", "--exclude=*.a", "--exclude=arenal-trace", "--", FOLDER, root], status=None).stdout, "")


if __name__ == "__main__":
    main()
