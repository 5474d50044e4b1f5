# SPDX-License-Identifier: Apache-2.0
"""A folder includes only what the layers allow (docs/architecture.md has the same table as prose)."""

import re

from source_tree import files, is_cxx, line_of, read, without_comments

ANYTHING = None

# folder -> the folders that it may include besides itself. The longest matching folder counts.
MAY_INCLUDE = {
    "base": [],
    "workqueue": ["base"],
    "device": ["base", "workqueue"],
    "pci": ["base", "workqueue", "device"],
    "vfio": ["base", "workqueue", "device", "pci"],
    "virtio/spec": ["base"],
    "emulation": ["base", "workqueue", "device", "pci", "virtio/spec"],
    "virtio": ["base", "workqueue", "device", "virtio/spec"],
    "virtio/lint": ["base", "workqueue", "device", "pci", "virtio", "virtio/spec"],
    "drivers/edu": ["base", "workqueue", "device", "pci"],
    "drivers/virtio_pci": ["base", "workqueue", "device", "pci", "virtio", "virtio/spec"],
    "drivers/virtio_net": ["base", "workqueue", "device", "virtio", "virtio/spec"],
    "drivers/virtio_blk": ["base", "workqueue", "device", "virtio", "virtio/spec"],
    "drivers/virtio_rng": ["base", "workqueue", "device", "virtio", "virtio/spec"],
    "tools": ANYTHING,
    "tests": ANYTHING,
    "bench": ANYTHING,
    "examples": ANYTHING,
}

_INCLUDE = re.compile(r"^[ \t]*#[ \t]*(?:include|include_next|import)[ \t]*(?P<what>[^\n]*)", re.MULTILINE)
_QUOTED = re.compile(r'"(?P<path>[^"]+)"')
_ANGLED = re.compile(r"<(?P<path>[^>]+)>")


def folder_of(path):
    """The row of the table that a path belongs to, or None."""
    parts = str(path).split("/")[:-1]
    for length in range(len(parts), 0, -1):
        folder = "/".join(parts[:length])
        if folder in MAY_INCLUDE:
            return folder
    return None


def check(root):
    problems = []
    known = {str(path) for path in files(root)}
    for path in files(root):
        if not is_cxx(path):
            continue
        folder = folder_of(path)
        if folder is None:
            problems.append(f"{path}:1: its folder has no row in tests/house/includes.py: say what it may include")
            continue
        text = without_comments(read(root, path))
        for match in _INCLUDE.finditer(text):
            where = f"{path}:{line_of(text, match.start())}"
            problems += _check_one(where, folder, match["what"].strip(), known)
    return problems


def _check_one(where, folder, what, known):
    quoted, angled = _QUOTED.match(what), _ANGLED.match(what)
    if not quoted and not angled:
        return [f"{where}: an include through a macro ({what}) hides what is included"]
    target = (quoted or angled)["path"]
    target_folder = folder_of(target)
    if quoted and target not in known and target + ".in" not in known:  # CMake makes x.h of x.h.in
        return [f'{where}: "{target}" is no file of the project: name it from the root, or use <> for others\' headers']
    if "../" in target or "./" in target:
        return [f"{where}: {target}: includes name the folder, from the root of the project"]
    if angled and target in known and MAY_INCLUDE[folder] is not ANYTHING:
        return [f'{where}: <{target}> is a file of the project: use ""']
    allowed = MAY_INCLUDE[folder]
    if target_folder is None or target_folder == folder or allowed is ANYTHING or target_folder in allowed:
        return []
    may = ", ".join(allowed) if allowed else "nothing of the project but itself"
    return [f"{where}: {folder} must not include {target_folder} ({target}); it may include: {may}"]
