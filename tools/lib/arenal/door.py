"""Opens a window in a running process that has none: src/observe/door.h is the other side, and says how.

The process is knocked at first, which only writes a byte of it that its slow paths look at. One that sleeps, or never comes by a slow path,
has one of its threads sent through the door: stopped in a place where it holds no lock that opening a window takes, and for as long as it takes
to look at that, a millisecond or so. Where that cannot be told, nothing is done.

What the process says is used as addresses in itself only."""

import array
import errno
import os
import struct
import time

from arenal import files, layout, proc, ptrace, text, window
from arenal.errors import Failure, Gone, Torn

DOOR = struct.Struct("<8sIIQQQQQ")      # magic, version, answer, self, knock, sandbox, enter, enter_from_call
MAGIC, VERSION, ANSWER_AT = b"ARENALD\0", 1, 12
NOBODY, OPEN, LATER, NEVER, LOCKED_IN, REFUSED = range(6)

HEARD = 0.1             # seconds in which a process that is at work hears a knock
LIMIT = 2.0             # and for all of it
PASSED = 0.3            # until a thread that went through has opened it
PAUSE = 0.005           # between two looks at threads that are where they must not be held
STOP = 1.0              # for a thread to stop: it needs a CPU for that
THREADS_LIMIT = 64      # that are looked at in a turn

# Calls of x86-64 in which a thread sleeps that holds no lock of libc's or ours, and those of them that fail with EINTR whatever interrupts them.
# read, write, poll, readv, writev, select, pause, nanosleep, connect, accept, sendto, recvfrom, sendmsg, recvmsg, wait4, semop, msgsnd, msgrcv,
# fcntl, flock, rt_sigtimedwait, rt_sigsuspend, io_getevents, restart_syscall, semtimedop, clock_nanosleep, epoll_wait, mq_timedsend,
# mq_timedreceive, waitid, pselect6, ppoll, epoll_pwait, accept4, recvmmsg, sendmmsg, io_pgetevents, io_uring_enter, epoll_pwait2, futex_waitv
SLEEPS = {0, 1, 7, 19, 20, 23, 34, 35, 42, 43, 44, 45, 46, 47, 61, 65, 69, 70, 72, 73, 128, 130, 208, 219, 220, 230, 232, 242, 243, 247, 270,
          271, 281, 288, 299, 307, 333, 426, 441, 449}
FUTEX, RESTART = 202, 219
EINTR, ERESTARTNOHAND, ERESTART_BLOCK = 4, 514, 516
RESTARTS = (512, 513, ERESTARTNOHAND, ERESTART_BLOCK)
SYSCALL, SIGRETURN = b"\x0f\x05", b"\x48\xc7\xc0\x0f\x00\x00\x00\x0f\x05"
RED_ZONE, ROOM, CODE_64 = 128, 512, 0x33
STACK_LIMIT = 4 << 20   # bytes of a stack that are looked at

_CLOSED = ("libarenal", "libc.so", "libc-", "libpthread", "ld-", "ld.so", "ld64", "[vdso]", "[vsyscall]")


class Unsafe(Exception):
    """Not here, not now; the words say why."""


class _Now(proc.Process):
    """A process, whose memory may be written to."""

    def write(self, address, data):
        handle = os.open(f"{self.root}/mem", os.O_WRONLY | os.O_CLOEXEC)
        try:
            if os.pwrite(handle, data, address) != len(data):
                raise Torn("not all of it could be written")
        except (OSError, OverflowError) as error:
            raise Torn(f"nothing writable at {address:#x}") from error
        finally:
            os.close(handle)

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
        _check_answer(pid, _find(process)[0], process)
        process.write(door[4], b"\1")
        other = _other_malloc(process, until)
    if _await(pid, min(until, time.monotonic() + HEARD)):
        return
    may, why = False, "here it cannot be woken for that"
    if other:
        why = f"{other} has, or may have, a malloc of its own, which may be in the middle of something"
    elif ptrace.CAN and door[6]:
        may, why = True, "it is at work in places where it must not be held"
    while may and time.monotonic() < until:
        if proc.started(pid) != started:
            raise Gone(pid)
        refusal = _send_through(pid, place)
        why = refusal or "its program wants to see no other thread now, or it has the memory of another process"
        if _await(pid, time.monotonic() + (PASSED if refusal is None else PAUSE)):
            return
        with _Now(pid) as process:
            _check_answer(pid, _find(process)[0], process)
    raise Failure(f"process {pid} ({name}) has no window yet: {why}. It was asked, and opens one as soon as it takes or gives back a little memory")


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
    door = DOOR.unpack(process.read(place, DOOR.size))
    # `self`: the file may be another one than that which was loaded.
    if door[0] != MAGIC or door[1] != VERSION or door[3] != place:
        raise Torn("that is no door")
    return door, place


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
            with window.Window(pid):
                return True
        if time.monotonic() >= until:
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

def _send_through(pid, place):
    """Tries each thread once, those asleep first. Returns why it went through with none of them, or None."""
    _check_state(pid)
    threads = []
    try:
        for task in _threads(pid):
            words = files.head(f"/proc/{pid}/task/{task}/syscall", 256).split()
            number = int(words[0]) if words and words[0] not in (b"running", b"-1") else None
            threads.append((number is None, task, number))
    except (OSError, ValueError):
        pass
    why = None
    for running, task, number in sorted(threads, key=lambda t: t[:2]):
        if not running and number not in SLEEPS and not (number == FUTEX and _rests(pid, task)):
            why = why or "it is in a system call that libc, too, may have made"
            continue
        try:
            _try(pid, task, place)
            return None
        except (Unsafe, ptrace.Busy) as error:
            why = str(error)
        except ptrace.Stuck:
            raise Failure(f"process {pid} cannot be held: a thread of it is in a part of the kernel that it does not leave") from None
        except Torn:
            why = "it changes too fast"
        except ProcessLookupError:
            continue
        except PermissionError:
            _check_state(pid)           # somebody may trace it by now
            raise
        except OSError as error:
            why = error.strerror
    return why


def _rests(pid, thread):
    """Whether it sleeps for longer than a moment: who changes the user of all threads waits for them, under a lock, in the same way as others
    for a condition."""
    def looked():
        return files.head(f"/proc/{pid}/task/{thread}/syscall", 256), _status(pid, thread).get("voluntary_ctxt_switches")
    before = looked()
    time.sleep(0.01)
    return before == looked()


def _try(pid, thread, place):
    with _Now(pid) as process:                  # before it is stopped: there may be many mappings
        door, found = _find(process)
        if found != place:
            raise Unsafe("it calls exec")
        if b"shstk" in files.head(f"/proc/{pid}/task/{thread}/status", 1 << 16):
            raise Unsafe("it has a shadow stack")
        with ptrace.Stopped(thread, STOP) as held:
            registers = held.registers()
            _sleep_on(pid, thread, held, registers)
            if process.read(door[5], 1) != b"\0":
                raise Unsafe("it has locked itself in")
            _check_place(process, held, registers)
            held.set_registers(_changed(process, registers, door))


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


def _check_place(process, held, registers):
    """Raises Unsafe when it may hold a lock of libc's or ours."""
    if registers["cs"] != CODE_64:
        raise Unsafe("it runs code of another architecture")
    if _has_signal(process.pid, held.thread):
        raise Unsafe("it is just getting a signal")
    code = process.at(registers["rip"])
    if code is None or "x" not in code.perms:
        raise Unsafe("it changes too fast")
    call = _in_call(registers)
    if call:
        _check_call(process, registers, code)
    elif _is_closed(process, code):
        raise Unsafe("it is at work in libc, or in Arenal")
    elif held.rseq() and process.read(held.rseq() + 8, 8) != bytes(8):
        raise Unsafe("it is at work in a restartable sequence")
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
        raise Unsafe("it is in a system call that libc, too, may have made")


def _is_arenal(process, code):
    """Whether it is code of ours, or of a program that we are linked into."""
    return os.path.basename(code.path).startswith("libarenal") or \
        not layout.has_library(process) and code.path == process.executable()


def _is_closed(process, mapping):
    return mapping is not None and (os.path.basename(mapping.path).startswith(_CLOSED) or _is_arenal(process, mapping))


def _check_stack(process, registers):
    """A handler of a signal may have interrupted anything: the frame that the kernel made for it is above, and begins with the address of code
    that ends in sigreturn."""
    top = registers["rsp"]
    stack = process.at(top)
    if stack is None or "w" not in stack.perms or top - RED_ZONE - ROOM < stack.start or top % 8:
        raise Unsafe("there is no room on its stack")
    end = registers["fs_base"] if top < registers["fs_base"] <= stack.end else stack.end       # a thread's own record is above its stack
    if end - top > STACK_LIMIT:
        raise Unsafe("its stack is too long to be looked at")
    words = array.array("Q", process.read(top, (end - top) // 8 * 8))
    code = [(m.start, m.end - len(SIGRETURN)) for m in process.mappings if "x" in m.perms]
    low, high = min(start for start, _ in code), max(end for _, end in code)
    for word in {w for w in words if low <= w <= high}:
        if any(start <= word <= end for start, end in code) and process.read(word, len(SIGRETURN)) == SIGRETURN:
            raise Unsafe("it may be in the handler of a signal")


def _changed(process, registers, door):
    """Its registers at the door. Below the red zone of its stack it finds where it goes on."""
    changed, call = dict(registers), _in_call(registers)
    back = registers["rip"]
    if call:
        back -= len(SYSCALL)
        changed["rax"] = RESTART if call == ERESTART_BLOCK else registers["call"]
        changed["rcx"] = call
    changed["rsp"] = registers["rsp"] - RED_ZONE - 8
    process.write(changed["rsp"], struct.pack("<Q", back))
    changed["rip"] = door[7] if call else door[6]
    changed["call"] = (1 << 64) - 1             # the kernel does not make the call again
    return changed
