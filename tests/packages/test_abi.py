"""The binary interface is the one that is written down, and tools/abi sees what would break programs."""

import os
import re
import sys
import unittest

from support import CC, ROOT, PackageTest, main, ran

sys.path.insert(0, os.path.join(ROOT, "tools", "packaging"))
import sources      # pylint: disable=wrong-import-position

ABI = os.path.join(ROOT, "tools", "abi")


class Kept(unittest.TestCase):
    def test_kept(self):
        done = ran([ABI], status=None)          # the library that tools/packages built
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)

    def test_written_down(self):
        """Every function of the headers, with its types."""
        described = set(re.findall(r"elf-symbol-id='(\w+)'", sources.read("src", "abi", "libarenal.abi")))
        functions = sources.exported_by_headers()
        self.assertIn("arenal_heap_create", functions)
        self.assertEqual(set(functions) - described, set(), "tools/abi --update writes them down")


class Seen(PackageTest):
    """Of a library with the functions of the headers and no more."""

    def setUp(self):
        self.place = self.folder()
        self.header = sources.read("include", "arenal", "arenal.h")
        functions = [one for one in sources.declared() if "(" in one.prototype and one.header == "arenal.h"
                     and not one.prototype.startswith("struct " + one.name)]
        self.code = '#include <arenal/arenal.h>\n' + "".join(one.prototype.rstrip(";") + " { __builtin_trap(); }\n" for one in functions)
        self.dump = f"{self.place}/interface"
        self.abi(self.header, self.code, "--update")

    def abi(self, header, code, *options, more=("-g",)):
        os.makedirs(f"{self.place}/include/arenal", exist_ok=True)
        for name, text in (("include/arenal/arenal.h", header), ("library.c", code)):
            with open(f"{self.place}/{name}", "w", encoding="utf-8") as file:
                file.write(text)
        with open(f"{self.place}/known.c", "w", encoding="utf-8") as file:
            file.write("int arenal_known(void) { return 0; }\n")
        ran([CC, "-g", "-fPIC", "-c", f"{self.place}/known.c", "-o", f"{self.place}/known.o"])
        ran([CC, "-fPIC", "-shared", "-w", f"-I{self.place}/include", f"{self.place}/library.c", f"{self.place}/known.o", *more,
             "-o", f"{self.place}/library.so"])
        return ran([ABI, *options, "--dump", self.dump, f"{self.place}/library.so"], status=None)

    def changed(self, text, pattern, replacement):
        changed, count = re.subn(pattern, replacement, text)
        self.assertEqual(count, 1, pattern)
        return changed

    def test_additions_pass(self):
        self.assertEqual(self.abi(self.header, self.code).returncode, 0)
        more = self.code + "ARENAL_API int arenal_more(void) { return 0; }\n"
        self.assertEqual(self.abi(self.header, more).returncode, 0)
        longer = self.changed(self.header, r"(struct arenal_stats \{[^}]*\n)\};", r"\1\tuint64_t one_more;\n};")
        done = self.abi(longer, self.code)
        self.assertEqual(done.returncode, 0, done.stdout)
        longer = self.changed(self.header, r"(struct arenal_heap_stats \{[^}]*\n)\};", r"\1\tsize_t one_more;\n};")
        done = self.abi(longer, self.code)
        self.assertEqual(done.returncode, 0, done.stdout)

    def test_breaks_are_seen(self):
        removed = self.changed(self.code, r"size_t arenal_purge\(void\) \{[^}]*\}\n", "")
        wider = (self.changed(self.header, r"arenal_set\(const char \*name, int64_t value\)", "arenal_set(const char *name, int32_t value)"),
                 self.changed(self.code, r"arenal_set\(const char \*name, int64_t value\)", "arenal_set(const char *name, int32_t value)"))
        other = (self.changed(self.header, r"size_t arenal_purge", "int arenal_purge"), self.changed(self.code, r"size_t arenal_purge", "int arenal_purge"))
        for what, header, code in (
                ("a function less", self.header, removed),
                ("another parameter", *wider),
                ("another result", *other),
                ("a field between others", self.changed(self.header, r"\tsize_t cached;", "\tsize_t between;\n\tsize_t cached;"), self.code),
                ("a field less", self.changed(self.header, r"\tsize_t cached;", ""), self.code),
                ("another field of a heap", self.changed(self.header, r"\tsize_t blocks; ", "\tuint32_t blocks; "), self.code),
                ("a smaller field", self.changed(self.header, r"\tsize_t dirty; ", "\tuint32_t dirty; "), self.code)):
            with self.subTest(what):
                done = self.abi(header, code)
                self.assertEqual(done.returncode, 1, done.stdout + done.stderr)
                self.assertIn("tools/abi --help", done.stderr)

    def test_without_debug_information(self):
        """Of some functions only: nothing is known of what the compiler was not asked to describe."""
        for options in ([], ["--update"]):
            with self.subTest(options):
                done = self.abi(self.header, self.code, *options, more=("-g0",))
                self.assertEqual(done.returncode, 2, done.stdout + done.stderr)
                self.assertRegex(done.stderr, r"^tools/abi: .* has no debug information for .*\barenal_purge\b.*\n$")

    def test_libraries(self):
        done = self.abi(self.header, self.code, more=("-g", "-Wl,--no-as-needed", "-lm"))
        self.assertEqual(done.returncode, 1, done.stdout + done.stderr)
        self.assertIn("needs, beside libc: libm.so.6\n", done.stdout)

    def test_sentences(self):
        for arguments, words in (([f"{self.place}/none"], "there is no"), ([os.environ["TEST_LIBRARY"]], "no debug information"),
                                 (["--dump", f"{self.place}/none", f"{self.place}/library.so"], "tools/abi --update")):
            done = ran([ABI, *arguments], status=2)
            self.assertRegex(done.stderr, rf"^tools/abi: .*{words}.*\n$")


if __name__ == "__main__":
    main()
