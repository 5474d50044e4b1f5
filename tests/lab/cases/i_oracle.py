# SPDX-License-Identifier: Apache-2.0
"""The kernel as the oracle: the same scripts of workqueue operations on a stock 6.12 and on the engine."""

import subprocess
from pathlib import Path

from guest import oracle
from registry import case

_SEEDS = range(1, 61)
_RECORDED = range(1, 14)  # of these the answers are kept in tests/oracle/expected
_HOG = Path("/sys/module/workqueue/parameters/cpu_intensive_thresh_us")
_RETRIES = ("25", "40")  # milliseconds without an event, for scripts on which the two differ


def _load(lab):
    # The host's cache may lie below a folder that is another one here.
    subprocess.run(["/bin/busybox", "insmod", "/run/host" + lab.request("oracle_module")], check=True)
    lab.finally_do(subprocess.run, ["/bin/busybox", "rmmod", "upci_oracle"])
    # An item that spins would be set aside by the clock, which is a rule of its own and not of these scripts.
    before = _HOG.read_text()
    _HOG.write_text("0")
    lab.finally_do(_HOG.write_text, before)


def _ask_kernel(lab, scripts, quiet="15"):
    answer = oracle.run(scripts, "--progress", "--kernel", oracle.DEVICE, "--quiet-ms", quiet)
    lab.check(answer.code == 0 and list(answer.transcripts) == list(scripts), lambda: f"asking the kernel: exit code {answer.code}\n{answer.said[-3000:]}")
    return answer.transcripts


def _differences(answers):
    """Name -> what the runner said, of the scripts on which the engine does not do what the kernel did."""
    said = oracle.run(answers, "--replay", "--differences", oracle.DIFFERENCES)
    return {name: said.said for name in answers if name not in said.transcripts}


@case("workqueue-oracle", boot="oracle", timeout=800)
def workqueue_oracle(lab):
    """A stock 6.12 kernel and upci do the same in each script of workqueue operations: results, order, overlap"""
    _load(lab)
    scripts = oracle.handwritten() | oracle.generated(_SEEDS)
    answers = _ask_kernel(lab, scripts)
    different = _differences(answers)
    for quiet in _RETRIES:  # a machine that was too busy to have done everything in time is no difference
        if different:
            answers |= _ask_kernel(lab, {name: scripts[name] for name in different}, quiet)
            different = _differences({name: answers[name] for name in different})
    kept = oracle.handwritten() | oracle.generated(_RECORDED)
    lab.data = {"recorded": oracle.files({name: answers[name] for name in kept})}
    listed = oracle.entries(oracle.DIFFERENCES.read_text())
    recorded = oracle.recorded()
    changed = [name for name in kept if recorded.get(name) != answers[name]]
    lab.evidence(f"{len(scripts) - len(_SEEDS)} scripts and {len(_SEEDS)} random ones: {len(answers) - len(different)} as they are to be, "
                 f"{len(listed)} of these differ from the kernel for a reason that is listed")
    lab.evidence(f"{len(kept) - len(changed)} of {len(kept)} recorded answers are the kernel's still" + "".join(f"; not {name}" for name in changed[:5]))
    lab.check(not different, lambda: f"{len(different)} differ: {' '.join(different)}\n" + next(iter(different.values()))[-6000:])
