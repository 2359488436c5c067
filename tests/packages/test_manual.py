"""The manual pages: all that --help, the library and its headers have is in them, and nothing that reads such pages has a complaint."""

import glob
import gzip
import os
import re
import subprocess

from support import ROOT, PackageTest, environment, main, ran


def help_of(tool, *words):
    return ran([tool, *words, "--help"], env=environment(COLUMNS="300")).stdout


def commands_in(text):
    """Those that a help lists."""
    return re.findall(r"^    ([a-z]+) +\S", text, re.M)


class Manual(PackageTest):
    def setUp(self):
        self.root = self.unpacked()
        self.tool = f"{self.root}/usr/bin/arenal"
        self.pages = sorted(glob.glob(f"{glob.escape(self.root)}/usr/share/man/man*/*.gz"))

    def text(self, name, section):
        """As a reader sees it, with one space between words."""
        path = f"{self.root}/usr/share/man/man{section}/{name}.{section}.gz"
        shown = ran(["man", "--no-hyphenation", "--no-justification", "-l", path], env=environment(MANWIDTH="200", PAGER="cat")).stdout
        shown = re.sub(r".\x08", "", shown)
        return " ".join(shown.split())

    def assert_words(self, words, text, where):
        for word in words:
            self.assertRegex(text, rf"(?<![\w-]){re.escape(word)}(?![\w-])", f"{word} is not in {where}")

    def test_commands(self):
        whole = help_of(self.tool)
        main_page = self.text("arenal", 1)
        names = commands_in(whole)
        self.assertGreaterEqual(len(names), 11, whole)
        self.assert_words([f"arenal-{name}(1)" for name in names], main_page + " ", "arenal(1)")
        self.assert_words(re.findall(r"--[a-z-]+", whole), main_page, "arenal(1)")
        for name in names:
            helps = self.helps(name)
            text = self.text(f"arenal-{name}", 1)
            for said in helps:
                self.assert_words(re.findall(r"(?<![\w-])--?[a-z][a-z-]*", said), text, f"arenal-{name}(1)")
                # What is said above the options, too.
                description = " ".join(re.split(r"^(?:positional arguments|options):", said, flags=re.M)[0].partition("\n\n")[2].split())
                self.assertIn(description.replace("`", ""), text)

    def helps(self, name):
        """That of a command, and of the commands that it has."""
        first = help_of(self.tool, name)
        place = ["1"] if "PID ACTION" in first or name == "ctl" else []
        helps = [first]
        for action in commands_in(first) if place else []:
            said = help_of(self.tool, name, *place, action)
            helps.append(said)
            helps += [help_of(self.tool, name, *place, action, what) for what in commands_in(said)]
        return helps

    def test_tunables(self):
        """Those that a process on the library has."""
        env = environment(LD_PRELOAD=self.preloadable(), ARENAL_WINDOW="1")
        with subprocess.Popen(["sleep", "60"], env=env) as process:
            self.addCleanup(process.kill)
            done = ran([self.tool, "ctl", str(process.pid), "get"], status=None)
            for _ in range(500):
                if done.returncode == 0:
                    break
                done = ran([self.tool, "ctl", str(process.pid), "get"], status=None)
            process.kill()
        names = [line.split()[0] for line in done.stdout.splitlines()[1:]]
        self.assertIn("dirty_max", names, done.stderr)
        self.assert_words(names, self.text("arenal", 7), "arenal(7)")

    def test_links(self):
        """What only leads elsewhere in the README is not in the page, at the begin of a line either."""
        with open(f"{ROOT}/README.md", encoding="utf-8") as file:
            chapter = re.search(r"^## Tune it\n(.*?)(?=^## )", file.read(), re.S | re.M)[1]
        words = re.findall(r"\(\[([^]]*)\]\(", chapter)
        self.assertTrue(words)
        for one in words:
            self.assertNotIn(f"({one})", self.text("arenal", 7))

    def preloadable(self):
        """LD_PRELOAD takes no name with spaces."""
        folder = self.folder().replace(" ", "-") + ".d"
        os.mkdir(folder)
        link = f"{folder}/libarenal.so.0"
        self.addCleanup(os.rmdir, folder)
        os.symlink(self.library_in(self.root), link)
        self.addCleanup(os.unlink, link)
        return link

    def test_functions(self):
        """What the library exports under its own name is in arenal(3), and has a page that leads there."""
        table = ran(["nm", "-D", "--defined-only", self.library_in(self.root)]).stdout
        names = set(re.findall(r" T (arenal_\w+)", table))
        self.assertIn("arenal_purge", names)
        text = self.text("arenal", 3)
        self.assert_words([f"{name}(" for name in names], text.replace("(", "( "), "arenal(3)")
        for name in names:
            self.assertEqual(os.path.realpath(f"{self.root}/usr/share/man/man3/{name}.3.gz"),
                             os.path.realpath(f"{self.root}/usr/share/man/man3/arenal.3.gz"), f"{name}(3)")

    def test_structs(self):
        with open(f"{self.root}/usr/include/arenal/arenal.h", encoding="utf-8") as file:
            body = re.search(r"struct arenal_stats \{(.*?)\n\};", file.read(), re.S)[1]
        fields = re.findall(r"^\s+(?:size_t|uint64_t) (\w+);", body, re.M)
        self.assertIn("purged_total", fields)
        self.assert_words(fields, self.text("arenal", 3), "arenal(3)")

    def test_nobody_complains(self):
        self.assertGreater(len(self.pages), 20)
        for path in self.pages:
            if os.path.islink(path):
                self.assertTrue(os.path.exists(path), path)
                continue
            said = ran(["man", "--warnings", "-E", "UTF-8", "-l", path], env=environment(MANWIDTH="80", PAGER="cat"))
            self.assertEqual(said.stderr, "", path)
            with gzip.open(path, "rt", encoding="utf-8") as file:
                done = ran(["mandoc", "-Tlint", "-W", "warning"], status=None, input=file.read())
            self.assertEqual(done.stdout, "", path)


if __name__ == "__main__":
    main()
