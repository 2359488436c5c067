"""What is said on stderr while it runs: a bar with the time left on a terminal, a plain line now and then elsewhere."""

import sys
import time

LINE_SECONDS = 15


def left_text(seconds):
    if seconds is None:
        return "time left not yet known"
    seconds = round(seconds)
    return f"about {seconds // 60} min {seconds % 60:02} s left" if seconds >= 60 else f"about {seconds} s left"


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
            print(f"round {number} of {rounds}: {case.name} under {allocator.name}, {left_text(left)}",
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
        self.bar.update(self.task, completed=passed, total=passed + left if left else None,
                        description=f"round {number}/{rounds}, {left_text(left)}: {case.name} ({allocator.name})")


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
