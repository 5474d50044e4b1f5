# SPDX-License-Identifier: Apache-2.0
"""Asks the guest's kernel, and the engine, what scripts of workqueue operations do (tests/oracle)."""

import subprocess
import sys
import tempfile
from pathlib import Path

PROJECT = Path(__file__).resolve().parent.parent.parent.parent
RUNNER = PROJECT / "build/tests/oracle_runner"
SCRIPTS = PROJECT / "tests/oracle/scripts"
EXPECTED = PROJECT / "tests/oracle/expected"
DEVICE = "/dev/upci_oracle"

sys.path.insert(0, str(PROJECT / "tests/oracle"))
import random_scripts  # noqa: E402


def entries(text):
    """Name -> lines of a file of several scripts or transcripts."""
    found = {}
    for line in text.splitlines():
        if line.startswith("=== "):
            lines = found.setdefault(line[4:], [])
        else:
            lines.append(line)
    return found


def text_of(found):
    return "".join(f"=== {name}\n" + "".join(line + "\n" for line in lines) for name, lines in found.items())


class Outcome:
    """What the runner wrote: transcripts by script, and its messages."""

    def __init__(self, code, said, transcripts):
        self.code, self.said, self.transcripts = code, said, transcripts


def run(scripts, *options, timeout=400):
    """scripts: name -> lines."""
    with tempfile.TemporaryDirectory(dir="/dev/shm") as place:
        given, written = Path(place) / "given", Path(place) / "written"
        given.write_text(text_of(scripts))
        done = subprocess.run([RUNNER, *options, "--write", written, given], stdin=subprocess.DEVNULL, capture_output=True,
                              text=True, timeout=timeout, check=False)
        transcripts = entries(written.read_text()) if written.exists() else {}
    return Outcome(done.returncode, done.stdout + done.stderr, transcripts)


def handwritten():
    """File name without suffix -> name -> lines."""
    return {path.stem: entries(path.read_text()) for path in sorted(SCRIPTS.glob("*.wq"))}


def generated(seeds):
    return {f"random-{seed}": random_scripts.script(seed) for seed in seeds}
