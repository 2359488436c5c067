"""A process of its own, with bounds, that `arenal serve` gives dumps of profiles to, and that writes one for pprof: names come from files that
anybody may have made. Its arguments: the kind (heap or allocs), what to say about it, and for each process PID:DUMP or PID:DUMP:BEFORE, the
numbers of descriptors."""

import bisect
import contextlib
import ctypes
import gzip
import os
import resource
import signal
import sys

MEMORY, PROCESSOR, DUMP_MAX = 4 << 30, 150, 64 << 20
PR_CAP_AMBIENT, CLEAR_ALL = 47, 4
PR_SET_PDEATHSIG = 1
NICE, FIRST_TO_GO = 10, 1000    # whoever asked may have made what takes this long: others come first, in time and for memory


def difference(new, old):
    """A Dump of what came between two of one process. What lives may be less than nothing, then."""
    from arenal.profile.dump import Counts, Stack           # pylint: disable=import-outside-toplevel
    before = {stack.frames: stack.counts for stack in old.stacks}
    stacks = []
    for stack in new.stacks:
        then = before.pop(stack.frames, Counts(0, 0, 0, 0))
        changed = Counts(*(a - b for a, b in zip(stack.counts, then)))
        # Totals grow: what seems to be less has gone to "(other)" meanwhile.
        stacks.append(Stack(changed._replace(total_blocks=max(0, changed.total_blocks), total_bytes=max(0, changed.total_bytes)), stack.frames))
    for frames, then in before.items():
        stacks.append(Stack(Counts(-then.live_blocks, -then.live_bytes, 0, 0), frames))
    return new._replace(stacks=[stack for stack in stacks if any(stack.counts)])


def mapped(dump):
    """The Dump without files that the process does not have where it says, by the kernel: it may say anything, and whoever asks for its profile
    would learn from us what is in files that he may not read."""
    from arenal import facts, files, proc                   # pylint: disable=import-outside-toplevel
    from arenal.profile.places import plain_path            # pylint: disable=import-outside-toplevel
    try:
        now = sorted(proc.parse_mappings(files.head(f"{facts.folder(dump.pid)}/maps", proc.MAPS_LIMIT)))
    except OSError:
        now = []
    starts, kept = [m.start for m in now], []
    for m in dump.mappings:
        real = now[bisect.bisect_right(starts, m.start) - 1] if starts and m.start >= starts[0] else None
        if real and m.end <= real.end and m.offset - real.offset == m.start - real.start and plain_path(m) == plain_path(real):
            kept.append(m._replace(inode=real.inode))
    return dump._replace(mappings=kept)


def _read(handle):
    with open(int(handle), "rb") as file:
        return file.read(DUMP_MAX + 1)


def _message(source):
    """Of one process: its message, and what has no names."""
    from arenal.profile import dump, pprof, stacks          # pylint: disable=import-outside-toplevel
    pid, *handles = source.split(":")
    new, *old = (dump.parse(_read(handle).decode(errors="surrogateescape"), f"the profile of process {pid}") for handle in handles)
    profile = stacks.Profile(mapped((difference(new, old[0]) if old else new)._replace(pid=int(pid))))
    return gzip.decompress(pprof.encode(profile)), profile.symbols.notes


def main(kind, comment, *sources):
    from arenal import pprof_message                        # pylint: disable=import-outside-toplevel
    from arenal.errors import Failure                       # pylint: disable=import-outside-toplevel
    try:
        messages, comments = [], [comment] if comment else []
        for source in sources:
            message, notes = _message(source)
            messages.append(pprof_message.placeless(message))
            comments += [note for note in notes if note not in comments]
        shown = "inuse_space" if kind == "heap" else "alloc_space"
        sys.stdout.buffer.write(gzip.compress(pprof_message.completed(pprof_message.merged(messages), shown, comments), 6))
        sys.stdout.buffer.flush()
        return 0
    except Failure as failure:
        print(failure, file=sys.stderr)
    except MemoryError:
        print("the profile needs too much memory", file=sys.stderr)
    return 1


if __name__ == "__main__":
    # What we start reads files of others, and shall not have our rights: only this process looks into /proc.
    ctypes.CDLL(None).prctl(PR_CAP_AMBIENT, CLEAR_ALL, 0, 0, 0)
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    with contextlib.suppress(OSError):
        os.nice(NICE)
    with contextlib.suppress(OSError), open("/proc/self/oom_score_adj", "w", encoding="ascii") as adjustment:
        adjustment.write(str(FIRST_TO_GO))
    for what, most in ((resource.RLIMIT_AS, MEMORY), (resource.RLIMIT_CPU, PROCESSOR), (resource.RLIMIT_CORE, 0)):
        hard = resource.getrlimit(what)[1]
        resource.setrlimit(what, (most if hard == resource.RLIM_INFINITY else min(most, hard), hard))
    os.environ["LC_ALL"] = "C.UTF-8"
    sys.exit(main(*sys.argv[1:]))
