"""The packages in a small Debian: installed by dpkg, used with nothing but what they depend on, installed again, removed without a trace."""

import os
import unittest

import small_root
from support import CC, PACKAGES, PackageTest, environment, file_of, main, ran

# What dpkg, ldconfig and who looks at them write for themselves.
OTHERS = ("var/lib/dpkg", "var/log", "var/cache/ldconfig", "etc/ld.so.cache", "tmp", "proc", "dev", "run", "var/lib/systemd/deb-systemd-helper-enabled")

PROGRAM = r"""
#include <arenal/arenal.h>
#include <stdio.h>
#include <stdlib.h>
int main(void) {
	char *volatile block = malloc(100000);
	struct arenal_stats stats;
	if (block == NULL || arenal_stats_get(&stats, sizeof stats) != 0 || stats.allocated < 100000) return 1;
	free(block);
	printf("%s\n", arenal_version());
	return 0;
}
"""

# With a window, and for as long as somebody reads its output.
SERVER = "import sys\nkept = [bytearray(200000) for _ in range(50)]\nprint('ready', flush=True)\nsys.stdin.read()\n"


@unittest.skipIf(os.getuid() != 0, "only root may make a root of another Debian")
class Chroot(PackageTest):
    @classmethod
    def setUpClass(cls):
        if ran(["unshare", "--mount", "--pid", "--net", "--fork", "true"], status=None).returncode:
            raise unittest.SkipTest("no namespaces for mounts, processes and networks may be made here")

    def setUp(self):
        self.root = self.folder("arenal-root-")
        os.chmod(self.root, 0o755)
        small_root.make(self.root, ["dpkg", *self.needed()])
        os.makedirs(f"{self.root}/packages")
        for package in PACKAGES:
            ran(["cp", file_of(package), f"{self.root}/packages/{package}.deb"])
        self.env = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C.UTF-8", "PYTHONDONTWRITEBYTECODE": "1",
                    "DEBIAN_FRONTEND": "noninteractive", "HOME": "/root"}
        self.run_("ldconfig")

    def needed(self):
        """What the packages say that they depend on, each other left out."""
        clauses = ", ".join(self.field(package, "Depends") for package in PACKAGES).split(", ")
        return {clause.split()[0] for clause in clauses} - set(PACKAGES)

    def run_(self, *command, status=0, **more):
        settings = [f"{name}={value}" for name, value in {**self.env, **more}.items()]
        done = ran([*small_root.inside(self.root), "env", "-i", *settings, *command], status=status)
        self.assertNotIn("Traceback", done.stderr)
        return done

    def script(self, text, **more):
        """Its lines are run one after the other; the first that fails ends it."""
        return self.run_("bash", "-euc", "set -o pipefail\n" + text, **more).stdout

    def listing(self):
        return sorted(os.path.relpath(os.path.join(place, name), self.root) for place, folders, names in os.walk(self.root)
                      for name in folders + names)

    def ours(self, names):
        return [name for name in names if not any(name == other or name.startswith(other + "/") for other in OTHERS)]

    def install(self, *packages):
        done = self.run_("dpkg", "-i", *(f"/packages/{package}.deb" for package in packages))
        self.assertNotRegex(done.stderr.lower(), "warning|error")

    def test_life(self):
        before = set(self.ours(self.listing()))
        self.the_library()
        self.development()
        self.the_tools()
        self.install(*PACKAGES)             # over itself, as an upgrade
        self.assertEqual(self.script("dpkg --audit"), "")
        self.another_library()
        self.run_("dpkg", "--remove", "arenal-tools", "libarenal-dev", "libarenal0")
        self.assertEqual(set(self.ours(self.listing())) ^ before, set())
        self.run_("dpkg", "--purge", "arenal-tools", "libarenal-dev", "libarenal0")
        self.assertEqual(set(self.ours(self.listing())) ^ before, set())
        left = [name for name in self.listing() if "arenal" in name and not name.startswith("packages/")]
        self.assertEqual(left, [])

    def the_library(self):
        self.install("libarenal0")
        self.assertFalse(os.path.exists(f"{self.root}/etc/ld.so.preload"))
        self.assertNotIn("libarenal", self.run_("cat", "/proc/self/maps").stdout)
        self.assertIn("libarenal.so.0", self.run_("cat", "/proc/self/maps", LD_PRELOAD="libarenal.so.0").stdout)
        done = self.run_("python3", "-c", "print(sum(len(str(i)) for i in range(100000)))", LD_PRELOAD="libarenal.so.0", ARENAL_STATS="1")
        self.assertEqual(done.stdout, "488890\n")
        self.assertRegex(done.stderr, r"^arenal [0-9.]+ statistics")

    def another_library(self):
        """One that the loader finds first, from an installation by CMake, is told of."""
        path = "/usr/local/lib/libarenal.so.0"
        os.makedirs(self.root + os.path.dirname(path))
        with open(self.root + path, "w", encoding="utf-8"):
            pass
        self.assertRegex(self.run_("dpkg", "-i", "/packages/libarenal0.deb").stderr, rf"libarenal0: warning: {path} is there")
        os.unlink(self.root + path)
        os.removedirs(self.root + os.path.dirname(path))

    def development(self):
        """A program is built with what the package has, and runs on it. The compiler is this machine's, all else is there."""
        self.install("libarenal-dev")
        source = f"{self.root}/tmp/program.c"
        with open(source, "w", encoding="utf-8") as file:
            file.write(PROGRAM)
        machine = ran([CC, "-print-multiarch"]).stdout.strip()
        words = ran(["pkg-config", "--cflags", "--libs", "arenal"],
                    env=environment(PKG_CONFIG_LIBDIR=f"{self.root}/usr/lib/{machine}/pkgconfig")).stdout.split()
        version = self.field("libarenal-dev", "Version").partition("-")[0]
        for name, more in (("shared", []), ("static", ["-static", "-pthread"])):
            ran([CC, f"--sysroot={self.root}", source, "-o", f"{self.root}/tmp/{name}", *more, *words])
            self.assertEqual(self.run_(f"/tmp/{name}").stdout, version + "\n", name)

    def the_tools(self):
        self.install("arenal-tools")
        version = self.field("arenal-tools", "Version").partition("-")[0]
        self.assertEqual(self.run_("arenal", "--version").stdout, f"arenal {version}\n")
        self.assertTrue(any("__pycache__" in name for name in self.listing() if name.startswith("usr/share/arenal/")))
        # Nothing is enabled.
        self.assertEqual([name for name in self.listing() if "arenal" in name and name.startswith(("etc/", "run/"))], [])
        with open(f"{self.root}/tmp/server.py", "w", encoding="utf-8") as file:
            file.write(SERVER)
        said = self.script("""
            cd /tmp
            arenal run -- cat /proc/self/maps | grep libarenal.so.0 >/dev/null
            mkfifo hold says
            arenal run -- python3 server.py <hold >says &
            pid=$!
            exec 8>hold
            read -r ready <says
            arenal ps | grep python3
            arenal stats $pid | grep allocated
            arenal stats --json $pid | python3 -m json.tool >/dev/null
            arenal stats --prometheus $pid | grep '^# TYPE arenal' >/dev/null
            arenal ctl $pid set decay 500
            arenal ctl $pid get decay
            arenal ctl $pid purge
            arenal maps $pid | grep heap
            arenal top --batch -n 1 $pid | grep -i resident
            arenal ctl $pid profile start 4K
            arenal ctl $pid profile dump heap
            arenal profile heap >/dev/null
            arenal serve --listen /tmp/socket &
            serve=$!
            until [ -S socket ]; do sleep 0.02; done
            python3 - <<'END'
import socket
with socket.socket(socket.AF_UNIX) as peer:
    peer.connect("/tmp/socket")
    peer.sendall(b"GET /metrics HTTP/1.0\\r\\n\\r\\n")
    answer = b"".join(iter(lambda: peer.recv(65536), b""))
print("metrics:", b"arenal_allocated_bytes{" in answer, answer[:15])
END
            kill $serve
            exec 8>&-
            wait $pid
            arenal trace --output trace -- ls / >/dev/null 2>&1
            arenal replay --rounds 1 --rest 0 --allocator arenal trace | grep arenal
            arenal profile --pprof heap.pb.gz --folded folded heap >/dev/null
            test -s heap.pb.gz && test -f folded
        """)
        for words in ("python3", "allocated", "500\n", "bytes given back", "heap", "metrics: True b'HTTP/1.0 200 OK"):
            self.assertIn(words, said)
        # What is only recommended is asked for.
        done = self.run_("arenal", "report", "/tmp/trace", status=1)
        self.assertIn("python3-jinja2", done.stderr)


if __name__ == "__main__":
    main()
