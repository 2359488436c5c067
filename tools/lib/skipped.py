"""Stands behind ctest, for tools/test: `ctest ... | skipped.py LOG BUILD_LOG...` hands its output on, and puts before its summary which
tests were skipped and why, each reason once: whole tests, and parts of those that count as passed. LOG is ctest's own, with the output
of all tests, of which each kind of test has a way to say so; in the logs of builds are the parts that are left out."""

import ast
import collections
import re
import signal
import sys

SUMMARY = re.compile(r"\d+% tests passed")
TEST = re.compile(r"^\d+/\d+ Test: ([^\n]+)\n.*?^Output:\n-+\n(.*?)^<end of output>\n", re.M | re.S)
CTEST_SKIPPED = re.compile(r"^ *\d+/\d+ Test +#\d+: (\S+) .*\*\*\*Skipped", re.M)
SAID = re.compile(r"^skipped: (.+)$", re.M)                             # our programs and scripts
UNITTEST = re.compile(r"""\bskipped (?P<reason>'.*'|".*")$""", re.M)     # with -v
# How many by the test's own count: cmocka, unittest.
COUNTED = (re.compile(r"^\[  SKIPPED \] (\d+) test\(s\)", re.M), re.compile(r"^(?:OK|FAILED) \(.*\bskipped=(\d+)", re.M))
LEFT_OUT = re.compile(r"^-- (.* left out\b.*)$", re.M)
UNTOLD = "(no reason was told)"


def reasons(output, whole):
    """Why parts of a test were skipped, by its output; `whole`: ctest says that all of it was."""
    found = SAID.findall(output) + [str(ast.literal_eval(m["reason"])) for m in UNITTEST.finditer(output)]
    counted = sum(int(count) for pattern in COUNTED for count in pattern.findall(output))
    return found + [UNTOLD] * (max(counted, whole) - len(found))


def report(ctest, log, builds):
    """The lines: what was skipped, by the most frequent reason first, and what was left out."""
    whole = set(CTEST_SKIPPED.findall(ctest))
    count = collections.Counter()
    for name, output in TEST.findall(log):
        count.update(" ".join(reason.split()) for reason in reasons(output, name in whole))
    total = sum(count.values())
    lines = [f"{total} tests or parts of tests were skipped:" if total else "No test was skipped."]
    lines += [f"{number:>5}  {reason}" for reason, number in sorted(count.items(), key=lambda item: (-item[1], item[0]))]
    return lines + sorted({line for build in builds for line in LEFT_OUT.findall(build)})


def read(path):
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read()
    except OSError:
        return ""


def main(log, *builds):
    signal.signal(signal.SIGINT, signal.SIG_IGN)        # ctest ends by it, and says so
    said, held = [], []                                 # held: the summary
    for line in sys.stdin:
        said.append(line)
        if held or SUMMARY.match(line):
            held.append(line)
        else:
            print(line, end="", flush=True)
    print("\n".join(report("".join(said), read(log), map(read, builds))), end="\n\n")
    print("".join(held), end="")


if __name__ == "__main__":
    sys.stdin.reconfigure(errors="replace")
    sys.stdout.reconfigure(errors="replace")
    main(*sys.argv[1:])
