"""Opens a window in a running process that has none: src/observe/door.h is the other side, and says how.

The process is knocked at first, which only writes a byte of it that its slow paths look at. If it sleeps, one of its threads is sent through
the door: stopped, once at most, in a system call in which it holds no lock that opening a window takes, for a millisecond or so, and only after
everything that can be known of it without that was looked at. Where it cannot be told, nothing is done.

What the process says is used as addresses in itself only, whatever it execs meanwhile, be it a program with more rights:
All that is read and written goes through one handle of /proc/PID/mem, which is of one memory: after an exec, it reads and writes nothing.
A thread is held before its handle is opened: it cannot call exec then; if another thread does, it is killed before the memory changes.
So a ptrace call that succeeds after the opening says that the handle is of its memory. What is written lands where the door was read, or
nowhere; and mappings, which have no handle, are read again in between. Registers go to the held thread, which has died, or has this memory."""

import array
import errno
import os
import re
import struct
import time

from arenal import files, layout, proc, ptrace, text, window
from arenal.errors import Failure, Gone, Torn

DOOR = struct.Struct("<8sIIQQQQ")       # magic, version, answer, self, knock, sandbox, enter
MAGIC, VERSION, ANSWER_AT = b"ARENALD\0", 2, 12
NOBODY, OPEN, LATER, NEVER, LOCKED_IN, REFUSED = range(6)

HEARD = 0.1             # seconds in which a process that is at work hears a knock
LIMIT = 2.0             # and for all of it
PASSED = 0.3            # until a thread that went through has opened it
OPENED = 3.0            # for the window's thread, once it is there, to answer: on a busy machine it waits for a CPU
PAUSE = 0.02            # between two looks at threads that are where they must not be held
STOP = 1.0              # for a thread to stop: it needs a CPU for that
THREADS_LIMIT = 64      # that are looked at in a turn
MAPPINGS_LIMIT = 8192   # that are read while a thread is held

# Calls of x86-64 in which a thread sleeps that holds no lock of libc's or ours, and that go on, after a stop, as if there had been none.
# Not those that return what they have done so far, as write does.
# read, poll, readv, select, pause, nanosleep, accept, recvfrom, recvmsg, wait4, semop, msgrcv, fcntl, flock, rt_sigtimedwait, rt_sigsuspend,
# io_getevents, restart_syscall, semtimedop, clock_nanosleep, epoll_wait, mq_timedreceive, waitid, pselect6, ppoll, epoll_pwait, accept4,
# io_pgetevents, epoll_pwait2, futex_waitv
SLEEPS = {0, 7, 19, 23, 34, 35, 43, 45, 47, 61, 65, 70, 72, 73, 128, 130, 208, 219, 220, 230, 232, 243, 247, 270, 271, 281, 288, 333, 441, 449}
# Those of them that would begin their sleep anew, and where they have the time that it lasts: held only if that is for ever. The others wake by
# themselves. epoll_wait and epoll_pwait have milliseconds there, the others an address.
TIMES = {128: "rdx", 208: "r8", 220: "r10", 232: "r10", 281: "r10", 333: "r8", 441: "r10"}
EPOLL = (232, 281)
# Those that may have a part of what they shall bring, and where their flags are.
FLAGS, WAIT_ALL = {45: "r10", 47: "rdx"}, 0x100
FUTEX, RESTART = 202, 219
ARGUMENTS = ("rdi", "rsi", "rdx", "r10", "r8", "r9")

EINTR, ERESTARTNOHAND, ERESTART_BLOCK = 4, 514, 516
RESTARTS = (512, 513, ERESTARTNOHAND, ERESTART_BLOCK)
SYSCALL = b"\x0f\x05"
SIGRETURN = re.compile(rb"(?:\xf3\x0f\x1e\xfa)?(?:\x48\xc7\xc0\x0f\0\0\0|\xb8\x0f\0\0\0|\x6a\x0f\x58)\x0f\x05")
SIGRETURN_MOST = 13     # bytes
RED_ZONE, ROOM, CODE_64 = 128, 16 << 10, 0x33
STACK_LIMIT = 1 << 20   # bytes of a stack that are looked at
WORDS_LIMIT = 500       # and different words in it that may be addresses of code

_CLOSED = ("libarenal", "libc.so", "libc-", "libpthread", "ld-", "ld.so", "ld64", "[vdso]", "[vsyscall]")


class Unsafe(Exception):
    """Not here, not now; the words say why."""


class _Now(proc.Process):
    """The memory that a process has now. It is read and written through one handle, opened before anything else is looked at."""

    def _read_mappings(self):
        try:
            self._memory = os.open(f"{self.root}/mem", os.O_RDWR | os.O_CLOEXEC)
        except PermissionError:
            raise
        except OSError as error:
            raise self._failure(error, "the memory") from error
        return super()._read_mappings()

    def write(self, address, data):
        try:
            written = os.pwrite(self._memory, data, address)
        except (OSError, OverflowError) as error:
            if getattr(error, "errno", None) in (errno.ENOENT, errno.ESRCH):
                raise Gone(self.pid) from error
            raise Torn(f"nothing writable at {address:#x}") from error
        if written == 0:
            raise Gone(self.pid, f"process {self.pid} has ended, or is another program by now")
        if written != len(data):
            raise Torn("not all of it could be written")

    def at(self, address):
        """The mapping there, or None."""
        return next((m for m in self.mappings if m.start <= address < m.end), None)


def open_window(pid):
    """Returns when there is one: whether it was there before. Raises Failure."""
    until = time.monotonic() + LIMIT
    if window.NAME in window.threads_of_arenal(pid):
        with window.Window(pid):
            return True
    try:
        _open(pid, until)
    except (PermissionError, Torn) as error:
        raise _refused(pid, error) from error
    return False


def _open(pid, until):
    started = proc.started(pid)
    with _Now(pid) as process:
        name = process.name
        if not (layout.has_library(process) or layout.locate(process)):
            raise Failure(f"process {pid} ({name}) is not on Arenal: it seems to be on {layout.allocator(process)}")
        _check_state(pid)
        door, place = _find(process)
        process.write(place + ANSWER_AT, bytes(4))
        _check_answer(pid, _door(process, place), process)
        process.write(door[4], b"\1")
        other = _other_malloc(process, until)
    if _await(pid, min(until, time.monotonic() + HEARD)):
        return
    why, held = "here it cannot be woken for that", set()
    if other:
        why = f"{other} has, or may have, a malloc of its own, which may be in the middle of something"
    elif ptrace.CAN and door[6]:
        why = "it does not sleep in a place where it may be woken"
        while time.monotonic() < until:
            if proc.started(pid) != started:
                raise Gone(pid)
            passed, refusal = _send_through(pid, place, held)
            why = refusal or why
            if _await(pid, time.monotonic() + (PASSED if passed else PAUSE)):
                return
            with _Now(pid) as process:
                _check_answer(pid, _door(process, place), process)
            if passed:
                why = "it has not allocated yet, or its program wants to see no other thread now, or it has the memory of another process"
                break
    raise Failure(f"process {pid} ({name}) has no window yet: {why}. It was asked, and opens one as soon as it allocates or frees memory")


def _check_state(pid):
    letter = window._state(pid, pid)        # pylint: disable=protected-access
    if letter in "ZX?":
        raise Gone(pid, f"process {pid} has ended")
    if letter == "T":
        raise Failure(f"process {pid} is stopped: a window can be opened when SIGCONT has let it go on")
    if proc.is_frozen(pid):
        raise Failure(f"process {pid} is frozen, as its cgroup is (a paused container): a window can be opened when it goes on")
    tracer = next(filter(None, (_status(pid, thread).get("TracerPid") for thread in _threads(pid))), 0)
    if tracer:
        raise Failure(f"process {pid} is traced by process {tracer} ({proc.command_name(tracer)}): a window can be opened when that has left it")


def _threads(pid):
    try:
        return sorted(map(int, os.listdir(f"/proc/{pid}/task")))[:THREADS_LIMIT]
    except OSError:
        return []


def _status(pid, thread):
    try:
        return proc.status(f"{pid}/task/{thread}")
    except OSError:
        return {}


def _refused(pid, error):
    if isinstance(error, Torn):
        if proc.started(pid) is None:
            return Gone(pid)
        return Failure(f"process {pid} is on an Arenal that opens no window from outside: an older one, or one whose file is not to be had any more")
    try:
        scope = int(files.head("/proc/sys/kernel/yama/ptrace_scope", 16))
    except (OSError, ValueError):
        scope = 0
    if scope == 3:
        return Failure(f"not permitted to look into process {pid}: kernel.yama.ptrace_scope is 3, which forbids it to everybody until the next boot")
    if scope and os.geteuid() != 0:
        return Failure(f"not permitted to look into process {pid}: kernel.yama.ptrace_scope is {scope}: become root, or, as root, "
                       "sysctl kernel.yama.ptrace_scope=0 for as long as it takes")
    return window._failure(pid, PermissionError(errno.EPERM, ""))       # pylint: disable=protected-access


def _find(process):
    """The contents of the door, and its address. Raises Torn, PermissionError."""
    place = layout.locate(process, "arenal_door")
    if not place:
        raise Torn("there is no door")
    return _door(process, place), place


def _door(process, place):
    door = DOOR.unpack(process.read(place, DOOR.size))
    # `self`: the file may be another one than that which was loaded, and the mappings another program's. It is data of a file: not something
    # that a program was given by who started it.
    mapping = process.at(place)
    if door[0] != MAGIC or door[1] != VERSION or door[3] != place or mapping is None or not mapping.inode:
        raise Torn("that is no door")
    return door


def _check_answer(pid, door, process):
    if process.read(door[5], 1) != b"\0" or door[2] == LOCKED_IN:
        raise Failure(f"process {pid} has locked itself in, by a filter of system calls: it can have no window")
    if door[2] == NEVER:
        raise Failure(f"process {pid} was told never to have a window (window is 0)")
    if door[2] == REFUSED:
        raise Failure(f"the kernel refuses process {pid} a window: it takes a thread, memory, and Linux 5.9")


def _await(pid, until):
    """Whether it has a window by then."""
    while True:
        if window.NAME in window.threads_of_arenal(pid):
            try:
                with window.Window(pid):
                    return True
            except Gone:
                raise
            except Failure:
                if time.monotonic() >= until + OPENED:
                    raise
        elif time.monotonic() >= until:
            return False
        time.sleep(0.002)


def _other_malloc(process, until):
    """The name of a file in the process that stands between it and our malloc; "" when there is none. Such a library has locks of its own.
    Also the first one that there is no time for."""
    ours = process.executable() if not layout.has_library(process) else None
    for first in process.mappings:
        name = os.path.basename(first.path)
        if first.offset == 0 and first.path.startswith("/") and first.path != ours and not name.startswith(_CLOSED):
            if time.monotonic() > until or any(layout.symbol_in(process, first, symbol) for symbol in ("malloc", "calloc")):
                return text.printable(name)
    return ""


# Sending a thread through

def _send_through(pid, place, held):
    """Tries each thread that sleeps, but those in `held`, where it puts those that it holds. Returns whether one went through, and why others did
    not."""
    _check_state(pid)
    why = None
    try:
        with _Now(pid) as process:
            _door(process, place)
            for task in _threads(pid):
                if task in held:
                    continue
                try:
                    seen = _asleep(process, task)
                    if seen:
                        _try(pid, task, place, seen, held)
                        return True, None
                except (Unsafe, ptrace.Busy) as error:
                    why = str(error)
                except Torn:
                    why = "it changes too fast"
                except (ProcessLookupError, FileNotFoundError):
                    continue            # it has ended
    except ptrace.Stuck:
        raise Failure(f"process {pid} cannot be held: a thread of it is in a part of the kernel that it does not leave") from None
    except PermissionError:
        _check_state(pid)           # somebody may trace it by now
        raise
    except OSError as error:
        why = error.strerror
    return False, why


def _asleep(process, thread):
    """Its system call, when it sleeps in one in which it may be held, by all that is known without that. None: it is at work, or ends. Raises
    Unsafe."""
    seen = _seen(process.pid, thread)
    if not seen:
        return None
    if b"shstk" in files.head(f"/proc/{process.pid}/task/{thread}/status", 1 << 16):
        raise Unsafe("it has a shadow stack")
    if len(process.mappings) > MAPPINGS_LIMIT:
        raise Unsafe("it has too many mappings")
    _check_place(process, thread, seen)
    if seen["call"] == FUTEX and not _rests(process.pid, thread):
        raise Unsafe("it waits for a lock")
    return seen


def _seen(pid, thread):
    try:
        words = files.head(f"/proc/{pid}/task/{thread}/syscall", 256).split()
    except OSError as error:
        if isinstance(error, PermissionError):
            raise
        return None
    if len(words) != 9 or words[0].startswith(b"-"):
        return None
    return dict(zip(("call", *ARGUMENTS, "rsp", "rip"), (int(words[0]), *(int(word, 16) for word in words[1:]))))


def _rests(pid, thread):
    """Whether it sleeps for longer than a moment: who changes the user of all threads waits for them, under a lock, in the same way as others
    for a condition."""
    def looked():
        return files.head(f"/proc/{pid}/task/{thread}/syscall", 256), _status(pid, thread).get("voluntary_ctxt_switches")
    before = looked()
    time.sleep(0.01)
    return before == looked()


def _try(pid, thread, place, seen, tried):
    tried.add(thread)
    with ptrace.Stopped(thread, STOP) as held:
        if not os.path.isdir(f"/proc/{pid}/task/{thread}"):
            raise ProcessLookupError(errno.ESRCH, "another process has this number now")
        registers = held.registers()
        _sleep_on(pid, thread, held, registers)
        with _Now(pid) as process:
            _pass(process, held, place, seen)


def _pass(process, held, place, seen):
    """The memory was opened after the thread was held; its registers are read after that."""
    registers = held.registers()
    door = _door(process, place)
    call = _in_call(registers)
    if not call or any(registers[name] != value for name, value in seen.items()):
        raise Unsafe("it changes too fast")
    if registers["cs"] != CODE_64:
        raise Unsafe("it runs code of another architecture")
    if process.read(door[5], 1) != b"\0":
        raise Unsafe("it has locked itself in")
    _check_place(process, held.thread, registers)
    changed = dict(registers)
    changed["rax"] = RESTART if call == ERESTART_BLOCK else registers["call"]
    changed["rcx"] = call
    changed["call"] = (1 << 64) - 1             # the kernel does not make the call again
    changed["rsp"] = registers["rsp"] - RED_ZONE - 8    # below the red zone it finds where it goes on
    changed["rip"] = door[6]
    process.write(changed["rsp"], struct.pack("<Q", registers["rip"] - len(SYSCALL)))
    held.set_registers(changed)


def _signed(value):
    return value - (1 << 64) if value >> 63 else value


def _in_call(registers):
    """Why its system call will be made again, if it is in one; else 0."""
    return -_signed(registers["rax"]) if _signed(registers["call"]) >= 0 and -_signed(registers["rax"]) in RESTARTS else 0


def _sleep_on(pid, thread, held, registers):
    """Some calls fail with EINTR even for being stopped by us, which the program would see: now it goes to sleep again, unless a signal is
    waiting for it."""
    if _signed(registers["call"]) not in SLEEPS or _signed(registers["rax"]) != -EINTR or _has_signal(pid, thread):
        return
    registers["rax"] = -ERESTARTNOHAND & (1 << 64) - 1
    held.set_registers(registers)


def _has_signal(pid, thread):
    found = {}
    for line in files.head(f"/proc/{pid}/task/{thread}/status", 1 << 16).splitlines():
        name, _, value = line.partition(b":")
        if name in (b"SigPnd", b"ShdPnd", b"SigBlk"):
            found[name] = int(value, 16)
    return bool((found.get(b"SigPnd", 0) | found.get(b"ShdPnd", 0)) & ~found.get(b"SigBlk", 0))


def _check_place(process, thread, registers):
    """Raises Unsafe when it may hold a lock of libc's or ours. `registers` are all of them, or what is known of a thread that is not held."""
    if _has_signal(process.pid, thread):
        raise Unsafe("it is just getting a signal")
    code = process.at(registers["rip"])
    if code is None or "x" not in code.perms:
        raise Unsafe("it changes too fast")
    _check_call(process, registers, code)
    _check_stack(process, registers)


def _check_call(process, registers, code):
    if process.read(registers["rip"] - len(SYSCALL), len(SYSCALL)) != SYSCALL:
        raise Unsafe("it makes system calls in an unknown way")
    number = registers["call"]
    if number == FUTEX:
        # Of a mutex, a condition, a thread that is waited for: not one of the locks that libc and we have in our own data.
        word = process.at(registers["rdi"])
        if _is_arenal(process, code) or word is None or _is_closed(process, word) or _is_closed(process, process.at(word.start - 1)):
            raise Unsafe("it waits for a lock")
    elif number not in SLEEPS or os.path.basename(code.path).startswith("libarenal"):
        raise Unsafe("it is in a system call that libc, too, may have made, or that returns when it is stopped")
    elif number in FLAGS and registers[FLAGS[number]] & WAIT_ALL:
        raise Unsafe("it is in a system call that returns when it is stopped")
    elif number in TIMES:
        lasts = registers[TIMES[number]]
        if not (lasts >> 31 & 1 if number in EPOLL else lasts == 0):
            raise Unsafe("it sleeps for a time that would begin anew, and wakes by itself")


def _is_arenal(process, code):
    """Whether it is code of ours, or of a program that we are linked into."""
    return os.path.basename(code.path).startswith("libarenal") or \
        not layout.has_library(process) and code.path == process.executable()


def _is_closed(process, mapping):
    return mapping is not None and (os.path.basename(mapping.path).startswith(_CLOSED) or _is_arenal(process, mapping))


def _check_stack(process, registers):
    """A handler of a signal may have interrupted anything: the frame that the kernel made for it is above, and begins with the address of code
    that ends in sigreturn. Where that frame may be on another stack, nothing can be told."""
    top = registers["rsp"]
    stack = process.at(top)
    if stack is None or "w" not in stack.perms or top - RED_ZONE - ROOM < stack.start or top % 8:
        raise Unsafe("there is no room on its stack")
    end = stack.end
    if stack.path != "[stack]":
        end = registers.get("fs_base") or _record(process, top, end)        # a thread's own record is above its stack
        if not top < end <= stack.end:
            raise Unsafe("it is on a stack that is not its own")
    if end - top > STACK_LIMIT:
        raise Unsafe("its stack is too long to be looked at")
    words = array.array("Q", process.read(top, (end - top) // 8 * 8))
    code = [(m.start, m.end) for m in process.mappings if "x" in m.perms]
    low, high = min(start for start, _ in code), max(end for _, end in code)
    found = [(word, end) for word in set(words) if low <= word < high for start, end in code if start <= word < end]
    if len(found) > WORDS_LIMIT:
        raise Unsafe("its stack is too long to be looked at")
    if any(SIGRETURN.match(process.read(word, min(SIGRETURN_MOST, end - word))) for word, end in found):
        raise Unsafe("it may be in the handler of a signal")


def _record(process, top, end):
    """Where the record of a thread is that is not held, so that its registers do not tell. It has its own address at its beginning, and two words
    later again. 0: not here."""
    words = array.array("Q", process.read(top, min(end - top, STACK_LIMIT) // 8 * 8))
    return next((word for at, word, third in zip(range(top, end, 8), words, words[2:]) if word == at == third), 0)
