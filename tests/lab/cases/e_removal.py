# SPDX-License-Identifier: Apache-2.0
"""Things that are taken away under traffic: the device itself, and a CPU."""

import re
import time
from pathlib import Path

import topology
from guest import facts, functions, traffic, upci
from registry import case

_ENDLESS = 10_000_000
_AFTER = 1000  # frames, once all is well again
_SLOT_SECONDS = 8  # the five of the hotplug button included


def _start_traffic(lab, a, b, frames):
    """A upci that passes frames, seen to do so by the kernel."""
    process = upci.Process("net", "test", a.address, b.address, "--frames", frames)
    lab.finally_do(process.finish, 1)
    lab.wait_for(lambda: _counts(a) > 50 and _counts(b) > 50 or not process.running(), 60, "interrupts of upci's traffic")
    lab.check(process.running(), lambda: str(process.finish()))
    return process


def _counts(function):
    return sum(sum(entry.counts) for entry in facts.interrupts_of(function.address).values())


@case("device-del", timeout=120)
def device_del(lab):
    """device_del of an open NIC under traffic: gone, quiesce and destructor run, the kernel gets its slot back"""
    a, b = lab.nics["removable-0"], lab.nics["removable-1"]
    upci.bind(lab, a, b)
    log = facts.KernelLog()
    process = _start_traffic(lab, a, b, _ENDLESS)
    asked = log.mark("device_del")
    lab.request("device_del", nic="removable-0")
    outcome = process.finish(45)
    lab.check(outcome.code == upci.VERDICT, lambda: str(outcome))
    lab.check("gone" in str(outcome.document), lambda: f"the verdict is not gone: {outcome}")
    lab.evidence(f"{a}: exit code {outcome.code}: {outcome.document.get('error')}")
    notes = [note for note in outcome.document.get("notes", []) if a.address in note and "driver was removed" in note]
    lab.check(notes, lambda: f"the report does not say that the driver was removed: {outcome}")
    lab.evidence(notes[0])
    lab.wait_for(lambda: not a.present, 20, f"{a} leaves /sys/bus/pci/devices")
    lab.evidence(f"{a} has left /sys/bus/pci/devices, no signal ended upci")
    _check_slot(lab, a, log, asked)
    bad = log.matching(r"BUG:|Oops|WARNING:|blocked for more than|general protection")
    lab.check(not bad, f"dmesg: {bad}")
    lab.clean_up_now()
    lab.request("device_add", nic="removable-0", bus=topology.port_name("removable-0"))
    lab.wait_for(lambda: a.present and a.interface, 20, f"{a} is back")
    lab.evidence(traffic.frames_pass_again(lab, a, b))
    log.close()


def _check_slot(lab, function, log, asked):
    """How long the kernel took to let go of the function, by the times in its log; asked: its line from before device_del."""
    gone = lab.wait_for(lambda: log.matching(rf"{re.escape(function.address)}: Removing from iommu group"), 5,
                        lambda: f"the kernel says that {function} leaves its IOMMU group: {log.read()}")
    took = facts.seconds_of(gone[-1]) - facts.seconds_of(asked)
    lab.check(took <= _SLOT_SECONDS, f"the slot was empty {took:.2f} s after device_del, later than {_SLOT_SECONDS} s")
    lab.evidence(f"dmesg: {took:.3f} s after device_del: " + gone[-1].split("] ", 1)[1])


@case("aer-error", timeout=120)
def aer_error(lab):
    """An uncorrectable error of the NIC's link under traffic: the kernel's AER record, verdict gone, and frames pass again"""
    a, b = lab.nics["modern-0"], lab.nics["modern-1"]
    upci.bind(lab, a, b)
    log = facts.KernelLog()
    process = _start_traffic(lab, a, b, _ENDLESS)
    said = lab.request("inject_error", nic="modern-0", error="POISON_TLP")
    lab.check(said.startswith("OK"), f"QEMU has not injected the error: {said}")
    lab.wait_for(lambda: log.matching(r"AER: .*recovery"), 10, lambda: f"AER and what came of it in dmesg: {log.read()}")
    outcome = process.finish(45)
    records = [line.split("] ", 1)[1] for line in log.matching(r"AER: (Unc|.*recover)|severity=")]
    lab.check(any("Uncorrected" in line and a.address in line for line in records), f"no AER record of {a}: {log.read()}")
    for line in records:
        lab.evidence("dmesg: " + line)
    lab.check(outcome.code == upci.VERDICT, lambda: str(outcome))
    error = outcome.document.get("error") or ""
    lab.check("gone" in error and "platform reports" in error and a.address in error,
              lambda: f"the verdict is not that of an error of the platform: {outcome}")
    lab.evidence(f"{a}: exit code {outcome.code}: {error}")
    quoted = [note for note in outcome.document["notes"] if "PCIe Bus Error" in note and a.address in note]
    lab.check(quoted, lambda: f"upci's notes do not quote the AER record: {outcome}")
    lab.evidence("upci's JSON: " + quoted[0])
    lab.check(any("driver was removed" in note for note in outcome.document["notes"]), lambda: str(outcome))
    lab.clean_up_now()
    lab.evidence(traffic.frames_pass_again(lab, a, b))
    upci.bind(lab, a, b)
    traffic.net_test(lab, a, b, _AFTER)
    lab.evidence(f"unbound and bound again: {_AFTER} checked frames each way by upci, none lost")
    bad = log.matching(r"DMAR: .*fault|BUG:|Oops|WARNING:")
    lab.check(not bad, f"dmesg: {bad}")
    log.close()


def _online(cpu, value):
    Path(f"/sys/devices/system/cpu/cpu{cpu}/online").write_text(str(int(value)))


@case("cpu-hotplug", timeout=150)
def cpu_hotplug(lab):
    """A CPU goes offline under traffic: no frame is lost, work continues elsewhere, and the report says so"""
    a, b = lab.nics["modern-0"], lab.nics["modern-1"]
    upci.bind(lab, a, b)
    sample, _ = traffic.net_test(lab, a, b, 2000)
    frames = max(10_000, int(8 * 2000 / max(sample.document["seconds"], 0.01)))
    process = _start_traffic(lab, a, b, frames)
    entries = facts.interrupts_of(b.address)
    busiest = max(entries.values(), key=lambda entry: sum(entry.counts))
    cpu = facts.effective_cpus(busiest.number)[0]
    lab.check(cpu in traffic.node_cpus(b.node), f"interrupt {busiest.number} of {b} goes to CPU {cpu}, not to its node")
    lab.finally_do(_online, cpu, True)
    _online(cpu, False)
    now = facts.effective_cpus(busiest.number)
    lab.check(process.running(), lambda: f"the traffic has ended before CPU {cpu} went: {process.finish()}")
    before = _counts(b)
    lab.wait_for(lambda: _counts(b) > before + 20 or not process.running(), 20, f"interrupts of {b} without CPU {cpu}")
    moved = _counts(b) - before
    lab.check(moved > 0 and cpu not in now, f"without CPU {cpu}: {moved} more interrupts of {b}, which now go to {now}")
    lab.evidence(f"CPU {cpu} offline under traffic: interrupt {busiest.number} of {b} goes to CPU {now} now, {moved} more came")
    time.sleep(0.5)
    _online(cpu, True)
    outcome = process.finish(100)
    traffic.check_counts(lab, outcome, frames)
    lab.evidence(f"{frames} checked frames each way, none lost")
    notes = outcome.document.get("notes", [])
    said = [note for note in notes if f"CPU {cpu}" in note and "offline" in note]
    lab.check(said, f"the report does not say that CPU {cpu} went offline: {notes}")
    lab.evidence("upci's report: " + said[0])
    # For whoever comes next: the CPU is back, and functions are where they were.
    lab.check(functions.Function(b.address).present, f"{b} has gone")
