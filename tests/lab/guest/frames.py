# SPDX-License-Identifier: Apache-2.0
"""Ethernet frames over the kernel's interfaces, by AF_PACKET: proof that its driver works a NIC, with nothing of ours."""

import fcntl
import os
import select
import socket
import struct
import time
from pathlib import Path

_SIOCGIFFLAGS, _SIOCSIFFLAGS = 0x8913, 0x8914
_IFF_UP = 1
ETHERTYPE = 0x88B5  # for local experiments (IEEE 802)


def set_up(interface):
    """Brings it up, and waits until the kernel sends on it: before that it drops what is sent without a word."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
        request = struct.pack("16sH14x", interface.encode(), 0)
        flags = struct.unpack("16sH14x", fcntl.ioctl(control, _SIOCGIFFLAGS, request))[1]
        fcntl.ioctl(control, _SIOCSIFFLAGS, struct.pack("16sH14x", interface.encode(), flags | _IFF_UP))
    until = time.monotonic() + 5
    while Path(f"/sys/class/net/{interface}/operstate").read_text().strip() != "up":
        if time.monotonic() > until:
            raise TimeoutError(f"{interface} does not come up")
        time.sleep(0.02)


def _port(interface):
    port = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ETHERTYPE))
    port.bind((interface, ETHERTYPE))
    port.setblocking(False)
    return port


def exchange(interface_a, interface_b, count=20, seconds=10):
    """Sends count frames each way. Returns how many arrived unchanged at (b, a)."""
    for interface in (interface_a, interface_b):
        set_up(interface)
    with _port(interface_a) as a, _port(interface_b) as b:
        head = b"\xff" * 6 + b"\x02upci\0" + struct.pack("!H", ETHERTYPE)
        mark = os.urandom(8)
        frames = [head + mark + struct.pack("!I", number) + bytes(range(48)) for number in range(count)]
        arrived = {a: set(), b: set()}
        until = time.monotonic() + seconds
        for frame in frames:
            for sender in (a, b):
                select.select([], [sender], [], seconds)
                sender.send(frame)
        while len(arrived[a]) + len(arrived[b]) < 2 * count and (left := until - time.monotonic()) > 0:
            for receiver in select.select([a, b], [], [], left)[0]:
                frame, (_, _, kind, *_) = receiver.recvfrom(2048)
                if kind != socket.PACKET_OUTGOING and frame in frames:
                    arrived[receiver].add(frame)
        return len(arrived[b]), len(arrived[a])
