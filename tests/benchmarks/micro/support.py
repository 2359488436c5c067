"""What the tests of the micro-benchmarks share. CMake names the things under test in the environment."""

import ctypes
import json
import os
import subprocess
import sys

LIBRARY = os.environ["ARENAL_LIBRARY"]
MICRO = os.environ["TEST_MICRO"]
SAMPLE = os.environ["TEST_SAMPLE"]
BUILD = os.environ["TEST_BUILD"]
sys.path.insert(0, os.environ["TEST_TOOLS"])

LIBC_HAS_FREE_SIZED = hasattr(ctypes.CDLL(None), "free_sized")


def run(*command, library=None):
    """Runs a program to its end, with the library preloaded."""
    env = {name: value for name, value in os.environ.items() if name != "LD_PRELOAD"}
    if library:
        env["LD_PRELOAD"] = library
    return subprocess.run(command, env=env, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                          text=True, timeout=60, check=False)


def measured(*command, library=None):
    """{name: what Google Benchmark says about it} of a program that is to end well."""
    done = run(*command, "--benchmark_format=json", library=library)
    if done.returncode != 0:
        raise AssertionError(f"{command} ended with {done.returncode}: {done.stderr}")
    return {benchmark["name"]: benchmark for benchmark in json.loads(done.stdout)["benchmarks"]}
