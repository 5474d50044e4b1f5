# SPDX-License-Identifier: Apache-2.0
"""Random scripts for the oracle: a seed always gives the same one. Run by itself it prints those of the seeds given.

Whatever is drawn, the outcome must be one thing only. So each work has a gate of its own and stays with one queue, a body that
queues another work passes its gate first (one line lets one item go on), and a timer that is to go off is waited for at once.
What cannot be asked of the kernel at all is left out: README.md lists it.
"""

import random
import sys

_QUEUES = ["", "max=1", "max=2", "max=3", "highpri max=1", "cpu_intensive max=2", "mem_reclaim max=1", "freezable", "freezable max=1",
           "unbound", "unbound max=1", "unbound max=2", "unbound highpri", "unbound freezable max=2", "ordered",
           "ordered freezable", "ordered mem_reclaim"]
_LINES = 18


class _Draw:
    def __init__(self, seed):
        self._random = random.Random(seed)
        self.lines = []
        self._queues = {name: self._random.choice(_QUEUES) for name in ("p", "q")}
        self._of = {}  # work -> its queue
        self._gates = []
        # A work is either flushed or taken back: where both meet, the two differ (README.md).
        self._flushed = self._random.sample("abcdxy", 3)
        self._taken = [work for work in "abcdxy" if work not in self._flushed]
        self._disabled = {}  # work -> how deep at least
        for name, flags in self._queues.items():
            self.lines.append(f"wq {name} {flags}".strip())
        for name in "abcd":
            self._define("work", name)
        for name in "xy":
            self._define("dwork", name)

    def _define(self, kind, name):
        self._of[name] = self._random.choice("pq")
        gate = f"g{name}"
        # Whether flush_delayed finds an item that needs no time, or comes too late for it, is a matter of luck.
        body = self._random.choices(["", "gate", "queue", "requeue"], [1 if kind == "work" else 0, 4, 2, 1])[0]
        steps = [] if body == "" else [f"gate {gate}"]
        if body == "queue":
            # Only works that come later in the alphabet: no two can queue each other for ever.
            other = self._random.choice([other for other in "abcd" if other > name] or ["d"])
            if other != name and name in "abc":
                self._of[other] = self._of.get(other, self._random.choice("pq"))
                steps.append(("queue", other))
        if body == "requeue":
            steps.append(("requeue", self._random.randint(1, 3)))
            if self._random.random() < 0.5:
                steps.append(f"gate {gate}")
        if steps:
            self._gates.append(gate)
        self.lines.append((kind, name, steps))

    def finish(self):
        shown = []
        for line in self.lines:
            if isinstance(line, tuple):
                kind, name, steps = line
                texts = []
                for step in steps:
                    if isinstance(step, str):
                        texts.append(step)
                    elif step[0] == "queue":
                        texts.append(f"queue {step[1]} {self._of[step[1]]}")
                    else:
                        texts.append(f"requeue {self._of[name]} {step[1]}")
                line = f"{kind} {name}" + (": " + "; ".join(texts) if texts else "")
            shown.append(line)
        return shown

    def _thread(self, blocking):
        return self._random.choice([2, 3, 3, 4] if blocking else [1, 1, 1, 2])

    def _say(self, text, blocking=False):
        self.lines.append(f"{self._thread(blocking)}: {text}")

    def _is_percpu(self, queue):
        return not any(word in self._queues[queue] for word in ("unbound", "ordered"))

    def _cpu(self, queue):
        """The CPU to name, if any."""
        return self._random.choice([0, 0, 1]) if self._is_percpu(queue) and self._random.random() < 0.3 else None

    def queue(self):
        work = self._random.choice("aabbccd")
        queue = self._of[work]
        cpu = self._cpu(queue)
        self._say(f"queue {work} {queue}" if cpu is None else f"queue_on {cpu} {work} {queue}")

    def delayed(self):
        work = self._random.choice("xy")
        queue = self._of[work]
        op = self._random.choice(["queue_delayed", "mod_delayed"] if work in self._taken else ["queue_delayed"])
        # Else the kernel expires the timer wherever it likes, and the limit of an unbound queue is the node's, too.
        cpu = self._random.choice([0, 0, 1])
        when = self._random.choice(["0", "long", "soon", "soon"])
        self._say(f"{op}_on {cpu} {work} {queue} {when}")
        if when == "soon":
            if self._random.random() < 0.3:
                self._random.choice([self.look, self.take_back])()
            self.lines.append("elapse")

    def pulse(self):
        if self._gates:
            self._say(f"pulse {self._random.choice(self._gates)}")

    def look(self):
        work = self._random.choice("abcdxy")
        self._say(self._random.choice([f"pending {work}", f"busy {work}"]))

    def take_back(self):
        work = self._random.choice(self._taken)
        timer = "_delayed" if work in "xy" else ""
        if self._random.random() < 0.6:
            self._say(f"cancel{timer} {work}")
        else:
            self.lines.append(f"1: disable{timer} {work}")  # thread 1 never blocks: the line is not skipped
            self._disabled[work] = self._disabled.get(work, 0) + 1

    def enable(self):
        """Only what is disabled: an unmatched one takes back what is pending, and spins while a timer is armed."""
        works = [work for work in "abcdxy" if self._disabled.get(work)]
        if works:
            work = self._random.choice(works)
            self._disabled[work] -= 1
            self.lines.append(f"1: enable{'_delayed' if work in 'xy' else ''} {work}")

    def wait(self):
        work, queue = self._random.choice("abcdxy"), self._random.choice("pq")
        timer = "_delayed" if work in "xy" else ""
        if work in self._flushed:
            ops = [f"flush_work {work}"] + ([f"flush_delayed {work}"] if timer else [])
        else:
            ops = [f"cancel{timer}_sync {work}", f"disable{timer}_sync {work}"]
        self._say(self._random.choice([*ops, f"flush_workqueue {queue}", f"flush_workqueue {queue}"]), blocking=True)

    def limit(self):
        queue = self._random.choice("pq")
        if "ordered" not in self._queues[queue]:
            self._say(f"set_max_active {queue} {self._random.randint(1, 3)}")

    def freeze(self):
        self._say(self._random.choice(["freeze", "thaw", "thaw"]))

    def draw(self):
        freezable = any("freezable" in flags for flags in self._queues.values())
        kinds = [(self.queue, 10), (self.delayed, 4), (self.pulse, 7), (self.look, 3), (self.take_back, 3), (self.enable, 3),
                 (self.wait, 5), (self.limit, 1), (self.freeze, 3 if freezable else 0)]
        functions, weights = zip(*kinds)
        begin = len(self.lines)
        while len(self.lines) - begin < _LINES:
            self._random.choices(functions, weights)[0]()
        self._say("thaw")
        for _ in range(2):
            for gate in self._gates:
                self._say(f"pulse {gate}")


def script(seed):
    """The lines of a script."""
    drawn = _Draw(seed)
    drawn.draw()
    return drawn.finish()


if __name__ == "__main__":
    for number in map(int, sys.argv[1:]):
        print(f"=== {number}", *script(number), sep="\n")
