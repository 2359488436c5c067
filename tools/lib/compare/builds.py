"""Builds of Arenal from git revisions, and of the programs that measure them, in a directory that is removed afterwards."""

import contextlib
import glob
import os
import re
import shutil
import signal
import subprocess
import tempfile
from dataclasses import dataclass

# What the library is made from: changes elsewhere (a test, this tool) do not make a working tree differ from HEAD.
LIBRARY_SOURCES = ["CMakeLists.txt", "CMakePresets.json", "include", "src"]


class CannotCompare(Exception):
    """There is no verdict, neither good nor bad; the text is one sentence that says why."""


@dataclass
class Build:
    """A libarenal.so, and what it was made from."""
    name: str           # for people: "HEAD~1 (3401389)", "the working tree"
    library: str


def clean_environment():
    """The caller's environment without what would change the allocator, or send git to another repository."""
    return {name: value for name, value in os.environ.items()
            if name != "LD_PRELOAD" and not name.startswith(("ARENAL_", "MALLOC_", "GIT_"))}


def run(command, problem, cwd=None, env=None):
    """The output of a command. When it fails, CannotCompare: the problem and the line that tells most about it."""
    try:
        # In a session of its own: when we are interrupted, a whole build is ended, not only the first of its processes.
        process = subprocess.Popen(command, cwd=cwd, env=env or clean_environment(), start_new_session=True, text=True,
                                   errors="replace", stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                                   stderr=subprocess.STDOUT)
    except FileNotFoundError:
        raise CannotCompare(f"{problem}: {command[0]} is not installed") from None
    except OSError as error:
        raise CannotCompare(f"{problem}: {command[0]}: {error.strerror}") from None
    try:
        output, _ = process.communicate()
    except BaseException:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        raise
    if process.returncode == 0:
        return output
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    errors = [line for line in lines if re.search(r"\b(error|fatal)\b", line, re.I)]
    reason = (errors or lines[-1:] or [f"{command[0]} ended with status {process.returncode}"])[0]
    raise CannotCompare(f"{problem}: {reason}")


def git(root, *arguments, problem):
    return run(["git", "-C", root, *arguments], problem)


def has_changes(root):
    """Does the working tree's library differ from HEAD's?"""
    return git(root, "status", "--porcelain", "--", *LIBRARY_SOURCES, problem="cannot look for changes") != ""


def commit_of(root, revision):
    """The full name of a revision's commit."""
    git(root, "rev-parse", "--git-dir", problem="revisions can only be compared in a git checkout")
    return git(root, "rev-parse", "--verify", "--end-of-options", revision + "^{commit}",
               problem=f'there is no revision "{revision}" here').strip()


def last_change(root, path):
    """The commit that last changed a file. In a shallow clone, the first commit seems to have made everything."""
    git(root, "rev-parse", "--git-dir", problem="there is no git checkout here to build its revision from")
    commit, *parents = git(root, "log", "-1", "--format=%H %P", "--", path, problem=f"git does not know {path}").split() or [None]
    if commit is None:
        raise CannotCompare(f"git does not know {path}")
    if not parents and git(root, "rev-parse", "--is-shallow-repository", problem="cannot look at the history").strip() == "true":
        raise CannotCompare("this shallow clone does not have the revision that wrote it")
    return commit


@contextlib.contextmanager
def workshop():
    """A directory for builds, removed in every case. LD_PRELOAD cannot name a path with a space, a colon or a $ in it:
    where the usual place for temporary files has one, it is not used."""
    usual = tempfile.gettempdir()
    directory = tempfile.mkdtemp(prefix="arenal-gate-", dir="/tmp" if re.search(r"[\s:$]", usual) else usual)
    try:
        yield directory
    finally:
        shutil.rmtree(directory, ignore_errors=True)


def export(root, commit, directory):
    """The files of a commit."""
    os.makedirs(directory)
    archive = directory + ".tar"
    git(root, "archive", f"--output={archive}", commit, problem=f"cannot read the files of {commit[:7]}")
    run(["tar", "-xf", archive, "-C", directory], f"cannot unpack the files of {commit[:7]}")
    os.unlink(archive)


def build_environment(build):
    """Compilers that are killed leave their temporary files: they write them where the build is, which goes with it."""
    place = os.path.join(os.path.dirname(build), "tmp")
    os.makedirs(place, exist_ok=True)
    return {**clean_environment(), "TMPDIR": place}


def configure(source, build, name, benchmarks):
    """The release preset: it is what is installed and measured. Tests would need more packages, and are not measured."""
    run(["cmake", "--preset", "release", "-B", build, "-DARENAL_TESTS=OFF",
         f"-DARENAL_BENCHMARKS={'ON' if benchmarks else 'OFF'}"], f"cannot configure {name}", cwd=source,
        env=build_environment(build))


def compiler_of(build):
    """The C compiler that a configured build uses: "GNU 12.2.0"."""
    found = {}
    for path in glob.glob(os.path.join(glob.escape(build), "CMakeFiles", "*", "CMakeCCompiler.cmake")):
        with open(path, encoding="utf-8") as file:
            found = dict(re.findall(r'^set\(CMAKE_C_COMPILER_(ID|VERSION) "(.*)"\)$', file.read(), re.M))
    try:
        return f"{found['ID']} {found['VERSION']}"
    except KeyError:
        raise CannotCompare("cannot find out which compiler CMake uses") from None


def make(build, targets, name):
    jobs = str(len(os.sched_getaffinity(0)))
    run(["cmake", "--build", build, "--parallel", jobs, "--target", *targets], f"cannot build {name}",
        env=build_environment(build))


def build_library(root, revision, directory):
    """Arenal as it is in a revision, or for None in the working tree. The directory becomes the build's."""
    if revision is None:
        name, source = "the working tree", root
    else:
        commit = commit_of(root, revision)
        name = revision if commit.startswith(revision) else f"{revision} ({commit[:7]})"
        source = directory + "-source"
        export(root, commit, source)
    configure(source, directory, name, benchmarks=False)
    make(directory, ["arenal"], name)
    return Build(name, os.path.join(directory, "src", "libarenal.so"))


def build_programs(root, targets, directory):
    """The programs that measure, always from the tree that this tool is in: the same ones for every revision, whether or
    not it had them."""
    configure(root, directory, "the programs that measure", benchmarks=True)
    make(directory, targets, "the programs that measure")
    return directory
