"""tools/compare --gate, and --contention --baseline: is a build of Arenal worse than another one? Ends with 0 when it is not,
with 1 when it is, and with 2 after a sentence when that cannot be said."""

import json
import os
import platform
import re
import sys

from arenal import files
from arenal.errors import Failure
from compare import builds, contention, counts, promises, timings
from compare.builds import CannotCompare
from compare.options import matcher
from compare.results import Failed

ROOT = os.path.realpath(os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", ".."))
BASELINE = os.path.join(ROOT, "benchmarks", "counts", "baseline.json")
CONTENTION_BASELINE = os.path.join(ROOT, "benchmarks", "contention", "baseline.json")

# Counts hardly have noise (none, but 0.2% for threads), so these say what matters. One more instruction for each malloc is
# 2% of the pair and must not pass. 1%, so that slow paths of a thousand instructions may change by a few; and half an
# instruction, so that a slow path that is taken rarely does not fail a fast one.
COUNT_RATIO = 1.01
COUNT_DIFFERENCE = 0.5
# In default settings, one guarded block more or less of the run is 0.6 instructions for each operation.
DEFAULT_RATIO = 1.1
DEFAULT_DIFFERENCE = 12


def run(options):
    """What `--gate` and `--contention` do; returns the exit code."""
    try:
        with builds.workshop() as directory:
            return (_contention if options.contention else _run)(options, directory)
    except (CannotCompare, Failed, Failure) as problem:
        print(f"compare: {problem}", file=sys.stderr)
    except BrokenPipeError:
        raise
    except OSError as error:        # a full disk, for example; not 1, which is the word for a regression
        print(f"compare: {error.strerror}" + (f": {error.filename}" if error.filename else ""), file=sys.stderr)
    return 2


def _run(options, directory):
    revisions = options.gate
    if len(revisions) > 2:
        raise CannotCompare("--gate takes at most two revisions")
    if options.update_baseline and options.only:
        raise CannotCompare("the baseline is written as a whole, without --only")
    wanted = Wanted(options.only)
    if options.baseline or options.update_baseline:
        if revisions:
            raise CannotCompare("the baseline takes the place of revisions: name none")
        return _update_baseline(directory) if options.update_baseline else _gate_baseline(wanted, directory)
    return _gate_revisions(revisions, wanted, not options.counts, directory)


class Wanted:
    """What --only leaves: all, when it is not given. Each of its parts has to mean something, or what was to be watched is not."""

    def __init__(self, patterns=None):
        self.tests = {pattern: matcher([pattern]) for pattern in patterns or ()}

    def __call__(self, name):
        return not self.tests or any(test(name) for test in self.tests.values())

    def check(self, names):
        """`names`: all that there are for what was asked."""
        for pattern, test in self.tests.items():
            if not any(map(test, names)):
                raise CannotCompare(f"--only: nothing is called {pattern} here; there are {', '.join(names)}")


def _progress(text):
    print(text, file=sys.stderr, flush=True)


# ---- two revisions ----

def _gate_revisions(revisions, wanted, with_times, directory):
    # Misspelt revisions are found out before anything is built; with --only, perhaps only the new one is.
    for revision in revisions or ([] if wanted.tests else [_old(revisions)]):
        builds.commit_of(ROOT, revision)
    counts.require_valgrind()

    _progress("building")
    cases = list(filter(wanted, timings.CASES)) if with_times else []
    promised = [promise for promise in promises.PROMISES if with_times and wanted(f"promise/{promise.name}")]
    programs = builds.build_programs(ROOT, list(dict.fromkeys(["arenal_counts", *map(timings.target, cases),
                                                               *(promises.TARGETS if promised else ())])),
                                     os.path.join(directory, "programs"))
    modes = _modes(programs, wanted)
    wanted.check([*(f"counts/{mode}" for mode in _modes(programs, Wanted())),
                  *(timings.CASES + [f"promise/{promise.name}" for promise in promises.PROMISES] if with_times else ())])
    new = builds.build_library(ROOT, revisions[1] if len(revisions) > 1 else None, os.path.join(directory, "new"))
    worse = []
    if modes or cases:
        pair = [builds.build_library(ROOT, _old(revisions), os.path.join(directory, "old")), new]
        print(f"old: {pair[0].name}\nnew: {pair[1].name}\n")
        if _same_file(pair[0].library, pair[1].library):
            print("The two libraries are the same, byte for byte: so are times and counts.\n")
            modes = cases = ()
    else:   # what is promised is asked of one build: in a tarball, too
        print(f"new: {new.name}\n")
    if modes:
        both = [_count(programs, build, modes, directory) for build in pair]
        worse += _judge_counts(*({mode: count.all for mode, count in counted.items()} for counted in both))
    if promised:
        worse += _judge_promises(promised, new, programs)
    if cases:
        worse += _judge_times(cases, pair, programs, directory)
    return _conclude(worse)


def _old(revisions):
    return revisions[0] if revisions else "HEAD" if builds.has_changes(ROOT) else "HEAD~1"


def _same_file(one, other):
    with open(one, "rb") as first, open(other, "rb") as second:
        return first.read() == second.read()


def _counting_program(programs):
    return os.path.join(programs, "benchmarks", "counts", "arenal_counts")


def _modes(programs, wanted):
    return [mode for mode in counts.modes_of(_counting_program(programs)) if wanted(f"counts/{mode}")]


def _count(programs, build, modes, directory):
    _progress(f"counting instructions: {build.name}")
    return counts.count_modes(_counting_program(programs), modes, build.library, os.path.join(directory, "counting"))


def _judge_counts(old, new):
    """Prints the table of two {mode: instructions per operation}; returns what became worse, in words."""
    worse = []
    print(f"{'instructions per operation':<28}{'old':>12}{'new':>12}{'difference':>22}")
    for mode, after in new.items():
        before = old[mode]
        ratio, more = after / before, after - before
        by_default = mode.endswith(counts.DEFAULT_WORD)
        most_ratio, most = (DEFAULT_RATIO, DEFAULT_DIFFERENCE) if by_default else (COUNT_RATIO, COUNT_DIFFERENCE)
        note = ""
        if ratio > most_ratio and more > most:
            note = "  worse"
            worse.append(f"{mode} takes {more:.1f} instructions more ({ratio - 1:+.1%})")
        elif ratio < 1 / most_ratio and more < -most:
            note = "  better"
        change = f"{more:+.1f} ({ratio - 1:+.1%})" if abs(more) >= 0.05 else "="
        print(f"{mode:<28}{before:>12,.1f}{after:>12,.1f}{change:>22}{note}")
    print()
    return worse


def _judge_promises(promised, build, programs):
    """Prints what is promised, and what was found; returns which promises are broken. The old build is not asked."""
    _progress(f"what is promised: {build.name}")
    names = {promise.name for promise in promised}
    found = promises.judge(build.library, programs, wanted=names.__contains__)
    print(f"{'what is promised':<72}{'limit':>12}{'new':>12}")
    for promise in promised:
        note = "  worse" if found[promise.name] > promise.limit else ""
        print(f"{f'{promise.words}, {promise.unit}':<72}{promise.limit:>12,.2f}{found[promise.name]:>12,.2f}{note}")
    print()
    return [f"{promise.words}: {promise.text(found[promise.name])}, and {promise.text(promise.limit)} are promised"
            for promise in promises.broken(found)]


def _judge_times(names, pair, programs, directory):
    """The same for times and memory."""
    worse = []
    print(f"{'time and peak memory':<44}{'new / old':>10}{'by chance':>12}")
    for name, case in timings.find_cases(names, programs):
        _progress(f"measuring {name}")
        for verdict in timings.judge(name, case, pair, programs, directory):
            if verdict.failure:
                print(f"{name:<44}{verdict.failure}")
                words = f"{name}: {verdict.failure}"
            else:
                found = verdict.difference
                label = f"{name} {verdict.metric}"
                print(f"{label:<44}{found.ratio:>10.3f}{found.chance:>12.1%}{'  worse' if verdict.regression else ''}")
                words = f"{name} needs {found.ratio - 1:.1%} more {'time' if verdict.metric == 'time' else 'memory'}"
            if verdict.regression:
                worse.append(words)
    print()
    return worse


def _conclude(worse):
    if worse:
        print(f"Regression: {'; '.join(worse)}.")
        return 1
    print("No regression.")
    return 0


# ---- what threads cost each other ----

def _contention(options, directory):
    wanted = Wanted(options.only)
    if options.update_baseline and (options.only or options.threads):
        raise CannotCompare("the baseline is written as a whole, without --only and --threads")
    chosen = contention.cases(options.threads or contention.THREADS, wanted)
    old = contention.read_baseline(CONTENTION_BASELINE) if options.baseline else None
    for case in chosen if old else ():
        if case.name not in old:
            raise CannotCompare(f"the baseline has no {case.name}: tools/compare --contention --update-baseline writes it anew")
    _progress("building")
    build = builds.build_programs(ROOT, contention.targets(chosen), os.path.join(directory, "programs"))
    rows = {}
    for case in chosen:
        _progress(f"counting {case.name}")
        rows[case.name] = contention.measure(case, build)
    print("\n".join(contention.table(rows)) + "\n")
    if options.update_baseline:
        contention.write_baseline(CONTENTION_BASELINE, rows)
        print(f"wrote {os.path.relpath(CONTENTION_BASELINE)}")
    if old is None:
        return 0
    status = _conclude(contention.worse(old, rows))
    if status == 1:
        print("If that is worth it, accept it by: tools/compare --contention --update-baseline")
    return status


# ---- the baseline ----

def _count_working_tree(wanted, directory):
    """What was counted with, and the counts: those inside the library, for libc's would differ elsewhere."""
    counts.require_valgrind()
    _progress("building")
    build = builds.build_library(ROOT, None, os.path.join(directory, "new"))
    programs = builds.build_programs(ROOT, ["arenal_counts"], os.path.join(directory, "programs"))
    counted = _count(programs, build, _modes(programs, wanted), directory)
    return {mode: round(count.library, 2) for mode, count in counted.items()}


def _counted_with(directory):
    """What counts depend on besides the sources: {"compiler": "GNU 12.2.0", "architecture": "x86_64"}."""
    build = os.path.join(directory, "new")      # where it will be built later
    builds.configure(ROOT, build, "the working tree", benchmarks=False)
    return {"compiler": builds.compiler_of(build), "architecture": platform.machine()}


def _major(compiler):
    return re.match(r"\S+ \d+", compiler)[0]


def _update_baseline(directory):
    found = {"about": "Instructions per operation inside the library; written by tools/compare --gate --update-baseline.",
             **_counted_with(directory), "instructions": _count_working_tree(Wanted(), directory)}
    files.replace(BASELINE, json.dumps(found, indent=2) + "\n")
    print(f"wrote {os.path.relpath(BASELINE)}")
    return 0


def _gate_baseline(wanted, directory):
    try:
        with open(BASELINE, encoding="utf-8") as file:
            baseline = json.load(file)
        theirs = (_major(baseline["compiler"]), baseline["architecture"])
        expected = {mode: float(count) for mode, count in baseline["instructions"].items()
                    if wanted(f"counts/{mode}")}
    except OSError as error:
        raise CannotCompare(f"cannot read {BASELINE}: {error.strerror}") from None
    except (ValueError, KeyError, TypeError):
        raise CannotCompare(f"{BASELINE} is not what --update-baseline writes") from None

    ours = _counted_with(directory)
    if theirs != (_major(ours["compiler"]), ours["architecture"]):
        # Another compiler makes other instructions of the same source: the baseline is counted anew, of its own revision.
        difference = (f"the baseline was counted with {' on '.join(theirs)}, this is {ours['compiler']} on "
                      f"{ours['architecture']}")
        try:
            revision = builds.last_change(ROOT, os.path.relpath(BASELINE, ROOT))
        except CannotCompare as problem:
            raise CannotCompare(f"nothing was compared: {difference}, and {problem}") from None
        print(f"{difference[0].upper()}{difference[1:]}: the revision that wrote it is built here.")
        return _gate_revisions([revision], wanted, False, directory)
    wanted.check([f"counts/{mode}" for mode in baseline["instructions"]])
    counted = _count_working_tree(wanted, directory)
    if counted.keys() != expected.keys():
        raise CannotCompare(f"the baseline is of other counts ({', '.join(sorted(counted.keys() ^ expected.keys()))}): "
                            "tools/compare --gate --update-baseline writes it anew")
    print(f"old: the baseline ({baseline['compiler']}, {baseline['architecture']})\nnew: the working tree "
          f"({ours['compiler']})\n")
    status = _conclude(_judge_counts(expected, counted))
    if status == 1:
        print("If that is worth it, accept it by: tools/compare --gate --update-baseline")
    return status
