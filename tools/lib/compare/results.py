"""What was measured: runs, the results file, and the one exception whose text is a sentence for the table."""

import json
import os
from dataclasses import asdict, dataclass, field

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
    """Where the results go. Opened at the start, so that a path that cannot be written is found out before the
    measuring; what was there before stays until there is something to replace it."""

    def __init__(self, path):
        self.path = os.path.abspath(path)
        try:
            open(self.path, "a", encoding="utf-8").close()
        except OSError as error:
            raise Failed(f"cannot write {path}: {error.strerror}") from None

    def write(self, results):
        text = json.dumps(results, indent=1, allow_nan=False) + "\n"
        # Beside the file, then renamed: a disk that fills up meanwhile must not cost the results of an earlier run.
        # Not for what is no plain file: /dev/stdout, for example.
        plain = os.path.isfile(self.path) and not os.path.islink(self.path)
        target = f"{self.path}.{os.getpid()}" if plain else self.path
        try:
            try:
                with open(target, "w", encoding="utf-8") as file:
                    file.write(text)
                if plain:
                    os.replace(target, self.path)
            except OSError:
                if plain and os.path.exists(target):
                    os.unlink(target)
                raise
        except OSError as error:
            raise Failed(f"cannot write {self.path}: {error.strerror}") from None


def read_results(path):
    """The results of an earlier run, as they were written."""
    try:
        with open(path, encoding="utf-8") as file:
            results = json.load(file)
    except OSError as error:
        raise Failed(f"cannot read {path}: {error.strerror}") from None
    except ValueError:
        raise Failed(f"{path} holds no results of tools/compare") from None
    if not isinstance(results, dict) or not {"version", "allocators", "cases"} <= results.keys():
        raise Failed(f"{path} holds no results of tools/compare")
    if results["version"] != VERSION:
        raise Failed(f"{path} is of version {results['version']}, this tools/compare reads version {VERSION}")
    return results


def run_to_json(run):
    return asdict(run)


def runs_of(case, allocator):
    """The runs of an allocator in a case of the results file; [] when it has none."""
    return case["results"].get(allocator, {}).get("runs", [])
