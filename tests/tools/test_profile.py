"""Tests of `arenal profile`, of `arenal ctl PID profile`, and of what a process writes at its end: the dump, the report of leaks.

With a sample of one byte in one, each block is a sample, and all numbers are exact."""

import contextlib
import glob
import gzip
import json
import os
import re
import shutil
import socket
import stat
import subprocess
import sys
import unittest
import urllib.error
import urllib.request

from support import DEADLINE, LIBRARY, TOOL, ToolTest, environment

sys.path.insert(0, os.path.join(os.path.dirname(TOOL), "lib"))
from arenal import window, window_format        # noqa: E402
from arenal.profile import dump, pprof          # noqa: E402

PROFILED = os.environ["TEST_PROFILED"]
STATIC = os.environ["TEST_PROFILED_STATIC"]
SOURCE = os.path.join(os.path.dirname(os.path.abspath(__file__)), "profiled.c")
PPROF = (glob.glob("/usr/lib/go-*/pkg/tool/*/pprof") + glob.glob("/usr/share/go-*/pkg/tool/*/pprof") + [None])[0]
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
# Runs a command under a filter that lets everything through, as containers have one.
CONTAINED = """
import ctypes, os, struct, sys
allow = ctypes.create_string_buffer(struct.pack("<HBBI", 0x06, 0, 0, 0x7fff0000))
prctl = ctypes.CDLL(None).prctl
assert prctl(38, 1, 0, 0, 0) == 0 and prctl(22, 2, struct.pack("<HxxxxxxQ", 1, ctypes.addressof(allow))) == 0
os.execv(sys.argv[1], sys.argv[1:])
"""
LEAKED, KEPT, USED = 300 * 1000, 5000000, 100 * 2000
LEAKED_IN_THREAD = 10 * 40
LIVE = LEAKED + LEAKED_IN_THREAD + KEPT


def words(**changes):
    return environment(**{"LD_PRELOAD": LIBRARY, **changes})


class Profile(ToolTest):
    def path(self, name):
        return os.path.join(self.folder, name)

    def dump_of(self, *program, prefix=(), **changes):
        """Runs the program to its end; where its dump is."""
        path = self.path("heap")
        changes = {"ARENAL_PROFILE": "1", "ARENAL_PROFILE_SAMPLE": "1", "ARENAL_PROFILE_FILE": path, **changes}
        env = [f"{name}={value}" for name, value in changes.items() if value is not None]
        preload = [] if "LD_PRELOAD" in changes else [f"LD_PRELOAD={LIBRARY}"]
        done = subprocess.run([*prefix, "env", *preload, *env, *(program or [PROFILED])], env=environment(), stderr=subprocess.PIPE,
                              text=True, check=False)
        self.assertEqual((done.returncode, done.stderr), (3, ""))
        return path

    def writes(self, path, command=(PROFILED,), **options):
        """Runs a program whose profile goes there. It ends as it would without, and says one line at most, which is returned."""
        done = subprocess.run(command, env=words(ARENAL_PROFILE="1", ARENAL_PROFILE_FILE=path), check=False, text=True,
                              stderr=subprocess.PIPE, timeout=DEADLINE, **options)
        self.assertEqual(done.returncode, 3)
        self.assertLessEqual(len(done.stderr.splitlines()), 1, done.stderr)
        return done.stderr

    def rows(self, text):
        """Of the list: from functions to (flat, blocks, with calls)."""
        found = {}
        for line in text.splitlines():
            match = re.fullmatch(r"\s*(\S+) +[0-9.]+ +([0-9,]+) +(\S+) +[0-9.]+  (.*)", line)
            if match:
                found[match[4]] = (match[1], int(match[2].replace(",", "")), match[3])
        return found

    def decoded(self, path):
        message = pprof.profile_class()()
        with gzip.open(path) as file:
            message.ParseFromString(file.read())
        return message

    def page(self, address):
        """Of a server that was started just now. Empty: it does not listen yet."""
        with contextlib.suppress(urllib.error.URLError), urllib.request.urlopen(address, timeout=30) as page:
            return page.read().decode()
        return ""

    # What a process writes

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
        heap = self.dump_of()
        self.assert_sentence(self.arenal("profile", "--pprof", self.path("out"), heap, **without), "python3-protobuf")
        self.assertEqual(self.arenal("profile", heap, **without).returncode, 0)

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

    # Through the window

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
