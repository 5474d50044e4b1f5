# SPDX-License-Identifier: Apache-2.0
"""Runs a program under ptrace(2), counts the system calls by which it or its children change something, and kills it with
SIGKILL before a certain one. Like `strace -f --inject`, but with one count over all processes, and for the first one only:
what its children do after its death is theirs, as it would be with kill -9 from a shell.
"""

import ctypes
import os
import signal
import struct
from dataclasses import dataclass

_LIBC = ctypes.CDLL(None, use_errno=True)
_LIBC.ptrace.argtypes = (ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p)
_LIBC.ptrace.restype = ctypes.c_long
_TRACE_ME, _CONTINUE, _SET_OPTIONS, _SYSCALL_INFO = 0, 7, 0x4200, 0x420E
_OPTIONS = 2 | 4 | 8 | 16 | 0x80 | 0x100000  # TRACEFORK, TRACEVFORK, TRACECLONE, TRACEEXEC, TRACESECCOMP, EXITKILL
_ALL_CHILDREN = 0x40000000  # __WALL
_EVENT_SECCOMP = 7
_INFO = struct.Struct("B3xIQQ7Q")  # op, arch, ip, sp; nr and six arguments
_PR_SET_SECCOMP, _PR_SET_NO_NEW_PRIVS, _FILTER = 22, 38, 2
_LOAD, _JUMP_IF_EQUAL, _RETURN = 0x20, 0x15, 0x06  # of BPF
_TRACE, _ALLOW = 0x7FF00000, 0x7FFF0000  # what a seccomp filter returns
_NEEDLESS = ("pipe:", "anon_inode:", "socket:", "/dev/null", "/tmp/")
_O_CREAT = 0o100

# x86-64: those that change something outside the process, and where their file descriptor or path is.
_FD, _PATH, _PATH_AT, _OPEN_AT = "fd", "path", "path at", "open at"
_CALLS = {1: ("write", _FD), 18: ("pwrite64", _FD), 20: ("writev", _FD), 74: ("fsync", _FD), 75: ("fdatasync", _FD),
          77: ("ftruncate", _FD), 82: ("rename", _PATH), 83: ("mkdir", _PATH), 84: ("rmdir", _PATH), 87: ("unlink", _PATH),
          257: ("openat", _OPEN_AT), 258: ("mkdirat", _PATH_AT), 263: ("unlinkat", _PATH_AT), 264: ("renameat", _PATH_AT),
          316: ("renameat2", _PATH_AT)}


@dataclass(frozen=True)
class Traced:
    steps: list  # "write /sys/...", in order, as far as it came
    killed: bool
    code: int  # of the program; -9 where it was killed


def _ptrace(request, pid, address=0, data=0):
    if _LIBC.ptrace(request, pid, address, data) < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def _string(pid, address):
    try:
        with open(f"/proc/{pid}/mem", "rb", buffering=0) as memory:
            return os.pread(memory.fileno(), 256, address).split(b"\0")[0].decode(errors="replace")
    except OSError:
        return "?"


def _step(pid):
    """What the process is about to change, or None."""
    info = ctypes.create_string_buffer(_INFO.size)
    _ptrace(_SYSCALL_INFO, pid, _INFO.size, ctypes.cast(info, ctypes.c_void_p))
    _, _, _, _, number, *arguments = _INFO.unpack(info.raw)
    name, kind = _CALLS[number]
    if kind == _FD:
        try:
            target = os.readlink(f"/proc/{pid}/fd/{arguments[0]}")
        except OSError:
            return None
        return None if target.startswith(_NEEDLESS) else f"{name} {target}"
    if kind == _OPEN_AT and not arguments[2] & _O_CREAT:
        return None
    return f"{name} {_string(pid, arguments[0 if kind == _PATH else 1])}"


def _try_step(pid):
    try:
        return _step(pid)
    except ProcessLookupError:  # it was killed meanwhile
        return None


class _Program(ctypes.Structure):
    _fields_ = [("length", ctypes.c_ushort), ("code", ctypes.c_char_p)]


def _stop_at_calls_only():
    """Has the kernel stop this process, and its children, at these system calls and no others: a stop costs much here."""
    numbers = sorted(_CALLS)
    code = struct.pack("HBBI", _LOAD, 0, 0, 0)  # the number of the call
    for place, number in enumerate(numbers):
        code += struct.pack("HBBI", _JUMP_IF_EQUAL, len(numbers) - place, 0, number)
    code += struct.pack("HBBI", _RETURN, 0, 0, _ALLOW) + struct.pack("HBBI", _RETURN, 0, 0, _TRACE)
    program = _Program(len(numbers) + 3, code)
    if _LIBC.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) or _LIBC.prctl(_PR_SET_SECCOMP, _FILTER, ctypes.byref(program)):
        raise OSError(ctypes.get_errno(), "cannot set a seccomp filter")


def _start(command):
    pid = os.fork()
    if pid:
        return pid
    try:
        nothing = os.open("/dev/null", os.O_RDWR)
        for target in range(3):
            os.dup2(nothing, target)
        os.setsid()
        _ptrace(_TRACE_ME, 0)
        os.kill(os.getpid(), signal.SIGSTOP)
        _stop_at_calls_only()
        os.execv(command[0], command)
    finally:
        os._exit(127)


def _too_slow(*_):
    raise TimeoutError("the traced program did not end")


def run(command, kill_before=None, seconds=60):
    """Runs it to its end. kill_before: the index of the step before which it is killed."""
    root, steps, killed, code, fresh = _start(command), [], False, None, set()
    os.waitpid(root, 0)
    _ptrace(_SET_OPTIONS, root, 0, _OPTIONS)
    _ptrace(_CONTINUE, root)
    left = {root}
    previous = signal.signal(signal.SIGALRM, _too_slow)
    signal.alarm(seconds)
    try:
        while left:
            pid, status = os.waitpid(-1, _ALL_CHILDREN)
            if not os.WIFSTOPPED(status):
                left.discard(pid)
                if pid == root:
                    code = os.waitstatus_to_exitcode(status)
                continue
            left.add(pid)
            deliver = _stopped(pid, os.WSTOPSIG(status), status >> 16, fresh)
            if deliver is None:
                deliver, step = 0, _try_step(pid)
                if step and not killed:
                    if len(steps) == kill_before:
                        os.kill(root, signal.SIGKILL)
                        killed = True
                    else:
                        steps.append(step)
            try:
                _ptrace(_CONTINUE, pid, 0, deliver)
            except ProcessLookupError:
                pass  # it was killed meanwhile; waitpid will say so
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, previous)
        for pid in left:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
    return Traced(steps, killed, code)


def _stopped(pid, number, event, fresh):
    """The signal to go on with; None at one of the calls."""
    if event == _EVENT_SECCOMP:
        return None
    if event or (number == signal.SIGSTOP and pid not in fresh):  # of ptrace itself: a fork, or how a new process begins
        fresh.add(pid)
        return 0
    return number
