"""What was measured: runs, the results file, and the one exception whose text is a sentence for the table."""

import errno
import json
import os
from dataclasses import asdict, dataclass, field

from arenal import files
from arenal.errors import Failure

VERSION = 1


class Failed(Exception):
    """Something that cannot be measured, or ends the command; the text is one sentence that is shown as it is."""


class Absent(Failed):
    """What an allocator does not offer (C23's free_sized, for example): said in its row, no failure of the command."""


@dataclass
class Run:
    """One process, or server and client, of a case under one allocator in one round.

    metrics: "time" (the cost in the case's unit, lower is better), "peak_rss" and "rest_rss" in bytes, and others.
    latency: {"malloc": {"p50": ns, "p90", "p99", "p99.9", "p99.99", "max", "count"}, "free": {...}}
    series: [[seconds since the start, resident bytes], ...]
    """

    metrics: dict = field(default_factory=dict)
    latency: dict = field(default_factory=dict)
    series: list = field(default_factory=list)
    round: int = 0  # given by the schedule


class ResultsFile:
    """Where the results go. Looked at at the start, so that a path that cannot be written is found out before the
    measuring; what was there before stays until there is something to replace it."""

    def __init__(self, path):
        self.path = os.path.abspath(path)
        wrong = self._wrong()
        if wrong:
            raise Failed(f"cannot write {path}: {os.strerror(wrong)}")

    def _wrong(self):
        if os.path.isdir(self.path):
            return errno.EISDIR
        folder = os.path.dirname(self.path)
        if not os.path.isdir(folder):
            return errno.ENOTDIR if os.path.exists(folder) else errno.ENOENT
        if os.path.lexists(self.path) and files.follows(self.path) and os.path.exists(self.path):
            if not os.access(self.path, os.W_OK):
                return errno.EACCES
            if not os.path.isfile(self.path) or os.path.islink(self.path):
                return 0    # /dev/stdout, for example, is written to
        if os.statvfs(folder).f_flag & os.ST_RDONLY:
            return errno.EROFS
        return 0 if os.access(folder, os.W_OK | os.X_OK) else errno.EACCES

    def write(self, results):
        """Links that others have put there are replaced, not followed; a disk that fills up meanwhile costs nothing that was
        there before."""
        try:
            files.replace(self.path, json.dumps(results, indent=1, allow_nan=False) + "\n")
        except Failure as failure:
            raise Failed(f"cannot write {failure}") from None


def read_results(path):
    """The results of an earlier run, as they were written."""
    try:
        with open(path, encoding="utf-8") as file:
            results = json.load(file)
    except OSError as error:
        raise Failed(f"cannot read {path}: {error.strerror}") from None
    except (ValueError, RecursionError):
        raise Failed(f"{path} holds no results of tools/compare") from None
    if not isinstance(results, dict) or not isinstance(results.get("version"), int):
        raise Failed(f"{path} holds no results of tools/compare")
    if results["version"] != VERSION:
        raise Failed(f"{path} is of version {results['version']}, this tools/compare reads version {VERSION}")
    try:
        _check(results)
    except (AttributeError, KeyError, TypeError, ValueError):
        raise Failed(f"{path} holds no results of tools/compare, or broken ones") from None
    return results


MOST, LEAST = 1e18, 1e-18       # of any figure: bytes, nanoseconds, operations


def _check(results):
    """That everything is there, and what it should be, that others lean on. Raises whatever comes when it is not."""
    machine = results["machine"]
    _words(machine["cpu"], machine["kernel"], machine["libc"], machine["compiler"], results["started"], results["command"])
    _figures(machine["cores"], results["rounds"], results["seconds"], results["other_load"] or 0, machine["memory_bytes"] or 0)
    for one in results["allocators"]:
        _words(one["name"], one["version"], one["problem"] or "")
        if not isinstance(one["own"], bool):
            raise ValueError
    for case in results["cases"]:
        _words(case["name"], case["group"], case["title"], case["unit"], case.get("clock", ""))
        for name, result in case["results"].items():
            _words(name, result["failure"] or "")
            for run in result["runs"]:
                _figures(run["round"], *(value for value in run["metrics"].values() if value is not None),
                         *(value for call in run.get("latency", {}).values() for value in call.values()))
    suite = results.get("suite")
    if suite:
        _words(suite["name"], suite["version"], *suite["missing"])


def _words(*texts):
    """Neither what a terminal would obey nor what a table in a page would take for its own."""
    if not all(isinstance(text, str) and text.isprintable() and "|" not in text for text in texts):
        raise ValueError


def _figures(*values):
    if not all(isinstance(value, (int, float)) and (value == 0 or LEAST <= abs(value) <= MOST) for value in values):
        raise ValueError


def run_to_json(run):
    return asdict(run)


def runs_of(case, allocator):
    """The runs of an allocator in a case of the results file; [] when it has none."""
    return case["results"].get(allocator, {}).get("runs", [])
