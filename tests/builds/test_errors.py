"""What a build says that cannot be: one sentence, with the packages to install and how to go without; and tools/quickstart
says the same sentence, not a line beside it."""

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import unittest

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
CMAKE = os.environ.get("TEST_CMAKE", "cmake")
sys.path.insert(0, os.path.join(ROOT, "tools", "lib"))

from preparing import build_error  # noqa: E402

ALONE = ("-DARENAL_TESTS=OFF", "-DARENAL_BENCHMARKS=OFF")


class Configure(unittest.TestCase):
    """Each lacks one thing."""

    def setUp(self):
        self.directory = tempfile.mkdtemp(prefix="arenal-errors-")
        self.addCleanup(shutil.rmtree, self.directory)

    def configure(self, *options, **variables):
        """The only error of a configure step that fails."""
        environment = {name: value for name, value in os.environ.items() if name not in ("CC", "CXX", "CFLAGS", "CXXFLAGS")}
        done = subprocess.run([CMAKE, "-S", ROOT, "-B", os.path.join(self.directory, "build"), *options],
                              env={**environment, **variables}, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                              stderr=subprocess.PIPE, text=True, errors="replace", check=False)
        output = done.stderr + "\n\n" + done.stdout
        self.assertNotEqual(done.returncode, 0, output)
        self.assertEqual(len(re.findall("^CMake Error", output, re.M)), 1, output)
        return build_error(output)

    def assert_lacks(self, sentence, what, *packages):
        """`packages`: Debian's and Fedora's."""
        self.assertTrue(sentence.startswith(f"Arenal lacks {what}"), sentence)
        self.assertIn("(Debian: {}; Fedora: {}): ".format(*packages), sentence)
        self.assertRegex(sentence, r"install (it|one|them), (or go without by -|for )[^.]*\.$")

    def test_no_compiler(self):
        sentence = self.configure(*ALONE, CC="no-such-compiler")
        self.assert_lacks(sentence, "a C compiler that works", "gcc libc6-dev", "gcc glibc-devel")

    def test_no_cxx_compiler(self):
        sentence = self.configure(CXX="no-such-compiler")
        self.assert_lacks(sentence, "a C++ compiler that works", "g++", "gcc-c++")
        self.assertIn("-D ARENAL_TESTS=OFF -D ARENAL_BENCHMARKS=OFF", sentence)

    def test_no_make(self):
        sentence = self.configure("-GUnix Makefiles", "-DCMAKE_MAKE_PROGRAM=", *ALONE)
        self.assert_lacks(sentence, "make", "make", "make")

    def test_no_binutils(self):
        for tool in ("LINKER", "OBJCOPY", "READELF"):
            sentence = self.configure(f"-DCMAKE_{tool}=", *ALONE)
            self.assert_lacks(sentence, "ld, objcopy or readelf", "binutils", "binutils")

    def test_no_pkg_config(self):
        sentence = self.configure("-DCMAKE_DISABLE_FIND_PACKAGE_PkgConfig=ON")
        self.assert_lacks(sentence, "pkg-config", "pkg-config", "pkgconf-pkg-config")

    def test_no_cmocka(self):
        sentence = self.configure(PKG_CONFIG_LIBDIR=self.directory, PKG_CONFIG_PATH=self.directory)
        self.assert_lacks(sentence, "cmocka", "libcmocka-dev", "libcmocka-devel")

    def test_no_python(self):
        self.assert_lacks(self.configure("-DARENAL_TEST_PYTHON="), "Python 3", "python3", "python3")

    def other_platform(self, text):
        """A platform whose headers say `text`."""
        header = os.path.join(self.directory, "platform.h")
        with open(header, "w", encoding="utf-8") as file:
            file.write("#include <features.h>\n" + text)
        return self.configure(f"-DCMAKE_C_FLAGS=-include {header}", *ALONE)

    def test_other_libc(self):
        self.assertEqual(self.other_platform("#undef __GLIBC__\n#define __BIONIC__ 1\n"), "Arenal needs glibc or musl, and this is another libc.")

    def test_old_glibc(self):
        sentence = self.other_platform("#undef __GLIBC_MINOR__\n#define __GLIBC_MINOR__ 33\n")
        self.assertRegex(sentence, r"^Arenal needs glibc 2\.34 or newer to build \(.*\); it runs on 2\.28\.$")

    def test_32_bit(self):
        sentence = self.configure("-DCMAKE_C_FLAGS=-U__LP64__ -U__x86_64__ -U__aarch64__", *ALONE)
        self.assertEqual(sentence, "Arenal needs a 64-bit system, x86-64 or little-endian AArch64.")

    def test_read_only_checkout(self):
        file = os.path.join(self.directory, "build")
        with open(file, "w", encoding="utf-8"):
            pass
        self.assertRegex(self.configure(*ALONE), f"^[A-Z][^:]*: {re.escape(file)}[^ ]*$")


class Versions(unittest.TestCase):
    def test_least_cmake(self):
        with open(os.path.join(ROOT, "CMakePresets.json"), encoding="utf-8") as file:
            least = json.load(file)["cmakeMinimumRequired"]
        for path in ("CMakeLists.txt", "src/inner_names.cmake", "src/uninstall.cmake", "tests/linking/consumer.cmake"):
            with open(os.path.join(ROOT, path), encoding="utf-8") as file:
                self.assertRegex(file.read(), rf"(?m)^cmake_minimum_required\(VERSION {least['major']}\.{least['minor']}\)")


class Shown(unittest.TestCase):
    """What is shown of an output."""

    def test_reason_behind(self):
        self.assertEqual(build_error("-- The C compiler\nCMake Error: Could not find CMAKE_ROOT !!!\nCMake has most likely\n"),
                         "Could not find CMAKE_ROOT !!!")

    def test_reason_behind_and_below(self):
        self.assertEqual(build_error("Preset CMake variables:\n\n  CMAKE_BUILD_TYPE=\"Release\"\n\n"
                                     "CMake Error: Unable to (re)create the private pkgRedirects directory:\n/a b/pkgRedirects\n"),
                         "Unable to (re)create the private pkgRedirects directory: /a b/pkgRedirects")

    def test_paragraph_below(self):
        self.assertEqual(build_error("CMake Error at /a b/CMakeLists.txt:5 (message):\n  Arenal lacks make (Debian: make;\n"
                                     "  Fedora: make).\n\n\n-- Configuring incomplete, errors occurred!\n"),
                         "Arenal lacks make (Debian: make; Fedora: make).")

    def test_compiler(self):
        self.assertEqual(build_error("[ 10%] Building\nx.c:1:1: error: unknown type name 'a'\nmake: *** [x] Error 1\n"),
                         "x.c:1:1: error: unknown type name 'a'")

    def test_full_disk(self):
        self.assertEqual(build_error("cc: error: 1\nas: x.o: No space left on device\n"), "as: x.o: No space left on device")

    def test_nothing(self):
        self.assertEqual(build_error("\nKilled\n\n"), "Killed")
        self.assertEqual(build_error(""), "no message")


if __name__ == "__main__":
    unittest.main()
