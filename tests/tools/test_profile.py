"""Tests of `arenal profile`: what it makes of a dump, and of a command."""

import contextlib
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import unittest
import urllib.error
import urllib.request

from profile_support import KEPT, LEAKED, LEAKED_IN_THREAD, LIVE, PPROF, PROFILED, STATIC, ProfileTest, words
from support import TOOL, environment

sys.path.insert(0, os.path.join(os.path.dirname(TOOL), "lib"))

SOURCE = os.path.join(os.path.dirname(os.path.abspath(__file__)), "profiled.c")
SHOW_FOLDERS = """
import os, stat
inner = os.path.dirname(os.environ["ARENAL_PROFILE_FILE"])
outer = os.path.dirname(inner)
print(inner, *(oct(stat.S_IMODE(os.stat(folder).st_mode)) for folder in (outer, inner)))
try:
    if os.getuid() == 0:
        os.setgroups([])
        os.setgid(65534)
        os.setuid(65534)
    print(os.listdir(outer))
except PermissionError:
    print("refused")
"""


class Profile(ProfileTest):
    def page(self, address):
        """Of a server that was started just now. Empty: it does not listen yet."""
        with contextlib.suppress(urllib.error.URLError), urllib.request.urlopen(address, timeout=30) as page:
            return page.read().decode()
        return ""

    # What the tool makes of it

    def test_the_list(self):
        path = self.dump_of()
        done = self.arenal("profile", path)
        self.assertEqual(done.returncode, 0)
        self.assertNotIn(os.path.basename(PROFILED), done.stderr)       # of libc, not all may be known
        rows = self.rows(done.stdout)
        self.assertEqual(rows["leak_here"], ("293K", 310, "293K"))
        self.assertEqual(rows["inlined"], ("4.8M", 1, "4.8M"))
        self.assertEqual(rows["keep_here"], ("0B", 0, "4.8M"))
        self.assertNotIn("use_here", rows)
        self.assertNotIn("malloc", rows)
        rows = self.rows(self.arenal("profile", "--total", path).stdout)
        self.assertEqual(rows["use_here"], ("195K", 100, "195K"))
        self.assertEqual(len(self.rows(self.arenal("profile", "--top", "1", path).stdout)), 1)

    def test_in_a_program_that_it_is_linked_into(self):
        """In hardened mode, where calls take another way, too."""
        for harden in ("0", "1"):
            rows = self.rows(self.arenal("profile", self.dump_of(STATIC, LD_PRELOAD=None, ARENAL_HARDEN=harden)).stdout)
            self.assertEqual(rows["leak_here"][:2], ("293K", 310))
            self.assertEqual(rows["inlined"][:2], ("4.8M", 1))

    def test_without_symbols(self):
        stripped = self.path("stripped")
        subprocess.run(["strip", "-o", stripped, PROFILED], check=True)
        rows = self.rows(self.arenal("profile", self.dump_of(stripped)).stdout)
        self.assertEqual(next(iter(rows.values()))[:2], ("4.8M", 1))
        self.assertRegex(next(iter(rows)), r"^stripped\+0x[0-9a-f]+$")
        self.assertNotIn("leak_here", rows)

    def test_of_a_program_that_was_replaced(self):
        copy = self.path("copy")
        shutil.copy(PROFILED, copy)
        path = self.dump_of(copy)
        os.remove(copy)
        shutil.copy("/bin/true", copy)
        self.assertRegex(next(iter(self.rows(self.arenal("profile", path).stdout))), r"^copy\+0x[0-9a-f]+$")

    def test_folded_stacks(self):
        folded = self.path("folded")
        self.assertEqual(self.arenal("profile", "--folded", folded, self.dump_of()).returncode, 0)
        with open(folded, encoding="utf-8") as file:
            lines = file.read().split("\n")
        self.assertEqual(lines.pop(), "")
        total = 0
        for line in lines:      # one line for each stack: names between semicolons, a space, a number
            self.assertRegex(line, r"^[^;\s][^;\t\r]*(;[^;\s][^;\t\r]*)* [1-9][0-9]*$")
            total += int(line.rpartition(" ")[2])
        self.assertEqual(len(lines), len({line.rpartition(" ")[0] for line in lines}))
        self.assertGreaterEqual(total, LIVE)
        self.assertLess(total, LIVE + 100000)   # libc's own
        self.assertTrue(any(line.endswith(f";main;work;leak_here {LEAKED}") for line in lines), lines)
        self.assertTrue(any(line.endswith(f";in_thread;leak_here {LEAKED_IN_THREAD}") for line in lines), lines)
        self.assertTrue(any(line.endswith(f";work;keep_here;inlined {KEPT}") for line in lines), lines)

    def test_pprof_s_format(self):
        path = self.path("heap.pb.gz")
        self.assertEqual(self.arenal("profile", "--pprof", path, self.dump_of()).returncode, 0)
        message = self.decoded(path)
        text = message.string_table
        self.assertEqual(text[0], "")
        kinds = [(text[t.type], text[t.unit]) for t in message.sample_type]
        self.assertEqual(kinds, [("alloc_objects", "count"), ("alloc_space", "bytes"), ("inuse_objects", "count"),
                                 ("inuse_space", "bytes")])
        self.assertEqual(text[message.default_sample_type], "inuse_space")
        self.assertEqual(message.period, 1)
        locations = {location.id: location for location in message.location}
        functions = {function.id: function for function in message.function}
        mappings = {mapping.id: mapping for mapping in message.mapping}
        with open(SOURCE, encoding="utf-8") as file:
            number = next(i for i, line in enumerate(file, 1) if "the line that leaks" in line)
        leak = next(s for s in message.sample if list(s.value) == [300, LEAKED, 300, LEAKED])
        location = locations[leak.location_id[0]]
        self.assertEqual(text[functions[location.line[0].function_id].name], "leak_here")
        self.assertEqual(os.path.basename(text[functions[location.line[0].function_id].filename]), "profiled.c")
        self.assertEqual(location.line[0].line, number)
        mapping = mappings[location.mapping_id]
        self.assertEqual(text[mapping.filename], PROFILED)
        self.assertTrue(mapping.memory_start <= location.address < mapping.memory_limit)
        notes = subprocess.run(["readelf", "-n", PROFILED], stdout=subprocess.PIPE, text=True, check=True).stdout
        self.assertIn(f"Build ID: {text[mapping.build_id]}\n", notes)
        keep = next(s for s in message.sample if list(s.value) == [1, KEPT, 1, KEPT])
        inlined = [text[functions[line.function_id].name] for line in locations[keep.location_id[0]].line]
        self.assertEqual(inlined, ["inlined", "keep_here"])

    @unittest.skipUnless(PPROF, "there is no pprof (Debian: golang-go)")
    def test_pprof_itself(self):
        path = self.path("heap.pb.gz")
        self.arenal("profile", "--pprof", path, self.dump_of())
        done = subprocess.run([PPROF, "-top", "-unit=b", path], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                              check=False)
        self.assertRegex(done.stdout, rf"(?m)^ *{LEAKED + LEAKED_IN_THREAD}B .* leak_here$")
        self.assertRegex(done.stdout, rf"(?m)^ *{KEPT}B .* inlined \(inline\)$")

    @unittest.skipUnless(PPROF, "there is no pprof (Debian: golang-go)")
    def test_pprof_s_flame_graph(self):
        """The page that it serves, whose script draws this tree: names, values, children."""
        path = self.path("heap.pb.gz")
        self.arenal("profile", "--pprof", path, self.dump_of())
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            address = f"127.0.0.1:{probe.getsockname()[1]}"
        server = subprocess.Popen([PPROF, f"-http={address}", "-no_browser", path], stdout=subprocess.DEVNULL,
                                  stderr=subprocess.DEVNULL)
        self.addCleanup(self.stop, server)
        text = self.await_(lambda: self.page(f"http://{address}/ui/flamegraph"), "pprof serves no flame graph")
        literal = re.search(r"\bdata = JSON\.parse\((\".*?\")\)", text)[1]
        root = json.loads(json.loads(literal))

        def values(node, names):
            """Of the nodes whose path from here has these names, in this order."""
            if not names:
                return [node["v"]]
            return [value for child in node.get("c") or []
                    for value in values(child, names[1:] if child["n"] == names[0] else names)]

        self.assertEqual(values(root, ["main", "work", "leak_here"]), [LEAKED])
        self.assertEqual(values(root, ["in_thread", "leak_here"]), [LEAKED_IN_THREAD])
        self.assertEqual(values(root, ["keep_here", "inlined"]), [KEPT])

    def test_stacks_that_are_not_told_apart(self):
        path = self.dump_of()
        with open(path, encoding="utf-8") as file:
            text = file.read()
        with open(path, "w", encoding="utf-8") as file:
            file.write(text.replace("stack ", "stack 7 7000000 9 9000000 0\nstack ", 1))
        folded, encoded = self.path("folded"), self.path("heap.pb.gz")
        done = self.arenal("profile", "--folded", folded, "--pprof", encoded, path)
        self.assertEqual(done.stderr, "")
        self.assertEqual(self.rows(done.stdout)["(other)"], ("6.7M", 7, "6.7M"))
        with open(folded, encoding="utf-8") as file:
            self.assertIn("(other) 7000000\n", file.read())
        message = self.decoded(encoded)
        sample = next(s for s in message.sample if list(s.value) == [9, 9000000, 7, 7000000])
        location = next(place for place in message.location if [place.id] == list(sample.location_id))
        function = next(f for f in message.function if f.id == location.line[0].function_id)
        self.assertEqual((message.string_table[function.name], location.mapping_id), ("(other)", 0))

    def test_without_protobuf(self):
        with open(self.path("sitecustomize.py"), "w", encoding="utf-8") as file:
            file.write("import sys\nsys.modules['google.protobuf'] = None\n")      # as if it were not there
        without = {"env": environment(PYTHONPATH="."), "cwd": self.folder}      # the folder's name has a colon in it
        self.assertEqual(self.arenal("profile", "--pprof", self.path("out"), self.dump_of(), **without).returncode, 0)
        self.assertEqual(len(self.decoded(self.path("out")).sample_type), 4)

    def test_options_that_make_no_sense(self):
        heap = self.dump_of()
        done = self.arenal("profile", "--top", "-3", heap)
        self.assertEqual((done.returncode, done.stdout), (2, ""))
        self.assertIn("from 0 to", done.stderr)
        for words in (["--root", "/nowhere"], ["--debug", self.folder, "--debug", "/nowhere"]):
            self.assert_sentence(self.arenal("profile", *words, heap), f"{words[-2]} /nowhere: there is no such folder")

    def test_dumps_that_are_none(self):
        with open(self.dump_of(), encoding="utf-8") as file:
            text = file.read()
        lines = text.splitlines(keepends=True)
        for name, content, word in (("short", text[:len(text) // 2], "cut short"), ("headless", "".join(lines[1:]), "is not"),
                                    ("newer", text.replace("profile 2", "profile 9", 1), "version 9"), ("empty", "", "is not"),
                                    ("odd", text.replace("stack ", "stick ", 1), "damaged"),
                                    ("words", text.replace("stack 1", "stack x", 1), "damaged"),
                                    ("no pid", "".join(lines[:2] + lines[3:]), "pid")):
            with open(self.path(name), "w", encoding="utf-8") as file:
                file.write(content)
            self.assert_sentence(self.arenal("profile", self.path(name)), name, word)
        self.assert_sentence(self.arenal("profile", self.path("missing")), "missing")
        self.assert_sentence(self.arenal("profile", "--folded", "/nowhere/x", self.path("heap")), "/nowhere/x")

    # With a command

    def test_a_command(self):
        done = self.arenal("profile", "--sample", "1", "--pprof", self.path("p.pb.gz"), "--", PROFILED)
        self.assertEqual(done.returncode, 3)
        self.assertEqual(self.rows(done.stderr)["leak_here"][:2], ("293K", 310))
        self.assertEqual(len(self.decoded(self.path("p.pb.gz")).sample_type), 4)
        self.assertEqual(self.arenal("profile").returncode, 2)
        self.assertEqual(self.arenal("profile", "--sample", "2G", "--", "true").returncode, 2)
        self.assertEqual(self.arenal("profile", "--sample", "1", "heap").returncode, 2)

    def test_a_command_s_dumps_are_nobody_else_s(self):
        """The command may change its user, so everybody may write where they are; but nobody else finds it."""
        done = self.arenal("profile", "--", sys.executable, "-c", SHOW_FOLDERS)
        inner, outer_mode, inner_mode, listed = done.stdout.split()
        self.assertGreaterEqual(len(os.path.basename(inner)), 20)
        self.assertEqual((outer_mode, inner_mode), ("0o711", "0o1777"))
        if os.getuid() == 0:
            self.assertEqual(listed, "refused")
        self.assertFalse(os.path.exists(os.path.dirname(inner)))

    def test_a_command_of_several_processes(self):
        done = self.arenal("profile", "--sample", "1", "--folded", self.path("out.folded"), "--", sys.executable,
                           "-c", f"import subprocess, sys; sys.exit(subprocess.call(['{PROFILED}']) + 2)")
        self.assertEqual(done.returncode, 5)
        self.assertEqual(done.stderr.count("Process "), 2, done.stderr)
        self.assertEqual(self.rows(done.stderr)["leak_here"][:2], ("293K", 310))
        names = sorted(os.listdir(self.folder))
        self.assertEqual(len(names), 2)
        self.assertRegex(names[0], r"^out\.\d+\.folded$")
        self.assertEqual(names[1], "out.folded")

    def test_a_command_that_is_killed(self):
        done = self.arenal("profile", "--", "sh", "-c", "kill -KILL $$")
        self.assertEqual(done.returncode, -9)
        self.assertEqual(len(done.stderr.splitlines()), 1, done.stderr)
        self.assertIn("wrote no profile", done.stderr)


if __name__ == "__main__":
    unittest.main()
