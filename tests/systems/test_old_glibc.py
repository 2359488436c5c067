"""The library on an older glibc than the one that it was built with: programs of an older Debian, and programs that are compiled for
it, run by its own loader. Its packages come from the mirror that apt uses, once, and are unpacked into a folder, which takes no root:
TEST_OLD_ROOT."""

import os
import re
import shutil
import subprocess
import unittest

RELEASE = "bullseye"     # glibc 2.31: threads and dlopen are in libraries of their own
PACKAGES = ["libc6", "libc6-dev", "linux-libc-dev", "libcrypt1", "libgcc-s1", "libstdc++6", "libselinux1", "libpcre2-8-0", "liblzma5",
            "zlib1g", "libexpat1", "dash", "mawk", "coreutils", "perl-base", "xz-utils", "python3.9-minimal", "libpython3.9-minimal"]
MODES = [{}, {"ARENAL_HARDEN": "1"}, {"ARENAL_GUARD_SAMPLE": "1"}, {"ARENAL_CONF": "profile:1,profile_sample:4K"}]
KEYS = "/usr/share/keyrings/debian-archive-keyring.gpg"
LIBRARY = os.environ["ARENAL_LIBRARY"]
ROOT = os.environ["TEST_OLD_ROOT"]
COMPILER = os.environ["TEST_CC"]
HERE = os.path.dirname(os.path.abspath(__file__))
TESTS = os.path.dirname(HERE)


def mirror():
    """Where apt has this system's packages from."""
    with open("/etc/os-release", encoding="utf-8") as file:
        release = dict(line.strip().split("=", 1) for line in file if "=" in line)
    codename = release.get("VERSION_CODENAME", "").strip('"')
    targets = subprocess.run(["apt-get", "indextargets", "--format", "$(RELEASE) $(COMPONENT) $(REPO_URI)"], stdout=subprocess.PIPE,
                             text=True, check=False).stdout
    return next((line.split(" ", 2)[2] for line in targets.splitlines() if line.startswith(codename + " main ")), None)


def fetch(site):
    """Unpacks the packages. Says what is missing, or None."""
    work = ROOT + ".apt"
    for name in ("lists/partial", "cache/archives/partial"):
        os.makedirs(os.path.join(work, name), exist_ok=True)
    sources = os.path.join(work, "sources.list")
    with open(sources, "w", encoding="utf-8") as file:
        file.write(f"deb [signed-by={KEYS}] {site} {RELEASE} main\n")
    options = [f"Dir::State::lists={work}/lists", f"Dir::Cache={work}/cache", f"Dir::Etc::sourcelist={sources}", "Dir::Etc::sourceparts=-",
               "Dir::State::status=/dev/null", "APT::Sandbox::User=", "Acquire::Languages=none", "Acquire::http::Timeout=20",
               "APT::Architecture=amd64", "APT::Architectures=amd64", "Acquire::Retries=0", "Acquire::Check-Valid-Until=false"]
    apt = ["apt-get", "-q", *(f"-o{option}" for option in options)]
    for command in (["update", "--error-on=any"], ["download", *PACKAGES]):
        done = subprocess.run([*apt, *command], cwd=work, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
        if done.returncode != 0:
            return f"the packages of Debian's {RELEASE} are not to be had: {done.stdout.strip().splitlines()[-1:]}"
    for name in sorted(os.listdir(work)):
        if name.endswith(".deb"):
            subprocess.run(["dpkg-deb", "-x", os.path.join(work, name), ROOT + ".new"], check=True)
    loader = ROOT + ".new/lib64/ld-linux-x86-64.so.2"       # a link to where it is on a whole system
    os.remove(loader)
    os.symlink("../lib/x86_64-linux-gnu/" + os.path.basename(loader), loader)
    shutil.rmtree(work)
    os.rename(ROOT + ".new", ROOT)
    return None


class OldGlibc(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        if not os.path.isdir(ROOT):
            for tool in ("apt-get", "dpkg-deb"):
                if shutil.which(tool) is None:
                    raise unittest.SkipTest(f"there is no {tool}")
            site = mirror()
            problem = "apt has no Debian mirror" if site is None else fetch(site)
            if problem is not None:
                raise unittest.SkipTest(problem)
        cls.libraries = [os.path.join(ROOT, folder, "x86_64-linux-gnu") for folder in ("lib", "usr/lib")]
        cls.loader = os.path.join(cls.libraries[0], "ld-linux-x86-64.so.2")

    def command(self, *arguments):
        return [self.loader, "--library-path", ":".join(self.libraries), *arguments]

    def run_old(self, *command, text="", **environment):
        """The program's output, which it must leave without a word of complaint."""
        env = {"LD_PRELOAD": LIBRARY, "PATH": os.environ["PATH"], "LANG": "C", "PYTHONHOME": os.path.join(ROOT, "usr"), **environment}
        done = subprocess.run(self.command(*command), input=text, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=env,
                              timeout=100, check=False)
        self.assertEqual((done.returncode, done.stderr), (0, ""), command)
        return done.stdout

    def old(self, path):
        return os.path.join(ROOT, path)

    def compile(self, name, *sources, flags=()):
        """For the old glibc: with its headers, its files to link with, and the compiler that is there."""
        program = f"{ROOT}.{name}"
        subprocess.run([COMPILER, f"--sysroot={ROOT}", *(f"-{option}{path}" for path in self.libraries[::-1] for option in "BL"), "-O2", "-std=gnu11", "-D_GNU_SOURCE", "-fno-builtin", "-Wno-use-after-free", f"-I{HERE}",
                        f"-I{TESTS}/../include", f"-I{TESTS}/api", f"-I{TESTS}/stress", *(f"{TESTS}/{source}" for source in sources),
                        "-o", program, *flags], check=True)
        return program

    # ---- programs of the old release ----

    def test_no_threads_and_no_dlopen(self):
        """They have neither libpthread.so.0 nor libdl.so.2."""
        self.assertEqual(self.run_old(self.old("bin/dash"), "-c", "(exit 3) & wait $!; echo $? $(echo a child)"), "3 a child\n")
        count = "BEGIN { for (i = 0; i < 100000; i++) a[i % 5000] = a[i % 5000] i; print length(a), length(a[7]) }"
        wanted = self.run_old(self.old("usr/bin/mawk"), count, LD_PRELOAD="")
        for mode in MODES:
            self.assertEqual(self.run_old(self.old("usr/bin/mawk"), count, **mode), wanted)

    def test_threads(self):
        numbers = "".join(f"{i}\n" for i in range(50000))
        backwards = "".join(f"{i}\n" for i in reversed(range(50000)))
        for mode in MODES:
            self.assertEqual(self.run_old(self.old("usr/bin/sort"), "--parallel=4", "-S1M", "-nr", text=numbers, **mode), backwards)
        packed = f"{ROOT}.numbers"
        with open(packed, "w", encoding="utf-8") as file:
            file.write(numbers)
        self.run_old(self.old("usr/bin/xz"), "-kfT4", "--block-size=50000", packed)
        self.assertEqual(self.run_old(self.old("usr/bin/xz"), "-dc", packed + ".xz"), numbers)

    def test_interpreters(self):
        text = self.run_old(self.old("usr/bin/perl"), "-e", "$h{$_} = $_ x 3 for 1..20000; print scalar(keys %h); exit(fork() ? wait() < 0 : 0)")
        self.assertEqual(text, "20000")
        code = ("import threading; l = []\nt = [threading.Thread(target=lambda: l.extend(str(i) for i in range(9999))) for _ in range(8)]\n"
                "[x.start() for x in t]; [x.join() for x in t]; print(len(l))")
        for mode in MODES:
            self.assertEqual(self.run_old(self.old("usr/bin/python3.9"), "-S", "-c", code, **mode), "79992\n")

    # ---- what is compiled for it ----

    def test_interface(self):
        for name in ("malloc", "calloc", "realloc", "aligned", "usable_size"):
            program = self.compile(name, f"api/{name}.c", "api/support.c", flags=["-l:libpthread.so.0", "-l:libdl.so.2"])
            env = {"LD_PRELOAD": LIBRARY, "ARENAL_GUARD_SAMPLE": "0"}
            done = subprocess.run(self.command(program), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=env, check=False)
            self.assertEqual(done.returncode, 0, done.stdout)

    def test_stress(self):
        for name, operations in (("mixed", 10000), ("churn", 500), ("exits", 2000), ("forks", 10)):
            program = self.compile(name, f"stress/{name}.c", "stress/stress.c", flags=["-l:libpthread.so.0"])
            for mode in MODES:
                self.run_old(program, "1", str(operations), "4", **mode)

    def test_threads_that_come_with_a_plugin(self):
        program = self.compile("late_threads", "systems/late_threads.c", flags=["-l:libdl.so.2", "-Wl,--as-needed"])
        plugin = self.compile("late_plugin.so", "systems/late_threads.c", flags=["-DPLUGIN", "-shared", "-fPIC", "-l:libpthread.so.0"])
        for mode in MODES:
            self.run_old(program, plugin, **mode)
        # The end of each thread is noticed: its cache went back, or to the next one.
        env = {"LD_PRELOAD": LIBRARY, "ARENAL_STATS": "1"}
        done = subprocess.run(self.command(program, plugin), stderr=subprocess.PIPE, text=True, env=env, check=False)
        caches = re.search(r"^ *threads +(\d+)", done.stderr, re.M)
        self.assertIsNotNone(caches, done.stderr)
        self.assertLess(int(caches.group(1)), 10)


if __name__ == "__main__":
    unittest.main()
