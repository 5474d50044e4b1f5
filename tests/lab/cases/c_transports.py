# SPDX-License-Identifier: Apache-2.0
"""Each way a virtio NIC can be attached: frames against the kernel's driver at the other end, and between two upci NICs."""

from guest import traffic, upci
from guest.reflector import Reflector
from registry import case

_FRAMES = 10_000
_REFLECTED = 200


def _against_kernel(lab, a, b, words):
    """upci has a, the kernel b: what a sends, b's interface counts and sends back."""
    upci.bind(lab, a)
    with Reflector(b.interface) as other:
        before = other.received()
        outcome = upci.run("net", "test", f"{a}{words}", "--frames", _REFLECTED, timeout=60)
        counted = other.received() - before
    lab.check(outcome.code == upci.OK, lambda: f"{outcome}\n(the kernel's interface received {counted} frames)")
    lab.check(outcome.document["received"] == _REFLECTED and outcome.document["corrupt"] == 0, lambda: str(outcome))
    lab.check(counted >= _REFLECTED and other.count == _REFLECTED,
              f"{b.interface} of the kernel's driver counts {counted} frames, {other.count} of them reflected")
    lab.evidence(f"the kernel's driver at the other end ({b.interface}) received {_REFLECTED} frames of upci's, and sent "
                 "them back")


def _between_two(lab, a, b, words):
    outcome, seen = traffic.net_test(lab, a, b, _FRAMES, words=words)
    for function in (a, b):
        grown = traffic.interrupts_seen(lab, function, seen)
        kinds = {seen.interrupts[number].text.split()[-1] for number in grown}
        lab.evidence(f"{_FRAMES} frames each way; /proc/interrupts: {traffic.total(grown)} of {', '.join(sorted(kinds))}")
    return outcome


def _negotiated(lab, function, words, legacy):
    """VERSION_1 was negotiated, or not: which interface was used."""
    outcome = upci.run("probe", f"{function}{words}")
    lab.check(outcome.code == upci.OK, lambda: str(outcome))
    modern = any("VERSION_1" in name.upper() for name in outcome.device["features"])
    lab.check(modern != legacy, f"{function}{words} was driven by the {'modern' if modern else 'legacy'} interface: "
              f"{outcome.device['features']}")


def _pair(lab, name, words="", legacy=False):
    a, b = lab.nics[f"{name}-0"], lab.nics[f"{name}-1"]
    _against_kernel(lab, a, b, words)
    upci.bind(lab, b)
    _between_two(lab, a, b, words)
    _negotiated(lab, a, words, legacy)
    lab.clean_up_now()
    lab.evidence(traffic.frames_pass_again(lab, a, b))


@case("legacy-pair", timeout=120)
def legacy_pair(lab):
    """A pair that has the legacy interface only: I/O ports, and DMA that bypasses the vIOMMU"""
    for name in ("legacy-0", "legacy-1"):
        device = lab.nics[name].attribute("device")
        lab.check(device == "0x1000", f"{name} has the device id {device}")
    _pair(lab, "legacy", legacy=True)


@case("transitional-modern", timeout=120)
def transitional_modern(lab):
    """A transitional pair by its modern interface"""
    _pair(lab, "transitional", ",driver=modern")


@case("transitional-legacy", timeout=120)
def transitional_legacy(lab):
    """A transitional pair by its legacy interface"""
    _pair(lab, "transitional", ",driver=legacy", legacy=True)


@case("conventional-bus", timeout=150)
def conventional_bus(lab):
    """A pair behind a PCIe-to-PCI bridge: one IOMMU group for all, refused until the bridge's driver is out of the way"""
    a, b = lab.nics["conventional-0"], lab.nics["conventional-1"]
    bridge = a.parent
    lab.check(bridge.driver == "shpchp", f"the bridge {bridge} has the driver {bridge.driver}")
    outcome = upci.run("bind", a.address, b.address, json_wanted=False)
    lab.check(outcome.code == upci.UNAVAILABLE, lambda: f"the group is not viable, but: {outcome}")
    lab.check(bridge.address in outcome.stderr, lambda: f"the refusal does not name the bridge {bridge}: {outcome}")
    lab.check(a.driver == b.driver == "virtio-pci", "a refused bind has let go of a NIC")
    lab.evidence(f"refused while {bridge} is in the group with shpchp; both NICs stayed with the kernel's driver")
    upci.bind(lab, a, b, also=(bridge,))
    outcome = _between_two(lab, a, b, "")
    lab.check(outcome.document["lost"] == 0, lambda: str(outcome))
    lab.clean_up_now()
    lab.check(bridge.driver == "shpchp", f"after unbind the bridge {bridge} has the driver {bridge.driver}")
    lab.evidence(traffic.frames_pass_again(lab, a, b))


@case("intx", timeout=120)
def intx(lab):
    """A pair without MSI-X: interrupts by line, masked and unmasked around each top half"""
    a, b = lab.nics["intx-0"], lab.nics["intx-1"]
    upci.bind(lab, a, b)
    outcome, seen = traffic.net_test(lab, a, b, _FRAMES)
    for function in (a, b):
        grown = traffic.interrupts_seen(lab, function, seen)
        texts = [seen.interrupts[number].text for number in grown]
        lab.check(all("vfio-intx" in text for text in texts), f"{function} is served by {texts}")
        lab.evidence(f"{_FRAMES} frames each way; /proc/interrupts for {function}: {traffic.total(grown)} by vfio-intx")
    lab.check(outcome.document["interrupts"] > 0, lambda: str(outcome))
    lab.clean_up_now()
    lab.evidence(traffic.frames_pass_again(lab, a, b))
