# SPDX-License-Identifier: Apache-2.0
"""Rules of a file by itself: its licence, its length, #pragma once, its tests; and that public headers stand on public ones."""

import re
from pathlib import Path

from source_tree import files, is_cxx, is_source, read, without_comments

SPDX = "SPDX-License-Identifier: Apache-2.0"
# What is loaded into Linux bears its licence, and is linked with nothing of ours.
SPDX_OF_THE_KERNEL = "SPDX-License-Identifier: GPL-2.0"
OF_THE_KERNEL = ("tests/oracle/kernel/",)
MAX_LINES = 450
# Included behind #if defined(UPCI_SIM) only, and the simulated variant is not installed.
OF_THE_SIMULATED_VARIANT = {"base/platform/sim.h"}

# base/platform.h chooses one of the two platforms; their sources include the choice.
OF_THE_PLATFORM = ("base/platform/",)

_INCLUDE = re.compile(r'^[ \t]*#[ \t]*include[ \t]*"(?P<path>[^"]+)"', re.MULTILINE)


def check_spdx(root):
    """The first line, or the second one below a #! line, names the licence."""
    problems = []
    for path in files(root):
        if not is_source(root, path):
            continue
        lines = read(root, path).split("\n", 2)
        line = lines[1] if lines[0].startswith("#!") and len(lines) > 1 else lines[0]
        wanted = SPDX_OF_THE_KERNEL if str(path).startswith(OF_THE_KERNEL) else SPDX
        if wanted not in line:
            problems.append(f"{path}:1: the first line does not say '{wanted}'")
    return problems


def check_length(root):
    problems = []
    for path in files(root):
        if is_source(root, path):
            lines = read(root, path).count("\n")
            if lines > MAX_LINES:
                problems.append(f"{path}: {lines} lines; at most {MAX_LINES}: it holds more than one idea")
    return problems


def check_pragma_once(root):
    return [
        f"{path}:1: no #pragma once"
        for path in files(root)
        if path.suffix in (".h", ".hpp") and not re.search(r"^#pragma once$", read(root, path), re.MULTILINE)
    ]


def check_tests(root):
    """Every *_test.cc holds a test: one that has lost them all would pass unseen."""
    return [
        f"{path}:1: holds no TEST"
        for path in files(root)
        if path.parts[0] == "tests" and path.name.endswith("_test.cc")
        and not re.search(r"^(?:TEST|TEST_F|TEST_P|TYPED_TEST|TYPED_TEST_P)\(", read(root, path), re.MULTILINE)
    ]


def check_own_header(root):
    """x.cc includes x.h first, so that its compilation shows that x.h compiles alone (CMakeLists.txt relies on it)."""
    problems, known = [], {str(path) for path in files(root)}
    for path in files(root):
        header = str(path.with_suffix(".h"))
        if path.suffix != ".cc" or header not in known or str(path).startswith(OF_THE_PLATFORM):
            continue
        text = without_comments(read(root, path))
        first = re.search(r"^[ \t]*#[^\n]*", text, re.MULTILINE)
        if first is None or first[0] != f'#include "{header}"':
            problems.append(f'{path}:1: "{header}" is not its first include: it could lean on what stands before it')
    return problems


def check_public_headers(root, list_file):
    """list_file: the headers that are installed, one absolute path a line (written by CMake)."""
    root = Path(root).resolve()
    public = {str(Path(line).resolve().relative_to(root)) for line in Path(list_file).read_text().split() if line}
    problems = []
    if not public:
        problems.append(f"{list_file}: no public headers at all")
    for header in sorted(public):
        for match in _INCLUDE.finditer(without_comments(read(root, header))):
            if match["path"] not in public | OF_THE_SIMULATED_VARIANT:
                problems.append(f"{header}: is installed, but includes {match['path']}, which is not")
    return problems
