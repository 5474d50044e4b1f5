# SPDX-License-Identifier: Apache-2.0
"""bind and unbind: killed at each step, and asked for what they must not touch."""

import os
import re
import signal
import subprocess
from pathlib import Path

from guest import functions, tracer, traffic, upci
from guest.functions import Function
from registry import case

_COMMAND = [upci.PROGRAM, "bind"]


def _state(nic):
    return f"driver {nic.driver or 'none'}, driver_override {nic.override or 'none'}"


def _steps_of_bind(lab, nic):
    """What `upci bind` changes, in order."""
    traced = tracer.run([*_COMMAND, nic.address])
    lab.check(traced.code == upci.OK, lambda: f"bind under ptrace: {traced}")
    undone = upci.run("unbind", nic.address, json_wanted=False)
    lab.check(undone.code == upci.OK, lambda: str(undone))
    return traced.steps


@case("bind-kill", timeout=300)
def bind_kill(lab):
    """kill -9 before each step of bind in turn: unbind repairs, and the kernel's driver passes frames again"""
    a, b = lab.nics["story-1"], lab.nics["story-0"]
    lab.finally_do(a.give_back)
    steps = _steps_of_bind(lab, a)
    sysfs = [step for step in steps if "/sys/" in step]
    lab.check(len(sysfs) >= 3, f"bind writes to sysfs fewer than three times: {steps}")
    left = [_kill_and_repair(lab, a, number, steps[number]) for number in range(len(steps))]
    states = list(dict.fromkeys(left))
    lab.check(len(states) >= 3, f"the kills left the NIC in these states only: {states}")
    for state in states:
        numbers = [number for number, found in enumerate(left) if found == state]
        lab.evidence(f"killed before step {numbers[0] + 1} ({steps[numbers[0]]}) to {numbers[-1] + 1} ({steps[numbers[-1]]}): "
                     f"left with {state}; unbind gave it back")
    lab.evidence(f"{len(steps)} kills; {traffic.frames_pass_again(lab, a, b)}")


def _kill_and_repair(lab, nic, number, step):
    """Gives in what state the kill left the NIC."""
    where = f"killed before step {number + 1} of bind ({step})"
    traced = tracer.run([*_COMMAND, nic.address], kill_before=number)
    lab.check(traced.killed and traced.code == -9, lambda: f"{where}: it was not killed: {traced}")
    state = _state(nic)
    untouched = nic.driver == "virtio-pci" and nic.override is None
    repaired = upci.run("unbind", nic.address, json_wanted=False)
    lab.check(repaired.code == upci.OK or untouched, lambda: f"{where}: left {state}; {repaired}")
    lab.check(nic.driver == "virtio-pci" and nic.override is None,
              lambda: f"{where}: after unbind the NIC has {_state(nic)}: {repaired}")
    lab.wait_for(lambda: nic.interface, 10, f"{where}: the kernel's driver has its interface again")
    return state


def _refused(lab, function, words, wrapper=()):
    driver = function.driver
    outcome = upci.run("bind", function.address, json_wanted=False, wrapper=wrapper)
    lab.check(outcome.code == upci.UNAVAILABLE, lambda: f"it had to be refused: {outcome}")
    lab.check(re.search(words, outcome.stderr), lambda: f"the refusal does not say '{words}': {outcome}")
    lab.check(function.driver == driver and function.override is None, f"{function} was touched: {function.driver}")
    return outcome.stderr.strip().split("\n")[0]


def _root_file_system():
    """The 9p function that carries it."""
    channel = next(iter(Path("/sys/bus/virtio/drivers/9pnet_virtio").glob("virtio*")))
    return Function(os.path.basename(os.path.dirname(os.path.realpath(channel))))


def _busybox(*words):
    subprocess.run(["busybox", *words], check=True, capture_output=True, timeout=10)


@case("bind-refuses")
def bind_refuses(lab):
    """bind refuses the device of the root file system and that of the default route, and leaves both as they are"""
    root = _root_file_system()
    lab.evidence(f"root file system, {root}: {_refused(lab, root, 'file system')}")
    lab.check(os.listdir("/"), "the root file system has gone")
    nic = lab.nics["story-1"]
    interface = nic.interface
    _busybox("ip", "address", "add", "192.0.2.1/24", "dev", interface)
    lab.finally_do(_busybox, "ip", "address", "flush", "dev", interface)
    _busybox("ip", "link", "set", interface, "up")
    _busybox("ip", "route", "add", "default", "via", "192.0.2.254")
    lab.finally_do(_busybox, "ip", "route", "del", "default")
    lab.evidence(f"default route, {nic}: {_refused(lab, nic, 'default route')}")
    lab.check(functions.Function(nic.address).interface == interface, f"{interface} has gone")


def _record(nic):
    return Path(f"/run/upci/bind/{nic}.json")


def _hold(lab, nic):
    """A `upci bind --hold` that has bound the NIC and waits."""
    process = upci.Process("bind", nic.address, "--hold", json_wanted=False)
    lab.finally_do(process.finish, 1)
    lab.wait_for(lambda: nic.address in process.said() or not process.running(), 20, "bind --hold says what it has bound")
    lab.check(process.running(), lambda: f"bind --hold did not wait: {process.finish()}")
    lab.check(nic.driver == "vfio-pci" and _record(nic).exists(), lambda: f"while bind --hold waits: {_state(nic)}")
    return process


def _check_restored(lab, nic, how):
    lab.check(nic.driver == "virtio-pci" and nic.override is None, lambda: f"{how}: {_state(nic)}")
    lab.check(not _record(nic).exists(), f"{how}: the record {_record(nic)} is still there")


@case("bind-hold", timeout=120)
def bind_hold(lab):
    """bind --hold: vfio-pci until SIGTERM or SIGINT, then all is as before; after SIGKILL unbind repairs"""
    a, b = lab.nics["story-1"], lab.nics["story-0"]
    lab.finally_do(a.give_back)
    for number in (signal.SIGTERM, signal.SIGINT):
        process = _hold(lab, a)
        probed = upci.run("probe", a.address)
        lab.check(probed.code == upci.OK, lambda probed=probed: f"while bind --hold waits: {probed}")
        lab.check(process.running() and a.driver == "vfio-pci", lambda: f"it did not hold on: {_state(a)}")
        process.signal(number)
        outcome = process.finish(20)
        lab.check(outcome.code == upci.OK, lambda number=number, outcome=outcome: f"after {number.name}: {outcome}")
        _check_restored(lab, a, f"after {number.name}")
        lab.evidence(f"driver vfio-pci while it waits, a probe is ok; {number.name}: exit code 0 after {outcome.seconds:.1f} s, "
                     f"{_state(a)}, no record; {traffic.frames_pass_again(lab, a, b)}")
    process = _hold(lab, a)
    process.signal(signal.SIGKILL)
    code = process.finish(20).code
    lab.check(code == -signal.SIGKILL, f"SIGKILL, but it ended with {code}")
    left = _state(a)
    lab.check(a.driver == "vfio-pci" and _record(a).exists(), f"after SIGKILL: {left}")
    repaired = upci.run("unbind", a.address, json_wanted=False)
    lab.check(repaired.code == upci.OK, lambda: str(repaired))
    _check_restored(lab, a, "unbind after SIGKILL")
    lab.evidence(f"SIGKILL left {left} and the record; unbind: {_state(a)}, no record; {traffic.frames_pass_again(lab, a, b)}")
