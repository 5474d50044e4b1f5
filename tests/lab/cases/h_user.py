# SPDX-License-Identifier: Apache-2.0
"""upci as an ordinary user, who was given the files of his devices and nothing else."""

import os
import re
import shutil
import tempfile
from pathlib import Path

from guest import facts, traffic, upci
from registry import case

_USER = 65534
_FRAMES = 1000
_ENOUGH, _LITTLE = 256 << 20, 64 << 10  # bytes of RLIMIT_MEMLOCK


def _as_user(memlock):
    """The words that run a program as the user: no group but his own, no capabilities."""
    return ("prlimit", f"--memlock={memlock}:{memlock}", "setpriv", f"--reuid={_USER}", f"--regid={_USER}",
            "--clear-groups", "--inh-caps=-all", "--bounding-set=-all", "--no-new-privs")


def _install(lab):
    """A copy of upci that everybody may run: the project may lie in a folder that is closed to others."""
    folder = tempfile.mkdtemp(prefix="upci-user.")
    lab.finally_do(shutil.rmtree, folder)
    os.chmod(folder, 0o755)
    program = shutil.copy(upci.PROGRAM, folder)
    os.chmod(program, 0o755)
    return program


def _give_group(lab, function):
    path = f"/dev/vfio/{function.iommu_group}"
    before = os.stat(path)
    os.chown(path, _USER, _USER)
    # The file goes with the last function that leaves vfio-pci, and comes back as root's.
    lab.finally_do(lambda: os.path.exists(path) and os.chown(path, before.st_uid, before.st_gid))


def _credentials(pid):
    text = facts.read(f"/proc/{pid}/status") or ""
    return dict(re.findall(r"^(Uid|CapEff|CapBnd):\s+(.*)$", text, re.MULTILINE))


def _is_user(pid):
    found = _credentials(pid)
    return found.get("Uid", "").split() == [str(_USER)] * 4 and int(found["CapEff"], 16) == 0


def _refused(lab, outcome, hint):
    lab.check(outcome.code == upci.UNAVAILABLE, lambda: f"it had to be refused with exit code 5: {outcome}")
    device = outcome.device if outcome.document else {}
    advice = device.get("advice") or outcome.stderr
    lab.check(re.search(hint, advice), lambda: f"the advice does not say '{hint}': {outcome}")
    return f"exit code 5: {device['error']}; {advice}" if device else f"exit code 5: {advice.strip()}"


def _check_vectors(lab, seen, function, placed):
    """Each vector's smp_affinity_list: one CPU of upci's choice where it may place it, else what the kernel began with."""
    numbers = traffic.interrupts_seen(lab, function, seen)
    for number in numbers:
        asked = seen.irq_asked[number]
        if placed:
            lab.check(len(facts.cpu_list(asked[-1])) == 1, f"root's upci left interrupt {number} of {function} on {asked}")
        else:
            lab.check(len(asked) == 1 and len(facts.cpu_list(asked[0])) > 1,
                      f"/proc/irq/{number}/smp_affinity_list of {function} was changed: {asked}")
    return ", ".join(f"{number}: {seen.irq_asked[number][-1]}" for number in numbers)


@case("unprivileged", timeout=150)
def unprivileged(lab):
    """As an ordinary user who owns the group's file: frames pass; what a user may not do is refused, with the right advice"""
    a, b = lab.nics["modern-0"], lab.nics["modern-1"]
    program = _install(lab)
    upci.bind(lab, a, b)

    def run(*words, memlock=_ENOUGH, json_wanted=True):
        return upci.run(*words, wrapper=_as_user(memlock), program=program, json_wanted=json_wanted)

    lab.evidence("without the group's file, " + _refused(lab, run("probe", a.address), "give this user"))
    _, seen = traffic.net_test(lab, a, b, _FRAMES)
    lists = [_check_vectors(lab, seen, function, True) for function in (a, b)]
    lab.evidence(f"root, smp_affinity_list of interrupts {'; '.join(lists)}")

    for function in (a, b):
        _give_group(lab, function)
    process = upci.Process("net", "test", a.address, b.address, "--frames", _FRAMES, wrapper=_as_user(_ENOUGH),
                           program=program)
    lab.wait_for(lambda: _is_user(process.pid) or not process.running(), 20, "a upci of the user")
    lab.check(process.running(), lambda: str(process.finish()))
    shown = _credentials(process.pid)
    outcome, seen = upci.watch(process, (a, b))
    traffic.check_counts(lab, outcome, _FRAMES)
    lab.evidence(f"/proc/PID/status: Uid {' '.join(shown['Uid'].split())}, CapEff {shown['CapEff']}; {_FRAMES} checked frames "
                 "each way, none lost")
    lists = [_check_vectors(lab, seen, function, False) for function in (a, b)]
    notes = [note for note in outcome.document["notes"] if "not ours to say" in note and "smp_affinity_list" in note]
    lab.check(len(notes) == 2, lambda: f"the report does not say of both cards that it may not place interrupts: {outcome}")
    lab.evidence(f"smp_affinity_list is the kernel's own throughout, {'; '.join(lists)}; upci's report: {notes[0]}")

    log = facts.KernelLog()
    lab.evidence("64 KiB of RLIMIT_MEMLOCK, " + _refused(lab, run("probe", a.address, memlock=_LITTLE), "ulimit -l"))
    said = log.matching("RLIMIT_MEMLOCK")
    lab.check(said, lambda: f"the kernel does not say that the limit was exceeded: {log.read()}")
    lab.evidence("dmesg: " + said[0].split("] ", 1)[1])
    log.close()
    _legacy(lab, run)
    _bind(lab, run)


def _legacy(lab, run):
    nic = lab.nics["legacy-0"]
    upci.bind(lab, nic)
    _give_group(lab, nic)
    lab.evidence(f"{nic}, legacy, " + _refused(lab, run("probe", nic.address), "CAP_SYS_ADMIN.*iommu_platform"))


def _bind(lab, run):
    nic = lab.nics["story-1"]
    lab.evidence("bind, " + _refused(lab, run("bind", nic.address, json_wanted=False), "root"))
    lab.check(nic.driver == "virtio-pci" and nic.override is None, f"{nic} was touched: {nic.driver}, {nic.override}")
    lab.check(not Path(f"/run/upci/bind/{nic}.json").exists(), "a refused bind has left a record")
