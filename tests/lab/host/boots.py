# SPDX-License-Identifier: Apache-2.0
"""The machines that are booted. Few, since each costs seconds; a case names the one that it needs."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Boot:
    name: str
    pairs: tuple  # of NICs; None: all of them
    overlay: bool  # with the memory that can be laid over registers
    remap: bool  # the IOMMU remaps interrupts


BOOTS = [
    Boot("main", None, True, True),
    Boot("no-remap", ("modern",), False, False),
]
