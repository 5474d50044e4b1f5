# SPDX-License-Identifier: Apache-2.0
"""Cases that need nothing but the kernel: what they find is what all others stand on."""

import os
from pathlib import Path

import topology
from guest import facts, frames


from registry import case


@case("boot")
def boot(lab):
    """The guest is the machine that topology.py describes: two nodes, the NICs on them, IOMMU groups, vfio-pci"""
    for node, cpus in topology.NODE_CPUS.items():
        folder = Path(f"/sys/devices/system/node/node{node}")
        found = facts.cpu_list((folder / "cpulist").read_text())
        lab.check(found == cpus, f"node {node} has CPUs {found}, not {cpus}")
        pages = int((folder / "hugepages/hugepages-2048kB/free_hugepages").read_text())
        lab.check(pages >= 16, f"node {node} has {pages} free hugepages")
        lab.evidence(f"node {node}: CPUs {found}, {pages} free hugepages of 2 MiB")
    missing = {nic.name for nic in topology.NICS} - set(lab.nics)
    lab.check(not missing, f"there is no NIC {sorted(missing)}")
    for nic in topology.NICS:
        function = lab.nics[nic.name]
        lab.check(function.node == nic.node, f"{nic.name} at {function} is on node {function.node}, not {nic.node}")
        lab.check(function.driver == "virtio-pci", f"{nic.name} at {function} has the driver {function.driver}")
        others = set(function.group_members) - {function.address}
        if nic.place == "conventional":
            peer = lab.nics[nic.peer].address
            lab.check(peer in others, f"{nic.name}'s IOMMU group lacks {peer} of the same conventional bus")
        else:
            lab.check(not others, f"{nic.name}'s IOMMU group {function.iommu_group} also has {sorted(others)}")
    lab.evidence(f"{len(lab.nics)} NICs on their nodes, each in an IOMMU group of its own but those on the conventional bus")
    lab.check(os.path.isdir("/sys/bus/pci/drivers/vfio-pci"), "there is no driver vfio-pci")
    lab.check(os.path.exists("/dev/vfio/vfio"), "there is no /dev/vfio/vfio")
    lab.evidence(f"Linux {os.uname().release}, vfio-pci is there, userspace after {facts.uptime():.1f} s")


@case("kernel-interfaces")
def kernel_interfaces(lab):
    """Frames pass between the two NICs of each pair with the kernel's own driver"""
    for pair in dict.fromkeys(nic.pair for nic in topology.NICS):
        a, b = lab.nics[f"{pair}-0"], lab.nics[f"{pair}-1"]
        there, back = frames.exchange(a.interface, b.interface)
        lab.check((there, back) == (20, 20), f"pair {pair}: of 20 frames each way {there} and {back} arrived")
        lab.evidence(f"{pair}: 20 of 20 frames each way over {a.interface} and {b.interface}")
