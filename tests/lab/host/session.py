# SPDX-License-Identifier: Apache-2.0
"""One boot with its cases: starts the guest, has it run one case after the other, and serves what it asks for meanwhile.

The channel is the guest's second serial port; a message is a line of JSON.
    host to guest   {"run": CASE} · {"reply": VALUE} · {"error": TEXT}
    guest to host   {"type": "ready", "uptime": S} · {"type": "request", "call": NAME, "arguments": {}}
                    {"type": "evidence", "text": LINE} · {"type": "result", ...the fields of Result}
"""

import json
import os
import re
import select
import subprocess
import time

import topology
from host import oracle, qemu
from host.errors import GuestLost, Lacking
from host.qmp import QmpError
from host.results import Result

BOOT_SECONDS = 240  # to the runner's first message; five to eight are usual, on a busy machine many more
BOOT_TOTAL_SECONDS = 900
_CONSOLE_LINES = 40
_ESCAPES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


class Session:
    def __init__(self, boot, kernel, initramfs, module, folder, project, records=False):
        overlay = None
        if boot.overlay:
            overlay = folder / "overlay.bin"
            overlay.write_bytes(topology.overlay_memory())
        self._boot, self._folder, self._module, self._records = boot, folder, module, records
        self._until = time.monotonic() + BOOT_TOTAL_SECONDS
        self._console, self._buffer, self._messages = bytearray(), b"", []
        self._evidence = []  # of the case that runs
        self.lost = False  # no further case can run
        self._qemu = qemu.Qemu(
            kernel, initramfs, topology.qemu_arguments(boot.pairs, overlay, boot.remap), folder / f"{boot.name}-qemu.log",
            {"mode": "cases", "project": project, "python": qemu.guest_python()})

    def close(self):
        self._qemu.close()
        (self._folder / f"{self._boot.name}-console.log").write_bytes(self._console)

    def start(self):
        """Waits for the guest's runner. Returns the guest's uptime in seconds."""
        try:
            self._qemu.qmp.start()
            return self._next("ready", time.monotonic() + BOOT_SECONDS)["uptime"]
        except GuestLost as error:
            said = self._qemu.said()
            if said and not self._console:  # it did not come to a guest
                raise Lacking(f"QEMU does not run the guest: {said}") from error
            raise

    def run(self, case):
        started = time.monotonic()
        self._evidence = []
        try:
            self._send({"run": case.name})
            message = self._next("result", started + case.timeout)
        except GuestLost as error:
            self.lost = True
            return Result(case.name, False, time.monotonic() - started, self._evidence, f"{error}\n{self.console_tail()}")
        return Result(case.name, message["passed"], time.monotonic() - started, self._evidence, message["failure"],
                      message["data"])

    def crash(self):
        """The signal that QEMU itself died of, or 0; once the guest is lost."""
        return self._qemu.crashed()

    def console_tail(self):
        text = _ESCAPES.sub("", self._console.decode(errors="replace")).replace("\r", "")
        return "the console's last lines:\n" + "\n".join("  " + line for line in text.splitlines()[-_CONSOLE_LINES:])

    def _next(self, kind, deadline):
        """The next message of a kind; answers requests and collects evidence until it comes."""
        while True:
            while self._messages:
                message = self._messages.pop(0)
                if message["type"] == kind:
                    return message
                if message["type"] == "request":
                    self._send(self._serve(message))
                elif message["type"] == "evidence":
                    self._evidence.append(message["text"])
            self._pump(min(deadline, self._until))

    def _pump(self, deadline):
        left = deadline - time.monotonic()
        if left <= 0:
            self._ask_for_blocked_tasks()
            self._ask_for_interrupts()
            raise GuestLost("the guest did not answer in time (below: its blocked tasks, if it could still list them, and "
                            "what QEMU says of each CPU's interrupts)")
        ready, _, _ = select.select([self._qemu.console, self._qemu.channel], [], [], min(left, 1.0))
        for source in ready:
            received = os.read(source.fileno(), 65536)
            if not received:
                raise GuestLost("the guest has ended: " + (self._qemu.said() or "it rebooted, crashed or was powered off"))
            if source is self._qemu.console:
                self._console += received
            else:
                self._buffer += received
        while b"\n" in self._buffer:
            line, self._buffer = self._buffer.split(b"\n", 1)
            try:
                self._messages.append(json.loads(line))
            except ValueError:
                raise GuestLost(f"the guest sent what is no message: {line[:200]!r}") from None

    def _ask_for_blocked_tasks(self):
        """A break and a 'w' on the console: the kernel's own list of tasks that are in an uninterruptible sleep."""
        try:
            self._qemu.qmp.call("chardev-send-break", timeout=2, id="console")
            self._qemu.console.sendall(b"w")
            until = time.monotonic() + 3
            while (left := until - time.monotonic()) > 0:
                if select.select([self._qemu.console], [], [], left)[0]:
                    received = os.read(self._qemu.console.fileno(), 65536)
                    if not received:
                        return
                    self._console += received
        except (GuestLost, QmpError, OSError):
            pass  # it was worth a try

    def _ask_for_interrupts(self):
        """Of each CPU, its local APIC: a timer that is not armed, or an interrupt that was never ended, is seen there."""
        try:
            for cpu in range(topology.CPUS):
                told = self._qemu.qmp.call("human-monitor-command", timeout=2, **{"command-line": f"info lapic {cpu}"})
                self._console += f"\nCPU {cpu}: {told}".encode()
        except (GuestLost, QmpError, OSError):
            pass  # it was worth a try

    def _send(self, message):
        try:
            self._qemu.channel.sendall(json.dumps(message).encode() + b"\n")
        except OSError as error:
            raise GuestLost("the guest has ended") from error

    def _serve(self, message):
        """What a case may ask of the world outside the guest."""
        name = message["arguments"].get("nic")
        try:
            if message["call"] == "device_del":
                self._qemu.qmp.call("device_del", id=f"nic-{name}")
            elif message["call"] == "device_add":
                bus = message["arguments"]["bus"]
                self._qemu.qmp.call("device_add", **_as_arguments(topology.nic_device(topology.nic(name), bus=bus)))
            elif message["call"] == "set_link":
                self._qemu.qmp.call("set_link", name=f"nic-{name}", up=message["arguments"]["up"])
            elif message["call"] == "oracle_module":
                return {"reply": str(self._module)} if self._module else {"error": "this boot has no module for the oracle"}
            elif message["call"] == "oracle_records":
                return {"reply": self._records}
            elif message["call"] == "oracle_differences":
                return {"reply": oracle.differences(message["arguments"]["answers"])}
            elif message["call"] == "inject_error":
                # QEMU has this for people only. What it says is empty or begins with OK where it was done.
                words = f"pcie_aer_inject_error nic-{name} {message['arguments']['error']}"
                return {"reply": self._qemu.qmp.call("human-monitor-command", **{"command-line": words})}
            else:
                return {"error": f"there is no call {message['call']}"}
        except (QmpError, OSError, subprocess.SubprocessError) as error:
            return {"error": str(error)}
        return {"reply": None}


def _as_arguments(device):
    model, *options = device.split(",")
    return {"driver": model, **dict(option.split("=", 1) for option in options)}
