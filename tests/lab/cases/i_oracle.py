# SPDX-License-Identifier: Apache-2.0
"""The kernel as the oracle: the same scripts of workqueue operations on a stock 6.12 and on the engine."""

import itertools
import subprocess
import time
from pathlib import Path

from guest import oracle
from registry import case

_SEEDS = range(1, 31)
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


def _still(answers):
    """Of these answers of the kernel, those that it gives today. Cheaper than to ask: nothing waits until no more can come."""
    return oracle.ask_kernel(answers, "--replay").transcripts


def _ask_kernel(lab, scripts, quiet="15"):
    if not scripts:
        return {}
    answer = oracle.ask_kernel(scripts, "--quiet-ms", quiet)
    lab.check(answer.code == 0 and list(answer.transcripts) == list(scripts),
              lambda: f"asking the kernel: exit code {answer.code}\n{answer.said[-3000:]}")
    return answer.transcripts


def _differences(lab, answers):
    """Name -> what the runner said, of the scripts on which the engine does not do what the kernel did."""
    return lab.request("oracle_differences", answers=answers) if answers else {}


@case("workqueue-oracle", boot="oracle", timeout=600)
def workqueue_oracle(lab):
    """A stock 6.12 kernel and upci do the same in each script of workqueue operations: results, order, overlap"""
    _load(lab)
    scripts = oracle.handwritten() | oracle.generated(_SEEDS)
    recorded = {name: lines for name, lines in oracle.recorded().items()
                if name in scripts and oracle.is_of(lines, scripts[name])}
    times = [time.monotonic()]
    answers = {} if lab.request("oracle_records") else _still(recorded)
    times.append(time.monotonic())
    held = len(answers)
    answers |= _ask_kernel(lab, {name: lines for name, lines in scripts.items() if name not in answers})
    times.append(time.monotonic())
    different = _differences(lab, answers)
    for quiet in _RETRIES:  # a machine that was too busy to have done everything in time is no difference
        if different:
            answers |= _ask_kernel(lab, {name: scripts[name] for name in different}, quiet)
            different = _differences(lab, {name: answers[name] for name in different})
    times.append(time.monotonic())
    spent = [round(after - before) for before, after in itertools.pairwise(times)]
    lab.data = {"recorded": oracle.files({name: answers[name] for name in scripts})}
    listed = oracle.entries(oracle.DIFFERENCES.read_text())
    changed = [name for name in scripts if recorded.get(name) != answers[name]]
    lab.evidence(f"{len(scripts) - len(_SEEDS)} scripts and {len(_SEEDS)} random ones: {len(answers) - len(different)} as they are to be, "
                 f"{len(listed)} of these differ from the kernel for a reason that is listed")
    lab.evidence(f"{len(scripts) - len(changed)} of {len(scripts)} recorded answers are the kernel's still"
                 + "".join(f"; not {name}" for name in changed[:5]))
    lab.evidence(f"the kernel was held to {held} of them ({spent[0]} s) and asked anew for {len(answers) - held} ({spent[1]} s); "
                 f"the engine was held to all ({spent[2]} s)")
    lab.check(not different, lambda: f"{len(different)} differ: {' '.join(different)}\n" + next(iter(different.values()))[-6000:])
