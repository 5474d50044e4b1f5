# SPDX-License-Identifier: Apache-2.0
"""A machine whose IOMMU does not remap interrupts: VFIO refuses, unless it is told to take the risk."""

import re
from pathlib import Path

from guest import facts, traffic, upci
from registry import case

_FRAMES = 10_000
_PARAMETER = Path("/sys/module/vfio_iommu_type1/parameters/allow_unsafe_interrupts")


@case("intremap-off", boot="no-remap")
def intremap_off(lab):
    """Without interrupt remapping the device is refused, with the right advice"""
    nic = lab.nics["modern-0"]
    lab.check(_PARAMETER.read_text().strip() == "N", "allow_unsafe_interrupts is on already")
    log = facts.KernelLog()
    upci.bind(lab, nic)
    outcome = upci.run("probe", nic.address)
    lab.check(outcome.code == upci.UNAVAILABLE, lambda: str(outcome))
    lab.check(re.search("allow_unsafe_interrupts", outcome.device.get("advice") or ""), lambda: f"the advice: {outcome}")
    lab.evidence(f"upci: {outcome.device['error']}; {outcome.device['advice']}")
    said = log.matching("No interrupt remapping")
    lab.check(said, f"the kernel does not say why: {log.read()}")
    lab.evidence("dmesg: " + said[0].split("] ", 1)[1])
    log.close()


@case("unsafe-interrupts", boot="no-remap", timeout=120)
def unsafe_interrupts(lab):
    """The same with vfio_iommu_type1's allow_unsafe_interrupts=1: frames pass"""
    a, b = lab.nics["modern-0"], lab.nics["modern-1"]
    lab.finally_do(_PARAMETER.write_text, "0")
    _PARAMETER.write_text("1")
    upci.bind(lab, a, b)
    _, seen = traffic.net_test(lab, a, b, _FRAMES)
    for function in (a, b):
        grown = traffic.interrupts_seen(lab, function, seen)
        lab.evidence(f"{_FRAMES} frames each way; /proc/interrupts for {function}: {traffic.total(grown)}")
