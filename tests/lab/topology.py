# SPDX-License-Identifier: Apache-2.0
"""What the guest's machine is made of: nodes, buses and NICs. The host makes QEMU's arguments of it, the guest finds its
NICs by the MAC addresses that stand here.

    pcie.0 -+- intel-iommu, 9p (the host's root file system), ivshmem "overlay"     no node
            +- legacy-0, legacy-1, intx-0, intx-1, story-1                          endpoints of the root complex
            +- two root ports that allow hotplug: removable-0, removable-1
            +- pxb-pcie, bus 0x40, node 0 -- root ports: modern-0, packed-0, transitional-0, story-0
            +- pxb-pcie, bus 0x80, node 1 -- root ports: modern-1, packed-1, transitional-1,
                                             and a pcie-pci-bridge with conventional-0 and conventional-1

The two NICs of a pair hang on one hub: what one sends the other receives.
"""

from dataclasses import dataclass

NODES = 2
CPUS = 4  # two on each node
NODE_CPUS = {0: [0, 1], 1: [2, 3]}
MEMORY_MIB = 1024
BUS_NUMBERS = {0: 0x40, 1: 0x80}

MODERN = {"disable-legacy": "on", "disable-modern": "off"}
LEGACY = {"disable-legacy": "off", "disable-modern": "on"}
TRANSITIONAL = {"disable-legacy": "off", "disable-modern": "off"}
# Only a device that was told to goes through the vIOMMU; all others reach guest-physical memory directly.
TRANSLATED = {**MODERN, "iommu_platform": "on", "ats": "on"}


@dataclass(frozen=True)
class Nic:
    name: str  # PAIR-SIDE
    place: str  # node0, node1: a root port there; flat: on pcie.0; slot: a hotpluggable root port; conventional
    options: dict
    mac: str = ""

    @property
    def pair(self):
        return self.name.rsplit("-", 1)[0]

    @property
    def node(self):
        return {"node0": 0, "node1": 1, "conventional": 1}.get(self.place, -1)

    @property
    def peer(self):
        return f"{self.pair}-{1 - int(self.name[-1])}"


def _with_macs(nics):
    pairs = list(dict.fromkeys(nic.pair for nic in nics))
    return [Nic(nic.name, nic.place, nic.options, f"52:54:00:00:{pairs.index(nic.pair) + 1:02x}:0{nic.name[-1]}")
            for nic in nics]


LONG_FRAMES = {"host_mtu": "9000"}

NICS = _with_macs([
    Nic("modern-0", "node0", {**TRANSLATED, "aer": "on"}),  # its errors are reported to the root port above it
    Nic("modern-1", "node1", TRANSLATED),
    Nic("packed-0", "node0", {**TRANSLATED, **LONG_FRAMES, "packed": "on"}),
    Nic("packed-1", "node1", {**TRANSLATED, **LONG_FRAMES, "packed": "on"}),
    Nic("legacy-0", "flat", {**LEGACY, **LONG_FRAMES}),
    Nic("legacy-1", "flat", {**LEGACY, **LONG_FRAMES}),
    Nic("transitional-0", "node0", {**TRANSITIONAL, **LONG_FRAMES}),
    Nic("transitional-1", "node1", {**TRANSITIONAL, **LONG_FRAMES}),
    Nic("conventional-0", "conventional", TRANSITIONAL),
    Nic("conventional-1", "conventional", TRANSITIONAL),
    Nic("removable-0", "slot", TRANSLATED),
    Nic("removable-1", "slot", TRANSLATED),
    Nic("story-0", "node0", TRANSITIONAL),
    Nic("story-1", "flat", MODERN),
    Nic("intx-0", "flat", {**TRANSLATED, "vectors": "0"}),
    Nic("intx-1", "flat", {**TRANSLATED, "vectors": "0"}),
])

# The device whose memory is laid over a NIC's registers: 0x0f in each page where device_status is, and read-only.
OVERLAY = {"vendor": "0x1af4", "device": "0x1110"}
OVERLAY_BYTES = 1 << 20
STATUS_OFFSET = 20  # of device_status in virtio's common configuration
STATUS_VALUE = 0x0F


def nic(name):
    return next(nic for nic in NICS if nic.name == name)


def port_name(name):
    """The root port of a NIC that has one, as QEMU knows it."""
    return f"port-{name}"


def overlay_memory():
    page = bytearray(4096)
    page[STATUS_OFFSET] = STATUS_VALUE
    return bytes(page) * (OVERLAY_BYTES // 4096)


def _properties(model, **options):
    return ",".join([model, *(f"{key}={value}" for key, value in options.items())])


def _device(model, **options):
    return ["-device", _properties(model, **options)]


class _Buses:
    """Hands out slots, and root ports as they are asked for."""

    def __init__(self):
        self.arguments = []
        self._slots = {"pcie.0": 2, "pxb0": 0, "pxb1": 0, "conventional": 1}
        self._ports = 0
        for node, number in BUS_NUMBERS.items():
            self.arguments += _device("pxb-pcie", id=f"pxb{node}", bus="pcie.0", addr=hex(0x10 + node),
                                      bus_nr=hex(number), numa_node=node)

    def slot(self, bus):
        self._slots[bus] += 1
        return hex(self._slots[bus] - 1)

    def root_port(self, name, bus, hotplug):
        self._ports += 1
        self.arguments += _device("pcie-root-port", id=name, bus=bus, addr=self.slot(bus), chassis=self._ports,
                                  slot=self._ports, hotplug="on" if hotplug else "off")
        return name

    def conventional(self):
        if "bridge" not in self._slots:
            self._slots["bridge"] = 1
            self.arguments += _device("pcie-pci-bridge", id="bridge", bus=self.root_port("port-bridge", "pxb1", False))
        return "bridge"

    def place(self, nic):
        """The bus= and addr= of a NIC."""
        if nic.place == "flat":
            return {"bus": "pcie.0", "addr": self.slot("pcie.0")}
        if nic.place == "conventional":
            return {"bus": self.conventional(), "addr": self.slot("bridge")}
        if nic.place == "slot":
            return {"bus": self.root_port(port_name(nic.name), "pcie.0", True)}
        return {"bus": self.root_port(port_name(nic.name), f"pxb{nic.node}", False)}


def qemu_arguments(pairs, overlay_file=None, remap=True):
    """QEMU's arguments for the machine with the NICs of these pairs (None: all).

    overlay_file: a file of OVERLAY_BYTES, or none and no such device. remap: whether the IOMMU remaps interrupts.
    """
    half = MEMORY_MIB // NODES
    # With a thread for each CPU QEMU 7.2 sometimes crashes, and sometimes a CPU gets no interrupt of its timer any more, nor of
    # devices (the kernel: "Possible timer handling issue"). One thread has neither, takes no longer, and leaves CPUs to others.
    arguments = ["-machine", "q35,kernel-irqchip=split", "-accel", "tcg,thread=single", "-cpu", "max",
                 "-smp", f"{CPUS},sockets={NODES},cores={CPUS // NODES}", "-m", str(MEMORY_MIB)]
    for node, cpus in NODE_CPUS.items():
        arguments += ["-object", f"memory-backend-ram,id=memory{node},size={half}M",
                      "-numa", f"node,nodeid={node},cpus={cpus[0]}-{cpus[-1]},memdev=memory{node}"]
    arguments += _device("intel-iommu", intremap="on" if remap else "off", **{"caching-mode": "on", "device-iotlb": "on"})
    arguments += ["-fsdev", "local,id=host,path=/,security_model=none,readonly=on,multidevs=remap",
                  *_device("virtio-9p-pci", fsdev="host", mount_tag="host", bus="pcie.0", addr="0x1e")]
    if overlay_file:
        arguments += ["-object", _properties("memory-backend-file", id="overlay", **{"mem-path": overlay_file},
                                             size=OVERLAY_BYTES, readonly="on", share="on"),
                      *_device("ivshmem-plain", memdev="overlay", bus="pcie.0", addr="0x1d")]
    buses, nics = _Buses(), []
    for nic in NICS:
        if pairs is None or nic.pair in pairs:
            hub = [other.pair for other in NICS].index(nic.pair)
            nics += ["-netdev", f"hubport,id=net-{nic.name},hubid={hub}", "-device", nic_device(nic, **buses.place(nic))]
    return arguments + buses.arguments + nics


def nic_device(nic, **place):
    return _properties("virtio-net-pci", id=f"nic-{nic.name}", netdev=f"net-{nic.name}", mac=nic.mac, romfile="",
                       **nic.options, **place)
