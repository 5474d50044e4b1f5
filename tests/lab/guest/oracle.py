# SPDX-License-Identifier: Apache-2.0
"""Asks the guest's kernel what scripts of workqueue operations do (tests/oracle). The engine is asked on the host, where it is fast."""

import subprocess
import sys
import tempfile
from pathlib import Path

PROJECT = Path(__file__).resolve().parent.parent.parent.parent
RUNNER = PROJECT / "build/tests/oracle_runner"
SCRIPTS = PROJECT / "tests/oracle/scripts"
EXPECTED = PROJECT / "tests/oracle/expected"
DIFFERENCES = PROJECT / "tests/oracle/differences.txt"
DEVICE = "/dev/upci_oracle"

sys.path.insert(0, str(PROJECT / "tests/oracle"))
import random_scripts  # noqa: E402


def entries(text):
    """Name -> lines of a file of several scripts or transcripts."""
    found = {}
    for line in text.splitlines():
        if line.startswith("#"):
            continue
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


def ask_kernel(scripts, *options, timeout=400):
    """scripts: name -> lines."""
    with tempfile.TemporaryDirectory(dir="/dev/shm") as place:
        given, written, said = Path(place) / "given", Path(place) / "written", Path(place) / "said"
        given.write_text(text_of(scripts))
        with open(said, "wb") as file:
            # Not run(): that would wait for a process which cannot be killed where it sits in the kernel.
            command = [RUNNER, "--progress", "--kernel", DEVICE, *options, "--write", written, given]
            process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=file,
                                       stderr=file)
            try:
                code = process.wait(timeout)
            except subprocess.TimeoutExpired:
                process.kill()
                code = "none: it does not come to its end"
        transcripts = entries(written.read_text()) if written.exists() else {}
        return Outcome(code, said.read_text(), transcripts)


def handwritten():
    """FILE/SCRIPT -> lines, of all that lie in the folder."""
    return {f"{path.stem}/{name}": lines for path in sorted(SCRIPTS.glob("*.wq"))
            for name, lines in entries(path.read_text()).items()}


def generated(seeds):
    return {f"random/{seed}": random_scripts.script(seed) for seed in seeds}


def recorded():
    """The answers that are kept, by the same names."""
    return {f"{path.stem}/{name}": lines for path in sorted(EXPECTED.glob("*.txt"))
            for name, lines in entries(path.read_text()).items()}


def is_of(transcript, script):
    """Whether this transcript was made with this script: it has the same lines."""
    def lines(text):
        bare = (line.removeprefix("> ").split(" = ")[0].split(" ...")[0].split() for line in text if not line.startswith(("  ", "#")))
        return [line for line in bare if line]
    return lines(transcript) == lines(script)


def files(answers):
    """What the files are to hold that keep these answers: name -> text."""
    found = {}
    for name, lines in answers.items():
        file, script = name.split("/", 1)
        found.setdefault(f"{file}.txt", {})[script] = lines
    return {file: text_of(scripts) for file, scripts in found.items()}
