"""What is said to jemalloc, by MALLOC_CONF and in the program, counts where it has a counterpart; ours wins. And what goes out
in its formats: JSON, and dumps of the profile."""

import glob
import json
import os
import re
import shutil
import subprocess
import tempfile
import unittest

LIBRARY = os.environ["ARENAL_LIBRARY"]
PROBE = os.environ["PROBE"]
CONF_PROBE = os.environ["CONF_PROBE"]
EXACT = "prof:true,lg_prof_sample:12"      # so that blocks of a MiB are samples, as good as all of them


def run(*arguments, program=PROBE, status=0, folder=None, **variables):
    """The lines that the program prints, and all of what it says on stderr."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("ARENAL_", "MALLOC_"))}
    environment.update(variables, LD_PRELOAD=LIBRARY)
    done = subprocess.run([program, *arguments], env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                          stderr=subprocess.PIPE, text=True, check=False, cwd=folder)
    if done.returncode != status:
        raise AssertionError(f"{arguments}: status {done.returncode}, {done.stderr}")
    return done.stdout.splitlines(), done.stderr


def read(node, **variables):
    """One node; nothing may be said."""
    lines, said = run(node, **variables)
    if said or len(lines) != 1:
        raise AssertionError(f"{node}: {lines} {said}")
    return lines[0]


class Options(unittest.TestCase):
    def test_counterparts(self):
        for option, value, node in [
                ("dirty_decay_ms", "4000", "i:opt.dirty_decay_ms"), ("dirty_decay_ms", "-1", "i:arenas.dirty_decay_ms"),
                ("muzzy_decay_ms", "-1", "i:opt.muzzy_decay_ms"), ("muzzy_decay_ms", "0", "i:opt.muzzy_decay_ms"),
                ("background_thread", "false", "b:background_thread"), ("background_thread", "true", "b:opt.background_thread"),
                ("narenas", "5", "u:opt.narenas"), ("tcache", "false", "b:opt.tcache"), ("tcache_max", "0", "z:opt.tcache_max"),
                ("thp", "always", "s:opt.thp"), ("thp", "never", "s:opt.thp"), ("thp", "default", "s:opt.thp"),
                ("prof", "true", "b:prof.active"), ("lg_prof_sample", "12", "z:opt.lg_prof_sample"),
                ("prof_prefix", "/tmp/somewhere", "s:opt.prof_prefix"), ("prof_final", "false", "b:opt.prof_final")]:
            with self.subTest(option=option, value=value):
                self.assertEqual(read(node, MALLOC_CONF=f"{option}:{value}"), value)
        self.assertEqual(read("b:prof.active", MALLOC_CONF="prof:true,prof_active:false"), "false")
        self.assertEqual(read("b:opt.prof", MALLOC_CONF="prof:true,prof_active:false"), "true")

    def test_ours_wins(self):
        self.assertEqual(read("i:opt.dirty_decay_ms", MALLOC_CONF="dirty_decay_ms:4000", ARENAL_DECAY="300"), "300")
        self.assertEqual(read("i:opt.dirty_decay_ms", MALLOC_CONF="dirty_decay_ms:4000", ARENAL_CONF="decay:200"), "200")
        self.assertEqual(read("u:opt.narenas", MALLOC_CONF="narenas:3", MALLOC_ARENA_MAX="7"), "3")

    def test_what_has_none_is_ignored(self):
        for conf in "junk:true,retain:false,hpa:true,percpu_arena:percpu,bin_shards:1-4096:1", "prof_thread_active_init:false", ",,":
            self.assertEqual(read("i:opt.dirty_decay_ms", MALLOC_CONF=f"{conf},dirty_decay_ms:77"), "77", conf)

    def test_what_is_wrong_is_told_and_ignored(self):
        for conf in ("nonsense", "nonsense:7", "narenas:0x", "thp:perhaps", "dirty_decay_ms:", "prof_prefix:" + "x" * 300, "lg_prof_sample:",
                     "dirty_decay_ms:-2", "muzzy_decay_ms:-2", "narenas:0", "prof:1", "a" * 5000):
            lines, said = run("i:opt.dirty_decay_ms", MALLOC_CONF=f"junk:true,{conf},dirty_decay_ms:77")
            self.assertEqual(lines, ["77"], conf)
            self.assertEqual(said.splitlines(), [f'arenal: MALLOC_CONF: "{conf[:128]}" is no option of jemalloc\'s with a value that it may have; ignored'])
        _, said = run("s:version", MALLOC_CONF="nonsense:7,narenas:3,thp:perhaps")
        self.assertEqual(re.findall('"(.*?)"', said), ["nonsense:7", "thp:perhaps"])

    def test_names_and_numbers_as_jemalloc_has_them(self):
        for conf in ("process_madvise_max_batch:64", "calloc_madvise_threshold:4096", "huge_arena_pac_thp:true", "disable_large_size_classes:false",
                     "log:."):
            self.assertEqual(read("i:opt.dirty_decay_ms", MALLOC_CONF=f"{conf},dirty_decay_ms:0x4d"), "77", conf)
        for number, value in ("0X1f", "31"), ("017", "15"), ("0", "0"), ("0x7fffffffffffffff", "1000000000"):
            self.assertEqual(read("i:opt.dirty_decay_ms", MALLOC_CONF=f"dirty_decay_ms:{number}"), value, number)
        for number in "0x", "0xg", "08", "0x@", "0x8000000000000000", "0x10000000000000000":
            _, said = run("s:version", MALLOC_CONF=f"dirty_decay_ms:{number}")
            self.assertIn(f'"dirty_decay_ms:{number}"', said)

    def test_what_is_told_does_no_harm(self):
        """Neither by what is in it, nor where nobody reads it."""
        for variable in "MALLOC_CONF", "ARENAL_CONF", "ARENAL_DECAY":
            _, said = run("s:version", **{variable: "\x1b]0;x\x07\r\nJan  1 host sshd\x7f:1" + "y" * 1000})
            self.assertRegex(said, r'^arenal: [^\n]*"\?]0;x\?\?\?Jan  1 host sshd\?[^\n]*ignored\n\Z')
            for full in False, True:
                reader, writer = os.pipe()
                if full:
                    os.set_blocking(writer, False)
                    with self.assertRaises(BlockingIOError):
                        while True:
                            os.write(writer, b"x" * 4096)
                    os.set_blocking(writer, True)
                else:
                    os.close(reader)
                done = subprocess.run([PROBE, "s:version"], env={**os.environ, variable: "nonsense", "LD_PRELOAD": LIBRARY}, stdout=subprocess.PIPE,
                                      stderr=writer, check=False, timeout=30)
                os.close(writer)
                if full:
                    os.close(reader)
                self.assertEqual(done.returncode, 0, (variable, full))

    def test_abort_conf(self):
        _, said = run("s:version", status=-6, MALLOC_CONF="abort_conf:true,nonsense:7,narenas:3")
        self.assertRegex(said, r'^arenal: MALLOC_CONF: "nonsense:7" .*abort_conf')
        _, said = run("s:version", status=-6, MALLOC_CONF="narenas:many,abort_conf:true")
        self.assertIn('"narenas:many"', said)
        self.assertEqual(read("u:opt.narenas", MALLOC_CONF="abort_conf:true,retain:true,bin_shards:1-4096:1,narenas:3"), "3")

    def test_programs_say_it_themselves(self):
        self.assertEqual(run(program=CONF_PROBE)[0], ["3 2500"])
        self.assertEqual(run(program=CONF_PROBE, MALLOC_CONF="narenas:4")[0], ["4 2500"])
        self.assertEqual(run(program=CONF_PROBE, ARENAL_DECAY="9")[0], ["3 9"])

    def test_the_link(self):
        """/etc/malloc.conf, in an /etc of its own."""
        folder = tempfile.mkdtemp()
        self.addCleanup(shutil.rmtree, folder)
        os.symlink("narenas:6,dirty_decay_ms:123", os.path.join(folder, "malloc.conf"))
        inside = ["unshare", "-m", "sh", "-c", 'mount --bind "$0" /etc && exec "$@"', folder]
        if subprocess.run([*inside, "true"], stderr=subprocess.DEVNULL, check=False).returncode != 0:
            self.skipTest("no namespace of mounts may be made")
        nodes = "u:opt.narenas", "i:opt.dirty_decay_ms"
        for variables, told in [({}, ["6", "123"]), ({"MALLOC_CONF": "narenas:2"}, ["2", "123"]), ({"ARENAL_DECAY": "9"}, ["6", "9"])]:
            settings = [f"{name}={value}" for name, value in {**variables, "LD_PRELOAD": LIBRARY}.items()]
            done = subprocess.run([*inside, "env", *settings, PROBE, *nodes], stdout=subprocess.PIPE, text=True, check=False)
            self.assertEqual(done.stdout.splitlines(), told)

    def test_stats_print(self):
        self.assertIn("arenal 0.", run("s:version", MALLOC_CONF="stats_print:true")[1])


class Formats(unittest.TestCase):
    def setUp(self):
        self.folder = tempfile.mkdtemp()
        self.addCleanup(shutil.rmtree, self.folder)

    def test_json(self):
        _, text = run("s:version", "json:")          # stdio has a block by then
        told = json.loads(text)["jemalloc"]
        stats = told["stats"]
        self.assertTrue(0 < stats["allocated"] <= stats["active"] <= stats["resident"] <= stats["mapped"], stats)
        self.assertEqual(told["opt"]["dirty_decay_ms"], 1000)
        self.assertEqual(told["arenas"]["quantum"], 16)
        merged = told["stats.arenas"]["merged"]
        self.assertEqual(len(merged["bins"]), told["arenas"]["nbins"])
        self.assertGreater(sum(bin["curregs"] for bin in merged["bins"]), 0)
        self.assertEqual(set(told["stats.arenas"]) - {"merged"}, {str(i) for i in range(told["arenas"]["narenas"])})

    def check_dump(self, path, bytes_kept):
        with open(path, encoding="utf-8") as file:
            text = file.read()
        head = re.match(r"heap_v2/1\n  t\*: (\d+): (\d+) \[(\d+): (\d+)\]\n", text)
        self.assertIsNotNone(head, text[:200])
        self.assertTrue(bytes_kept <= int(head.group(2)) <= 1.02 * bytes_kept, head.group())
        stacks = re.findall(r"^@((?: 0x[0-9a-f]+)+)\n  t\*: (\d+): (\d+) \[\d+: \d+\]$", text, re.M)
        self.assertEqual(sum(int(stack[2]) for stack in stacks), int(head.group(2)))
        self.assertIn("\nMAPPED_LIBRARIES:\n", text)
        self.assertIn(os.path.basename(PROBE), text)

    def test_dumps(self):
        """On all the time, by a program's word; and at exit."""
        lines, said = run("keep:", "to:prof.dump=first", "do:prof.dump", "to:prof.prefix=other", "do:prof.dump",
                          "to:prof.dump=first", "to:prof.dump=no/such/folder", folder=self.folder,
                          MALLOC_CONF=f"{EXACT},prof_prefix:mine,prof_final:true")
        self.assertEqual(lines, ["error 0"] * 5 + ["error 14"])
        self.assertEqual(said, "")
        names = sorted(os.path.basename(name) for name in glob.glob(self.folder + "/*"))
        self.assertEqual([re.sub(r"\.\d+\.", ".PID.", name) for name in names],
                         ["first", "mine.PID.0.m0.heap", "other.PID.1.m1.heap", "other.PID.2.f.heap"])
        for name in names:
            self.check_dump(os.path.join(self.folder, name), 200 << 20)

    def test_no_profile_no_dump(self):
        self.assertEqual(run("keep:", "to:prof.dump=first", folder=self.folder)[0], ["error 2"])
        self.assertEqual(os.listdir(self.folder), [])

    def test_jeprof_reads_it(self):
        jeprof = shutil.which("jeprof")
        if jeprof is None or shutil.which("objdump") is None or shutil.which("addr2line") is None:
            self.skipTest("there is no jeprof (Debian: libjemalloc-dev), or no binutils")
        run("keep:", "to:prof.dump=heap", folder=self.folder, MALLOC_CONF=EXACT)
        done = subprocess.run([jeprof, "--text", PROBE, os.path.join(self.folder, "heap")], stdout=subprocess.PIPE,
                              stderr=subprocess.PIPE, text=True, check=False)
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertRegex(done.stdout, r"(?m)^Total: 200\.\d MB$")
        self.assertRegex(done.stdout, r"(?m) keep_memory$")


if __name__ == "__main__":
    unittest.main(verbosity=2)
