# SPDX-License-Identifier: Apache-2.0
"""CPUs that really go and come back, and what the engine's per-CPU threads make of it."""

import itertools
import re
import subprocess
from pathlib import Path

from guest import facts, upci
from registry import case

_PROGRAM = Path(upci.PROGRAM).parent.parent / "tests/hotplug_follow"
_SOAK = _PROGRAM.with_name("workqueue_soak")
_CPU = 1


class _Follower:
    """tests/workqueue/hotplug_follow.cc: one line for each order."""

    def __init__(self, lab):
        lab.check(_PROGRAM.exists(), f"{_PROGRAM} is not built: build workqueue_test")
        self._lab = lab
        self._process = subprocess.Popen([str(_PROGRAM)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        lab.finally_do(self._process.wait, 20)
        lab.finally_do(self._process.stdin.close)
        self.pid = self._process.pid

    def order(self, word):
        self._process.stdin.write(word + "\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        self._lab.check(line, f"{_PROGRAM.name} ended at '{word}'")
        return line.split()

    def changes(self, wanted):
        """Polls until something has changed: the kernel takes its time with some of it."""
        found = self._lab.wait_for(lambda: self.order("poll"), 20, f"the watcher saw nothing, where {wanted} was to come")
        self._lab.check(found == wanted, f"the watcher saw {found}, not {wanted}")


def _gone_and_back(lab, take, give):
    follower = _Follower(lab)
    cpus = facts.cpu_list(Path("/sys/devices/system/cpu/online").read_text())
    at_home = [f"{cpu}:{cpu}" for cpu in cpus]
    gone = [f"{cpu}:parked" if cpu == _CPU else f"{cpu}:{cpu}" for cpu in cpus]
    lab.check(follower.order("look") == at_home, "the threads are not on their CPUs at first")
    lab.check(follower.order("poll") == [], "the watcher sees a change before there was one")
    for _ in range(3):
        take(follower.pid)
        follower.changes([f"{_CPU}-"])
        found = follower.order("look")
        lab.check(found == gone, f"with CPU {_CPU} gone: {found}, not {gone}")
        give(follower.pid)
        follower.changes([f"{_CPU}+"])
        found = follower.order("look")
        lab.check(found == at_home, f"with CPU {_CPU} back: {found}, not {at_home}")
    lab.evidence(f"three times: {' '.join(gone)}, then {' '.join(at_home)}")


@case("cpu-offline")
def cpu_offline(lab):
    """A CPU goes offline and comes back: its per-CPU thread is parked, then runs on it again"""
    file = Path(f"/sys/devices/system/cpu/cpu{_CPU}/online")
    lab.finally_do(file.write_text, "1")
    _gone_and_back(lab, lambda _: file.write_text("0"), lambda _: file.write_text("1"))


@case("cpuset")
def cpuset(lab):
    """A CPU leaves the cpuset of a process and returns to it: the same"""
    root = Path("/sys/fs/cgroup")
    if not (root / "cgroup.controllers").exists():
        root.mkdir(exist_ok=True)
        subprocess.run(["mount", "-t", "cgroup2", "none", str(root)], check=True)
        lab.finally_do(subprocess.run, ["umount", str(root)])
    (root / "cgroup.subtree_control").write_text("+cpuset")
    group = root / "upci-lab"
    group.mkdir()
    lab.finally_do(group.rmdir)
    all_cpus = Path("/sys/devices/system/cpu/online").read_text().strip()
    others = [cpu for cpu in facts.cpu_list(all_cpus) if cpu != _CPU]
    (group / "cpuset.cpus").write_text(all_cpus)

    def take(pid):
        (group / "cgroup.procs").write_text(str(pid))
        (group / "cpuset.cpus").write_text(",".join(map(str, others)))

    _gone_and_back(lab, take, lambda _: (group / "cpuset.cpus").write_text(all_cpus))


@case("workqueue-soak", timeout=150)
def workqueue_soak(lab):
    """Everything that a workqueue can be asked for, by eight producers, while three of four CPUs go and come back"""
    lab.check(_SOAK.exists(), f"{_SOAK} is not built")
    files = [Path(f"/sys/devices/system/cpu/cpu{cpu}/online") for cpu in (1, 2, 3)]
    for file in files:
        lab.finally_do(file.write_text, "1")
    process = subprocess.Popen([str(_SOAK), "--seconds", "15", "--machine", "1"], stdout=subprocess.PIPE,
                               stderr=subprocess.STDOUT, text=True)
    lab.finally_do(process.wait)
    lab.finally_do(process.kill)
    lab.check(process.stdout.readline().startswith("seed"), "the soak did not begin")
    gone = 0
    for file in itertools.cycle(files):
        file.write_text("0")
        try:
            process.wait(0.2)
        except subprocess.TimeoutExpired:
            gone += 1
        file.write_text("1")
        if process.poll() is not None:
            break
    said = process.stdout.read()
    lab.check(process.returncode == 0 and "no rule broken" in said, f"exit code {process.returncode}: {said}")
    operations = re.findall(r"(\d+) operations", said)[-1]
    lab.evidence(f"{operations} operations while a CPU went away {gone} times: no rule broken")
