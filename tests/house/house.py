#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Checks one house rule over the tree: house.py RULE ROOT [LIST]. Prints FILE:LINE: what is wrong; exits 1 if so."""

import sys
from pathlib import Path

sys.dont_write_bytecode = True

import includes  # noqa: E402
import layout  # noqa: E402
import names  # noqa: E402
import source_tree  # noqa: E402

RULES = {
    "includes": includes.check,
    "names": names.check,
    "spdx": layout.check_spdx,
    "length": layout.check_length,
    "pragma_once": layout.check_pragma_once,
    "tests": layout.check_tests,
    "own_header": layout.check_own_header,
    "public_headers": layout.check_public_headers,
}


def main(arguments):
    if len(arguments) < 2 or arguments[0] not in RULES:
        print(f"usage: house.py {'|'.join(RULES)} ROOT [LIST]", file=sys.stderr)
        return 2
    rule, root, *rest = arguments
    looked_at = sum(1 for path in source_tree.files(Path(root)) if source_tree.is_cxx(path))
    if looked_at == 0:
        print(f"{root}: no C++ file there: nothing was checked", file=sys.stderr)
        return 1
    problems = RULES[rule](Path(root), *rest)
    for problem in problems:
        print(problem)
    print(f"{rule}: {len(problems)} problems in a tree of {looked_at} C++ files")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
