# SPDX-License-Identifier: Apache-2.0
"""What the house rules look at: the files of the tree, and C++ text with its comments blanked out."""

import re
from pathlib import Path

CXX = {".h", ".cc", ".cpp", ".hpp"}
OTHER_SOURCES = {".c", ".py", ".sh", ".cmake"}
SKIPPED_FOLDERS = {"build", "__pycache__", "third_party"}

# Raw strings first: they may hold quotes and comment marks. A quote between digits (1'000) opens no character literal.
_TOKEN = re.compile(
    r'R"(?P<delim>[^()\\\s]{0,16})\(.*?\)(?P=delim)"'
    r'|"(?:\\.|[^"\\\n])*"'
    r"|(?<![0-9a-fA-F])'(?:\\.|[^'\\\n])+'"
    r"|//[^\n]*"
    r"|/\*.*?\*/",
    re.DOTALL,
)


def files(root):
    """All files below root that belong to the project, as paths relative to it, in order."""
    found = []
    stack = [Path(root)]
    while stack:
        for entry in stack.pop().iterdir():
            hidden = entry.name.startswith(".")
            if entry.is_dir():
                if not hidden and entry.name not in SKIPPED_FOLDERS and not entry.name.startswith("build-"):
                    stack.append(entry)
            elif not hidden:
                found.append(entry.relative_to(root))
    return sorted(found)


def is_cxx(path):
    return path.suffix in CXX


def is_source(root, path):
    """C++, CMake, scripts by suffix, and scripts without one that begin with #!."""
    if path.suffix in CXX | OTHER_SOURCES or path.name == "CMakeLists.txt":
        return True
    if path.suffix:
        return False
    with open(Path(root) / path, "rb") as file:
        return file.read(2) == b"#!"


def read(root, path):
    return (Path(root) / path).read_text(encoding="utf-8", errors="replace")


def _blank(text):
    return re.sub(r"[^\n]", " ", text)


def without_comments(text):
    """Comments become spaces, so that line numbers stay; strings stay (an include is one)."""
    return _TOKEN.sub(lambda m: _blank(m[0]) if m[0].startswith(("//", "/*")) else m[0], text)


def without_comments_and_strings(text):
    return _TOKEN.sub(lambda m: _blank(m[0]), text)


def line_of(text, position):
    return text.count("\n", 0, position) + 1
