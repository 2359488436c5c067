"""Stops one thread of another process where it is, and lets it go on somewhere else: ptrace(2), of x86-64 only. Nothing stays if this
process ends in the middle: the kernel lets the thread go."""

import ctypes
import errno
import os
import platform
import struct
import time

CAN = platform.machine() == "x86_64" and struct.calcsize("P") == 8

GETREGSET, SETREGSET, SEIZE, INTERRUPT, DETACH = 0x4204, 0x4205, 0x4206, 0x4207, 17
RSEQ, DISPATCH = 0x420f, 0x4211         # PTRACE_GET_RSEQ_CONFIGURATION, _GET_SYSCALL_USER_DISPATCH_CONFIG
EVENT_STOP, SIGTRAP, PRSTATUS, WALL = 128, 5, 1, 0x40000000
NAMES = ("r15 r14 r13 r12 rbp rbx r11 r10 r9 r8 rax rcx rdx rsi rdi call rip cs flags rsp ss fs_base gs_base "
         "ds es fs gs").split()
_REGISTERS = struct.Struct("<27Q")

_libc = ctypes.CDLL(None, use_errno=True)
_libc.ptrace.restype = ctypes.c_long
_libc.ptrace.argtypes = (ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p)


class _Vector(ctypes.Structure):
    _fields_ = [("base", ctypes.c_void_p), ("size", ctypes.c_size_t)]


def _ptrace(request, thread, address=0, data=0):
    ctypes.set_errno(0)
    if (result := _libc.ptrace(request, thread, address, data)) == -1:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return result


class Busy(Exception):
    """It cannot be stopped now: it stopped for another reason than ours."""


class Stuck(Exception):
    """It does not stop in time. It stays ours until this process ends, which should be soon."""


class Stopped:
    """A thread that was running or asleep, and is held. A context manager: at the end of it, it goes on. Raises OSError, Busy,
    Stuck."""

    def __init__(self, thread, seconds):
        self.thread, self._held, self._signal = thread, False, 0
        _ptrace(SEIZE, thread)
        try:
            _ptrace(INTERRUPT, thread)
            self._await(time.monotonic() + seconds)
        except BaseException:
            self._let_go()
            raise

    def _await(self, until):
        pause = 0.0001
        while True:
            found, status = os.waitpid(self.thread, WALL | os.WNOHANG)
            if found:
                break
            if time.monotonic() > until:
                raise Stuck
            time.sleep(pause)
            pause = min(2 * pause, 0.005)
        if not os.WIFSTOPPED(status):
            raise ProcessLookupError(errno.ESRCH, "it has ended")
        self._held = True
        if status >> 16 != EVENT_STOP or os.WSTOPSIG(status) != SIGTRAP:
            # A signal is on its way to it, which it shall get; or it is stopped, as it shall stay; or it is just calling exec.
            self._signal = os.WSTOPSIG(status) if status >> 16 == 0 else 0
            raise Busy("it is just getting a signal")

    def _let_go(self):
        """A thread that does not stop cannot be let go of either, before we end."""
        if self._held:
            self._held = False
            try:
                _ptrace(DETACH, self.thread, 0, self._signal)
            except OSError:
                pass                    # it was killed

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._let_go()

    def registers(self):
        data = ctypes.create_string_buffer(512)
        vector = _Vector(ctypes.addressof(data), len(data))
        _ptrace(GETREGSET, self.thread, PRSTATUS, ctypes.addressof(vector))
        if vector.size != _REGISTERS.size:
            raise Busy("its registers are those of another architecture")
        return dict(zip(NAMES, _REGISTERS.unpack_from(data)))

    def set_registers(self, registers):
        """In one step: all of them, or none."""
        data = ctypes.create_string_buffer(_REGISTERS.pack(*(registers[name] & (1 << 64) - 1 for name in NAMES)))
        vector = _Vector(ctypes.addressof(data), _REGISTERS.size)
        _ptrace(SETREGSET, self.thread, PRSTATUS, ctypes.addressof(vector))

    def restarted_sequence(self):
        """Where the thread has registered a struct rseq (rseq(2)); 0: nowhere. Raises OSError before Linux 5.13."""
        data = ctypes.create_string_buffer(24)
        _ptrace(RSEQ, self.thread, len(data), ctypes.addressof(data))
        return struct.unpack_from("<Q", data)[0]

    def dispatches(self):
        """Whether its system calls go to a handler of its own (PR_SET_SYSCALL_USER_DISPATCH), as Wine's. Before Linux 6.4, nobody knows."""
        data = ctypes.create_string_buffer(32)
        try:
            _ptrace(DISPATCH, self.thread, len(data), ctypes.addressof(data))
        except OSError:
            return False
        return struct.unpack_from("<Q", data)[0] != 0
