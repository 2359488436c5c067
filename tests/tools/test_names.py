"""Tests of the names in profiles: of stripped programs, of such as were replaced or are in a container; that no other file's names are taken,
and that what has none says why. What belongs to another user means harm."""

import lzma
import os
import shutil
import struct
import subprocess
import sys
import time
import unittest
import zlib
from unittest import mock

import pprof_reader
from names_support import IS_ROOT, PROFILED, NamesTest, run
from support import LIBRARY, as_nobody, environment

from arenal.profile import bounded, dump, places, stacks          # noqa: E402

UNSHARE = ["unshare", "-U", "-m", "-r", "-p", "-f", "--propagation", "private"]
NO_NAMESPACES = subprocess.run([*UNSHARE, "true"], stderr=subprocess.DEVNULL, check=False).returncode != 0

# Another root, with a program and a /tmp that nobody has outside.
JAIL = """
set -e
mount -t tmpfs none "$1"; cd "$1"; mkdir old only tmp; cp "$2" only/program; cp "$3" only/library.so
for place in /*; do
  case $place in /tmp | /old | /sys) continue;; esac
  if [ -L "$place" ]; then cp -d "$place" ".$place"; elif [ -d "$place" ]; then mkdir ".$place"; mount --rbind "$place" ".$place" || true; fi
done
pivot_root . old; cd /
LD_PRELOAD=/only/library.so ARENAL_WINDOW=1 exec /only/program wait
"""


class Names(NamesTest):
    def test_reports_tell_build_ids(self):
        """Those of errors and leaks, which people resolve by hand: with the first frame of each file."""
        said = subprocess.run([PROFILED], env=environment(LD_PRELOAD=LIBRARY, ARENAL_LEAKS="1", ARENAL_PROFILE_SAMPLE="1"), check=False,
                              stderr=subprocess.PIPE, text=True).stderr
        for stack in said.split("allocated by:")[1:]:
            lines = [line for line in stack.splitlines() if f" {PROFILED}+0x" in line]
            self.assertTrue(lines[0].endswith(f" (BuildId: {self.build_id()})"), said)
            self.assertNotIn("BuildId", "".join(lines[1:]))

    # Stripped programs

    def test_nothing_at_all(self):
        self.stripped()
        self.run_to_end()
        self.assert_unnamed("stripped, no debug file")

    def test_debug_file_by_build_id(self):
        self.stripped()
        self.run_to_end()
        found = dump.read(self.heap)
        build_id = next(found.objects[m.start] for m in found.mappings if m.path == self.program and m.start in found.objects)
        self.assertEqual(build_id, self.build_id())
        path = self.debug("debug", ".build-id", build_id[:2], f"{build_id[2:]}.debug")
        self.assert_named("--debug", self.path("debug"), lines=True)
        os.unlink(self.program)                                 # they are enough by themselves
        self.assert_named("--debug", self.path("debug"), lines=True)
        os.unlink(path)
        self.of_another(path)
        self.assert_unnamed("not found", "--debug", self.path("debug"))

    def test_debug_file_by_link(self):
        debug = self.debug("program.debug")
        self.stripped(f"--add-gnu-debuglink={debug}")
        self.run_to_end()
        self.assert_named(lines=True)
        os.mkdir(self.path("debug"))
        for place in ((".debug", "program.debug"), ("debug", self.folder[1:], "program.debug")):
            os.renames(debug, self.path(*place))
            debug = self.path(*place)
            self.assert_named("--debug", self.path("debug"), lines=True)
        os.renames(debug, self.path("program.debug"))
        with open(self.path("program.debug"), "ab") as file:
            file.write(b"x")
        self.assert_unnamed("another one's, by its checksum")
        os.unlink(self.path("program.debug"))
        os.mkfifo(self.path("program.debug"))
        self.assert_unnamed("no regular file")

    def test_a_link_that_leads_elsewhere(self):
        self.debug("elsewhere.debug")
        full = os.fsencode(self.path("elsewhere.debug"))
        for name in (b"../elsewhere.debug", b"../../../../../.." + full, b"..", b"x" * 5000, b"", full):
            link = name + b"\0" * (4 - len(name) % 4)
            with open(self.path("link"), "wb") as file, open(self.path("elsewhere.debug"), "rb") as debug:
                file.write(link + struct.pack("<I", zlib.crc32(debug.read())))
            os.makedirs(self.path("below", "x"), exist_ok=True)
            self.program = self.path("below", "program")
            self.stripped("--add-section", f".gnu_debuglink={self.path('link')}")
            self.run_to_end()
            self.assert_unnamed("")

    def mini(self, data):
        with open(self.path("mini.xz"), "wb") as file:
            file.write(data)
        self.stripped("--add-section", f".gnu_debugdata={self.path('mini.xz')}")
        self.run_to_end()

    def test_symbols_in_the_file_itself(self):
        debug = self.debug("program.debug")
        run("objcopy", "--strip-debug", debug, self.path("mini"))
        with open(self.path("mini"), "rb") as file:
            sound = lzma.compress(file.read())
        self.mini(sound)
        self.assert_named()
        self.mini(sound[:-20])
        self.assert_unnamed(".gnu_debugdata")
        self.mini(b"\xfd7zXZ\0" + bytes(1000))
        self.assert_unnamed(".gnu_debugdata")

    def test_symbols_that_grow_without_end(self):
        compressor, zeros = lzma.LZMACompressor(preset=0), bytes(1 << 20)
        self.mini(b"".join(compressor.compress(zeros) for _ in range(512)) + compressor.flush())
        self.assert_unnamed("too much", prefix=["prlimit", f"--as={400 << 20}"])

    # Files that are not those that ran

    def test_a_program_that_was_replaced(self):
        """Also by one in the same place of the disk, whose inode has the same number."""
        for in_place in (True, False):
            shutil.copy(PROFILED, self.program)
            self.run_to_end()
            self.assert_named(lines=True)
            self.of_another(self.path("new"))
            os.rename(self.path("new"), self.path("newer"))
            shutil.copyfile(self.path("newer"), self.program) if in_place else os.replace(self.path("newer"), self.program)
            self.assert_unnamed("replaced on disk since it was loaded")
            os.unlink(self.program)
            self.assert_unnamed("not found")

    def test_without_a_build_id(self):
        """Then times tell: that of the last change, for who replaces a file may give it any other."""
        run("objcopy", "--remove-section", ".note.gnu.build-id", PROFILED, self.program)
        self.run_to_end()
        self.assert_named(lines=True)
        with open(self.program, "r+b") as file:                 # as `cp -p` does
            self.of_another(self.path("new"))
            run("objcopy", "--remove-section", ".note.gnu.build-id", self.path("new"))
            with open(self.path("new"), "rb") as new:
                file.write(new.read())
                file.truncate()
        os.utime(self.program, (10 ** 9, 10 ** 9))
        self.insert("", ("time [0-9]+", f"time {int(time.time()) - 10}"))
        self.assert_unnamed("another file has its name now")

    def test_a_running_program_without_a_build_id(self):
        run("objcopy", "--remove-section", ".note.gnu.build-id", PROFILED, self.program)
        process = self.profiled([sys.executable, "-B", os.environ["TEST_TOOL"], "run", "--", self.program, "wait"])
        self.dump(process.pid)
        self.assert_named(lines=True)
        with mock.patch.object(places.Places, "begin", lambda _: time.time() - 100):        # it was there before the file was changed
            notes = stacks.Profile(dump.read(self.heap)).symbols.notes
        self.assertTrue([note for note in notes if note.startswith("no names for program: another file has its name now")], notes)

    def test_a_running_program_that_was_replaced(self):
        """Root reads the file that runs; others are told that it is gone."""
        shutil.copy(PROFILED, self.program)
        process = self.profiled([sys.executable, "-B", os.environ["TEST_TOOL"], "run", "--", self.program, "wait"])
        self.of_another(self.path("new"))
        os.replace(self.path("new"), self.program)
        self.dump(process.pid)
        if IS_ROOT:
            self.assert_named(lines=True)
        else:
            self.assert_unnamed("replaced on disk since it was loaded")
        os.unlink(self.program)
        self.dump(process.pid)
        if IS_ROOT:
            self.assert_named(lines=True)
        self.stop(process)
        self.assert_unnamed("deleted")

    def test_no_permission(self):
        os.mkdir(self.path("shut"))
        self.program = self.path("shut", "program")
        shutil.copy(PROFILED, self.program)
        self.run_to_end()
        os.chmod(self.heap, 0o644)
        os.chmod(self.program, 0o700)
        if not IS_ROOT:
            os.chmod(self.program, 0)
            self.assert_unnamed("no permission")
            return
        self.assert_named(lines=True)                           # addr2line may not open it: it gets a copy
        tool = self.copy_of_tool((os.environ["TEST_TOOL"], "tools/arenal"),
                                 (os.path.join(os.path.dirname(os.environ["TEST_TOOL"]), "lib"), "tools/lib"))
        self.assert_unnamed("no permission", tool=f"{tool}/tools/arenal", prefix=as_nobody())

    # In containers

    def profiled(self, command):
        """What it runs has its profile on, and has allocated."""
        process = self.start(command, env=environment())
        with open(f"/proc/{process.pid}/task/{process.pid}/children", encoding="ascii") as file:
            process.inner = int((file.read().split() or [process.pid])[0])
        self.await_(lambda: self.arenal("ctl", str(process.inner), "profile", "start", "1").returncode == 0, "it has no window")
        process.stdin.write("\n")
        process.stdin.flush()
        self.assertEqual(process.stdout.readline(), "done\n")
        return process

    def dump(self, pid):
        self.assertEqual(self.arenal("ctl", str(pid), "profile", "dump", self.heap).returncode, 0)

    @unittest.skipIf(NO_NAMESPACES, "user namespaces are not permitted here")
    def test_in_a_container(self):
        os.mkdir(self.path("jail"))
        process = self.profiled([*UNSHARE, "--kill-child", "sh", "-c", JAIL, "sh", self.path("jail"), PROFILED, LIBRARY])
        self.dump(process.inner)
        self.assertEqual(dump.read(self.heap).pid, process.inner)
        self.assert_named(lines=True)
        # What it makes at run time, it tells by its own number, in its own /tmp.
        self.insert("stack 1 777 1 777 7000010")
        with open(f"/proc/{process.inner}/root/tmp/perf-1.map", "w", encoding="ascii") as file:
            file.write("7000000 20 jitted inside\n")
        self.assertIn("jitted inside", self.assert_named(lines=True))
        os.utime(f"/proc/{process.inner}/root/tmp/perf-1.map", (10 ** 9, 10 ** 9))      # of one that had the number before
        functions, said = self.named()
        self.assertNotIn("jitted inside", functions)
        self.assertIn("older than the process", said)
        # As if it had written the dump itself.
        self.insert("", ("pid [0-9]+", "pid 1"))
        self.assert_unnamed("not found here")
        self.assert_named("--pid", str(process.inner), lines=True)
        self.assert_sentence(self.arenal("profile", "--pid", str(os.getpid()), self.heap), "is not the one")

    def test_below_another_root(self):
        shutil.copy(PROFILED, self.program)
        self.run_to_end()
        root = self.path("root", self.program[1:])
        os.renames(self.program, root)
        self.assert_unnamed("not found here")
        self.assert_named("--root", self.path("root"), lines=True)
        os.renames(root, self.path("root", "real"))
        os.makedirs(os.path.dirname(root))
        os.symlink("/../../real", root)                         # means the one below the root
        self.assert_named("--root", self.path("root"), lines=True)
        shutil.move(self.path("root", "real"), self.path("outside"))
        for target in (self.path("outside"), "../" * 30 + self.path("outside")[1:], os.path.basename(root)):
            os.unlink(root)
            os.symlink(target, root)
            self.assert_unnamed("", "--root", self.path("root"))

    # What is written for pprof

    def mapping(self, *options):
        path = self.path("heap.pb.gz")
        self.assertEqual(self.arenal("profile", "--pprof", path, *options, self.heap).returncode, 0)
        message = pprof_reader.read(self, path)
        found = next(m for m in message.mapping if message.string_table[m.filename] == self.program)
        inside = [location for location in message.location if location.mapping_id == found.id]
        self.assertTrue(inside)
        return ((found.has_functions, found.has_filenames, found.has_line_numbers, found.has_inline_frames),
                {bool(location.line) for location in inside}, message.string_table[found.build_id])

    def test_what_pprof_is_told(self):
        shutil.copy(PROFILED, self.program)
        self.run_to_end()
        flags, lines, build_id = self.mapping()
        self.assertEqual((flags, True in lines), ((True, True, True, True), True))
        run("objcopy", "--strip-debug", PROFILED, self.program)
        flags, _, same = self.mapping()
        self.assertEqual((flags, same), ((True, False, False, False), build_id))
        self.stripped()
        self.assertEqual(self.mapping(), ((False, False, False, False), {False}, build_id))
        os.unlink(self.program)
        self.assertEqual(self.mapping(), ((False, False, False, False), {False}, build_id))
        self.assertRegex(build_id, "^[0-9a-f]{40}$")

    # What reads the files of others

    def test_tools_have_no_rights_and_bounds(self):
        def ask(*words, limit=20.0):
            return list(bounded.ask(list(words), "text\n", time.monotonic() + limit))
        self.assertEqual(ask("cat"), ["text"])
        if IS_ROOT:
            self.assertEqual(ask("id", "-u") + ask("id", "-G"), [str(bounded.OWN_USERS + os.getpid())] * 2)
        started = time.monotonic()
        self.assertEqual(ask("sleep", "100", limit=0.2), [])
        self.assertLess(time.monotonic() - started, 10)
        self.assertLessEqual(sum(len(line) for line in ask("yes", "x" * 1000)), bounded.ANSWER)
        self.assertEqual(ask("sh", "-c", "ulimit -v"), [str(bounded.MEMORY // 1024)])
        self.assertEqual(ask("no such tool"), [])

    @unittest.skipUnless(IS_ROOT, "only root has rights to give up")
    def test_tools_of_root_that_may_not_give_up_its_rights(self):
        shutil.copy(PROFILED, self.program)
        self.run_to_end()
        for right in ("setgid", "setuid"):
            _, said = self.named(prefix=["setpriv", f"--bounding-set=-{right}"])
            self.assertEqual(said, f"arenal: {bounded.REFUSED}\n")
            self.assert_named(prefix=["setpriv", f"--bounding-set=-{right}"])

    @unittest.skipIf(NO_NAMESPACES, "user namespaces are not permitted here")
    def test_tools_of_a_root_that_has_no_others(self):
        shutil.copy(PROFILED, self.program)
        self.run_to_end()
        os.chmod(self.heap, 0o644)
        self.assert_named(prefix=["unshare", "-U", "-r"], lines=True)


if __name__ == "__main__":
    unittest.main()
