# SPDX-License-Identifier: Apache-2.0
"""Records what the guest's kernel answered to the oracle's scripts, so that the engine is compared with it without a guest."""

from pathlib import Path

CASE = "workqueue-oracle"
FOLDER = Path(__file__).resolve().parent.parent.parent / "oracle/expected"


def write(found):
    """False where this run has no answers; then nothing is written."""
    answers = next((result.data.get("recorded") for result in found if result.case == CASE), None)
    if not answers:
        return False
    FOLDER.mkdir(exist_ok=True)
    for old in FOLDER.glob("*.txt"):
        if old.name not in answers:
            old.unlink()
    for name, text in answers.items():
        (FOLDER / name).write_text(text)
    return True
