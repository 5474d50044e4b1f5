# SPDX-License-Identifier: Apache-2.0
"""What the kernel says, read where it says it: /proc, /sys and its log."""

import os
import re
from dataclasses import dataclass
from pathlib import Path


def uptime():
    return float(Path("/proc/uptime").read_text().split()[0])


def read(path):
    """The text of a file, or None: processes come and go."""
    try:
        return Path(path).read_text(errors="replace")
    except OSError:
        return None


@dataclass(frozen=True)
class Thread:
    pid: int
    tid: int
    name: str
    state: str
    cpu: int  # the one that it last ran on


def threads(pid):
    """The threads of a process, from /proc/PID/task/*/stat."""
    found = []
    try:
        tids = os.listdir(f"/proc/{pid}/task")
    except OSError:
        return found
    for tid in tids:
        text = read(f"/proc/{pid}/task/{tid}/stat")
        if text:
            name, rest = re.match(r"\d+ \((.*)\) (.*)", text, re.DOTALL).groups()
            fields = rest.split()  # from field 3 of proc(5) on
            found.append(Thread(pid, int(tid), name, fields[0], int(fields[36])))
    return found


def run_time(thread):
    """How long a thread has run, in seconds (schedstat's first field)."""
    text = read(f"/proc/{thread.pid}/task/{thread.tid}/schedstat")
    return int(text.split()[0]) / 1e9 if text else 0.0


def all_tasks():
    return [thread for name in os.listdir("/proc") if name.isdigit() for thread in threads(int(name))]


def stack(tid):
    """The kernel's stack of a task, one function a line."""
    return (read(f"/proc/{tid}/stack") or "").strip()


@dataclass(frozen=True)
class Mapping:
    address: int
    policy: str  # default, bind:0, prefer:1, ...
    name: str  # the file, or "anon"
    page_size: int  # bytes
    pages: dict  # node -> how many
    flags: tuple

    @property
    def bytes(self):
        return self.page_size * sum(self.pages.values())


def numa_maps(pid):
    """/proc/PID/numa_maps: on which nodes the pages of each mapping lie."""
    found = []
    for line in (read(f"/proc/{pid}/numa_maps") or "").splitlines():
        address, policy, *words = line.split()
        values = dict(word.split("=", 1) for word in words if "=" in word)
        pages = {int(key[1:]): int(value) for key, value in values.items() if re.fullmatch(r"N\d+", key)}
        found.append(Mapping(int(address, 16), policy, values.get("file", "anon"), int(values.get("kernelpagesize_kB", "4")) * 1024,
                             pages, tuple(word for word in words if "=" not in word)))
    return found


@dataclass(frozen=True)
class Interrupt:
    number: int
    counts: tuple  # per online CPU, in their order
    text: str  # chip and handlers


def interrupts():
    """/proc/interrupts, the numbered ones: number -> Interrupt."""
    lines = Path("/proc/interrupts").read_text().splitlines()
    columns = len(lines[0].split())
    found = {}
    for line in lines[1:]:
        number, _, rest = line.strip().partition(":")
        if number.isdigit():
            words = rest.split()
            found[int(number)] = Interrupt(int(number), tuple(map(int, words[:columns])), " ".join(words[columns:]))
    return found


def interrupts_of(address):
    """Those that VFIO has requested for a PCI function: their handlers are named vfio-msix[N](ADDRESS) and the like."""
    return {number: entry for number, entry in interrupts().items() if "vfio" in entry.text and address in entry.text}


def effective_cpus(irq):
    return cpu_list(read(f"/proc/irq/{irq}/effective_affinity_list") or "")


def cpu_list(text):
    """The numbers of a list like 0-1,3."""
    numbers = []
    for part in text.strip().split(","):
        if part:
            first, _, last = part.partition("-")
            numbers += range(int(first), int(last or first) + 1)
    return numbers


def seconds_of(line):
    """When the kernel wrote a line of KernelLog, by the clock of its log."""
    return float(line[1:line.index("]")])


class KernelLog:
    """The kernel's messages from now on."""

    def __init__(self):
        self._fd = os.open("/dev/kmsg", os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        os.lseek(self._fd, 0, os.SEEK_END)
        self.lines = []

    def read(self):
        """All lines so far."""
        while True:
            try:
                record = os.read(self._fd, 8192).decode(errors="replace")
            except BlockingIOError:
                return self.lines
            except BrokenPipeError:  # some were overwritten before we came
                continue
            head, _, text = record.partition(";")
            seconds = int(head.split(",")[2]) / 1e6
            self.lines.append(f"[{seconds:12.6f}] {text.splitlines()[0] if text else ''}")

    def mark(self, text):
        """Writes a line of our own, and gives it: the kernel's clock for something that it does not log."""
        with open("/dev/kmsg", "w") as file:
            file.write(f"upci lab: {text}\n")
        return self.matching(f"upci lab: {re.escape(text)}$")[-1]

    def matching(self, pattern):
        return [line for line in self.read() if re.search(pattern, line)]

    def close(self):
        os.close(self._fd)
