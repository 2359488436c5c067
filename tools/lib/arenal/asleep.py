"""Whether a thread of another process sleeps where it may be held and sent through the door (door.py): in a
system call in which it holds no lock of libc's or ours, and that goes on, after a stop, as if there had been
none. Of x86-64 only.

`process` is the memory of the process; `registers` are all of a thread that is held, or what the kernel tells
of one that is not. Where it cannot be told, Unsafe says so."""

import array
import os
import re
import time

from arenal import descriptors, facts, files, layout

MAPPINGS_LIMIT = 8192   # that are read while a thread is held

# Calls of x86-64 in which a thread sleeps that holds no lock of libc's or ours, and that go on, after a stop,
# as if there had been none. Not those that return what they have done so far, as write does. read, poll,
# readv, select, pause, nanosleep, accept, recvfrom, recvmsg, wait4, semop, msgrcv, fcntl, flock,
# rt_sigtimedwait, rt_sigsuspend, io_getevents, restart_syscall, semtimedop, clock_nanosleep, epoll_wait,
# mq_timedreceive, waitid, pselect6, ppoll, epoll_pwait, accept4, io_pgetevents, epoll_pwait2, futex_waitv
SLEEPS = {0, 7, 19, 23, 34, 35, 43, 45, 47, 61, 65, 70, 72, 73, 128, 130, 208, 219, 220, 230, 232, 243, 247,
          270, 271, 281, 288, 333, 441, 449}
# Those of them that would begin their sleep anew, and where they have the time that it lasts: held only if
# that is for ever, or has just begun. The others wake by themselves. epoll_wait and epoll_pwait have milliseconds there, the
# others an address. What is left of the time is known to the kernel alone; when it began, often to us, too
# (slept.py): then libc's calls, whose code does not look at the time again, get what is left.
TIMES = {128: "rdx", 208: "r8", 220: "r10", 232: "r10", 281: "r10", 333: "r8", 441: "r10"}
EPOLL = (232, 281)
SHORTENED = (128, 220, 232, 281, 441)
# Those that may have a part of what they shall bring, and where their flags are.
FLAGS, WAIT_ALL = {45: "r10", 47: "rdx"}, 0x100
# Those that wait for so many events, and return fewer when they are stopped: io_getevents, io_pgetevents.
LEAST = {208: "rsi", 333: "rsi"}
# Those that read from a descriptor, which may have a time of its own, and none that could be shortened: read, readv, accept, recvfrom,
# recvmsg, accept4. Those that wait for one otherwise: fcntl, flock, epoll_wait, epoll_pwait, epoll_pwait2.
READS = {0, 19, 43, 45, 47, 288}
WAIT_FOR = {72, 73, 232, 281, 441}
FUTEX = 202
ARGUMENTS = ("rdi", "rsi", "rdx", "r10", "r8", "r9")

SYSCALL = b"\x0f\x05"
SIGRETURN = re.compile(rb"(?:\xf3\x0f\x1e\xfa)?(?:\x48\xc7\xc0\x0f\0\0\0|\xb8\x0f\0\0\0|\x6a\x0f\x58)\x0f\x05")
SIGRETURN_MOST = 13     # bytes
RED_ZONE, ROOM = 128, 16 << 10
STACK_LIMIT = 1 << 20   # bytes of a stack that are looked at
WORDS_LIMIT = 500       # and different words in it that may be addresses of code

# What is no other malloc, and whose data has locks that a thread may wait for.
CLOSED = ("libarenal", "libc.so", "libc-", "libpthread", "ld-", "ld.so", "ld64", "[vdso]", "[vsyscall]")


class Unsafe(Exception):
    """Not here, not now; the words say why."""


class Later(Unsafe):
    """Here, but not now."""


class Timed(Later):
    """It sleeps for a time that would begin anew."""


def call(process, thread, fresh=False):
    """Its system call, when it sleeps in one in which it may be held, by all that is known without that.
    None: it is at work, or ends. `fresh`: it has just fallen asleep. Raises Unsafe."""
    seen = _seen(process.pid, thread)
    if not seen:
        return None
    check_ahead(process, thread)
    check_place(process, thread, seen, fresh)
    if seen["call"] == FUTEX and not _rests(process.pid, thread):
        raise Unsafe("it waits for a lock")
    return seen


def check_ahead(process, thread):
    """Raises Unsafe for a thread that must not be held, whatever it does."""
    if b"shstk" in files.head(f"/proc/{process.pid}/task/{thread}/status", 1 << 16):
        raise Unsafe("it has a shadow stack")
    if len(process.mappings) > MAPPINGS_LIMIT:
        raise Unsafe("it has too many mappings")


def _seen(pid, thread):
    try:
        words = files.head(f"/proc/{pid}/task/{thread}/syscall", 256).split()
    except OSError as error:
        if isinstance(error, PermissionError):
            raise
        return None
    if len(words) != 9 or words[0].startswith(b"-"):
        return None
    values = (int(words[0]), *(int(word, 16) for word in words[1:]))
    return dict(zip(("call", *ARGUMENTS, "rsp", "rip"), values))


def switches(pid, thread):
    """How often it fell asleep so far."""
    return facts.thread_status(pid, thread).get("voluntary_ctxt_switches")


def _rests(pid, thread):
    """Whether it sleeps for longer than a moment: who changes the user of all threads waits for them, under a
    lock, in the same way as others for a condition."""
    def looked():
        return files.head(f"/proc/{pid}/task/{thread}/syscall", 256), switches(pid, thread)
    before = looked()
    time.sleep(0.01)
    return before == looked()


def has_signal(pid, thread):
    """Whether a signal waits for it that it does not block."""
    found = {}
    for line in files.head(f"/proc/{pid}/task/{thread}/status", 1 << 16).splitlines():
        name, _, value = line.partition(b":")
        if name in (b"SigPnd", b"ShdPnd", b"SigBlk"):
            found[name] = int(value, 16)
    return bool((found.get(b"SigPnd", 0) | found.get(b"ShdPnd", 0)) & ~found.get(b"SigBlk", 0))


def check_place(process, thread, registers, fresh=False):
    """Raises Unsafe when it may hold a lock of libc's or ours; Timed, when all else is as it should be.
    `fresh`: its time may begin anew."""
    if has_signal(process.pid, thread):
        raise Unsafe("it is just getting a signal")
    code = process.at(registers["rip"])
    if code is None or "x" not in code.perms:
        raise Unsafe("it changes too fast")
    _check_call(process, registers, code)
    _check_stack(process, registers)
    if registers["call"] in TIMES and not fresh:
        _check_time(registers)
    if registers["call"] in READS | WAIT_FOR:
        _check_descriptor(process.pid, thread, registers, fresh)


def _check_call(process, registers, code):
    if process.read(registers["rip"] - len(SYSCALL), len(SYSCALL)) != SYSCALL:
        raise Unsafe("it makes system calls in an unknown way")
    number = registers["call"]
    if number == FUTEX:
        # Of a mutex, a condition, a thread that is waited for: not one of the locks that libc and we have in
        # our own data.
        word = process.at(registers["rdi"])
        if _is_arenal(process, code) or word is None or _is_closed(process, word) or \
                _is_closed(process, process.at(word.start - 1)):
            raise Unsafe("it waits for a lock")
    elif number not in SLEEPS or os.path.basename(code.path).startswith("libarenal"):
        raise Unsafe("it is in a system call that libc, too, may have made, or that returns when it is "
                     "stopped")
    elif number in FLAGS and registers[FLAGS[number]] & WAIT_ALL or number in LEAST and registers[LEAST[number]] > 1:
        raise Unsafe("it is in a system call that returns when it is stopped")


def _check_time(registers):
    number = registers["call"]
    lasts = registers[TIMES[number]]
    if not (lasts >> 31 & 1 if number in EPOLL else lasts == 0):
        raise Timed("it sleeps for a time that would begin anew, and did not wake meanwhile")


def _check_descriptor(pid, thread, registers, fresh):
    number, has_time, takes_part = registers["rdi"] & 0xffffffff, False, False
    try:
        descriptors.check_open(pid, thread, number)
        if registers["call"] in READS:
            has_time, takes_part = descriptors.look(pid, thread, number)
    except FileNotFoundError as error:
        raise Unsafe("it waits for what has been closed meanwhile, and would fail when it is stopped") from error
    except OSError as error:
        raise Unsafe(f"it reads, and whether for a time only cannot be told: {error.strerror}") from error
    if takes_part:
        raise Unsafe("it reads more than one byte (SO_RCVLOWAT, or a terminal's VMIN), and would return a part when it is stopped")
    if has_time and not fresh:
        raise Timed("it reads for a time that would begin anew (SO_RCVTIMEO, or a terminal's), and did not wake meanwhile")


def _is_arenal(process, code):
    """Whether it is code of ours, or of a program that we are linked into."""
    return os.path.basename(code.path).startswith("libarenal") or \
        not layout.has_library(process) and code.path == process.executable()


def _is_closed(process, mapping):
    return mapping is not None and (os.path.basename(mapping.path).startswith(CLOSED) or
                                    _is_arenal(process, mapping))


def may_be_shortened(process, thread):
    """Whether the call that it sleeps in may be given what is left of its time."""
    seen = _seen(process.pid, thread)
    code = process.at(seen["rip"]) if seen else None
    return code is not None and seen["call"] in SHORTENED and \
        os.path.basename(code.path).startswith(("libc.so", "libc-"))


def check_stack(process, registers):
    """Where its stack ends. Raises Unsafe where that is not the thread's own, or has no room."""
    top = registers["rsp"]
    stack = process.at(top)
    if stack is None or "w" not in stack.perms or top - RED_ZONE - ROOM < stack.start or top % 8:
        raise Unsafe("there is no room on its stack")
    end = stack.end
    if stack.path != "[stack]":
        # A thread's own record is above its stack.
        end = registers.get("fs_base") or _record(process, top, end)
        if not top < end <= stack.end:
            raise Unsafe("it is on a stack that is not its own")
    return end


def _check_stack(process, registers):
    """A handler of a signal may have interrupted anything: the frame that the kernel made for it is above,
    and begins with the address of code that ends in sigreturn. Where that frame may be on another stack,
    nothing can be told."""
    top, end = registers["rsp"], check_stack(process, registers)
    if end - top > STACK_LIMIT:
        raise Unsafe("its stack is too long to be looked at")
    words = array.array("Q", process.read(top, (end - top) // 8 * 8))
    code = [(m.start, m.end) for m in process.mappings if "x" in m.perms]
    low, high = min(start for start, _ in code), max(end for _, end in code)
    found = [(word, end) for word in set(words) if low <= word < high
             for start, end in code if start <= word < end]
    if len(found) > WORDS_LIMIT:
        raise Unsafe("its stack is too long to be looked at")
    if any(SIGRETURN.match(process.read(word, min(SIGRETURN_MOST, end - word))) for word, end in found):
        raise Unsafe("it may be in the handler of a signal")


def _record(process, top, end):
    """Where the record of a thread is that is not held, so that its registers do not tell. It has its own
    address at its beginning, and two words later again. 0: not here."""
    words = array.array("Q", process.read(top, min(end - top, STACK_LIMIT) // 8 * 8))
    return next((word for at, word, third in zip(range(top, end, 8), words, words[2:])
                 if word == at == third), 0)
