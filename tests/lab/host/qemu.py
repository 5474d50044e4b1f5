# SPDX-License-Identifier: Apache-2.0
"""One QEMU process: starts it, holds its sockets, and sees to it that it never outlives this process."""

import ctypes
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
from pathlib import Path

from host.errors import Lacking
from host.qmp import Qmp

_PROGRAM = "qemu-system-x86_64"
_PR_SET_PDEATHSIG = 1
_LIBC = ctypes.CDLL(None, use_errno=True)
# iomem=relaxed: a case plays a driver that gives its device a wrong address, by the registers of a NIC that upci has open.
_KERNEL_ARGUMENTS = ("console=ttyS0 quiet panic=-1 oops=panic intel_iommu=on mitigations=off nokaslr no_timer_check "
                     "printk.time=1 8250.nr_uarts=2 iomem=relaxed")


def program():
    path = shutil.which(_PROGRAM)
    if not path:
        raise Lacking(f"there is no {_PROGRAM}: install the package qemu-system-x86 (tools/setup does)")
    return path


def escaped(text):
    """For the kernel's command line; guest/init undoes it with printf %b."""
    return re.sub(rb"[^A-Za-z0-9/._+-]", lambda match: b"\\x%02x" % match[0][0], os.fsencode(str(text))).decode()


def guest_python():
    """The interpreter, as the guest will find it: Debian's where it is there, for others may be wrappers."""
    system = Path("/usr/bin/python3")
    return system if system.exists() else Path(os.path.realpath(sys.executable))


def _die_with_parent(parent):
    """Runs in the child before exec. SIGKILL comes when the forking thread ends: that is our main thread."""
    def prepare():
        _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        if os.getppid() != parent:
            os._exit(1)
    return prepare


class Qemu:
    """Its sockets: `console` and `channel` (the guest's serial ports), `qmp`. The console is a terminal where asked for."""

    def __init__(self, kernel, initramfs, machine, log, parameters, on_terminal=False):
        words = " ".join(f"lab.{key}={escaped(value)}" for key, value in parameters.items())
        names = ["qmp"] if on_terminal else ["qmp", "console", "channel"]
        ours, theirs = {}, {}
        for name in names:
            ours[name], theirs[name] = socket.socketpair()
        command = [program(), "-nodefaults", "-no-user-config", "-display", "none", "-no-reboot", "-name", "upci-lab",
                   *machine, "-kernel", str(kernel.image), "-initrd", str(initramfs),
                   "-append", f"{_KERNEL_ARGUMENTS} {words}"]
        for name in names:
            command += ["-chardev", f"socket,id={name},fd={theirs[name].fileno()}"]
        command += ["-mon", "chardev=qmp,mode=control"]
        if on_terminal:
            # signal=off: an interrupt key is the guest's, not QEMU's.
            command += ["-chardev", "stdio,id=console,signal=off", "-serial", "chardev:console"]
        else:
            command += ["-serial", "chardev:console", "-serial", "chardev:channel"]
        self._log = open(log, "wb")
        self._process = subprocess.Popen(
            command, stdin=None if on_terminal else subprocess.DEVNULL,
            stdout=None if on_terminal else self._log, stderr=self._log,
            pass_fds=[end.fileno() for end in theirs.values()],
            preexec_fn=_die_with_parent(os.getpid()), start_new_session=not on_terminal)
        for end in theirs.values():
            end.close()
        self.log = Path(log)
        self.console, self.channel = ours.get("console"), ours.get("channel")
        self._qmp_socket = ours["qmp"]
        self.qmp = Qmp(self._qmp_socket)

    def running(self):
        return self._process.poll() is None

    def wait(self):
        return self._process.wait()

    def crashed(self):
        """The signal that QEMU itself died of, or 0. Called before close()."""
        try:
            return max(0, -self._process.wait(1))
        except subprocess.TimeoutExpired:
            return 0

    def said(self):
        """What QEMU itself wrote: why it would not start, for example."""
        lines = self.log.read_text(errors="replace").splitlines()
        # A hub of two NICs leads nowhere else, and is meant so.
        return "\n".join(line for line in lines if "is not connected to host network" not in line)

    def close(self):
        if self.running():
            self._process.kill()
        self._process.wait()
        for connection in (self.console, self.channel, self._qmp_socket):
            if connection is not None:
                connection.close()
        self._log.close()
