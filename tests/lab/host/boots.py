# SPDX-License-Identifier: Apache-2.0
"""The machines that are booted. Few, since each costs seconds; a case names the one that it needs."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Boot:
    name: str
    pairs: tuple  # of NICs; None: all of them
    overlay: bool  # with the memory that can be laid over registers
    remap: bool  # the IOMMU remaps interrupts
    kernel: str = "6.1"  # of host/kernel.py's series
    oracle: bool = False  # with upci_oracle.ko at hand


BOOTS = [
    Boot("main", None, True, True),
    Boot("rings", ("packed", "transitional", "legacy"), False, True),
    Boot("no-remap", ("modern",), False, False),
    Boot("oracle", (), False, True, kernel="6.12", oracle=True),
]
