"""Numbers as the page shows them: short, with a unit, and never "nan"."""

import math

ABSENT = "–"
LARGE = (("million", 1e6), ("billion", 1e9))


def usable(value):
    """Whether there is a number that a chart with a logarithmic axis, or a reader, can do something with."""
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def positive(value):
    return usable(value) and value > 0


def short(value):
    """Three significant digits, thousands with commas."""
    if not usable(value):
        return ABSENT
    if abs(value) >= 100:
        return f"{value:,.0f}" if abs(value) < 1e6 else next(
            (f"{short(value / size)} {word}" for word, size in LARGE if 1 <= abs(value) / size < 999.5), f"{value:.2e}")
    digits = 3 - 1 - math.floor(math.log10(abs(value))) if value else 0
    return f"{value:.{max(0, min(digits, 9))}f}"


def mebibytes(value):
    return short(value / (1 << 20)) if usable(value) else ABSENT


def duration(nanoseconds):
    if not usable(nanoseconds):
        return ABSENT
    for unit, size in (("s", 1e9), ("ms", 1e6), ("µs", 1e3)):
        if nanoseconds >= size:
            return f"{short(nanoseconds / size)} {unit}"
    return f"{short(nanoseconds)} ns"


def ratio(value):
    if not usable(value):
        return ABSENT
    return f"{value:.2f}" if 0.01 <= abs(value) < 100 else short(value)


def marked(compared):
    """A ratio of numbers.py; ~ says that it may be chance."""
    return ratio(compared.median) + ("~" if compared.may_be_chance else "")


def span(low, high, show=short):
    """The lowest and the highest of the rounds."""
    if not usable(low) or not usable(high):
        return None
    return f"{show(low)} to {show(high)}"


def count(number, singular, plural=None):
    return f"{number:,} {singular if number == 1 else plural or singular + 's'}"
