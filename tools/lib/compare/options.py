"""The options of tools/compare."""

import argparse
import fnmatch
import os
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


# What does something with --gate, --list, or a command; each other option would do nothing, and is an error there.
WITH_GATE = {"gate", "only", "counts", "baseline", "update_baseline"}
WITH_CONTENTION = {"contention", "only", "threads", "baseline", "update_baseline"}
WITH_TABLES = {"tables"}
WITH_LIST = {"list", "only", "quick", "full", "threads", "build_dir", "suite"}
NOT_WITH_COMMAND = {"gate", "contention", "only", "quick", "full", "threads", "list", "seed", "suite", "tables"}
NOT_WITH_SUITE = {"quick", "full", "threads", "seed"}


def parser(unless_given=None):
    """`unless_given` is the value of an option that is not given."""
    made = argparse.ArgumentParser(
        prog="compare", usage="tools/compare [OPTION...] [-- COMMAND [ARG...]]", description=DESCRIPTION, epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False, argument_default=unless_given)
    mode = made.add_mutually_exclusive_group()
    mode.add_argument("--quick", action="store_true", help="under three minutes on two cores (default)")
    mode.add_argument("--full", action="store_true", help="every case and more rounds, under thirty minutes")
    made.add_argument("--only", metavar="NAMES", type=_comma_list,
                      help="cases whose name matches one of these, separated by commas: parts of names, globs "
                           "(workload/*) or regular expressions (^micro/.*64$)")
    made.add_argument("--allocators", metavar="LIST", type=_allocators,
                      help=f"some of {','.join(allocators.NAMES)}, and paths of libraries, each also with variables "
                           "before it (\"ARENAL_DECAY=-1 arenal\"): default: all that are installed")
    made.add_argument("--allocator", metavar="NAME=PATH.so[,VARIABLE=VALUE]...", action="append", type=_allocator,
                      help="one more, under a name of yours; may be given several times")
    made.add_argument("--suite", metavar="DIR",
                      help="measure the programs of mimalloc-bench, of which DIR is a checkout with its programs built")
    made.add_argument("--threads", metavar="LIST", type=_counts,
                      help="numbers of threads, for the cases that can run with several")
    made.add_argument("--rounds", metavar="N", type=number(int, 1, 1000), help="how often to measure everything")
    made.add_argument("--budget", "--seconds-budget", metavar="S", type=number(float, 0.1, 1e6),
                      help="seconds to measure for; a round that does not fit is not begun")
    made.add_argument("--timeout", metavar="S", type=number(float, 0.1, 1e6),
                      help="a run that takes longer hangs (default: 20 with --quick, else what the case says)")
    made.add_argument("--seed", metavar="N", type=number(int, 0, 2**32 - 1),
                      help="of everything random (default 1)")
    made.add_argument("--json", metavar="FILE", help="where the results go (default: build/compare/results.json)")
    made.add_argument("--html", metavar="FILE", help="where the page goes (default: build/compare/results.html)")
    made.add_argument("--against", metavar="OLD.json",
                      help="also say whether the results agree with those of an earlier run")
    made.add_argument("--tables", metavar="RESULTS.json",
                      help="measure nothing, but write the tables of README.md and benchmarks/README.md from these results")
    made.add_argument("--build-dir", metavar="DIR",
                      help="use what is built there, build nothing (default: build with the preset \"release\")")
    made.add_argument("--install", action="store_true",
                      help="also install the allocators and programs that are missing")
    made.add_argument("--list", action="store_true", help="print the names of the cases and end")
    _add_gate_options(made)
    return made


def _add_gate_options(made):
    made.add_argument("--gate", nargs="*", metavar=("OLD", "NEW"),
                      help="compare two builds of Arenal, made from two git revisions; the exit status is 1 when NEW is "
                      "worse than OLD, and 2 when there is no verdict. NEW is the working tree as it is, unless given; OLD is "
                      "HEAD if the library was changed since, else HEAD~1. --only also knows counts/* and promise/*")
    made.add_argument("--counts", action="store_true",
                      help="with --gate: compare counts of instructions, which no machine's load changes, and no times")
    made.add_argument("--contention", action="store_true",
                      help="count what threads cost each other in the workloads, with 16 and 64 threads: locks, waits, stores "
                      "to lines that another thread wrote last, for 1,000 calls")
    made.add_argument("--baseline", action="store_true",
                      help="with --gate or --contention: compare the working tree's counts with baseline.json in "
                      "benchmarks/counts or benchmarks/contention")
    made.add_argument("--update-baseline", action="store_true",
                      help="with --gate or --contention: count, and write that baseline.json anew")


def given(arguments):
    """The names of the options that are among the arguments."""
    return set(vars(parser(argparse.SUPPRESS).parse_args(arguments)))


def check(made, options, found, command=None):
    """`found` is what given() says."""
    gated = found & {"gate", "contention"}
    for wrong, where in ((found - WITH_GATE if "gate" in found else (), "--gate"),
                         (found - WITH_CONTENTION if gated == {"contention"} else (), "--contention"),
                         (found & WITH_GATE - {"gate", "only"} if not gated else (), "a run without --gate"),
                         (found - WITH_TABLES if "tables" in found else (), "--tables"),
                         (found - WITH_LIST if "list" in found else (), "--list"),
                         (found & NOT_WITH_COMMAND if command else (), "a command, which is all that is measured"),
                         (found & NOT_WITH_SUITE if "suite" in found else (), "--suite"),
                         ({"counts", "baseline"} & found if "update_baseline" in found else (), "--update-baseline")):
        if wrong:
            names = ", ".join(sorted("--" + name.replace("_", "-") for name in wrong))
            made.error(f"{names} would do nothing with {where}")
    if {"counts", "baseline"} <= found:
        made.error("--counts would do nothing with --baseline, which is of counts")
    for path in {options.json} & {options.html} - {None}:
        made.error(f"--json and --html both name {path}")
    if any("LD_PRELOAD" in variables for _, _, variables in options.allocator or ()):
        made.error("argument --allocator: LD_PRELOAD is what the library itself is set by")
    for entry in options.allocators or ():
        given_variables, name = allocators.variables(entry)
        if "LD_PRELOAD" in given_variables:
            made.error("argument --allocators: LD_PRELOAD is what the library itself is set by; paths of libraries may be given")
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


def _allocator(text):
    found = allocators.given(text)
    if found is None:
        raise argparse.ArgumentTypeError(f"\"{text}\" is not NAME=PATH.so[,VARIABLE=VALUE]... with a name that is not "
                                         "taken yet")
    if not os.path.isfile(found[1]):
        raise argparse.ArgumentTypeError(f"{found[1]} is {'no library' if os.path.exists(found[1]) else 'missing'}")
    return found


def _counts(text):
    try:
        return sorted({number(int, 1, 1024)(word) for word in text.split(",")})
    except ValueError:
        raise argparse.ArgumentTypeError(f"\"{text}\" is no list of numbers") from None
