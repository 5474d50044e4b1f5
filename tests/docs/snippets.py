#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Keeps the code in the documents the code that is compiled and tested.

    snippets.py [--check] [ROOT]     without --check: writes the snippets into the documents

A source file marks its parts, each line of a mark standing alone:      // doc: NAME  ...  // doc: end      (in CMake: # doc: NAME)
A document says which part stands in the fence that follows:            <!-- code: FILE NAME -->
A document that shows all of some files says so, and then it must:      <!-- complete: FILE... -->
Only a file's first line, the licence, need not be shown.
"""

import argparse
import difflib
import re
import sys
from pathlib import Path

_MARK = re.compile(r"^[ \t]*(?://|#) doc: (?P<name>[a-z0-9_-]+)$")
_CODE = re.compile(r"^<!-- code: (?P<file>\S+) (?P<name>[a-z0-9_-]+) -->$")
_COMPLETE = re.compile(r"^<!-- complete: (?P<files>[^>]+) -->$")


class Wrong(Exception):
    """A mark that does not fit."""


def parts_of(root, file):
    """name -> lines; and the lines, with their numbers, that are in no part."""
    path = root / file
    if not path.is_file():
        raise Wrong(f"{file}: there is no such file")
    parts, outside, name = {}, [], None
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        mark = _MARK.match(line)
        if mark is None:
            if name is not None:
                parts[name].append(line)
            elif line.strip() and number > 1:
                outside.append((number, line))
        elif mark["name"] == "end":
            if name is None:
                raise Wrong(f"{file}:{number}: ends no part")
            name = None
        elif name is not None or mark["name"] in parts:
            raise Wrong(f"{file}:{number}: the part {mark['name']} begins inside of {name}, or twice")
        else:
            name = mark["name"]
            parts[name] = []
    if name is not None:
        raise Wrong(f"{file}: the part {name} has no end")
    return {part: _trimmed(lines) for part, lines in parts.items()}, outside


def _trimmed(lines):
    while lines and not lines[0].strip():
        lines = lines[1:]
    while lines and not lines[-1].strip():
        lines = lines[:-1]
    indent = min((len(line) - len(line.lstrip()) for line in lines if line.strip()), default=0)
    return [line[indent:] for line in lines]


def rendered(root, document):
    """The document's text as it should be, and what is wrong beside it."""
    lines = (root / document).read_text(encoding="utf-8").splitlines()
    result, problems, shown, complete, at = [], [], {}, [], 0
    while at < len(lines):
        result.append(lines[at])
        found = _COMPLETE.match(lines[at])
        if found:
            complete += found["files"].split()
        code = _CODE.match(lines[at])
        at += 1
        if code is None:
            continue
        try:
            parts, _ = parts_of(root, code["file"])
            if code["name"] not in parts:
                raise Wrong(f"{code['file']}: has no part {code['name']}")
            if at >= len(lines) or not lines[at].startswith("```"):
                raise Wrong("no ``` follows")
            end = lines.index("```", at + 1)
        except (Wrong, ValueError) as error:
            problems.append(f"{document}:{at}: {error}")
            continue
        shown.setdefault(code["file"], set()).add(code["name"])
        result += [lines[at], *parts[code["name"]], "```"]
        at = end + 1
    problems += _not_shown(root, document, complete, shown)
    return "\n".join(result) + "\n", problems


def _not_shown(root, document, complete, shown):
    problems = []
    for file in complete:
        try:
            parts, outside = parts_of(root, file)
        except Wrong as error:
            problems.append(f"{document}: {error}")
            continue
        problems += [f"{document}: does not show {file} {name}, and says it shows all of the file"
                     for name in parts if name not in shown.get(file, set())]
        problems += [f"{file}:{number}: is in no part, and {document} says it shows all of the file"
                     for number, _ in outside]
    return problems


def documents(root):
    return [path.relative_to(root) for path in [root / "README.md", *sorted((root / "docs").glob("*.md"))]
            if path.is_file() and any(_CODE.match(line) for line in path.read_text(encoding="utf-8").splitlines())]


def check(root):
    """What is wrong, as text; empty when nothing is."""
    problems = []
    for document in documents(root):
        wanted, wrong = rendered(root, document)
        problems += wrong
        has = (root / document).read_text(encoding="utf-8")
        if has != wanted:
            problems += difflib.unified_diff(has.splitlines(), wanted.splitlines(), str(document), "as the source has it",
                                             lineterm="", n=1)
    return problems


def main():
    parser = argparse.ArgumentParser(description="Writes the marked parts of the sources into the documents.")
    parser.add_argument("--check", action="store_true", help="only say what differs; exit 1 if something does")
    parser.add_argument("root", nargs="?", type=Path, default=Path(__file__).resolve().parent.parent.parent)
    options = parser.parse_args()
    if not documents(options.root):
        print(f"{options.root}: no document shows code: nothing was checked", file=sys.stderr)
        return 1
    if not options.check:
        for document in documents(options.root):
            (options.root / document).write_text(rendered(options.root, document)[0], encoding="utf-8")
    problems = check(options.root)
    print("\n".join([*problems, f"{len(documents(options.root))} documents, {'wrong' if problems else 'right'}"]))
    if problems and options.check:
        print("tests/docs/snippets.py writes the code into the documents")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
