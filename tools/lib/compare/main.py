"""Builds, measures, reports. Called by tools/compare, which see."""

import os
import sys

# Not this directory, which Python puts first: numbers.py would hide the module of Python's own library.
sys.path[0] = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))

import shlex  # noqa: E402
import signal  # noqa: E402
import tempfile  # noqa: E402
import time  # noqa: E402

from arenal.errors import Failure  # noqa: E402
from compare import allocators, cases, gate, numbers, options as option_list, pages, suite, tables  # noqa: E402
from compare.command import CommandCase  # noqa: E402
from compare.paired import LEAST_PAIRS  # noqa: E402
from compare.program_files import locate  # noqa: E402
from compare.progress import progress  # noqa: E402
from compare.results import VERSION, Failed, ResultsFile, read_results  # noqa: E402
from compare.schedule import Limits, Schedule  # noqa: E402
from machine import cpu_seconds, describe, others_share  # noqa: E402
from preparing import BUILD_PACKAGES, ROOT, NotPrepared, build, need_packages  # noqa: E402

TOOL = "compare"
OWN_PACKAGES = ["python3-rich", "python3-jinja2", "libjs-chart.js", "time"]
GATE_PACKAGES = ["cmake", "make", "gcc", "g++", "libc6-dev", "pkg-config", "git", "valgrind"]
# What --quick and --full promise for the whole command, and what of that may go into measuring; the rest is building
# and writing. After a slow build, less is left.
WHOLE_SECONDS = {"quick": 165, "full": 1500}
BUDGET_SECONDS = {"quick": 150, "full": 1320}
LEAST_SECONDS = {"quick": 100, "full": 1200}
ROUNDS = LEAST_PAIRS     # as many as a claim takes; with --quick and all cases and allocators, about 3 fit
QUICK_TIMEOUT = 20
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def main(arguments):
    started = time.monotonic()
    for number in SIGNALS:
        signal.signal(number, interrupt)
    try:
        options, command = parse(arguments)
        if options.gate is not None or options.contention:
            return gate.run(options) if need_packages(GATE_PACKAGES, TOOL) else 2  # as when there is no verdict
        if options.tables:
            print(f"wrote {' and '.join(pages.PAGES)}: {', '.join(pages.write(read_results(options.tables)))}")
            return 0
        return compare(options, command, arguments, started)
    except (Failed, Failure, NotPrepared) as error:
        print(f"{TOOL}: {error}", file=sys.stderr)
    except OSError as error:  # a full disk, for example
        print(f"{TOOL}: {error.strerror}" + (f": {error.filename}" if error.filename else ""), file=sys.stderr)
    except KeyboardInterrupt:
        print(f"{TOOL}: interrupted", file=sys.stderr)
        return 130
    return 1


def interrupt(*_):
    finish_in_peace()
    raise KeyboardInterrupt


def finish_in_peace():
    """What was measured is printed and written whatever comes: that takes a moment only."""
    for number in SIGNALS:
        signal.signal(number, signal.SIG_IGN)


def parse(arguments):
    arguments, command = list(arguments), None
    if "--" in arguments:
        position = arguments.index("--")
        arguments, command = arguments[:position], arguments[position + 1:]
    parser = option_list.parser()
    options = parser.parse_args(arguments)
    if command is not None and not command:
        parser.error("there is no command after --")
    option_list.check(parser, options, option_list.given(arguments), command)
    options.seed = 1 if options.seed is None else options.seed
    options.mode = "command" if command else "suite" if options.suite else "full" if options.full else "quick"
    return options, command


def compare(options, command, arguments, started):
    earlier = read_results(options.against) if options.against else None
    if command:
        locate(command[0], os.getcwd())
    names = options.allocators or allocators.NAMES
    build_dir = prepare(options, names, needs_benchmarks=not command and not options.suite)
    settings = cases.Settings(quick=options.mode == "quick", seed=options.seed, threads=options.threads or [],
                              build_dir=build_dir)
    wanted = option_list.matcher(options.only) if options.only else lambda name: True
    everything = suite.cases(options.suite) if options.suite else cases.collect(settings) if not command else []
    chosen = [CommandCase(command)] if command else choose(everything, settings, options.only, wanted)
    if options.list:
        print_list(chosen, settings, wanted)
        return 0
    if options.install:
        packages = sorted({package for case in chosen for package in case.packages})
        if not need_packages(packages, TOOL):
            return 1
    files = {kind: ResultsFile(path or default_path(kind)) for kind, path in (("json", options.json),
                                                                              ("html", options.html))}

    with tempfile.TemporaryDirectory(prefix="arenal-compare-", dir=scratch_parent(),
                                     ignore_cleanup_errors=True) as scratch:
        compared = allocators.find(names, build_dir, scratch, options.allocator or ())
        if options.allocators and all(one.problem for one in compared):
            raise Failed(f"{compared[0].name}: {compared[0].problem}")
        results, schedule = measure(chosen, compared, settings, options, wanted, scratch, started)
    results["command"] = "tools/compare" + "".join(" " + shlex.quote(word) for word in arguments)
    written = say(tables.report(results)) & write(results, files)
    if earlier:
        written &= say("\n" + tables.agreement_report(numbers.agreements(earlier, results), options.against))
    return 130 if schedule.interrupted else 0 if written and succeeded(results, options) else 1


def prepare(options, names, needs_benchmarks):
    """Installs what is needed, builds; returns the build's directory."""
    packages = list(OWN_PACKAGES)
    if not options.build_dir:
        packages += BUILD_PACKAGES + (["libbenchmark-dev"] if needs_benchmarks else [])
    if options.install:
        packages += dict.fromkeys(one.package for one in allocators.find_all(names) if one.package)
    if not need_packages(packages, TOOL):
        sys.exit(1)  # it has said why
    if options.build_dir:
        if not os.path.isdir(options.build_dir):
            raise Failed(f"there is no directory {options.build_dir}")
        return os.path.abspath(options.build_dir)
    return build(["arenal", "arenal_benchmarks"] if needs_benchmarks else ["arenal"])


def choose(found, settings, only, wanted):
    for pattern in only or ():
        one = option_list.matcher([pattern])
        if not any(case.narrowed(one, settings) for case in found):
            raise Failed(f"no case is called {pattern}; tools/compare --list shows the names of this mode")
    return [case for case in (case.narrowed(wanted, settings) for case in found) if case] if only else found


def print_list(chosen, settings, wanted):
    for case in chosen:
        for name in filter(wanted, case.names(settings)):
            print(f"{name}  {case.describe(name)['title']}")


def default_path(kind):
    folder = os.path.join(ROOT, "build", "compare")
    try:
        os.makedirs(folder, exist_ok=True)
    except OSError as error:
        raise Failed(f"cannot make {folder}: {error.strerror}; --json and --html name other places") from None
    return os.path.join(folder, f"results.{kind}")


def scratch_parent():
    """Where temporary files go, unless LD_PRELOAD could not name a link there."""
    usual = tempfile.gettempdir()
    return "/tmp" if any(character in " :$\t\n" for character in usual) else usual


def measure(chosen, compared, settings, options, wanted, scratch, started):
    limits = limits_of(options, time.monotonic() - started)
    results = {"version": VERSION, "tool": "arenal compare", "command": "", "mode": options.mode, "seed": options.seed,
               "started": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()), "machine": describe(),
               "suite": suite.describe(options.suite) if options.suite else None,
               "allocators": [one.to_json() for one in compared]}
    before = cpu_seconds()
    start = time.monotonic()
    with progress() as told:
        schedule = Schedule(chosen, compared, settings, limits, scratch, wanted=wanted, progress=told)
        schedule.run()
        finish_in_peace()
    results.update(seconds=round(time.monotonic() - start, 1), rounds=schedule.rounds, interrupted=schedule.interrupted,
                   other_load=round(others_share(before, cpu_seconds()), 3), left_out=schedule.left_out,
                   cases=schedule.results())
    return results, schedule


def limits_of(options, passed):
    if options.mode in ("command", "suite"):
        return Limits(options.rounds or ROUNDS, options.budget, options.timeout)
    budget = options.budget
    if not budget and not options.rounds:  # rounds that are asked for are made, however long they take
        left = WHOLE_SECONDS[options.mode] - passed
        budget = max(LEAST_SECONDS[options.mode], min(BUDGET_SECONDS[options.mode], left))
    return Limits(options.rounds or ROUNDS, budget,
                  options.timeout or (QUICK_TIMEOUT if options.mode == "quick" else None))


def say(text):
    """Prints it; False where nobody reads it, which must not cost the files."""
    try:
        print(text, flush=True)
        return True
    except OSError as error:
        if not isinstance(error, BrokenPipeError):
            print(f"{TOOL}: cannot print the tables: {error.strerror}", file=sys.stderr)
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return False


def write(results, files):
    """Both files, each as far as possible. Returns whether both were written."""
    good = True
    try:
        files["json"].write(results)
        print(f"results: {files['json'].path}")
    except Failed as error:
        print(f"{TOOL}: {error}", file=sys.stderr)
        good = False
    try:
        from compare import page
    except ImportError as error:
        print(f"{TOOL}: no page: {error}", file=sys.stderr)
        return False
    try:
        page.write_page(results, files["html"].path)
        print(f"page: {files['html'].path}")
    except Failure as failure:
        print(f"{TOOL}: cannot write {failure}", file=sys.stderr)
        good = False
    except Exception as error:  # the results are there: a picture that fails must not cost them
        print(f"{TOOL}: no page: {error}", file=sys.stderr)
        good = False
    return good


def succeeded(results, options):
    """No row failed. An allocator that is not installed counts when it was asked for by name."""
    asked = [one[0] for one in options.allocator or ()]
    problems = any(one["problem"] for one in results["allocators"] if options.allocators or one["name"] in asked)
    failures = any(result["failure"] and not result["absent"]
                   for case in results["cases"] for result in case["results"].values())
    return bool(results["cases"]) and not problems and not failures


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
