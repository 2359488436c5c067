"""The window into a running process on Arenal: src/observe/window.h says what it consists of, and who may look in.

The other side may be anybody, who calls a thread and a file so: every byte of it is checked against constants, and nothing is
written to it before it has shown that it is a window."""

import ctypes
import errno
import fcntl
import mmap
import os
import platform
import random
import struct
import time
from collections import namedtuple
from itertools import islice

from arenal import files, layout, memfile, proc, text
from arenal.errors import Failure, Gone

NAME = "arenal-window"          # of the thread, and of the file
MAGIC, VERSION = b"ARENALW\0", 1
LIMIT = 0.5                     # seconds that an answer may take
WALK = 10.0                     # and one for which the library walks over its whole heap, or gives much memory back
OPENING = 0.3                   # a window may be just being opened: its thread has no name yet, its file no contents
SIZE_MIN, SIZE_MAX = 1 << 16, 1 << 20           # bytes of the file
DESCRIPTORS = 16                # its thread has one, or two
DUMP_MAX, DUMP_START, DUMP_END = 64 << 20, b"arenal-heap-profile ", b"\nend\n"
PATIENCE = 2.0                  # seconds until more of a dump comes

HEADER = struct.Struct("<8sIIiI32s8x")          # magic, version, size, pid, answer, library
REQUEST = struct.Struct("<Iq48s")               # kind, value, name; behind the number
NUMBER_AT, REQUEST_AT = HEADER.size, HEADER.size + 4
NUMBER = struct.Struct("<I")
ANSWER = struct.Struct("<IiqQQQQ" + "IIII" * 5)  # number, error, value, milliseconds, resident, brk_start, brk_end, tables
HELLO, SNAPSHOT, GET, SET, PURGE, PROFILE_START, PROFILE_STOP, _PROFILE_DUMP_IN_MEMORY, PROFILE_DUMP = range(9)
RESIDENT = 1

# struct arenal_stats of include/arenal/arenal.h, whose fields are all 8 bytes. What a newer library appends is not read.
STATS = ("allocated", "cached", "active", "dirty", "mapped", "metadata", "brk_bytes", "huge_bytes", "huge_blocks",
         "regions", "arenas", "threads", "purged_total", "refills", "flushes", "guarded", "guarded_total", "resident")

Class = namedtuple("Class", "size span_bytes span_blocks spans blocks_out refills flushes blocks_cached")
Arena = namedtuple("Arena", "kind threads spans bytes refills flushes")
Region = namedtuple("Region", "base kind slices used dirty")
Tunable = namedtuple("Tunable", "name value min max live")
KINDS = ("regions", "brk", "guarded regions")

_CLASS = struct.Struct("<III4xQQQQQ")
_ARENA = struct.Struct("<IIQQQQ")
_REGION = struct.Struct("<QIIII")
_TUNABLE = struct.Struct("<32sqqqI4x")
# Of stats, classes, arenas, regions, tunables: the least stride, and the most records. The first libraries had a statistic less.
_TABLES = ((8 * (len(STATS) - 1), 1), (_CLASS.size, 1024), (_ARENA.size, 4096), (_REGION.size, 16384), (_TUNABLE.size, 1024))
_STRIDE_MAX = 4096

_FUTEX = {"x86_64": 202, "aarch64": 98}.get(platform.machine())
_FUTEX_WAIT, _FUTEX_WAKE = 0, 1
_EVERYBODY = (1 << 31) - 1
_libc = ctypes.CDLL(None, use_errno=True)


class _Timespec(ctypes.Structure):
    _fields_ = [("seconds", ctypes.c_long), ("nanoseconds", ctypes.c_long)]


class Silent(Failure):
    """The process does not answer."""


class NoWindow(Failure):
    """The process has no window; it may be on Arenal or not."""

    def __init__(self, sentence, on_arenal):
        super().__init__(sentence)
        self.on_arenal = on_arenal


class NotPermitted(Failure):
    """Only its own user, or root, may look into the process."""


class Snapshot:
    """One look. `stats` has a key for each name in STATS that the library knows. Raises ValueError when it makes no sense."""

    def __init__(self, answer, page):
        _number, _error, _value, self.milliseconds, self.resident, self.brk_start, self.brk_end, *tables = answer
        # Only what is there is copied: pages of the file that nobody touched are no memory.
        copies = []
        for (offset, stride, count, _), (least, most) in zip(zip(*[iter(tables)] * 4), _TABLES):
            if not least <= stride <= _STRIDE_MAX or stride % 8 or count > most or offset + stride * count > len(page):
                raise ValueError("a table has an impossible place or size")
            copies.append((page[offset:offset + stride * count], stride))
        (stats, stride), self._classes, self._arenas, self._regions, self._tunables = copies
        if not stats:
            raise ValueError("it has no statistics")
        fields = min(stride // 8, len(STATS))
        self.stats = dict(zip(STATS, struct.unpack_from(f"<{fields}Q", stats)))
        sizes = [c.size for c in self.classes]
        if sizes != sorted(set(sizes)):
            raise ValueError("its size classes are in no order")

    @staticmethod
    def _records(table, kind, record):
        data, stride = table
        if stride == kind.size:
            return [record._make(found) for found in kind.iter_unpack(data)]
        return [record._make(kind.unpack_from(data, at)) for at in range(0, len(data), stride)]

    @property
    def classes(self):
        """Size classes in use, smallest first."""
        return self._records(self._classes, _CLASS, Class)

    @property
    def arenas(self):
        return self._records(self._arenas, _ARENA, Arena)

    @property
    def regions(self):
        return self._records(self._regions, _REGION, Region)

    @property
    def tunables(self):
        found = self._records(self._tunables, _TUNABLE, Tunable)
        return [t._replace(name=text.field(t.name), live=bool(t.live)) for t in found]


class Window:
    """An open window. Use it as a context manager; looking again and again through one window is cheap."""

    def __init__(self, pid, limit=LIMIT):
        self.pid, self.limit = pid, limit
        if _FUTEX is None:
            raise Failure(f"windows of processes are for x86-64 and AArch64, not for {platform.machine()}")
        self._file = self._page = self._word = self._answer_word = None
        try:
            self._thread, self._file = _open(pid)
            self._page = mmap.mmap(self._file, os.fstat(self._file).st_size)
            self._word = ctypes.c_uint32.from_buffer(self._page, NUMBER_AT)
            self._look_at_header()
        except OSError as error:
            self.close()
            raise _failure(pid, error) from error
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
                pass    # a signal ended a wait for an answer, whose frames still point into the page: it goes with the process
            os.close(self._file)
            self._file = None

    def alive(self):
        """Whether the process still has this window."""
        return _state(self.pid, self._thread) not in "?ZX"

    def snapshot(self, resident=False):
        """What the allocator holds now. With `resident`, the library walks its whole heap for that figure; else it is None."""
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
                raise _failure(self.pid, error) from error
            except memfile.Strange as strange:
                raise ValueError(f"its profile is none: {strange}") from strange
        self._ask(HELLO, 0)
        data = self._ask(PROFILE_DUMP, 0, take=take, limit=WALK)
        self._ask(HELLO, 0)             # the process need not keep the pipe any longer
        if not data.endswith(DUMP_END):
            raise Failure(f"process {self.pid} did not write all of its profile: it had to wait for too long for us, or has no memory left")
        return data

    # One request

    def _header(self):
        """Its version and its library's; whether it has a place for answers."""
        magic, version, _size, _pid, answer, library = HEADER.unpack_from(self._page, 0)
        fits = REQUEST_AT + REQUEST.size <= answer <= len(self._page) - ANSWER.size and answer % 8 == 0
        self._answer, self.library = answer, text.field(library)
        return version if magic == MAGIC else None, fits

    def _look_at_header(self):
        """Finds the place of answers. A header that somebody has scribbled over is written anew by the library."""
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
            raise Failure(f"the window of process {self.pid} has layout version {version}, and this tool knows "
                          f"version {VERSION}: use the tool of its library, Arenal {self.library}")
        if not fits:
            raise Failure(f"the window of process {self.pid} is damaged")
        self._answer_word = ctypes.c_uint32.from_buffer(self._page, self._answer)

    def _say_hello(self):
        self._page[len(MAGIC):len(MAGIC) + 4] = bytes(4)        # no version: it is written anew
        self._ring(HELLO, 0, "")

    def _ask(self, kind, value, name="", take=None, limit=None):
        """The answer as a tuple, or what `take` makes of it."""
        limit = limit or self.limit
        until = time.monotonic() + limit

        def exchange():
            number = self._ring(kind, value, name)
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
                    raise Silent(f"somebody else has been looking into process {self.pid} for {self.limit:g} s") from None
                time.sleep(0.002)
        try:
            return work()
        except (struct.error, ValueError) as error:
            raise Failure(f"the window of process {self.pid} is damaged: {error}") from error
        finally:
            fcntl.flock(self._file, fcntl.LOCK_UN)

    def _ring(self, kind, value, name):
        """Writes a request. Its number is random, so that no request of a client that died is taken for it."""
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
            now, state = time.monotonic(), _state(self.pid, self._thread)
            if now > until or state in "?ZX" or (now > stopped and state in "Tt"):
                raise self._silence(limit)

    def _silence(self, limit):
        state = _state(self.pid, self._thread)
        if state in "?ZX":
            return Gone(self.pid)
        if state in "Tt":
            return Silent(f"process {self.pid} does not answer: it is stopped"
                          f"{' by a debugger' if state == 't' else ' (SIGCONT lets it go on)'}")
        if proc.is_frozen(self.pid):
            return Silent(f"process {self.pid} does not answer: it is frozen, as its cgroup is (a paused container)")
        return Silent(f"process {self.pid} does not answer within {limit:g} s")


def _futex(word, operation, value, seconds=None):
    timeout = None
    if seconds is not None:
        timeout = ctypes.byref(_Timespec(int(seconds), int(seconds % 1 * 1e9)))
    _libc.syscall(ctypes.c_long(_FUTEX), ctypes.byref(word), ctypes.c_int(operation), ctypes.c_uint32(value), timeout,
                  None, ctypes.c_int(0))


def _read(path):
    try:
        return files.head(path, 4096)
    except OSError:
        return b""


def _state(pid, thread):
    """The letter of the thread's state, "?" when there is no such thread."""
    stat = _read(f"/proc/{pid}/task/{thread}/stat")
    return stat.rpartition(b")")[2].split()[0].decode() if stat else "?"


def threads_of_arenal(pid):
    """The threads of the process that are the library's own, by name: what everybody may know."""
    found = {}
    try:
        tasks = os.listdir(f"/proc/{pid}/task")
    except OSError:
        return found
    for task in tasks:
        name = _read(f"/proc/{pid}/task/{task}/comm").rstrip(b"\n").decode(errors="replace")
        if name in (NAME, "arenal"):
            found[name] = task
    return found


def _open(pid):
    """The thread, and its file, opened for reading and writing because it has shown that it is a window."""
    until = time.monotonic() + OPENING
    while True:
        thread, path = _find(pid)
        try:
            handle = memfile.hold(path)
            try:
                memfile.check(handle, NAME, SIZE_MIN, SIZE_MAX, memfile.owners(pid))
                file = memfile.reopen(handle, os.O_RDONLY)
                try:
                    memfile.check_seals(file)
                    if os.pread(file, len(MAGIC), 0) != MAGIC:
                        raise memfile.Strange("it does not begin as one")
                finally:
                    os.close(file)
                return thread, memfile.reopen(handle, os.O_RDWR)
            finally:
                os.close(handle)
        except memfile.Strange as strange:
            if time.monotonic() > until:
                raise Failure(f"the window of process {pid} is none of Arenal's: {strange}") from strange
        time.sleep(0.005)


def _find(pid):
    """The thread, and the path under which its file may be opened."""
    if not os.path.isdir(f"/proc/{pid}"):
        raise Gone(pid, f"there is no process {pid}")
    if NAME not in threads_of_arenal(pid):
        missing = _no_window(pid)
        if not missing.on_arenal:
            raise missing
    until = time.monotonic() + OPENING
    while time.monotonic() < until:
        thread = threads_of_arenal(pid).get(NAME)
        path = _file_of(pid, thread) if thread else None
        if path:
            return thread, path
        time.sleep(0.005)
    raise _no_window(pid)


def _file_of(pid, thread):
    folder = f"/proc/{pid}/task/{thread}/fd"
    try:
        with os.scandir(folder) as found:
            for entry in islice(found, DESCRIPTORS):
                if os.readlink(entry.path).startswith(f"/memfd:{NAME}"):
                    return entry.path
    except OSError as error:
        if error.errno != errno.ENOENT:
            raise _failure(pid, error) from error
    return None


def _no_window(pid):
    with proc.Process(pid) as process:          # raises what there is to say about processes that may not be looked at
        if layout.has_library(process) or layout.locate(process):
            return NoWindow(f"process {pid} ({process.name}) is on Arenal, but has no window: arenal ctl {pid} open opens "
                            "one, as ARENAL_WINDOW=1 and arenal run do from the start (before Linux 5.9 there is none)", True)
        return NoWindow(f"process {pid} ({process.name}) is not on Arenal: it seems to be on "
                        f"{layout.allocator(process)}", False)


def _failure(pid, error):
    if error.errno in (errno.EACCES, errno.EPERM):
        return NotPermitted(f"not permitted to look into process {pid}: {proc.who_may()}" + ("" if os.geteuid() == 0 else
                            " (which it must be for a process that has changed its user)"))
    if error.errno in (errno.ENOENT, errno.ESRCH):
        return Gone(pid)
    return Failure(f"the window of process {pid}: {error.strerror or error}")


def _refusal(code, kind, name, value):
    if kind in (GET, SET) and code == errno.ENOENT:
        return Failure(f"there is no tunable {name}")
    if kind == SET and code == errno.EINVAL:
        return Failure(f"{name} cannot be {value}: that is not in its range")
    if kind == SET and code == errno.EPERM:
        return Failure(f"{name} cannot be changed while the program runs: set it before the start")
    if kind == SNAPSHOT and code == errno.EPERM:
        return Failure("what is in memory is not known: the process has a filter of system calls, which may end it for "
                       "asking the kernel (started with ARENAL_SANDBOX=0, it asks)")
    if kind == PROFILE_DUMP and code == errno.ENODATA:
        return Failure("there is no heap profile: it was never on in this process (arenal ctl PID profile start)")
    if kind == PROFILE_START and code == errno.ENOTSUP:
        return Failure("there is no heap profile of programs that are linked statically at a fixed place")
    if code == errno.ENOSYS:
        return Failure("the library of this process does not know this request: it is older than this tool")
    return Failure(f"the library refuses: {os.strerror(code)}")
