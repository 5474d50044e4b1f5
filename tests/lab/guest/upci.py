# SPDX-License-Identifier: Apache-2.0
"""Runs the host's build/bin/upci in the guest: with a bound on its time, its JSON parsed, and watched while it runs."""

import json
import os
import re
import signal
import subprocess
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

from guest import facts

PROGRAM = str(Path(__file__).resolve().parent.parent.parent.parent / "build/bin/upci")
OK, ERROR, USAGE, VERDICT, NO_DRIVER, UNAVAILABLE = 0, 1, 2, 3, 4, 5


@dataclass(frozen=True)
class Outcome:
    command: str
    code: int  # negative: the signal that ended it
    stdout: str
    stderr: str
    seconds: float
    document: dict  # of its JSON; empty without

    def __str__(self):
        shown = (self.stderr.strip() or "(nothing on stderr)")[-1500:]
        out = json.dumps(_without_traces(self.document)) if self.document else self.stdout.strip()
        return f"{self.command}: exit code {self.code} after {self.seconds:.1f} s\n{shown}\n{out[-3000:]}"

    @property
    def device(self):
        """The first device's report."""
        return self.document["devices"][0]


def _without_traces(value):
    """A document that a person reads: of a stack the functions' names."""
    if isinstance(value, list):
        return [_without_traces(entry) for entry in value]
    if not isinstance(value, dict):
        return value
    return {key: [re.sub(r"\(.*", "", frame["function"] or "?") for frame in entry][:8]
            if key in ("backtrace", "requested_by") else _without_traces(entry) for key, entry in value.items()}


class Process:
    """A upci that runs. Output goes to files: nobody has to drain a pipe."""

    def __init__(self, *arguments, json_wanted=True, wrapper=(), program=PROGRAM):
        self._json = json_wanted
        words = [program, *map(str, arguments), *(["--json"] if json_wanted else [])]
        self.command = "upci " + " ".join(words[1:])
        self._out, self._err = tempfile.TemporaryFile(), tempfile.TemporaryFile()
        self._started = time.monotonic()
        self._process = subprocess.Popen([*wrapper, *words], stdin=subprocess.DEVNULL, stdout=self._out, stderr=self._err,
                                         start_new_session=True)
        self.pid = self._process.pid
        self._outcome = None

    def running(self):
        return self._process.poll() is None

    def signal(self, number):
        self._process.send_signal(number)

    def said(self):
        """What it has written to stdout so far. While it runs."""
        return os.pread(self._out.fileno(), 65536, 0).decode(errors="replace")

    def finish(self, timeout=60):
        """Waits for its end; past the time it is killed, and its code is -9. Gives the same again when asked again."""
        if self._outcome is None:
            self._outcome = self._finish(timeout)
        return self._outcome

    def _finish(self, timeout):
        try:
            self._process.wait(max(timeout - (time.monotonic() - self._started), 0.1))
            note = ""
        except subprocess.TimeoutExpired:
            stacks = "\n".join(f"  {thread.name} ({thread.state}): " + " <- ".join(facts.stack(thread.tid).split("\n")[:4])
                               for thread in facts.threads(self.pid))
            note = f"\n[killed after {timeout} s; its threads:\n{stacks}]"
            os.killpg(self.pid, signal.SIGKILL)
            self._process.wait()
        seconds = time.monotonic() - self._started
        out, err = self._text(self._out), self._text(self._err) + note
        document = {}
        if self._json:
            try:
                document = json.loads(out)
            except ValueError:
                pass
        return Outcome(self.command, self._process.returncode, out, err, seconds, document)

    @staticmethod
    def _text(file):
        file.seek(0)
        with file:
            return file.read().decode(errors="replace")


def run(*arguments, timeout=60, json_wanted=True, wrapper=(), program=PROGRAM):
    return Process(*arguments, json_wanted=json_wanted, wrapper=wrapper, program=program).finish(timeout)


def bind(lab, *functions, also=()):
    """`upci bind`, and `upci unbind` when the case ends; fails the case where it does not bind. also: bridges to release."""
    outcome = run("bind", *[function.address for function in (*also, *functions)], json_wanted=False)
    lab.finally_do(_give_back, lab, functions, also)
    lab.check(outcome.code == OK, lambda: str(outcome))
    for function in functions:
        lab.check(function.driver == "vfio-pci", f"after {outcome.command} {function} has the driver {function.driver}")


def _give_back(lab, functions, also):
    there = [function for function in functions if function.present]
    if not there:
        return
    outcome = run("unbind", *[function.address for function in (*there, *also)], json_wanted=False)
    wrong = [f"{function} has {function.driver}" for function in there if function.driver != "virtio-pci"]
    for function in there:
        if function.driver != "virtio-pci":
            function.give_back()
    lab.check(outcome.code == OK and not wrong, lambda: f"{wrong} after {outcome}")


@dataclass
class Seen:
    """A thread, as the kernel saw it."""
    name: str
    cpus: set = field(default_factory=set)  # that it was seen on
    seconds: float = 0.0  # that it ran


@dataclass
class Watched:
    """What the kernel said about a process while it ran."""
    threads: dict = field(default_factory=dict)  # number -> Seen
    dma: dict = field(default_factory=dict)  # address -> facts.Mapping, of its DMA memory
    interrupts: dict = field(default_factory=dict)  # number -> facts.Interrupt, as last seen; VFIO's count from 0
    irq_cpus: dict = field(default_factory=dict)  # number -> effective_affinity_list
    irq_asked: dict = field(default_factory=dict)  # number -> each smp_affinity_list that was seen, without doubles


def is_worker(thread):
    """upci's workers say in their name which CPU they belong to: kworker/CPU:NUMBER."""
    return re.match(r"kworker/\d+:\d+", thread.name) is not None


def workers(seen):
    """upci's workers that ran, the busiest first."""
    found = [thread for thread in seen.threads.values() if is_worker(thread) and thread.seconds > 0]
    return sorted(found, key=lambda thread: -thread.seconds)


def busy_worker(process, start, end):
    """The worker that ran most between these times after a worker was first seen: (Thread, seconds that it ran)."""
    first, before = None, {}
    while process.running():
        now = {thread: facts.run_time(thread) for thread in facts.threads(process.pid) if is_worker(thread)}
        times = {thread.tid: (thread, seconds) for thread, seconds in now.items()}
        if times and first is None:
            first = time.monotonic()
        elapsed = time.monotonic() - first if first else 0
        if not before and elapsed >= start:
            before = times
        if before and elapsed >= end:
            grown = [(seconds - before.get(tid, (None, 0.0))[1], tid) for tid, (_, seconds) in times.items()]
            seconds, tid = max(grown)
            return times[tid][0], seconds
        time.sleep(0.02)
    return None, 0.0


def is_dma(mapping):
    """Hugepages, or anonymous memory that was bound to a node: how upci places what a device may write to."""
    return "huge" in mapping.flags or mapping.policy.startswith(("bind", "prefer"))


def watch(process, functions, timeout=120):
    """Looks at the process and at the interrupts of the functions until it ends: (Outcome, Watched)."""
    seen = Watched()
    until = time.monotonic() + timeout
    rounds = 0
    while process.running() and time.monotonic() < until:
        _look_at_interrupts(functions, seen)
        _look_at_memory(process, seen)
        if rounds % 4 == 0:  # what costs most to read changes least
            _look_at_threads(process, seen)
        rounds += 1
        time.sleep(0.005)
    return process.finish(max(until - time.monotonic(), 1)), seen


def _look_at_interrupts(functions, seen):
    for number, entry in facts.interrupts().items():
        if "vfio" in entry.text and any(function.address in entry.text for function in functions):
            seen.interrupts[number] = entry
            seen.irq_cpus[number] = facts.effective_cpus(number) or seen.irq_cpus.get(number, [])
            asked = facts.read(f"/proc/irq/{number}/smp_affinity_list")
            if asked and asked.strip() not in seen.irq_asked.setdefault(number, []):
                seen.irq_asked[number].append(asked.strip())


def _look_at_memory(process, seen):
    for mapping in facts.numa_maps(process.pid):
        known = seen.dma.get(mapping.address)
        if is_dma(mapping) and (known is None or mapping.bytes >= known.bytes):
            seen.dma[mapping.address] = mapping


def _look_at_threads(process, seen):
    for thread in facts.threads(process.pid):
        entry = seen.threads.setdefault(thread.tid, Seen(thread.name))
        entry.name = thread.name
        entry.cpus.add(thread.cpu)
        entry.seconds = max(entry.seconds, facts.run_time(thread))
