# SPDX-License-Identifier: Apache-2.0
"""What the cases with traffic have in common: `upci net test` between two NICs, and what the kernel says about it."""

from guest import facts, frames, upci


def check_counts(lab, outcome, count):
    """Each of `count` frames each way came, once and unchanged."""
    lab.check(outcome.code == upci.OK, lambda: str(outcome))
    document = outcome.document
    found = {key: document.get(key) for key in ("sent", "received", "lost", "corrupt", "duplicated")}
    wanted = {"sent": 2 * count, "received": 2 * count, "lost": 0, "corrupt": 0, "duplicated": 0}
    lab.check(found == wanted, lambda: f"{found} instead of {wanted}\n{outcome}")


def net_test(lab, a, b, count, *options, words="", timeout=90):
    """Runs it between two bound functions and checks the counts: (Outcome, Watched). timeout: less than the case's, so that what
    hangs is shown."""
    process = upci.Process("net", "test", f"{a}{words}", f"{b}{words}", "--frames", count, *options)
    outcome, seen = upci.watch(process, (a, b), timeout)
    check_counts(lab, outcome, count)
    return outcome, seen


def interrupts_seen(lab, function, seen, least=1):
    """The function's own vectors that /proc/interrupts has counted: number -> {CPU: how many}. Fails where none did."""
    counted = {}
    for number, entry in seen.interrupts.items():
        if function.address in entry.text and sum(entry.counts):
            counted[number] = {cpu: count for cpu, count in enumerate(entry.counts) if count}
    lab.check(total(counted) >= least, lambda: f"/proc/interrupts counts {total(counted)} interrupts of {function}, {least} at "
              f"least were due; it shows {list(seen.interrupts.values())}")
    return counted


def total(counted):
    return sum(count for change in counted.values() for count in change.values())


def frames_pass_again(lab, a, b, count=20):
    """The kernel's driver has both NICs, and frames pass over its interfaces."""
    for function in (a, b):
        lab.check(function.driver == "virtio-pci", f"{function} has the driver {function.driver}")
    for function in (a, b):
        lab.wait_for(lambda function=function: function.interface, 10, f"{function} has an interface")
    found = frames.exchange(a.interface, b.interface, count)
    lab.check(found == (count, count), f"of {count} frames each way over the kernel's interfaces {found} arrived")
    return f"kernel's driver again: {count} of {count} frames each way over {a.interface} and {b.interface}"


def dma_by_node(seen):
    """Bytes of DMA memory on each node, by /proc/PID/numa_maps."""
    nodes = {}
    for mapping in seen.dma.values():
        for node, pages in mapping.pages.items():
            nodes[node] = nodes.get(node, 0) + pages * mapping.page_size
    return nodes


def node_cpus(node):
    return facts.cpu_list(facts.read(f"/sys/devices/system/node/node{node}/cpulist"))
