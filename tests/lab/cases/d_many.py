# SPDX-License-Identifier: Apache-2.0
"""Many NICs in one probe, one of which hangs."""

from guest import traffic, upci
from guest.faults import StatusOverlay
from registry import case

_TIMEOUT_MS = 4000
_LONG_BEFORE_MS = _TIMEOUT_MS / 2
_LATEST_MS = 1500  # after the deadline; the host may be busy
_PAIRS = ("modern", "transitional", "packed")


@case("probe-many", timeout=120)
def probe_many(lab):
    """Six NICs of three kinds in one probe, one of them hangs: five are ok long before its deadline, on CPUs of both nodes"""
    names = [f"{pair}-{side}" for pair in _PAIRS for side in (0, 1)]
    nics = {name: lab.nics[name] for name in names}
    stuck = nics["transitional-0"]
    upci.bind(lab, *nics.values())
    overlay = StatusOverlay(stuck)
    lab.finally_do(overlay.lift)
    overlay.lay()
    process = upci.Process("probe", *[nic.address for nic in nics.values()], "--timeout", f"{_TIMEOUT_MS}ms")
    outcome, seen = upci.watch(process, list(nics.values()))
    lab.check(outcome.code == upci.VERDICT and len(outcome.document.get("devices", [])) == len(nics), lambda: str(outcome))
    for (name, nic), report in zip(nics.items(), outcome.document["devices"]):
        if nic is stuck:
            lab.check(report["result"] == "stuck" and report["step"] == "reset", lambda report=report: str(report))
            lab.check(_TIMEOUT_MS <= report["elapsed_ms"] <= _TIMEOUT_MS + _LATEST_MS,
                      f"the verdict on {nic} came after {report['elapsed_ms']} ms of {_TIMEOUT_MS}")
        else:
            lab.check(report["result"] == "ok", lambda report=report: f"{report['device']}: {report['result']}: {outcome}")
            lab.check(report["elapsed_ms"] <= _LONG_BEFORE_MS,
                      f"{nic} was ok after {report['elapsed_ms']} ms only, the deadline of {stuck} is {_TIMEOUT_MS} ms")
            lab.check(any(nic.address in entry.text for entry in seen.interrupts.values()),
                      f"/proc/interrupts has shown no vector of {nic} meanwhile")
        lab.check(report["node"] == nic.node and report["cpu"] in traffic.node_cpus(nic.node),
                  f"{nic} of node {nic.node} was probed on node {report['node']}, CPU {report['cpu']}")
        lab.evidence(f"{name} {nic}: {report['result']} after {report['elapsed_ms']:.0f} ms, node {report['node']}, "
                     f"CPU {report['cpu']}")
    _check_workers(lab, seen)
    overlay.lift()
    again = upci.run("probe", stuck.address)
    lab.check(again.code == upci.OK, lambda: f"the fault is lifted, but: {again}")
    lab.clean_up_now()
    lab.evidence(traffic.frames_pass_again(lab, stuck, nics["transitional-1"]))


def _check_workers(lab, seen):
    """In the kernel's eyes workers ran on at least two CPUs, of both nodes."""
    ran = {}
    for worker in upci.workers(seen):
        for cpu in worker.cpus:
            ran.setdefault(cpu, []).append(f"{worker.name} {worker.seconds * 1000:.0f} ms")
    lab.check(len(ran) >= 2, f"/proc/PID/task/*/stat shows workers on these CPUs only: {ran}")
    for node in (0, 1):
        lab.check(set(ran) & set(traffic.node_cpus(node)), f"no worker of upci ran on a CPU of node {node}: {ran}")
    lab.evidence("/proc/PID/task/*/stat: "
                 + "; ".join(f"CPU {cpu}: {', '.join(workers)}" for cpu, workers in sorted(ran.items())))
