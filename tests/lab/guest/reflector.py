# SPDX-License-Identifier: Apache-2.0
"""The other end of the wire, with nothing of upci in it: sends each frame that comes to a kernel's interface back."""

import select
import socket
import struct
import threading
from pathlib import Path

from guest import frames

_ETH_P_ALL = 3
_SOL_PACKET, _ADD_MEMBERSHIP, _PROMISCUOUS = 263, 1, 1


class Reflector:
    """From `with` to its end. `count`: frames of ETHERTYPE that came in and went back."""

    def __init__(self, interface):
        self._interface = interface
        frames.set_up(interface)  # first: a socket that is bound while it is down has an error waiting
        self._port = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(_ETH_P_ALL))
        self._port.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8 << 20)
        self._port.bind((interface, _ETH_P_ALL))
        index = socket.if_nametoindex(interface)
        self._port.setsockopt(_SOL_PACKET, _ADD_MEMBERSHIP, struct.pack("IHH8s", index, _PROMISCUOUS, 0, b""))
        self._port.setblocking(False)
        self._end, self._ended = socket.socketpair()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self.count = 0

    def received(self):
        """What the kernel's driver has counted."""
        return int(Path(f"/sys/class/net/{self._interface}/statistics/rx_packets").read_text())

    def _run(self):
        kind = struct.pack("!H", frames.ETHERTYPE)
        while True:
            ready, _, _ = select.select([self._port, self._ended], [], [])
            if self._ended in ready:
                return
            try:
                while True:
                    frame, (_, _, direction, *_) = self._port.recvfrom(2048)
                    if direction != socket.PACKET_OUTGOING and frame[12:14] == kind:
                        self._send(frame)
                        self.count += 1
            except BlockingIOError:
                pass

    def _send(self, frame):
        while True:
            try:
                self._port.send(frame)
                return
            except (BlockingIOError, OSError):  # its transmit queue is full
                if select.select([self._ended], [self._port], [], 1)[0]:
                    return

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._end.close()
        self._thread.join(5)
        self._ended.close()
        self._port.close()
