# SPDX-License-Identifier: Apache-2.0
"""The oracle's part outside the guest: builds tests/oracle/kernel for its kernel, out of tree, and keeps the module in the cache;
and has the engine do what the kernel did."""

import concurrent.futures
import hashlib
import os
import shutil
import subprocess
import tempfile
from pathlib import Path

from host import cache
from host.errors import Lacking

_PROJECT = Path(__file__).resolve().parent.parent.parent.parent
RUNNER = _PROJECT / "build/tests/oracle_runner"
DIFFERENCES = _PROJECT / "tests/oracle/differences.txt"
SOURCES = _PROJECT / "tests/oracle/kernel"


def module(kernel, say):
    """The path of upci_oracle.ko for this kernel. It is built where the cache has none of these sources."""
    files = sorted(path for path in SOURCES.iterdir() if path.suffix in (".c", ".h") or path.name == "Kbuild")
    content = b"".join(path.name.encode() + b"\0" + path.read_bytes() for path in files)
    folder = cache.folder()
    target = folder / f"oracle-{kernel.version}-{hashlib.sha256(content).hexdigest()[:12]}.ko"
    if not target.is_file():
        with cache.locked(folder):
            say("building the module that asks the kernel")
            _build(kernel, files, target)
    return target


def _build(kernel, files, target):
    with tempfile.TemporaryDirectory(prefix="upci-oracle.") as place:
        for path in files:
            shutil.copy(path, place)
        command = ["make", "-C", str(kernel.headers), f"M={place}", "modules"]
        try:
            done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False, timeout=300,
                                  env={**os.environ, "LC_ALL": "C"})
        except FileNotFoundError as error:
            raise Lacking("there is no make: install the packages make and gcc-12") from error
        built = Path(place) / "upci_oracle.ko"
        if done.returncode != 0 or not built.is_file():
            raise Lacking("upci_oracle.ko cannot be built:\n" + (done.stdout + done.stderr)[-4000:])
        part = target.with_suffix(".part")
        shutil.copy(built, part)
        os.rename(part, target)


def differences(answers, patience_ms=10000):
    """answers: script -> the kernel's transcript. Gives script -> what the runner said, of those where the engine does other things."""
    with tempfile.TemporaryDirectory(prefix="upci-oracle.") as place:
        def said(numbered):
            number, (name, lines) = numbered
            given = Path(place) / str(number)
            given.write_text(f"=== {name}\n" + "".join(line + "\n" for line in lines))
            command = [RUNNER, "--replay", "--differences", DIFFERENCES, "--longest-ms", str(patience_ms), given]
            done = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                                  check=False, timeout=300)
            return name, done.stdout if done.returncode else None
        # A script mostly waits.
        with concurrent.futures.ThreadPoolExecutor(4) as pool:
            return {name: text for name, text in pool.map(said, enumerate(answers.items())) if text is not None}
