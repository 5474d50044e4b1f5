# SPDX-License-Identifier: Apache-2.0
"""Two NICs behind the vIOMMU, one on each node: everything of a device happens on its node, as the kernel sees it."""

from guest import traffic, upci
from guest.faults import DecodeOff
from registry import case

_FRAMES = 10_000


def _check_workers(lab, seen, node):
    """The busiest worker of the node's CPUs stayed on its CPU. Gives it."""
    cpus = set(traffic.node_cpus(node))
    here = [worker for worker in upci.workers(seen) if worker.cpus <= cpus]
    lab.check(here, lambda: f"no worker of upci ran on a CPU of node {node} only: {upci.workers(seen)}")
    return here[0]


def _check_memory(lab, seen, nodes):
    """Each mapping of DMA memory lies on one node, the node that it is bound to, and each device's node has some."""
    for mapping in seen.dma.values():
        used = sorted(mapping.pages)
        lab.check(len(used) <= 1, f"the DMA mapping at {mapping.address:#x} lies on nodes {used}")
        kind, _, bound = mapping.policy.partition(":")
        lab.check(kind == "default" or not used or used == [int(bound)],
                  f"the DMA mapping at {mapping.address:#x} has the policy {mapping.policy} and lies on {used}")
    found = traffic.dma_by_node(seen)
    for node in nodes:
        lab.check(found.get(node), lambda: f"no DMA memory on node {node} in numa_maps: {found}; {list(seen.dma.values())}")
    return found


def _check_interrupts(lab, function, seen, least):
    """Vectors grew, and only on CPUs of the function's node, where their affinity says so."""
    cpus = set(traffic.node_cpus(function.node))
    for number, change in traffic.interrupts_seen(lab, function, seen, least).items():
        lab.check(set(seen.irq_cpus[number]) <= cpus,
                  f"interrupt {number} of {function} goes to CPUs {seen.irq_cpus[number]}, its node has {sorted(cpus)}")
        lab.check(set(change) <= cpus, f"interrupt {number} of {function} was raised on CPUs {change}")
        lab.evidence(f"/proc/interrupts {number} ({function}, node {function.node}): "
                     + ", ".join(f"{count} on CPU {cpu}" for cpu, count in change.items())
                     + f"; effective_affinity_list {seen.irq_cpus[number]}")


def _pair(lab, name):
    a, b = lab.nics[f"{name}-0"], lab.nics[f"{name}-1"]
    upci.bind(lab, a, b)
    outcome, seen = traffic.net_test(lab, a, b, _FRAMES)
    lab.evidence(f"{_FRAMES} checked frames each way in {outcome.document['seconds']:.1f} s, none lost, corrupt or double")
    for function in (a, b):
        worker = _check_workers(lab, seen, function.node)
        lab.evidence(f"/proc/PID/task/*/stat: {worker.name} ran {worker.seconds * 1000:.0f} ms on CPU {sorted(worker.cpus)} "
                     f"of node {function.node}")
        _check_interrupts(lab, function, seen, 10)
    found = _check_memory(lab, seen, (a.node, b.node))
    lab.evidence("DMA memory by /proc/PID/numa_maps: "
                 + ", ".join(f"{size >> 10} KiB on node {node}" for node, size in sorted(found.items())))
    return a, b


@case("modern-two-nodes", timeout=150)
def modern_two_nodes(lab):
    """Modern pair behind the vIOMMU: probe CPU, workers, interrupts and DMA memory on each device's node; 10,000 frames"""
    a, b = _pair(lab, "modern")
    for function in (a, b):
        _check_probe(lab, function)


def _check_probe(lab, function):
    """A probe that is held up (the bridge forwards no memory accesses) shows the kernel where it runs."""
    fault = DecodeOff.memory(function)
    lab.finally_do(fault.lift)
    fault.lay()
    process = upci.Process("probe", function.address, "--timeout", "2s")
    worker, seconds = upci.busy_worker(process, 0.7, 1.6)
    outcome = process.finish()
    fault.lift()
    lab.check(outcome.document, lambda: str(outcome))
    report, cpus = outcome.device, traffic.node_cpus(function.node)
    lab.check(report["node"] == function.node and report["cpu"] in cpus and not report["inline"],
              f"{function} of node {function.node} (CPUs {cpus}) was probed on node {report['node']}, CPU {report['cpu']}, "
              f"inline: {report['inline']}")
    lab.check(worker and worker.cpu == report["cpu"] and seconds > 0,
              f"the report says CPU {report['cpu']}; in the kernel's eyes {worker} was at it ({seconds:.3f} s)")
    lab.evidence(f"probe of {function}, held up: the report says node {report['node']}, CPU {report['cpu']}; "
                 f"/proc/PID/task/*/stat shows {worker.name} polling on CPU {worker.cpu}")


@case("packed-rings", timeout=120)
def packed_rings(lab):
    """The same with packed=on: the device offers packed rings and upci takes them; declined (features=-RING_PACKED) it has split ones"""
    a, b = _pair(lab, "packed")
    for function in (a, b):
        for address, packed in ((function.address, True), (f"{function.address},features=-RING_PACKED", False)):
            outcome = upci.run("probe", address)
            lab.check(outcome.code == upci.OK, lambda outcome=outcome: str(outcome))
            names = [name.upper() for name in outcome.device["features"]]
            lab.check(("RING_PACKED" in names) == packed, f"{address} negotiated {names}")
    lab.evidence("RING_PACKED was negotiated with both devices, and left out where it was declined")
