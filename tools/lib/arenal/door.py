"""Opens a window in a running process that has none: src/observe/door.h is the other side, and says how.

The process is knocked at first, which only writes a byte of it that its slow paths look at. If it sleeps, one
of its threads is sent through the door: stopped, once at most, in a system call in which it holds no lock
that opening a window takes, for a millisecond or so, and only after everything that can be known of it
without that was looked at (asleep.py). If its threads compute, one is interrupted, for as long, again and
again, until that was not in the middle of something (at_work.py). Where it cannot be told, nothing is done.

What the process says is used as addresses in itself only, whatever it execs meanwhile, be it a program with
more rights: All that is read and written goes through one handle of /proc/PID/mem, which is of one memory:
after an exec, it reads and writes nothing. A thread is held before its handle is opened: it cannot call exec
then; if another thread does, it is killed before the memory changes. So a ptrace call that succeeds after the
opening says that the handle is of its memory. What is written lands where the door was read, or nowhere; and
mappings, which have no handle, are read again in between. Registers go to the held thread, which has died, or
has this memory."""

import errno
import os
import struct
import time

from arenal import asleep, at_work, facts, files, layout, proc, ptrace, slept, text, window, window_file
from arenal.errors import Failure, Gone, Torn

DOOR = struct.Struct("<8sIIQQQQ")       # magic, version, answer, self, knock, sandbox, enter
MAGIC, VERSION, ANSWER_AT = b"ARENALD\0", 4, 12
OLDER = 2               # another version that we know: it ends there, and shortens no time
# Where a thread at work goes on; of libc's file and the loader's, from and to; the loader's list.
INTERRUPT_AT, CLOSED_AT, LIST_AT, RECORD_AT = DOOR.size, DOOR.size + 8, DOOR.size + 40, DOOR.size + 48
# What a thread finds in its struct door_record there, and where in it.
RECORDED = "r15 r14 r13 r12 r11 r10 r9 r8 rdi rsi rbp rbx rdx rcx rax rip cs flags rsp ss".split()
RECORDED_AT, RECORDED_STACK = 16, 1 << 16
FIRST_AT, OBJECT = 8, struct.Struct("<4Q")      # of struct r_debug; struct link_map: shift, name, dynamic section, next
OBJECTS_LIMIT = 1024
NOBODY, OPEN, LATER, NEVER, LOCKED_IN, REFUSED, BUSY = range(7)

HEARD = 0.1             # seconds in which a process that is at work hears a knock
LIMIT = 2.0             # and for all of it
WAKING = 5.0            # the same where all threads sleep for a time, or compute
PASSED = 0.3            # until a thread that went through has opened it
OPENED = 3.0            # for the window's thread, once it is there, to answer: it may wait for a CPU
PAUSE = 0.02            # between two looks at threads that are where they must not be held
LOOKS = 0.001           # between two looks whether a thread falls asleep,
WATCHED = 16            # threads of which that is looked at
FRESH = 0.01            # and how long it may have slept, of a time that begins anew when it is stopped
STOP = 1.0              # for a thread to stop: it needs a CPU for that
THREADS_LIMIT = 64      # that are looked at in a turn

EINTR, ERESTARTNOHAND, ERESTART_BLOCK = 4, 514, 516
RESTARTS = (512, 513, ERESTARTNOHAND, ERESTART_BLOCK)
RESTART, CODE_64 = 219, 0x33


class _Now(proc.Process):
    """The memory that a process has now. It is read and written through one handle, opened before anything
    else is looked at."""

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
    if window_file.NAME in window_file.threads_of_arenal(pid):
        with window.Window(pid):
            return True
    try:
        _open(pid, until)
    except (PermissionError, Torn) as error:
        raise _refused(pid, error) from error
    return False


def _open(pid, until):
    started = facts.started(pid)
    with _Now(pid) as process:
        name = process.name
        if not (layout.has_library(process) or layout.locate(process)):
            process.check_whole()
            raise window_file.NoWindow(f"process {pid} ({name}) is not on Arenal: it seems to be on "
                                       f"{layout.allocator(process)}", False)
        _check_state(pid)
        door, place = _find(process)
        process.write(place + ANSWER_AT, bytes(4))
        _check_answer(pid, _door(process, place), process)
        process.write(door[4], b"\1")
        other = _other_malloc(process, door, until)
    if _await(pid, min(until, time.monotonic() + HEARD)):
        return
    why, held = "here it cannot be woken for that", set()
    if other:
        why = f"{other} has, or may have, a malloc of its own, which may be in the middle of something"
    elif ptrace.CAN and door[6]:
        why = "it does not sleep in a place where it may be woken"
        longer = until + WAKING - LIMIT
        while time.monotonic() < until:
            if facts.started(pid) != started:
                raise Gone(pid)
            passed, refusal = _send_through(pid, place, held)
            if isinstance(refusal, asleep.Later):
                until = longer
            why = str(refusal or why)
            if _await(pid, time.monotonic() + (PASSED if passed else PAUSE)):
                return
            with _Now(pid) as process:
                _check_answer(pid, _door(process, place), process)
            if passed:
                why = "it has not allocated yet, or its program wants to see no other thread now, or it has " \
                      "the memory of another process"
                break
    raise Failure(f"process {pid} ({name}) has no window yet: {why}. It was asked, and opens one as soon as "
                  "it allocates or frees memory")


def _check_state(pid):
    letter = facts.thread_state(pid, pid)
    if letter in "ZX?":
        raise Gone(pid, f"process {pid} has ended")
    if letter == "T":
        raise Failure(f"process {pid} is stopped: a window can be opened when SIGCONT has let it go on")
    if facts.is_frozen(pid):
        raise Failure(f"process {pid} is frozen, as its cgroup is (a paused container): a window can be "
                      "opened when it goes on")
    tracers = (facts.thread_status(pid, thread).get("TracerPid") for thread in _threads(pid))
    tracer = next(filter(None, tracers), 0)
    if tracer:
        raise Failure(f"process {pid} is traced by process {tracer} ({facts.command_name(tracer)}): a "
                      "window can be opened when that has left it")


def _threads(pid):
    try:
        return sorted(map(int, os.listdir(f"/proc/{pid}/task")))[:THREADS_LIMIT]
    except OSError:
        return []


def _refused(pid, error):
    if isinstance(error, Torn):
        if facts.started(pid) is None:
            return Gone(pid)
        return Failure(f"process {pid} is on an Arenal that opens no window from outside: an older one, or "
                       "one whose file is not to be had any more")
    if facts.is_ending(pid):
        return Gone(pid)
    try:
        scope = int(files.head("/proc/sys/kernel/yama/ptrace_scope", 16))
    except (OSError, ValueError):
        scope = 0
    if scope == 3:
        return Failure(f"not permitted to look into process {pid}: kernel.yama.ptrace_scope is 3, which "
                       "forbids it to everybody until the next boot")
    if scope and os.geteuid() != 0:
        return Failure(f"not permitted to look into process {pid}: kernel.yama.ptrace_scope is {scope}: "
                       "become root, or, as root, sysctl kernel.yama.ptrace_scope=0 for as long as it takes")
    return window_file.failure(pid, PermissionError(errno.EPERM, ""))


def _find(process):
    """The contents of the door, and its address. Raises Torn, PermissionError."""
    place = layout.locate(process, "arenal_door")
    if not place:
        raise Torn("there is no door")
    return _door(process, place), place


def _door(process, place):
    door = DOOR.unpack(process.read(place, DOOR.size))
    # `self`: the file may be another one than that which was loaded, and the mappings another program's. It
    # is data of a file: not something that a program was given by who started it.
    mapping = process.at(place)
    if door[0] != MAGIC or door[1] not in (VERSION, OLDER) or door[3] != place or mapping is None or not mapping.inode:
        raise Torn("that is no door")
    return door


def _check_answer(pid, door, process):
    if process.read(door[5], 1) != b"\0" or door[2] == LOCKED_IN:
        raise Failure(f"process {pid} has locked itself in, by a filter of system calls: it can have no "
                      "window")
    if door[2] == NEVER:
        raise Failure(f"process {pid} was told never to have a window (window is 0)")
    if door[2] == REFUSED:
        raise Failure(f"the kernel refuses process {pid} a window: it takes a thread, memory, and Linux 5.9")


def _await(pid, until):
    """Whether it has a window by then."""
    while True:
        if window_file.NAME in window_file.threads_of_arenal(pid):
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


def _other_malloc(process, door, until):
    """The name of a file in the process that stands between it and our malloc; "" when there is none. Such a
    library has locks of its own. Also the first one that there is no time for."""
    ours = process.executable() if not layout.has_library(process) else None
    before = _before_us(process, door)
    for first in process.mappings:
        name = os.path.basename(first.path)
        if first.offset == 0 and first.path.startswith("/") and first.path != ours and \
                not name.startswith(asleep.CLOSED) and (before is None or (first.path, first.inode) in before):
            if time.monotonic() > until or \
                    any(layout.symbol_in(process, first, symbol) for symbol in ("malloc", "calloc")):
                return text.printable(name)
    return ""


def _before_us(process, door):
    """Those files, by path and inode, in which names are looked up before ours: a malloc behind it is nobody's.
    None where it cannot be told."""
    found, own = set(), process.at(door[3])
    try:
        if door[1] != VERSION:
            return None
        at, = struct.unpack("<Q", process.read(door[3] + LIST_AT, 8))
        at, = struct.unpack("<Q", process.read(at + FIRST_AT, 8))
        for _ in range(OBJECTS_LIMIT):
            if not at:
                break
            _, _, dynamic, at = OBJECT.unpack(process.read(at, OBJECT.size))
            mapping = process.at(dynamic)
            if mapping is None:
                break
            if (mapping.path, mapping.inode) == (own.path, own.inode):
                return found
            found.add((mapping.path, mapping.inode))
    except Torn:
        pass
    return None


# Sending a thread through

def _send_through(pid, place, held):
    """Tries each thread that sleeps, but those in `held`, where it puts those that it holds; then those that are
    at work, as often as it is asked to. Returns whether one went through, and why others did not."""
    _check_state(pid)
    why, timed, others = None, [], []
    try:
        with _Now(pid) as process:
            is_new = _door(process, place)[1] == VERSION
            for task in _threads(pid):
                if task in held:
                    continue
                try:
                    seen = asleep.call(process, task)
                    if seen:
                        _try(pid, task, place, seen, held)
                        return True, None
                    others.append(task)
                except asleep.Timed as error:
                    timed.append(task)
                    why = error
                    if is_new and _shorten(process, task, place, held):
                        return True, None
                except (asleep.Unsafe, ptrace.Busy) as error:
                    why = why if isinstance(why, asleep.Later) else error
                except Torn:
                    why = why or "it changes too fast"
                except (ProcessLookupError, FileNotFoundError):
                    continue            # it has ended
            if is_new:
                passed, error = _interrupt_one(process, others, place, held)
                why = error if error and not isinstance(why, asleep.Later) else why
                if passed:
                    return True, None
            if timed and _send_as_it_falls_asleep(process, timed[:WATCHED], place, held):
                return True, None
    except ptrace.Stuck:
        raise Failure(f"process {pid} cannot be held: a thread of it is in a part of the kernel that it "
                      "does not leave") from None
    except PermissionError:
        _check_state(pid)           # somebody may trace it by now
        raise
    except OSError as error:
        why = error.strerror
    return False, why


def _shorten(process, task, place, held):
    """Sends a thread through that sleeps for a time, and is given what is left of it afterwards."""
    sleep = slept.look(process.pid, task) if asleep.may_be_shortened(process, task) else None
    seen = asleep.call(process, task, fresh=True) if sleep else None
    if seen:
        _try(process.pid, task, place, seen, held, fresh=True, sleep=sleep)
    return bool(seen)


def _interrupt_one(process, candidates, place, held):
    """Tries the threads that are at work: whether one went through, and why not. Those in a system call come into `held`."""
    why = None
    if not layout.has_library(process):
        return False, asleep.Unsafe("it does not sleep, and Arenal is part of its program")
    try:
        tasks = at_work.threads(process.pid, candidates)
    except at_work.AtWork as error:
        return False, error
    for task in tasks:
        try:
            asleep.check_ahead(process, task)
            _interrupt_at(process, place)
            process.write(place + ANSWER_AT, bytes(4))
            process.write(place + CLOSED_AT, struct.pack("<4Q", *at_work.files_of_libc(process)))
            _interrupt(process.pid, task, place)
            until = time.monotonic() + PASSED
            while (answer := _door(process, place)[2]) == NOBODY and time.monotonic() < until:
                time.sleep(LOOKS)
            if answer not in (NOBODY, BUSY):
                return True, None
            raise at_work.AtWork("whenever it was looked at, it was in the middle of something")
        except at_work.InCall as error:
            held.add(task)
            why = error
        except (asleep.Unsafe, ptrace.Busy) as error:
            why = error
        except Torn:
            why = why or "it changes too fast"
        except (ProcessLookupError, FileNotFoundError):
            continue
    return False, why


def _interrupt_at(process, place):
    """Where a thread goes on, and its record is behind its thread pointer. Raises Unsafe."""
    interrupt, = struct.unpack("<Q", process.read(place + INTERRUPT_AT, 8))
    record, = struct.unpack("<Q", process.read(place + RECORD_AT, 8))
    if not interrupt or not record:
        raise asleep.Unsafe("it computes: such a thread is interrupted where it has glibc 2.35 or later")
    return interrupt, record


def _interrupt(pid, thread, place):
    with ptrace.Stopped(thread, STOP) as held:
        _check_thread(pid, thread)
        registers = held.registers()
        _sleep_on(pid, thread, held, registers)
        with _Now(pid) as process:
            registers = held.registers()
            door = _door(process, place)
            _check_kind(process, registers, door)
            at_work.check_place(process, held, registers)
            interrupt, record = _interrupt_at(process, place)
            # Nothing is written to its stack, of which nobody knows what it is.
            record = registers["fs_base"] + record & (1 << 64) - 1
            stack, = struct.unpack("<Q", process.read(record, 8))
            if stack - RECORDED_STACK <= registers["rsp"] < stack:
                raise asleep.Unsafe("it may be in the handler of a signal")     # which came when it was about to go back
            process.write(record + RECORDED_AT, struct.pack("<20Q", *(registers[name] for name in RECORDED)))
            held.set_registers({**registers, "rip": interrupt, "rbx": record})


def _send_as_it_falls_asleep(process, threads, place, held):
    """Waits for a moment until one of them wakes, and sleeps again: a time that has just begun may begin
    anew."""
    looks, until = {}, time.monotonic() + 10 * PAUSE
    while time.monotonic() < until:
        for task in threads:
            now, count = time.monotonic(), asleep.switches(process.pid, task)
            last, before = looks.get(task, (now, count))
            looks[task] = now, count
            if task in held or count == before or now - last > FRESH:
                continue
            try:
                seen = asleep.call(process, task, fresh=True)
                if seen and time.monotonic() - last <= FRESH:
                    _try(process.pid, task, place, seen, held, fresh=True)
                    return True
            except (asleep.Unsafe, ptrace.Busy, Torn, ProcessLookupError, FileNotFoundError):
                pass                    # another time
        time.sleep(LOOKS)
    return False


def _check_thread(pid, thread):
    if not os.path.isdir(f"/proc/{pid}/task/{thread}"):
        raise ProcessLookupError(errno.ESRCH, "another process has this number now")


def _try(pid, thread, place, seen, tried, fresh=False, sleep=None):
    tried.add(thread)
    with ptrace.Stopped(thread, STOP) as held:
        _check_thread(pid, thread)
        registers = held.registers()
        _sleep_on(pid, thread, held, registers)
        with _Now(pid) as process:
            _pass(process, held, place, seen, fresh, sleep)


def _check_kind(process, registers, door):
    if registers["cs"] != CODE_64:
        raise asleep.Unsafe("it runs code of another architecture")
    if process.read(door[5], 1) != b"\0":
        raise asleep.Unsafe("it has locked itself in")


def _go_on_at(process, held, registers, door, then):
    """Below the red zone it finds where it goes on afterwards."""
    registers["rsp"] -= asleep.RED_ZONE + 8
    registers["rip"] = door
    process.write(registers["rsp"], struct.pack("<Q", then))
    held.set_registers(registers)


def _pass(process, held, place, seen, fresh, sleep):
    """The memory was opened after the thread was held; its registers are read after that."""
    registers = held.registers()
    door = _door(process, place)
    call = _in_call(registers)
    if not call or any(registers[name] != value for name, value in seen.items()):
        raise asleep.Unsafe("it changes too fast")
    _check_kind(process, registers, door)
    asleep.check_place(process, held.thread, registers, fresh)
    if sleep and asleep.switches(process.pid, held.thread) > sleep.count + 1:
        raise asleep.Timed("it changes too fast")       # it woke, and sleeps again; the stop itself counts as one
    changed = dict(registers)
    changed["rax"] = RESTART if call == ERESTART_BLOCK else registers["call"]
    changed["rcx"] = call | (int(sleep.seconds() * 1e6) << 16 if sleep else 0)
    changed["call"] = (1 << 64) - 1             # the kernel does not make the call again
    _go_on_at(process, held, changed, door[6], registers["rip"] - len(asleep.SYSCALL))


def _signed(value):
    return value - (1 << 64) if value >> 63 else value


def _in_call(registers):
    """Why its system call will be made again, if it is in one; else 0."""
    code = -_signed(registers["rax"])
    return code if _signed(registers["call"]) >= 0 and code in RESTARTS else 0


def _sleep_on(pid, thread, held, registers):
    """Some calls fail with EINTR even for being stopped by us, which the program would see: now it goes to
    sleep again, unless a signal is waiting for it."""
    if _signed(registers["call"]) not in asleep.SLEEPS or _signed(registers["rax"]) != -EINTR or \
            asleep.has_signal(pid, thread):
        return
    registers["rax"] = -ERESTARTNOHAND & (1 << 64) - 1
    held.set_registers(registers)
