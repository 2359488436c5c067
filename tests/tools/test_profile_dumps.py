"""Tests of what a process writes of its heap profile: the dump and the report of leaks at its end; dumps through the window."""

import contextlib
import glob
import os
import re
import stat
import subprocess
import sys
import unittest

from profile_support import CONTAINED, KEPT, LEAKED, PROFILED, STATIC, USED, ProfileTest, words
from support import LIBRARY, TOOL, environment

sys.path.insert(0, os.path.join(os.path.dirname(TOOL), "lib"))
from arenal import window, window_format        # noqa: E402
from arenal.profile import dump          # noqa: E402

MANY_STACKS = """
import json, sys
print("ready", flush=True)
sys.stdin.readline()
kept = []
def go(path, left):
    if left == 0:
        kept.append(json.loads("[1.5, {\\"a\\": 2.5}]"))
    elif path & 1:
        sorted([path], key=lambda path: go(path >> 1, left - 1) or 0)
    else:
        list(map(lambda path: go(path >> 1, left - 1), [path]))
for i in range(256):
    go(i, 8)
    go(i, i % 5)
print("done", flush=True)
sys.stdin.read()
"""
UNSHARE = ["unshare", "-U", "-m", "-r", "--propagation", "private"]
NO_NAMESPACES = subprocess.run([*UNSHARE, "true"], stderr=subprocess.DEVNULL, check=False).returncode != 0
# Ends under a filter of its own that kills for what writing a new file does not take. "heard": by libc's prctl; "own": by no function that
# could be heard.
FILTERED = """
import ctypes, os, struct, sys
numbers = {"x86_64": (316, 264, 82, 263, 87, 262, 4, 5, 6, 79, 91, 268, 89, 267, 73, 77, 27, 310, 434, 438, 318),
           "aarch64": (276, 38, 35, 79, 80, 17, 52, 53, 78, 32, 46, 232, 270, 434, 438, 278)}[os.uname().machine]
load, kill, allow = (0x20, 0, 0, 0), (0x06, 0, 0, 0x80000000), (0x06, 0, 0, 0x7fff0000)
code = [load, *((0x15, len(numbers) - i, 0, number) for i, number in enumerate(numbers)), allow, kill]
filter = ctypes.create_string_buffer(b"".join(struct.pack("<HBBI", *word) for word in code))
program = ctypes.create_string_buffer(struct.pack("<HxxxxxxQ", len(code), ctypes.addressof(filter)))
libc = ctypes.CDLL(None)
if sys.argv[1] == "heard":
    assert libc.prctl(38, 1, 0, 0, 0) == 0
else:
    assert libc.syscall({"x86_64": 157, "aarch64": 167}[os.uname().machine], 38, 1, 0, 0, 0) == 0
assert libc.syscall({"x86_64": 317, "aarch64": 277}[os.uname().machine], 1, 0, program) == 0
libc.exit(3)
"""


class AtTheEnd(ProfileTest):
    def test_the_dump_at_exit(self):
        found = dump.read(self.dump_of())
        self.assertEqual(found.sample, 1)
        by_size = {stack.counts[:2]: stack.counts[2:] for stack in found.stacks}
        self.assertEqual(by_size[300, LEAKED], (300, LEAKED))
        self.assertEqual(by_size[1, KEPT], (1, KEPT))
        self.assertIn((100, USED), [stack.counts[2:] for stack in found.stacks if stack.counts[:2] == (0, 0)])
        self.assertTrue(any(m.path == PROFILED and "x" in m.perms for m in found.mappings))

    def test_in_hardened_mode(self):
        rows = self.rows(self.arenal("profile", self.dump_of(ARENAL_HARDEN="1")).stdout)
        self.assertEqual(rows["leak_here"][:2], ("293K", 310))

    def test_a_file_for_each_process(self):
        done = subprocess.run(["sh", "-c", f"'{PROFILED}'; '{PROFILED}'"], check=False,
                              env=words(ARENAL_PROFILE="1", ARENAL_PROFILE_FILE=self.path("%p.heap")))
        self.assertEqual(done.returncode, 3)
        pids = [int(name.split(".")[0]) for name in os.listdir(self.folder)]
        self.assertGreaterEqual(len(pids), 2)
        for pid in pids:
            self.assertEqual(dump.read(self.path(f"{pid}.heap")).pid, pid)

    def test_a_file_that_cannot_be_written(self):
        for path, reason in (("/nowhere/heap", "No such file or directory"), (self.folder, "Is a directory"),
                             ("/dev/full", "It is a link, or no plain file"), ("/" + "x" * 1015, "File name too long"),
                             ("/dev/fd/77", "Bad file descriptor")):
            self.assertRegex(self.writes(path), rf"^arenal: the heap profile could not be written \({reason}\): /.*$")
        with open("/dev/full", "wb") as full:
            self.assertIn("(No space left on device): /dev/stdout", self.writes("/dev/stdout", stdout=full))

    def test_a_full_disk_leaves_what_was_there(self):
        """A limit of a file's length would end the process by a signal."""
        path = self.path("heap")
        with open(path, "w", encoding="utf-8") as file:
            file.write("old")
        self.assertIn("(File too large)", self.writes(path, ["sh", "-c", f"ulimit -f 1; '{PROFILED}'"]))
        self.assertEqual(os.listdir(self.folder), ["heap"])
        with open(path, encoding="utf-8") as file:
            self.assertEqual(file.read(), "old")
        self.assertEqual(self.writes(path), "")
        self.assertEqual(dump.read(path).sample, 512 << 10)

    @unittest.skipIf(NO_NAMESPACES, "user namespaces are not permitted here")
    def test_a_disk_that_is_really_full(self):
        script = f"mount -t tmpfs -o size=64k none '{self.folder}'; head -c 1M /dev/zero 2> /dev/null > '{self.path('fill')}'; env " \
                 f"LD_PRELOAD='{LIBRARY}' ARENAL_PROFILE=1 ARENAL_PROFILE_SAMPLE=1 ARENAL_PROFILE_FILE='{self.path('heap')}' " \
                 f"'{PROFILED}'; status=$?; ls -A '{self.folder}'; exit $status"
        done = subprocess.run([*UNSHARE, "sh", "-c", script], check=False, capture_output=True, text=True, env=environment())
        self.assertEqual((done.returncode, done.stdout), (3, "fill\n"), done.stderr)
        self.assertIn("(No space left on device)", done.stderr)

    def test_links_and_pipes_in_its_way(self):
        """Others may write to the directory, and guess the name."""
        path, victim = self.path("heap"), self.path("victim")
        for place in (lambda: os.symlink(victim, path), lambda: os.symlink(self.path("nowhere"), path), lambda: os.mkfifo(path)):
            with open(victim, "w", encoding="utf-8") as file:
                file.write("old")
            place()
            self.assertIn("(It is a link, or no plain file)", self.writes(path))
            with open(victim, encoding="utf-8") as file:
                self.assertEqual(file.read(), "old")
            os.remove(path)
            self.assertEqual(os.listdir(self.folder), ["victim"])
        os.link(victim, path)
        self.assertEqual(self.writes(path), "")
        with open(victim, encoding="utf-8") as file:
            self.assertEqual(file.read(), "old")

    def test_its_own_file_again_and_again(self):
        """Nobody else reads it, and whoever reads the old one goes on with that."""
        path = self.path("heap")
        self.assertEqual(self.writes(path, preexec_fn=lambda: os.umask(0)), "")
        self.assertEqual(stat.S_IMODE(os.stat(path).st_mode), 0o600)
        with open(path, encoding="utf-8") as old:
            first = old.read(4096)
            self.assertEqual(self.writes(path), "")
            old.seek(0)
            self.assertEqual(old.read(4096), first)
        self.assertEqual(dump.read(path).sample, 512 << 10)

    def test_a_relative_name(self):
        """It is of the directory that the process was started in."""
        self.assertEqual(self.writes("heap", [sys.executable, "-c", "import os; os.chdir('/'); raise SystemExit(3)"],
                                     cwd=self.folder), "")
        self.assertEqual(os.listdir(self.folder), ["heap"])

    def test_under_a_filter_that_kills(self):
        """What is there then is not replaced."""
        for way in ("heard", "own"):
            path = self.path(way)
            for name in (path, way):
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(path)
                self.assertEqual(self.writes(name, [sys.executable, "-c", FILTERED, way], cwd=self.folder), "")
                self.assertGreater(len(dump.read(path).mappings), 3)
                self.assertEqual(stat.S_IMODE(os.stat(path).st_mode), 0o600)
            with open(path, "w", encoding="ascii") as file:
                file.write("earlier")
            self.assertIn("what is there is not replaced", self.writes(path, [sys.executable, "-c", FILTERED, way]))
            with open(path, encoding="ascii") as file:
                self.assertEqual(file.read(), "earlier")
            short = ["sh", "-c", 'ulimit -f 1; exec "$@"', "sh"]
            self.assertIn("(File too large)", self.writes(self.path("long"), [*short, sys.executable, "-c", FILTERED, way]))
            os.unlink(self.path("long"))

    def test_in_a_container_s_filter(self):
        """An earlier file is replaced as without."""
        path = self.path("heap")
        for _ in range(2):
            self.assertEqual(self.writes(path, [sys.executable, "-c", CONTAINED, PROFILED]), "")
            self.assertTrue(dump.read(path).stacks)
            with open(path, "w", encoding="ascii") as file:
                file.write("earlier")

    def test_its_own_descriptors(self):
        for name, option in (("/dev/stdout", "stdout"), ("/dev/fd/1", "stdout"), ("/dev/fd/0", "stdin")):
            with open(self.path("out"), "w+b") as out:
                self.assertEqual(self.writes(name, **{option: out}), "")
            self.assertEqual(dump.read(self.path("out")).sample, 512 << 10)

    def test_after_the_first_thread(self):
        """Its files in /proc are empty then."""
        path = self.dump_of(PROFILED, "last")
        self.assertEqual(self.rows(self.arenal("profile", path).stdout)["leak_here"][:2], ("293K", 310))
        done = subprocess.run([PROFILED, "last"], env=words(ARENAL_LEAKS="1", ARENAL_PROFILE_SAMPLE="1"), check=False,
                              stderr=subprocess.PIPE, text=True)
        self.assertIn(f"  {PROFILED}+0x", done.stderr)

    @unittest.skipIf(NO_NAMESPACES, "user namespaces are not permitted here")
    def test_without_proc(self):
        prefix = [*UNSHARE, "sh", "-c", 'mount -t tmpfs none /proc; exec "$@"', "sh"]
        for program in (PROFILED, STATIC):
            preload = {"LD_PRELOAD": None} if program == STATIC else {}
            path = self.dump_of(program, prefix=prefix, **preload)
            self.assertEqual(self.rows(self.arenal("profile", path).stdout)["leak_here"][:2], ("293K", 310))
        done = subprocess.run([*prefix, "env", "LD_PRELOAD=" + LIBRARY, PROFILED], check=False, stderr=subprocess.PIPE, text=True,
                              env=environment(ARENAL_LEAKS="1", ARENAL_PROFILE_SAMPLE="1"))
        address = re.search(r"in 300 blocks, allocated by:\n.*" + re.escape(PROFILED) + r"\+(0x[0-9a-f]+)", done.stderr)[1]
        named = subprocess.run(["addr2line", "-f", "-e", PROFILED, address], stdout=subprocess.PIPE, text=True, check=True).stdout
        self.assertIn("leak_here", named)

    def test_the_report_of_leaks(self):
        done = subprocess.run([PROFILED], env=words(ARENAL_LEAKS="1", ARENAL_PROFILE_SAMPLE="1"), check=False,
                              stderr=subprocess.PIPE, text=True)
        self.assertEqual(done.returncode, 3)
        head, *reports = re.split(r"\n(?=  about)", done.stderr)
        self.assertRegex(head, r"^arenal: at its end, process \d+ holds about \d+ bytes in \d+ blocks that it did not free")
        self.assertLessEqual(len(reports), 10)
        sizes = [int(re.match("  about ([0-9]+) bytes", report)[1]) for report in reports]
        self.assertEqual(sizes, sorted(sizes, reverse=True))
        self.assertEqual(sizes[:2], [KEPT, LEAKED])
        self.assertIn(" in 1 block, allocated by:", reports[0])
        self.assertIn(" in 300 blocks,", reports[1])
        for report, function in zip(reports, ("keep_here", "leak_here")):
            address = re.search(re.escape(PROFILED) + r"\+(0x[0-9a-f]+)", report)[1]
            named = subprocess.run(["addr2line", "-f", "-i", "-e", PROFILED, address], stdout=subprocess.PIPE, text=True,
                                   check=True).stdout
            self.assertIn(function, named)


class ThroughTheWindow(ProfileTest):
    def test_through_the_window(self):
        process = self.on_arenal(PROFILED, "wait")
        pid, path = str(process.pid), self.path("through the window")

        def ctl(*action):
            return self.arenal("ctl", pid, "profile", *action)

        def again():
            process.stdin.write("\n")
            process.stdin.flush()
            self.assertEqual(process.stdout.readline(), "done\n")
        again()
        self.assert_sentence(ctl("dump", path), "never on")
        self.assertEqual(ctl("start", "2G").returncode, 2)
        self.assertEqual(ctl("start", "1").returncode, 0)
        again()
        for _ in range(2):              # a second one is a file of its own
            self.assertEqual(ctl("dump", path).returncode, 0)
            self.assertEqual(self.rows(self.arenal("profile", path).stdout)["leak_here"][:2], ("293K", 310))
        self.assertEqual(ctl("stop").returncode, 0)
        again()
        self.assertEqual(ctl("dump", path).returncode, 0)
        self.assertEqual(self.rows(self.arenal("profile", path).stdout)["leak_here"][:2], ("293K", 310))
        self.assertEqual(ctl("start", "1").returncode, 0)
        self.assertEqual(ctl("dump", path).returncode, 0)
        self.assertNotIn("leak_here", self.arenal("profile", path).stdout)
        self.assert_sentence(ctl("dump", "/nowhere/x"), "/nowhere/x")
        self.assertEqual(stat.S_IMODE(os.stat(path).st_mode), 0o600)
        os.chmod(path, 0o640)
        self.assertEqual(ctl("dump", path).returncode, 0)
        self.assertEqual(stat.S_IMODE(os.stat(path).st_mode), 0o640)
        self.assertEqual(self.pipes_of_the_window(pid), [])

    def pipes_of_the_window(self, pid):
        links = []
        for name in glob.glob(f"/proc/{pid}/task/*/comm"):
            with open(name, encoding="utf-8") as comm:
                if comm.read() == "arenal-window\n":
                    links += [os.readlink(link) for link in glob.glob(os.path.dirname(name) + "/fd/*")]
        self.assertTrue(links)
        self.assertFalse([link for link in links if "arenal-profile" in link], links)
        return [link for link in links if link.startswith("pipe:")]

    def test_a_long_dump_through_the_window(self):
        """More than the pipe holds, of which the process keeps nothing; whoever does not read it is not waited for."""
        many = self.on_arenal(sys.executable, "-c", MANY_STACKS)
        path = self.path("many")
        self.assertEqual(self.arenal("ctl", str(many.pid), "profile", "start", "1").returncode, 0)
        many.stdin.write("\n")
        many.stdin.flush()
        self.assertEqual(many.stdout.readline(), "done\n")
        for _ in range(2):
            with window.Window(many.pid) as unread:
                unread._ask(window_format.PROFILE_DUMP, 0)             # pylint: disable=protected-access
                self.assertTrue(self.pipes_of_the_window(many.pid))
                self.assertEqual(unread.get("profile"), 0)      # within its limit
                self.assertEqual(self.pipes_of_the_window(many.pid), [])
                unread._ask(window_format.PROFILE_DUMP, 0)             # pylint: disable=protected-access
            done = self.arenal("ctl", str(many.pid), "profile", "dump", path)
            self.assertEqual((done.returncode, done.stderr), (0, ""))
            self.assertGreater(os.stat(path).st_size, 2 * 65536)
            self.assertGreater(len(dump.read(path).stacks), 500)
        self.assertEqual(self.pipes_of_the_window(many.pid), [])


if __name__ == "__main__":
    unittest.main()
