# SPDX-License-Identifier: Apache-2.0
"""Faults of a NIC, made with unmodified QEMU by config space alone, and lifted again."""

import topology
from guest import functions
from guest.functions import COMMAND_IO, COMMAND_MEMORY

_BAR_2 = 0x18
_CAPABILITIES, _VENDOR_SPECIFIC = 0x34, 0x09
_COMMON_CONFIG = 1  # VIRTIO_PCI_CAP_COMMON_CFG


def common_config(function):
    """(BAR, offset) of virtio's common configuration structure, from its vendor capability."""
    position = function.read_config(_CAPABILITIES, 1)
    while position:
        if function.read_config(position, 1) == _VENDOR_SPECIFIC and function.read_config(position + 3, 1) == _COMMON_CONFIG:
            return function.read_config(position + 4, 1), function.read_config(position + 8, 4)
        position = function.read_config(position + 1, 1)
    raise LookupError(f"{function} has no common configuration structure")


class DecodeOff:
    """The bridge above the function stops forwarding memory or I/O accesses: they read as the bus does without an answer."""

    def __init__(self, function, bits):
        self._bridge, self._bits = function.parent, bits
        self.bridge = self._bridge.address

    @classmethod
    def memory(cls, function):
        return cls(function, COMMAND_MEMORY)

    @classmethod
    def io(cls, function):
        return cls(function, COMMAND_IO)

    def lay(self):
        self._bridge.change_command(clear=self._bits)

    def lift(self):
        self._bridge.change_command(set_bits=self._bits)


class StatusOverlay:
    """device_status reads 0x0f whatever is written: read-only memory of another device lies over the NIC's registers.

    The bridge above the NIC stops forwarding memory accesses, and the BAR of an ivshmem device moves to where they went.
    """

    def __init__(self, function):
        bar, offset = common_config(function)
        if offset % 4096:
            raise LookupError(f"{function}: the common configuration does not begin a page, but at {offset:#x}")
        self.register = function.bar(bar)[0] + offset
        self._decode = DecodeOff.memory(function)
        self.bridge = self._decode.bridge
        self._memory = functions.find(topology.OVERLAY["vendor"], topology.OVERLAY["device"])[0]
        self.memory = self._memory.address
        self._home = self._memory.bar(2)[0]
        self.base = self.register & ~(topology.OVERLAY_BYTES - 1)

    def _move(self, base):
        flags = self._memory.read_config(_BAR_2, 4) & 0xF
        self._memory.change_command(clear=COMMAND_MEMORY)
        low, high = functions.pack_bar(base)
        self._memory.write_config(_BAR_2, 4, low | flags)
        self._memory.write_config(_BAR_2 + 4, 4, high)

    def lay(self):
        self._decode.lay()
        self._move(self.base)
        self._memory.change_command(set_bits=COMMAND_MEMORY)

    def lift(self):
        self._move(self._home)
        self._decode.lift()

    def _move_commands(self, base):
        low, high = functions.pack_bar(base)
        return [f"setpci -s {self.memory} COMMAND=0:2", f"setpci -s {self.memory} 18.L={low:x} 1c.L={high:x}"]

    def lay_commands(self):
        """How a person does the same, with setpci."""
        return [f"setpci -s {self.bridge} COMMAND=0:2", *self._move_commands(self.base),
                f"setpci -s {self.memory} COMMAND=2:2"]

    def lift_commands(self):
        return [*self._move_commands(self._home), f"setpci -s {self.bridge} COMMAND=2:2"]
