# SPDX-License-Identifier: Apache-2.0
"""The list of cases. Both sides import it: the host to list and order them, the guest to run them.

A case is a function of one argument (guest/lab.py's Lab) with a docstring whose first line says what it shows. It returns
nothing; what it finds goes into lab.evidence(...), and what is not as it must be raises (lab.check).
"""

import importlib
import pkgutil
from dataclasses import dataclass
from typing import Callable


@dataclass(frozen=True)
class Case:
    name: str
    summary: str
    boot: str  # one of host/boots.py
    timeout: int  # seconds
    last: bool  # it leaves a guest behind that is of no further use
    run: Callable


_CASES = {}


def case(name, boot="main", timeout=60, last=False):
    def register(function):
        _CASES[name] = Case(name, function.__doc__.strip().split("\n", 1)[0], boot, timeout, last, function)
        return function
    return register


def cases():
    """All of them, in the order of their modules (cases/*.py by name) and of definition; those that are `last` at the end."""
    import cases as package
    for module in sorted(module.name for module in pkgutil.iter_modules(package.__path__)):
        importlib.import_module(f"cases.{module}")
    return sorted(_CASES.values(), key=lambda entry: entry.last)
