"""The errors that `tools/arenal` tells its user about: one sentence, one exit code."""


class Failure(Exception):
    """Ends the command: `str(failure)` goes to stderr as a sentence, `status` becomes the exit code."""

    def __init__(self, sentence, status=1):
        super().__init__(sentence)
        self.status = status


class Gone(Failure):
    """The process ended while it was looked at."""

    def __init__(self, pid, sentence=None):
        super().__init__(sentence or f"process {pid} ended while it was looked at")


class Torn(Exception):
    """What was read from a running process does not fit together: it changed meanwhile. Worth another try."""
