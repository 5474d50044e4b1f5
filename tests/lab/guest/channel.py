# SPDX-License-Identifier: Apache-2.0
"""The guest's end of the line to the host: JSON, a line each, over the second serial port."""

import json
import os
import termios
import tty


class Refused(Exception):
    """The host could not do what was asked of it."""


class Channel:
    def __init__(self, device="/dev/ttyS1"):
        self._fd = os.open(device, os.O_RDWR | os.O_NOCTTY | os.O_CLOEXEC)
        tty.setraw(self._fd, termios.TCSANOW)
        self._buffer = b""

    def send(self, **message):
        data = json.dumps(message).encode() + b"\n"
        while data:
            data = data[os.write(self._fd, data):]

    def receive(self):
        while b"\n" not in self._buffer:
            self._buffer += os.read(self._fd, 4096)
        line, self._buffer = self._buffer.split(b"\n", 1)
        return json.loads(line)

    def request(self, call, **arguments):
        """Has the host do something outside the guest (host/session.py says what there is)."""
        self.send(type="request", call=call, arguments=arguments)
        answer = self.receive()
        if "error" in answer:
            raise Refused(answer["error"])
        return answer["reply"]
