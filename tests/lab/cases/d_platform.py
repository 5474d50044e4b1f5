# SPDX-License-Identifier: Apache-2.0
"""Faults of the platform around a NIC: addresses that nothing is mapped at, an error on its link, no huge pages."""

import re
from pathlib import Path

from guest import facts, traffic, upci
from registry import case

_FRAMES = 1000
_HUGE_PAGE = 2 << 20


def _records(log, function):
    return log.matching(rf"DMAR:.*\[{re.escape(function.address[5:])}\].*fault addr 0x[0-9a-f]+")


@case("dma-unmapped", timeout=60)
def dma_unmapped(lab):
    """The driver tells the NIC addresses that nothing is mapped at: the vIOMMU's record, and the same in upci's report"""
    nic, legacy = lab.nics["modern-0"], lab.nics["legacy-0"]
    upci.bind(lab, nic, legacy)
    log = facts.KernelLog()
    outcome = upci.run("probe", f"{nic},fault=dma-unmapped", "--timeout", "2s")
    records = lab.wait_for(lambda: _records(log, nic), 10, lambda: f"a DMAR record of {nic}: {log.read()}\n{outcome}")
    lab.check("is not set" in records[0], f"the record does not say that nothing is mapped there: {records[0]}")
    text = records[0].split("] ", 1)[1]
    lab.evidence("dmesg: " + text)
    lab.check(outcome.document, lambda: str(outcome))
    lab.check(text in outcome.device["notes"], lambda: f"upci's notes lack '{text}': {outcome}")
    lab.evidence(f"upci's report ({outcome.device['result']}, exit code {outcome.code}) has the same among its notes")
    before = len(_records(log, nic))
    plain = upci.run("probe", nic.address)
    lab.check(plain.code == upci.OK, lambda: f"without the fault: {plain}")
    after = _records(log, nic)
    lab.check(len(after) == before, f"the probe without the fault adds {after[before:]}")
    lab.evidence(f"without the fault: {plain.device['result']}, still {before} DMAR records")
    refused = upci.run("probe", f"{legacy},fault=dma-unmapped")
    lab.check(refused.code == upci.UNAVAILABLE and "bypasses the IOMMU" in refused.device["error"],
              lambda: f"a device that bypasses the IOMMU was not refused: {refused}")
    lab.check(_records(log, legacy) == [], "the refused device has used an address that was not its own")
    lab.evidence(f"{legacy}, legacy: exit code 5: {refused.device['error']}")
    log.close()


def _huge_pages(node):
    return Path(f"/sys/devices/system/node/node{node}/hugepages/hugepages-2048kB")


def _set_huge_pages(count):
    """On both nodes; gives what the kernel made of it."""
    for node in (0, 1):
        (_huge_pages(node) / "nr_hugepages").write_text(f"{count}\n")
    return [int((_huge_pages(node) / "nr_hugepages").read_text()) for node in (0, 1)]


def _page_sizes(seen):
    """Node -> sizes of the pages of DMA memory there, by numa_maps."""
    sizes = {0: set(), 1: set()}
    for mapping in seen.dma.values():
        for node in mapping.pages:
            sizes[node].add(mapping.page_size)
    return sizes


def _said(seen):
    return "; ".join(f"{size >> 10} KiB on node {node}" for node, size in sorted(traffic.dma_by_node(seen).items()))


@case("hugepages", timeout=120)
def hugepages(lab):
    """DMA memory lies in huge pages of its node while the nodes have some, in normal pages when they have none; frames pass"""
    a, b = lab.nics["modern-0"], lab.nics["modern-1"]
    upci.bind(lab, a, b)
    free = [int((_huge_pages(node) / "free_hugepages").read_text()) for node in (0, 1)]
    lab.check(min(free) >= 16, f"the nodes have {free} free huge pages")
    _, seen = traffic.net_test(lab, a, b, _FRAMES)
    sizes = _page_sizes(seen)
    for node in (a.node, b.node):
        lab.check(_HUGE_PAGE in sizes[node], lambda node=node: f"node {node}: pages of {sizes[node]} bytes: {seen.dma}")
    names = sorted({mapping.name for mapping in seen.dma.values() if mapping.page_size == _HUGE_PAGE})
    lab.evidence(f"{free} free huge pages: numa_maps shows kernelpagesize_kB=2048 ({', '.join(names)}), {_said(seen)}; "
                 f"{_FRAMES} frames each way")
    lab.finally_do(_restore, lab, [int((_huge_pages(node) / "nr_hugepages").read_text()) for node in (0, 1)])
    lab.check(_set_huge_pages(0) == [0, 0], "the kernel keeps huge pages that nobody uses")
    _, seen = traffic.net_test(lab, a, b, _FRAMES)
    sizes = _page_sizes(seen)
    for node in (a.node, b.node):
        lab.check(sizes[node] == {4096}, lambda node=node: f"without huge pages, node {node}: {sizes[node]}: {seen.dma}")
    lab.evidence(f"nr_hugepages 0 on both nodes: kernelpagesize_kB=4, {_said(seen)}; {_FRAMES} frames each way")


def _restore(lab, counts):
    now = _set_huge_pages(counts[0])
    lab.check(now == counts, f"of {counts} huge pages the kernel gave back {now}")
    lab.evidence(f"restored: {now} huge pages")
