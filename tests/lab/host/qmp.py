# SPDX-License-Identifier: Apache-2.0
"""Speaks QMP over a socket that is already connected. Events are kept in a list."""

import json
import time

from host.errors import GuestLost


class QmpError(Exception):
    """QEMU refused a command."""


class Qmp:
    def __init__(self, connection):
        self._socket = connection
        self._buffer = b""
        self.events = []

    def start(self, timeout=10):
        self._receive(time.monotonic() + timeout)  # the greeting
        self.call("qmp_capabilities")

    def call(self, command, timeout=10, **arguments):
        """Returns what QEMU returns. Raises QmpError where it refuses, GuestLost where it does not answer in time."""
        request = {"execute": command}
        if arguments:
            request["arguments"] = arguments
        deadline = time.monotonic() + timeout
        try:
            self._socket.sendall(json.dumps(request).encode() + b"\n")
        except OSError as error:
            raise GuestLost("QEMU has ended") from error
        while True:
            message = self._receive(deadline)
            if "event" in message:
                self.events.append(message)
            elif "error" in message:
                raise QmpError(f"{command}: {message['error'].get('desc')}")
            elif "return" in message:
                return message["return"]

    def _receive(self, deadline):
        while b"\n" not in self._buffer:
            self._socket.settimeout(max(deadline - time.monotonic(), 0.01))
            try:
                received = self._socket.recv(65536)
            except TimeoutError as error:
                raise GuestLost("QEMU does not answer on its QMP socket") from error
            if not received:
                raise GuestLost("QEMU has ended")
            self._buffer += received
        line, self._buffer = self._buffer.split(b"\n", 1)
        return json.loads(line)
