# SPDX-License-Identifier: Apache-2.0
"""PCI functions as sysfs shows them. NICs are found by MAC address, as long as the kernel's driver has them."""

import os
import struct
import time
from pathlib import Path

import topology

DEVICES = Path("/sys/bus/pci/devices")
COMMAND, COMMAND_IO, COMMAND_MEMORY, COMMAND_MASTER = 0x04, 1, 2, 4


class Function:
    def __init__(self, address):
        self.address = address
        self.path = DEVICES / address

    def __str__(self):
        return self.address

    def attribute(self, name):
        return (self.path / name).read_text().strip()

    @property
    def present(self):
        return self.path.exists()

    @property
    def node(self):
        return int(self.attribute("numa_node"))

    @property
    def driver(self):
        """The driver's name, or None."""
        link = self.path / "driver"
        return os.path.basename(os.readlink(link)) if link.is_symlink() else None

    @property
    def override(self):
        """driver_override, or None."""
        text = self.attribute("driver_override")
        return None if text in ("", "(null)") else text

    @property
    def iommu_group(self):
        return os.path.basename(os.readlink(self.path / "iommu_group"))

    @property
    def group_members(self):
        return sorted(os.listdir(self.path / "iommu_group/devices"))

    @property
    def parent(self):
        """The bridge above it, or None below a host bridge."""
        above = os.path.basename(os.path.dirname(os.path.realpath(self.path)))
        return Function(above) if above.count(":") == 2 else None

    @property
    def interface(self):
        """Its network interface under the kernel's driver, or None."""
        for path in self.path.glob("virtio*/net/*"):
            return path.name
        return None

    @property
    def irqs(self):
        folder = self.path / "msi_irqs"
        return sorted(map(int, os.listdir(folder))) if folder.is_dir() else []

    def bar(self, index):
        """(first address, last address, flags) as the kernel has assigned them."""
        return tuple(int(word, 16) for word in self.attribute("resource").split("\n")[index].split())

    def read_config(self, offset, size):
        with open(self.path / "config", "rb", buffering=0) as file:
            return int.from_bytes(os.pread(file.fileno(), size, offset), "little")

    def write_config(self, offset, size, value):
        with open(self.path / "config", "r+b", buffering=0) as file:
            os.pwrite(file.fileno(), value.to_bytes(size, "little"), offset)

    def change_command(self, clear=0, set_bits=0):
        """Changes bits of the command register behind the kernel's back; returns what was there."""
        before = self.read_config(COMMAND, 2)
        self.write_config(COMMAND, 2, (before & ~clear) | set_bits)
        return before

    def unbind(self):
        if self.driver:
            (self.path / "driver/unbind").write_text(self.address)

    def bind_to(self, driver):
        """Lets the kernel's driver core bind it to this driver, by its ids. No-op where it is bound to it."""
        if self.driver != driver:
            self.unbind()
            Path(f"/sys/bus/pci/drivers/{driver}/bind").write_text(self.address)

    def give_back(self):
        """To the kernel's own driver, whatever was done to it."""
        (self.path / "driver_override").write_text("\n")
        self.bind_to("virtio-pci")


def find(vendor, device):
    """The functions with these ids, in sysfs's spelling (0x1af4)."""
    found = (Function(name) for name in sorted(os.listdir(DEVICES)))
    return [function for function in found
            if function.attribute("vendor") == vendor and function.attribute("device") == device]


def find_nics(deadline):
    """Name in topology.py -> Function, for those that this machine has. Waits until virtio-net has come up everywhere."""
    names = {nic.mac: nic.name for nic in topology.NICS}
    ids = {"0x1000", "0x1041"}
    while True:
        nics, waiting = {}, []
        for address in sorted(os.listdir(DEVICES)):
            function = Function(address)
            if function.attribute("vendor") == "0x1af4" and function.attribute("device") in ids:
                interface = function.interface
                if interface:
                    mac = Path(f"/sys/class/net/{interface}/address").read_text().strip()
                    nics[names[mac]] = function
                else:
                    waiting.append(address)
        if not waiting:
            return nics
        if time.monotonic() > deadline:
            raise TimeoutError(f"no network interface for {waiting}")
        time.sleep(0.05)


def describe(command):
    return f"{command:#06x}"


def pack_bar(value):
    """A 64-bit BAR as its two dwords."""
    return struct.unpack("<II", struct.pack("<Q", value))
