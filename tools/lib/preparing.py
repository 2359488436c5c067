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
                                    stderr=subprocess.PIPE, text=True, errors="replace")
        except FileNotFoundError:
            raise NotPrepared("cmake is not installed") from None
        if result.returncode != 0:
            reason = build_error("\n\n".join((result.stderr, result.stdout)))
            raise NotPrepared(f"{' '.join(command)} failed: {reason}")
    return os.path.join(ROOT, "build", "release")


def build_error(output):
    """What went wrong, in one line."""
    lines = [line.rstrip() for line in output.splitlines()]
    for pattern in (r"No space left on device", r"\berror\b|\bError:|undefined reference"):
        for position, line in enumerate(lines):
            if re.search(pattern, line, re.IGNORECASE):
                return cmake_error(lines[position:]) if line.startswith("CMake Error") else line.strip()
    return next((line.strip() for line in reversed(lines) if line.strip()), "no message")


def cmake_error(lines):
    """CMake's reason is behind "CMake Error: ", or the paragraph under "CMake Error at FILE:LINE (COMMAND):"."""
    reason = [re.sub(r"^CMake Error(?: at .*? \(.*?\))?: ?", "", lines[0])]
    if not reason[0] or reason[0].endswith(":"):
        for line in lines[1:]:
            if not line or line.startswith(("CMake ", "Call Stack", "-- ")):
                break
            reason.append(line.strip())
    return " ".join(filter(None, reason))
