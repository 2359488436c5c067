"""What is said on stderr while it runs: a bar with the time left on a terminal, a plain line now and then elsewhere."""

import sys
import time

LINE_SECONDS = 15


def seconds_text(seconds):
    seconds = round(seconds)
    return f"{seconds // 60} min {seconds % 60:02} s" if seconds >= 60 else f"{seconds} s"


class Lines:
    """For a log, a pipe, a terminal without python3-rich."""

    def __init__(self):
        self.last = None

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass

    def __call__(self, number, rounds, case, allocator, left, passed):
        now = time.monotonic()
        if self.last is None or now - self.last >= LINE_SECONDS:
            self.last = now
            print(f"round {number} of {rounds}: {case.name} under {allocator.name}, about {seconds_text(left)} left",
                  file=sys.stderr, flush=True)


class Bar:
    def __init__(self, rich_progress, console):
        columns = rich_progress
        self.bar = columns.Progress(columns.BarColumn(), columns.TextColumn("{task.description}"), console=console,
                                    transient=True)
        self.task = self.bar.add_task("", total=1)

    def __enter__(self):
        self.bar.start()
        return self

    def __exit__(self, *_):
        self.bar.stop()

    def __call__(self, number, rounds, case, allocator, left, passed):
        self.bar.update(self.task, completed=passed, total=max(0.001, passed + left),
                        description=f"round {number}/{rounds}, {seconds_text(left)} left: {case.name} ({allocator.name})")


def progress():
    """A context manager that Schedule calls before each run."""
    if sys.stderr.isatty():
        try:
            import rich.console
            import rich.progress
        except ImportError:
            return Lines()
        return Bar(rich.progress, rich.console.Console(stderr=True))
    return Lines()
