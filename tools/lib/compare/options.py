"""The options of tools/compare."""

import argparse
import fnmatch
import re

from compare import allocators

DESCRIPTION = """Compare Arenal with the other allocators on this machine: micro-benchmarks, workloads and real
programs, or, after --, a program of yours. Debian packages that the build needs are installed first: as root,
or with a sudo that does not ask."""

EPILOG = """examples:
  tools/compare                                      everything that tells much, in under three minutes
  tools/compare --full --json full.json              everything, in under half an hour
  tools/compare --only 'workload/*' --threads 1,2,4  the workloads, for these numbers of threads
  tools/compare --allocators arenal,jemalloc,./libother.so -- ./server --self-test
  tools/compare --allocators 'arenal,ARENAL_DECAY=-1 arenal'   what returning memory costs

exit status: 0; 1 when something failed (also a single row); 2 for wrong options; 130 when it was interrupted,
after everything that was measured until then was printed and written"""


def parser():
    made = argparse.ArgumentParser(
        prog="compare", usage="tools/compare [OPTION...] [-- COMMAND [ARG...]]", description=DESCRIPTION, epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False)
    mode = made.add_mutually_exclusive_group()
    mode.add_argument("--quick", action="store_true", help="under three minutes on two cores (default)")
    mode.add_argument("--full", action="store_true", help="every case and more rounds, under thirty minutes")
    made.add_argument("--only", metavar="NAMES", type=_comma_list,
                      help="cases whose name matches one of these, separated by commas: parts of names, globs "
                           "(workload/*) or regular expressions (^micro/.*64$)")
    made.add_argument("--allocators", metavar="LIST", type=_allocators,
                      help=f"some of {','.join(allocators.NAMES)}, and paths of libraries, each also with variables "
                           "before it (\"ARENAL_DECAY=-1 arenal\"): default: all that are installed")
    made.add_argument("--threads", metavar="LIST", type=_counts, default=[],
                      help="numbers of threads, for the cases that can run with several")
    made.add_argument("--rounds", metavar="N", type=number(int, 1, 1000), help="how often to measure everything")
    made.add_argument("--budget", "--seconds-budget", metavar="S", type=number(float, 0.1, 1e6),
                      help="seconds to measure for; a round that does not fit is not begun")
    made.add_argument("--timeout", metavar="S", type=number(float, 0.1, 1e6),
                      help="a run that takes longer hangs (default: 20 with --quick, else what the case says)")
    made.add_argument("--seed", metavar="N", type=number(int, 0, 2**32 - 1), default=1,
                      help="of everything random (default 1)")
    made.add_argument("--json", metavar="FILE", help="where the results go (default: build/compare/results.json)")
    made.add_argument("--html", metavar="FILE", help="where the page goes (default: build/compare/results.html)")
    made.add_argument("--against", metavar="OLD.json",
                      help="also say whether the results agree with those of an earlier run")
    made.add_argument("--build-dir", metavar="DIR",
                      help="use what is built there, build nothing (default: build with the preset \"release\")")
    made.add_argument("--install", action="store_true",
                      help="also install the allocators and programs that are missing")
    made.add_argument("--list", action="store_true", help="print the names of the cases and end")
    return made


def check(made, options):
    for entry in options.allocators or ():
        _, name = allocators.variables(entry)
        if name not in allocators.NAMES and "/" not in name:
            made.error(f"argument --allocators: \"{name}\" is not one of {', '.join(allocators.NAMES)}, nor the path of "
                       "a library")
    for pattern in options.only or ():
        try:
            matcher([pattern])
        except re.error as error:
            made.error(f"argument --only: \"{pattern}\" is no regular expression: {error}")


def matcher(patterns):
    """A function that says whether one of the patterns means a name."""
    tests = [_one_matcher(pattern) for pattern in patterns]
    return lambda name: any(test(name) for test in tests)


def _one_matcher(pattern):
    if re.search(r"[\^$()|+\\]|\.\*", pattern):
        return re.compile(pattern).search
    if re.search(r"[*?\[]", pattern):
        # Also without the group in front: "pair/*" means micro/pair/*.
        return lambda name: fnmatch.fnmatchcase(name, pattern) or fnmatch.fnmatchcase(name.partition("/")[2], pattern)
    return lambda name: pattern in name


def number(kind, low, high):
    def parse(text):
        value = kind(text)
        if not low <= value <= high:
            raise argparse.ArgumentTypeError(f"{text} is not between {low:g} and {high:g}")
        return value
    parse.__name__ = "number"  # argparse's word for it in its message
    return parse


def _comma_list(text, split=lambda text: text.split(",")):
    words = [word.strip() for word in split(text)]
    if not all(words):
        raise argparse.ArgumentTypeError(f"\"{text}\" has an empty name in it")
    return words


def _allocators(text):
    return _comma_list(text, allocators.entries)


def _counts(text):
    try:
        return sorted({number(int, 1, 1024)(word) for word in text.split(",")})
    except ValueError:
        raise argparse.ArgumentTypeError(f"\"{text}\" is no list of numbers") from None
