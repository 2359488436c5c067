"""Two heap profiles, and what the later one has more, or less, by stack. Stacks are the same when they have the same functions: the two may be
of different runs, whose addresses are not the same."""

from arenal.profile import dump as dumps
from arenal.profile import stacks
from arenal.profile.dump import ZERO

FRAMES_SHOWN = 12


def by_stack(old, new):
    """From names, outermost first, to the Counts before and now."""
    found = {}
    for place, profile in enumerate((old, new)):
        for counts, frames in profile.stacks:
            names = stacks.names(profile, frames)
            pair = found.setdefault(names, [ZERO, ZERO])
            pair[place] = dumps.add(pair[place], counts)
    return found


def changes(old, new, total):
    """Triples of names, bytes and blocks before, and now, of what has changed; what grew most comes first, what shrank most is the last."""
    found = [(names, stacks.value(before, total), stacks.value(now, total)) for names, (before, now) in by_stack(old, new).items()]
    found = [one for one in found if one[1] != one[2]]
    return sorted(found, key=lambda one: (one[1][1] - one[2][1], one[0]))


def folded(old, new, total):
    """Lines of "outermost;...;innermost CHANGE", in bytes; what shrank is negative, as in pprof's own differences."""
    lines = {}
    for names, before, now in changes(old, new, total):
        name = stacks.folded_name(names)
        lines[name] = lines.get(name, 0) + now[1] - before[1]
    return [f"{name} {change}" for name, change in sorted(lines.items()) if change]


def signed(number):
    return ("-" if number < 0 else "+") + stacks.size(abs(number))


def _shown(names, before, now):
    lines = [f"{signed(now[1] - before[1]):>9} {stacks.size(before[1]):>8} {stacks.size(now[1]):>8} {now[0] - before[0]:+12,}  {names[-1]}"]
    callers = names[-2::-1]
    lines += [f"{'':43}by {name}" for name in callers[:FRAMES_SHOWN]]
    if len(callers) > FRAMES_SHOWN:
        lines.append(f"{'':43}by {len(callers) - FRAMES_SHOWN} more")
    return lines


def text(old, new, total, count):
    """The list that a person reads: so many stacks that grew, and as many that shrank."""
    found = changes(old, new, total)
    sums = [sum(stacks.value(counts, total)[1] for counts, _ in profile.stacks) for profile in (old, new)]
    what = "allocated since the start" if total else "in use"
    lines = [f"From process {old.dump.pid}, {stacks.when(old.dump)}, to process {new.dump.pid}, {stacks.when(new.dump)}: about "
             f"{signed(sums[1] - sums[0])} {what}, {stacks.size(sums[1])} instead of {stacks.size(sums[0])}, estimated from samples."]
    if found:
        lines.append(f"{'change':>9} {'before':>8} {'now':>8} {'blocks':>12}  function")
    grown = [one for one in found if one[2][1] > one[1][1]]
    others = [one for one in reversed(found) if one[2][1] <= one[1][1]]
    for kind, what in ((grown, "grew"), (others, "shrank")):
        for one in kind[:count]:
            lines += _shown(*one)
        if len(kind) > count:
            lines.append(f"... and {len(kind) - count} more stacks that {what}")
    return "\n".join(lines)
