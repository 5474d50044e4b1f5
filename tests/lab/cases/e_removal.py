# SPDX-License-Identifier: Apache-2.0
"""Things that are taken away under traffic: the device itself, and a CPU."""

import time
from pathlib import Path

import topology
from guest import facts, functions, traffic, upci
from registry import case

_ENDLESS = 10_000_000


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
    bad = log.matching(r"BUG:|Oops|WARNING:|blocked for more than|general protection")
    lab.check(not bad, f"dmesg: {bad}")
    lab.clean_up_now()
    lab.request("device_add", nic="removable-0", bus=topology.port_name("removable-0"))
    lab.wait_for(lambda: a.present and a.interface, 20, f"{a} is back")
    lab.evidence(traffic.frames_pass_again(lab, a, b))
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
