"""What tools/quickstart and tools/compare do before they measure: Debian packages, and a build of Arenal."""

import os
import re
import subprocess
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))
# The preset configures the tests, too: hence the last two.
BUILD_PACKAGES = ["cmake", "make", "gcc", "g++", "libc6-dev", "pkg-config", "libcmocka-dev"]


class NotPrepared(Exception):
    """The text is shown as it is."""


def need_packages(packages, program):
    """Installs what is missing. Returns False when that is not possible, which has been said on stderr then; `program`
    is what such messages start with."""
    script = '. "$1"; shift; need_packages "$@"'
    return subprocess.run(["bash", "-c", script, program, os.path.join(HERE, "packages.sh")] + packages,
                          stdout=sys.stderr, stdin=subprocess.DEVNULL).returncode == 0


def build(targets):
    """Builds these targets with the preset release; returns the directory."""
    print("building Arenal (preset release)", file=sys.stderr)
    for command in (["cmake", "--preset", "release"],
                    ["cmake", "--build", "--preset", "release", "-j", str(os.cpu_count() or 1),
                     "--target"] + targets):  # without the tests
        try:
            result = subprocess.run(command, cwd=ROOT, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                                    stderr=subprocess.STDOUT, text=True, errors="replace")
        except FileNotFoundError:
            raise NotPrepared("cmake is not installed") from None
        if result.returncode != 0:
            raise NotPrepared(f"{' '.join(command)} failed: {build_error(result.stdout)}")
    return os.path.join(ROOT, "build", "release")


def build_error(output):
    """The first line that says what went wrong; CMake puts the reason under its headline."""
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    for pattern in (r"No space left on device", r"\berror\b|\bError:|undefined reference"):
        for position, line in enumerate(lines):
            if re.search(pattern, line, re.IGNORECASE):
                if line.startswith("CMake Error") and position + 1 < len(lines):
                    return lines[position + 1]
                return line
    return lines[-1] if lines else "no message"
