# SPDX-License-Identifier: Apache-2.0
"""clang-format and clang-tidy over the sources, each file a test."""

import hashlib
import json
import os
import shlex
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent / "house"))
import source_tree  # noqa: E402
from suites import BUILD, IDLE, ROOT, Suite, note, run, tail  # noqa: E402

TIDY_FOLDERS = ["base", "workqueue", "device", "pci", "vfio", "virtio", "emulation", "drivers"]


def check_format(logs):
    note("== format")
    start = time.monotonic()
    sources = [str(path) for path in source_tree.files(ROOT) if source_tree.is_cxx(path)]
    log = logs / "format.log"
    log.unlink(missing_ok=True)
    suite = Suite("format")
    for at in range(0, len(sources), 50):
        if run(["clang-format-19", "--dry-run", "-Werror", *sources[at:at + 50]], log, prefix=IDLE) == 0:
            suite.passed += len(sources[at:at + 50])
            continue
        for source in sources[at:at + 50]:  # which ones
            if run(["clang-format-19", "--dry-run", "-Werror", source], log) == 0:
                suite.passed += 1
            else:
                suite.failed.append(f"{source}: run clang-format-19 -i {source}")
    suite.seconds = time.monotonic() - start
    note(f"   format: {suite.passed} files as they should be, {len(suite.failed)} not, {suite.seconds:.0f} s")
    return suite


def check_tidy(logs):
    """clang-tidy over the libraries, as the tsan preset compiles them; one test per file. About 5 s a file and core:
    that is why the command line and the tests are left out. A file that was clean, and has not changed, nor what it includes,
    is clean."""
    suite = Suite("tidy")
    note("== tidy")
    start = time.monotonic()
    if run(["cmake", "--preset", "tsan"], logs / "tidy-configure.log") != 0:
        suite.failed.append("tidy: the tsan preset does not configure")
        return suite
    entries = json.loads((BUILD["tsan"] / "compile_commands.json").read_text())
    ours = {Path(entry["file"]): entry for entry in entries
            if any(Path(entry["file"]).is_relative_to(ROOT / folder) for folder in TIDY_FOLDERS)}
    version = subprocess.run(["clang-tidy-19", "--version"], stdin=subprocess.DEVNULL, capture_output=True, check=True).stdout
    rules = version + (ROOT / ".clang-tidy").read_bytes()
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for source, told in pool.map(lambda source: (source, _tidy(source, ours[source], rules)), sorted(ours)):
            if told is None:
                suite.passed += 1
            else:
                suite.failed.append(f"{source.relative_to(ROOT)}: clang-tidy-19 -p build/tsan {source.relative_to(ROOT)}")
                note(f"{source.relative_to(ROOT)}:\n{told}")
    suite.seconds = time.monotonic() - start
    note(f"   tidy: {suite.passed} files clean, {len(suite.failed)} not, {suite.seconds:.0f} s")
    return suite


def _tidy(source, entry, rules):
    """None where it is clean, else what clang-tidy says."""
    known = _clean_mark(entry, rules)
    if known and known.is_file():
        return None
    done = subprocess.run([*IDLE, "clang-tidy-19", "-p", BUILD["tsan"], "--quiet", source], cwd=ROOT,
                          stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, check=False)
    if done.returncode != 0:
        return done.stdout.decode(errors="replace")
    if known:
        known.parent.mkdir(parents=True, exist_ok=True)
        known.touch()
    return None


def _clean_mark(entry, rules):
    """The file that says that this text, with all that it includes and its comments, is clean; None where it does not compile."""
    words = shlex.split(entry["command"])
    compiler = next(place for place, word in enumerate(words) if "clang++" in word)
    words = words[compiler:words.index("-o")] + ["-E", "-C", entry["file"]]
    text = subprocess.run([*IDLE, *words], cwd=entry["directory"], stdin=subprocess.DEVNULL,
                          stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, check=False)
    if text.returncode != 0:
        return None
    return BUILD["tsan"] / "tidy-clean" / hashlib.sha256(rules + text.stdout).hexdigest()
