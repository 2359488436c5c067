"""The window into a running process on Arenal: requests and their answers. src/observe/window.h says what it
consists of, and who may look in; window_file.py finds it, window_format.py knows its contents.

The other side may be anybody, who calls a thread and a file so: every byte of it is checked against
constants, and nothing is written to it before it has shown that it is a window."""

import ctypes
import errno
import fcntl
import mmap
import os
import platform
import random
import struct
import time

from arenal import facts, memfile, text, window_file
from arenal.errors import Failure, Gone
from arenal.window_format import (ANSWER, GET, HEADER, HELLO, MAGIC, NUMBER_AT, PROFILE_DUMP, PROFILE_START,
                                  PROFILE_STOP, PURGE, REQUEST, REQUEST_AT, RESIDENT, SET, SNAPSHOT, TRACE,
                                  TRACE_PATH, TRACE_START, TRACE_STATE, TRACE_STOP, VERSION, Snapshot, Trace)

LIMIT = 0.5                     # seconds that an answer may take
WALK = 10.0                     # and one for which the library walks over its whole heap, or gives much back
DUMP_MAX, DUMP_START, DUMP_END = 64 << 20, b"arenal-heap-profile ", b"\nend\n"
PATIENCE = 2.0                  # seconds until more of a dump comes

_FUTEX = {"x86_64": 202, "aarch64": 98}.get(platform.machine())
_FUTEX_WAIT, _FUTEX_WAKE = 0, 1
_EVERYBODY = (1 << 31) - 1
_libc = ctypes.CDLL(None, use_errno=True)


class _Timespec(ctypes.Structure):
    _fields_ = [("seconds", ctypes.c_long), ("nanoseconds", ctypes.c_long)]


class Silent(Failure):
    """The process does not answer."""


class NoProfile(Failure):
    """There is none to dump."""


class Window:
    """An open window. Use it as a context manager; looking again and again through one window is cheap."""

    def __init__(self, pid, limit=LIMIT, opening=None):
        """`opening`: seconds for one that is being opened just now."""
        self.pid, self.limit = pid, limit
        if _FUTEX is None:
            raise Failure(f"windows of processes are for x86-64 and AArch64, not for {platform.machine()}")
        self._file = self._page = self._word = self._answer_word = None
        try:
            self._thread, self._file = window_file.open_file(pid, opening)
            self._page = mmap.mmap(self._file, os.fstat(self._file).st_size)
            self._word = ctypes.c_uint32.from_buffer(self._page, NUMBER_AT)
            self._look_at_header()
        except OSError as error:
            self.close()
            raise window_file.failure(pid, error) from error
        except BaseException:
            self.close()
            raise

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def close(self):
        if self._file is not None:
            self._word = self._answer_word = None       # they keep the mapping
            try:
                if self._page is not None:
                    self._page.close()
            except BufferError:
                # A signal ended a wait for an answer, whose frames still point into the page: it goes with
                # the process.
                pass
            os.close(self._file)
            self._file = None

    def alive(self):
        """Whether the process still has this window."""
        return facts.thread_state(self.pid, self._thread) not in "?ZX"

    def snapshot(self, resident=False):
        """What the allocator holds now. With `resident`, the library walks its whole heap for that figure;
        else it is None."""
        if not resident:
            snapshot = self._ask(SNAPSHOT, 0, take=lambda a: Snapshot(a, self._page))
            snapshot.resident = None
            return snapshot
        self._ask(HELLO, 0)             # who does not answer this at once is not waited for long
        return self._ask(SNAPSHOT, RESIDENT, limit=WALK, take=lambda a: Snapshot(a, self._page))

    def get(self, name):
        return self._ask(GET, 0, name)[2]

    def set(self, name, value):
        self._ask(SET, value, name)

    def purge(self):
        """Bytes that were given back, at most: pages of these that had gone before count, too."""
        self._ask(HELLO, 0)
        return self._ask(PURGE, 0, limit=WALK)[2]

    def profile_start(self, mean):
        """Samples one byte in `mean`; 0: in what its tunable says."""
        self._ask(PROFILE_START, mean)

    def profile_stop(self):
        self._ask(PROFILE_STOP, 0)

    def profile_dump(self):
        """The bytes of the dump."""
        def take(answer):
            if not 0 <= answer[2] < 1 << 31:
                raise ValueError("it names no pipe")
            try:
                handle = memfile.hold_pipe(f"/proc/{self.pid}/task/{self._thread}/fd/{answer[2]}")
                try:
                    return memfile.stream(handle, DUMP_MAX, DUMP_START, PATIENCE, time.monotonic() + WALK)
                finally:
                    os.close(handle)
            except TimeoutError as error:
                raise self._silence(PATIENCE) from error
            except OSError as error:
                raise window_file.failure(self.pid, error) from error
            except memfile.Strange as strange:
                raise ValueError(f"its profile is none: {strange}") from strange
        self._ask(HELLO, 0)
        data = self._ask(PROFILE_DUMP, 0, take=take, limit=WALK)
        self._ask(HELLO, 0)             # the process need not keep the pipe any longer
        if not data.endswith(DUMP_END):
            raise Failure(f"process {self.pid} did not write all of its profile: it had to wait for too "
                          "long for us, or has no memory left")
        return data

    # A look in steps, for who looks into many and waits for none of them

    def ask_for_snapshot(self):
        """Whether it is asked now, which it is not while somebody else asks. Until take_snapshot or give_up,
        nobody else may."""
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        self._asked = self._ring(SNAPSHOT, 0, "")
        return True

    def has_answered(self):
        return self._answer_word.value == self._asked

    def take_snapshot(self):
        """What it answered: raises Failure when that makes no sense."""
        try:
            answer = ANSWER.unpack_from(self._page, self._answer)
            if answer[1]:
                raise _refusal(answer[1], SNAPSHOT, "", 0)
            snapshot = Snapshot(answer, self._page)
            snapshot.resident = None
            return snapshot
        except (struct.error, ValueError) as error:
            raise Failure(f"the window of process {self.pid} is damaged: {error}") from error
        finally:
            self.give_up()

    def give_up(self):
        fcntl.flock(self._file, fcntl.LOCK_UN)

    def silence(self):
        """The Silent or Gone that says why it may not have answered."""
        return self._silence(self.limit)

    def trace_start(self, path, most, milliseconds):
        """Records calls in a new file, which the process makes: so many bytes at most, and for so many
        milliseconds, or 0."""
        words = os.fsencode(path)
        if len(words) >= TRACE_PATH:
            raise Failure(f"{path}: the name is too long")

        def put():
            TRACE.pack_into(self._page, self._trace, most, milliseconds, 0, 0, 0)
            at = self._trace + TRACE.size
            self._page[at:at + len(words) + 1] = words + b"\0"
        self._trace_place()
        self._ask(HELLO, 0)
        return self._ask(TRACE_START, 0, path, take=lambda _: self._trace_state(), limit=WALK, put=put)

    def trace_stop(self):
        self._trace_place()
        self._ask(HELLO, 0)
        return self._ask(TRACE_STOP, 0, take=lambda _: self._trace_state(), limit=WALK)

    def trace_state(self):
        self._trace_place()
        return self._ask(TRACE_STATE, 0, take=lambda _: self._trace_state())

    def _trace_state(self):
        bytes_, milliseconds, left, state, is_on = TRACE.unpack_from(self._page, self._trace)
        at = self._trace + TRACE.size
        return Trace(bytes_, milliseconds, left, state, is_on == 1, text.field(self._page[at:at + TRACE_PATH]))

    def _trace_place(self):
        """Where requests about traces have their words."""
        *_, self._trace = HEADER.unpack_from(self._page, 0)
        if self._trace == 0:
            raise _refusal(errno.ENOSYS, TRACE_STATE, "", 0)
        if self._trace % 8 or not self._answer + ANSWER.size <= self._trace <= \
                len(self._page) - TRACE.size - TRACE_PATH:
            raise Failure(f"the window of process {self.pid} is damaged")

    # One request

    def _header(self):
        """Its version and its library's; whether it has a place for answers."""
        magic, version, _size, _pid, answer, library, _trace = HEADER.unpack_from(self._page, 0)
        fits = REQUEST_AT + REQUEST.size <= answer <= len(self._page) - ANSWER.size and answer % 8 == 0
        self._answer, self.library = answer, text.field(library)
        return version if magic == MAGIC else None, fits

    def _look_at_header(self):
        """Finds the place of answers. A header that somebody has scribbled over is written anew by the
        library."""
        version, fits = self._header()
        if version != VERSION or not fits:
            self._locked(self._say_hello)
            version, fits = self._header()
            until = time.monotonic() + self.limit
            while version in (None, 0) or not fits:
                if time.monotonic() > until:
                    raise self._silence(self.limit)
                time.sleep(0.001)
                version, fits = self._header()
        if version != VERSION:
            raise Failure(f"the window of process {self.pid} has layout version {version}, and this tool "
                          f"knows version {VERSION}: use the tool of its library, Arenal {self.library}")
        if not fits:
            raise Failure(f"the window of process {self.pid} is damaged")
        self._answer_word = ctypes.c_uint32.from_buffer(self._page, self._answer)

    def _say_hello(self):
        self._page[len(MAGIC):len(MAGIC) + 4] = bytes(4)        # no version: it is written anew
        self._ring(HELLO, 0, "")

    def _ask(self, kind, value, name="", take=None, limit=None, put=None):
        """The answer as a tuple, or what `take` makes of it. `put` writes what else belongs to the request."""
        limit = limit or self.limit
        until = time.monotonic() + limit

        def exchange():
            if put:
                put()
            number = self._ring(kind, value, "" if put else name)
            self._wait(number, until, limit)
            answer = ANSWER.unpack_from(self._page, self._answer)
            if answer[1]:
                raise _refusal(answer[1], kind, name, value)
            return take(answer) if take else answer
        return self._locked(exchange)

    def _locked(self, work):
        """Does it while no other client asks."""
        until = time.monotonic() + self.limit
        while True:
            try:
                fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > until:
                    raise Silent(f"somebody else has been looking into process {self.pid} for "
                                 f"{self.limit:g} s") from None
                time.sleep(0.002)
        try:
            return work()
        except (struct.error, ValueError) as error:
            raise Failure(f"the window of process {self.pid} is damaged: {error}") from error
        finally:
            fcntl.flock(self._file, fcntl.LOCK_UN)

    def _ring(self, kind, value, name):
        """Writes a request. Its number is random, so that no request of a client that died is taken for
        it."""
        word = os.fsencode(name)
        if len(word) >= 48:
            raise _refusal(errno.ENOENT, kind, name, value)
        self._word.value = 0
        REQUEST.pack_into(self._page, REQUEST_AT, kind, value, word)
        _futex(self._word, _FUTEX_WAKE, _EVERYBODY)     # a barrier, too: the number comes last
        number = 0
        while number == 0 or (self._answer_word is not None and number == self._answer_word.value):
            number = random.getrandbits(32)
        self._word.value = number
        _futex(self._word, _FUTEX_WAKE, _EVERYBODY)
        return number

    def _wait(self, number, until, limit):
        stopped = time.monotonic() + self.limit
        step = 0.02
        while (seen := self._answer_word.value) != number:
            # In short steps: the process may end, or somebody may scribble over the page.
            _futex(self._answer_word, _FUTEX_WAIT, seen, min(step, max(0.001, until - time.monotonic())))
            step = 0.1
            if self._answer_word.value == number:
                return
            now, state = time.monotonic(), facts.thread_state(self.pid, self._thread)
            if now > until or state in "?ZX" or (now > stopped and state in "Tt"):
                raise self._silence(limit)

    def _silence(self, limit):
        state = facts.thread_state(self.pid, self._thread)
        if state in "?ZX":
            return Gone(self.pid)
        if state in "Tt":
            return Silent(f"process {self.pid} does not answer: it is stopped"
                          f"{' by a debugger' if state == 't' else ' (SIGCONT lets it go on)'}")
        if facts.is_frozen(self.pid):
            return Silent(f"process {self.pid} does not answer: it is frozen, as its cgroup is (a paused "
                          "container)")
        return Silent(f"process {self.pid} does not answer within {limit:g} s")


def _futex(word, operation, value, seconds=None):
    timeout = None
    if seconds is not None:
        timeout = ctypes.byref(_Timespec(int(seconds), int(seconds % 1 * 1e9)))
    _libc.syscall(ctypes.c_long(_FUTEX), ctypes.byref(word), ctypes.c_int(operation), ctypes.c_uint32(value),
                  timeout, None, ctypes.c_int(0))


def _trace_refusal(code, path):
    words = {
        errno.EALREADY: "its calls are not recorded",
        errno.EBUSY: "its calls are recorded already, or were until this moment",
        errno.EOPNOTSUPP: "there is no trace in hardened mode, nor, unless it is recorded from its start (arenal trace -- COMMAND), "
                          "of a process that has made heaps or arenas, or asked what its threads allocate",
        errno.EEXIST: f"{path} exists already, and traces overwrite nothing",
        errno.ENOSPC: f"there is no room for {path}, or the kernel is older than 5.14",
        errno.EFBIG: f"files may not be so long as {path} would be (RLIMIT_FSIZE), or it has no address space for it",
        errno.ENOMEM: f"it has no address space for {path}",
        errno.EINVAL: f"{path} would be too short, or files cannot be mapped and shared there",
        errno.ENODEV: f"files cannot be mapped and shared where {path} is",
    }
    # It is the process that makes the file, in its own file system and as its own user.
    return Failure(words.get(code, f"it cannot make {path}: {os.strerror(code)}"))


def _refusal(code, kind, name, value):
    if kind in (GET, SET) and code == errno.ENOENT:
        return Failure(f"there is no tunable {name}")
    if kind == SET and code == errno.EINVAL:
        return Failure(f"{name} cannot be {value}: that is not in its range")
    if kind == SET and code == errno.EPERM:
        return Failure(f"{name} cannot be changed while the program runs: set it before the start")
    if kind == SNAPSHOT and code == errno.EPERM:
        return Failure("what is in memory is not known: the process has a filter of system calls, which may "
                       "end it for asking the kernel (started with ARENAL_SANDBOX=0, it asks)")
    if kind == PROFILE_DUMP and code == errno.ENODATA:
        return NoProfile("there is no heap profile: it was never on in this process (arenal ctl PID profile "
                         "start)")
    if kind == PROFILE_START and code == errno.ENOTSUP:
        return Failure("there is no heap profile of programs that are linked statically at a fixed place")
    if kind in (TRACE_START, TRACE_STOP):
        return _trace_refusal(code, name)
    if code == errno.ENOSYS:
        return Failure("the library of this process does not know this request: it is older than this tool")
    return Failure(f"the library refuses: {os.strerror(code)}")
