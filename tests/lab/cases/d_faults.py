# SPDX-License-Identifier: Apache-2.0
"""Faults of a NIC's registers and of its mappings: the verdict, its evidence, and that the NIC works once they are lifted."""

import json
import mmap
import os
import re
from pathlib import Path

from guest import facts, traffic, upci
from guest.faults import DecodeOff, StatusOverlay, common_config
from registry import case

_TIMEOUT_MS = 2000
_LATEST_MS = 3000  # after the deadline; the host may be busy
_REPORT = "/tmp/hang.json"


def _check_verdict(lab, outcome, report, result, step, hint):
    lab.check(outcome.code == upci.VERDICT, lambda: str(outcome))
    found = {key: report[key] for key in ("result", "step")}
    lab.check(found == {"result": result, "step": step}, lambda: f"{found} instead of {result}, {step}\n{outcome}")
    text = " ".join(filter(None, [report.get("advice"), report.get("error"), *report.get("notes", [])])).lower()
    lab.check(re.search(hint, text), lambda: f"neither error nor advice says anything like '{hint}'\n{outcome}")


def _check_in_time(lab, report):
    elapsed = report["elapsed_ms"]
    lab.check(elapsed >= _TIMEOUT_MS, f"the verdict came after {elapsed} ms, before its deadline of {_TIMEOUT_MS} ms")
    lab.check(elapsed <= _TIMEOUT_MS + _LATEST_MS, f"the verdict came after {elapsed} ms, long after {_TIMEOUT_MS} ms")


def _probe_ok(lab, uri):
    outcome = upci.run("probe", uri)
    lab.check(outcome.code == upci.OK, lambda: f"the fault is lifted, but: {outcome}")
    return outcome.device


@case("status-overlay", timeout=150)
def status_overlay(lab):
    """device_status reads 0x0f for ever: stuck at the deadline, never before; others probe meanwhile; ok once it is lifted"""
    nic, others = lab.nics["story-0"], (lab.nics["modern-0"], lab.nics["modern-1"])
    upci.bind(lab, nic, *others)
    overlay = StatusOverlay(nic)
    lab.finally_do(overlay.lift)
    overlay.lay()
    addresses = [function.address for function in (nic, *others)]
    process = upci.Process("probe", *addresses, "--timeout", f"{_TIMEOUT_MS}ms", "--report", _REPORT, json_wanted=False)
    outcome, seen = upci.watch(process, others)
    lab.check(os.path.exists(_REPORT), lambda: f"there is no report: {outcome}")
    report, *rest = json.loads(Path(_REPORT).read_text())["devices"]
    _check_verdict(lab, outcome, report, "stuck", "reset", "reset")
    _check_in_time(lab, report)
    lab.check(outcome.seconds * 1000 >= _TIMEOUT_MS, f"the process ended after {outcome.seconds:.3f} s")
    lab.check(report["register"] == "device_status" and {entry["value"] for entry in report["timeline"]} == {0x0F},
              f"register {report['register']}, timeline {report['timeline']}")
    names = [frame["function"] or "" for frame in report["backtrace"]]
    lab.check(any("reset" in name for name in names), f"no reset in the backtrace: {names}")
    lab.evidence(f"{nic}: stuck, {report['step']}, device_status reads 0x0f {report['timeline'][0]['count']} times, "
                 f"after {report['elapsed_ms']:.0f} ms of {_TIMEOUT_MS}")
    for function, other in zip(others, rest):
        lab.check(other["result"] == "ok" and other["elapsed_ms"] < _TIMEOUT_MS,
                  f"{function}: {other['result']} after {other['elapsed_ms']} ms: {other.get('error')}")
        lab.check(any(function.address in entry.text for entry in seen.interrupts.values()),
                  f"/proc/interrupts has shown no vector of {function} meanwhile")
        lab.evidence(f"{function}: ok after {other['elapsed_ms']:.0f} ms meanwhile, vectors in /proc/interrupts")
    overlay.lift()
    lifted = _probe_ok(lab, nic.address)
    lab.evidence(f"{nic}: {lifted['result']} after {lifted['elapsed_ms']:.0f} ms once the fault is lifted")
    lab.clean_up_now()
    lab.evidence(traffic.frames_pass_again(lab, nic, lab.nics["story-1"]))
    lab.data = {
        "address": nic.address, "node": nic.node, "command": outcome.command, "text": outcome.stdout, "report": report,
        "others": [{key: other[key] for key in ("device", "result", "elapsed_ms", "node", "cpu")} for other in rest],
        "lifted": {key: lifted[key] for key in ("result", "elapsed_ms")}, "overlay_commands": overlay.lay_commands(),
        "lift_commands": overlay.lift_commands(),
    }


@case("memory-decode-off")
def memory_decode_off(lab):
    """The bridge does not forward memory accesses: all reads are 0, ACKNOWLEDGE never sets; stuck, with the hint"""
    nic = lab.nics["transitional-0"]
    upci.bind(lab, nic)
    fault = DecodeOff.memory(nic)
    lab.finally_do(fault.lift)
    fault.lay()
    outcome = upci.run("probe", f"{nic},driver=modern", "--timeout", f"{_TIMEOUT_MS}ms")
    lab.check(outcome.document, lambda: str(outcome))
    _check_verdict(lab, outcome, outcome.device, "stuck", "acknowledge", "decod")
    _check_in_time(lab, outcome.device)
    lab.evidence(f"{fault.bridge} COMMAND memory off: {outcome.device['result']} at {outcome.device['step']}: "
                 f"{outcome.device['advice']}")
    fault.lift()
    lab.evidence(f"lifted: {_probe_ok(lab, f'{nic},driver=modern')['result']}")


@case("io-decode-off")
def io_decode_off(lab):
    """The bridge does not forward I/O accesses: a legacy status reads 0xff; stuck at the deadline, with the hint"""
    nic = lab.nics["transitional-1"]
    upci.bind(lab, nic)
    fault = DecodeOff.io(nic)
    lab.finally_do(fault.lift)
    fault.lay()
    outcome = upci.run("probe", f"{nic},driver=legacy", "--timeout", f"{_TIMEOUT_MS}ms")
    lab.check(outcome.document, lambda: str(outcome))
    report = outcome.device
    _check_verdict(lab, outcome, report, "stuck", "reset", "decod")
    _check_in_time(lab, report)
    lab.check({entry["value"] for entry in report["timeline"]} == {0xFF}, f"timeline {report['timeline']}")
    lab.evidence(f"{fault.bridge} COMMAND I/O off: {report['result']} at {report['step']} after {report['elapsed_ms']:.0f} ms, "
                 f"status reads 0xff: {report['advice']}")
    fault.lift()
    lab.evidence(f"lifted: {_probe_ok(lab, f'{nic},driver=legacy')['result']}")


_WRONG_IOVA = 0x5A_BAD0_0000
_QUEUE_SELECT, _QUEUE_ENABLE, _QUEUE_DESC = 0x16, 0x1C, 0x20  # in virtio's common configuration


def _move_receive_ring(function, iova):
    """Has the device take its receive ring's descriptors from an address that nobody has mapped."""
    bar, offset = common_config(function)
    with open(function.path / f"resource{bar}", "r+b", buffering=0) as file, \
            mmap.mmap(file.fileno(), 4096, offset=offset) as registers:
        # Views store each value by one access of its size, as registers want it.
        with memoryview(registers) as view, view.cast("H") as halves, view.cast("I") as words:
            halves[_QUEUE_SELECT // 2] = 0
            words[_QUEUE_DESC // 4] = iova & 0xFFFFFFFF
            words[_QUEUE_DESC // 4 + 1] = iova >> 32
            halves[_QUEUE_ENABLE // 2] = 1
            return words[_QUEUE_DESC // 4] | words[_QUEUE_DESC // 4 + 1] << 32


@case("wrong-mapping", timeout=120)
def wrong_mapping(lab):
    """An address that is not mapped reaches the device under traffic: the vIOMMU's record names it, and upci quotes that"""
    a, b = lab.nics["modern-0"], lab.nics["modern-1"]
    upci.bind(lab, a, b)
    log = facts.KernelLog()
    process = upci.Process("net", "test", a.address, b.address, "--frames", 10_000_000)
    lab.finally_do(process.finish, 1)
    lab.wait_for(lambda: _total(a) > 50 or not process.running(), 60, "interrupts of upci's traffic")
    lab.check(process.running(), lambda: str(process.finish()))
    now = _move_receive_ring(a, _WRONG_IOVA)
    lab.check(now == _WRONG_IOVA, f"the device has its receive ring at {now:#x}")
    pattern = rf"DMAR:.*{re.escape(a.address[5:])}.*fault addr 0x{_WRONG_IOVA >> 32:x}[0-9a-f]{{8}}"
    records = lab.wait_for(lambda: log.matching(pattern), 20, lambda: f"a DMAR record that matches {pattern}: {log.matching('DMAR')}")
    lab.evidence("dmesg: " + records[0].split("] ", 1)[1])
    outcome = process.finish(60)
    lab.check(outcome.code in (upci.ERROR, upci.VERDICT), lambda: f"upci did not notice: {outcome}")
    fault = re.search(r"fault addr (0x[0-9a-f]+)", records[0])[1]
    quoted = [line for line in _texts(outcome.document) if a.address[5:] in line and fault[2:] in line.lower()]
    lab.check(quoted, lambda: f"upci's JSON does not quote {records[0]}\n{outcome}")
    lab.evidence("upci's JSON: " + quoted[0])
    log.close()


def _total(function):
    return sum(sum(entry.counts) for entry in facts.interrupts_of(function.address).values())


def _texts(value):
    """All strings of a JSON document."""
    if isinstance(value, str):
        return [value]
    entries = value.values() if isinstance(value, dict) else value if isinstance(value, list) else []
    return [text for entry in entries for text in _texts(entry)]
