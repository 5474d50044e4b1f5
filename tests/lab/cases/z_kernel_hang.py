# SPDX-License-Identifier: Apache-2.0
"""The story's hang, with the kernel's own driver. It runs last: what it leaves behind cannot even be powered off."""

import ctypes
import os
import re
import subprocess
import time
from pathlib import Path

from guest import facts
from guest.faults import StatusOverlay
from registry import case

_STILL_THERE_AFTER = 10  # seconds
_HUNG_TASK_SECONDS = 10
_POWER_OFF = 0x4321FEDC  # LINUX_REBOOT_CMD_POWER_OFF


def _find(names, wanted):
    """The first task whose name begins so and whose kernel stack has all these functions: (thread, stack)."""
    for thread in facts.all_tasks():
        if thread.name.startswith(names) and thread.state == "D":
            stack = facts.stack(thread.tid)
            if all(function in stack for function in wanted):
                return thread, stack
    return None


def _hung_task_report(lines, pid):
    """What hung_task printed about this task, from its first line to the end of the stack."""
    block = []
    for line in lines:
        if re.search(rf"INFO: task \S+:{pid} blocked for more than", line):
            block = [line]
        elif block:
            block.append(line)
            if "</TASK>" in line:
                return block
    return None


def _power_off():
    """In a child: nobody may wait for it."""
    pid = os.fork()
    if pid == 0:
        ctypes.CDLL(None).reboot(_POWER_OFF)
        os._exit(1)
    return pid


@case("kernel-hang", timeout=120, last=True)
def kernel_hang(lab):
    """The kernel's own bind of a NIC whose status never reads 0 hangs for ever: both stacks, and poweroff hangs too"""
    nic = lab.nics["story-0"]
    nic.bind_to("virtio-pci")
    nic.unbind()
    overlay = StatusOverlay(nic)
    overlay.lay()
    Path("/proc/sys/kernel/hung_task_timeout_secs").write_text(str(_HUNG_TASK_SECONDS))
    Path("/proc/sys/kernel/hung_task_check_interval_secs").write_text("2")
    log = facts.KernelLog()
    command = f"echo {nic} > /sys/bus/pci/drivers/virtio-pci/bind"
    started = time.monotonic()
    caller_pid = subprocess.Popen(["/bin/sh", "-c", command]).pid  # never waited for: it does not end

    caller_path = ("flush_work", "work_on_cpu", "pci_device_probe", "bind_store")
    worker_path = ("vp_reset", "virtio_pci_probe", "local_pci_probe", "work_for_cpu_fn", "process_one_work")
    lab.wait_for(lambda: _find("sh", caller_path), 20, "the caller of bind waits in work_on_cpu")
    worker, _ = lab.wait_for(lambda: _find("kworker", worker_path), 20, "a kworker sits in vp_reset")
    time.sleep(max(0.0, _STILL_THERE_AFTER + 1 - (time.monotonic() - started)))

    caller, caller_stack = lab.wait_for(lambda: _find("sh", caller_path), 1, "the caller is still there")
    again, worker_stack = lab.wait_for(lambda: _find("kworker", worker_path), 5, "the worker is still there")
    seconds = time.monotonic() - started
    lab.check(caller.pid == caller_pid, f"the caller is process {caller.pid}, not {caller_pid}")
    lab.check(again.pid == worker.pid, f"the worker was {worker.name}, and is {again.name} now")
    lab.check(seconds >= _STILL_THERE_AFTER, f"only {seconds:.1f} s have passed")
    node_cpus = facts.cpu_list(Path(f"/sys/devices/system/node/node{nic.node}/cpulist").read_text())
    lab.check(worker.cpu in node_cpus, f"the worker runs on CPU {worker.cpu}, the NIC's node has {node_cpus}")
    lab.evidence(f"{command}: still there after {seconds:.1f} s")
    lab.evidence(f"/proc/{caller.pid}/stack ({caller.name}): " + " <- ".join(_functions(caller_stack)[:6]))
    lab.evidence(f"/proc/{worker.pid}/stack ({worker.name}, CPU {worker.cpu} of node {nic.node}): "
                 + " <- ".join(_functions(worker_stack)[:7]))

    report = lab.wait_for(lambda: _hung_task_report(log.read(), caller.pid), 30, "hung_task reports the caller")
    lab.check(not log.matching(rf"INFO: task \S+:{worker.pid} blocked"), "hung_task reports the worker as well")
    lab.evidence(f"hung_task: {report[0].split('] ', 1)[1]} (nothing about the worker)")

    other = lab.nics["modern-0"]
    other.unbind()
    before = time.monotonic()
    subprocess.run(["/bin/sh", "-c", f"echo {other} > /sys/bus/pci/drivers/virtio-pci/bind"], check=True, timeout=20)
    other_ms = (time.monotonic() - before) * 1000
    lab.check(other.driver == "virtio-pci", f"{other} was not bound")
    lab.evidence(f"meanwhile {other} was bound in {other_ms:.0f} ms, asked for by another task")

    power = _power_off()
    power_stack = lab.wait_for(lambda: _stack_with(power, "device_shutdown"), 20,
                               lambda: f"poweroff waits in device_shutdown; its stack: {facts.stack(power)}")
    time.sleep(2)
    lab.check(_stack_with(power, "device_shutdown"), "poweroff has got further")
    lab.evidence("poweroff: " + " <- ".join(_functions(power_stack)[:4]))
    lab.data = {
        "address": nic.address, "node": nic.node, "register": overlay.register, "bridge": overlay.bridge,
        "memory": overlay.memory, "command": command,
        "seconds": seconds, "hung_task": report, "poweroff_stack": power_stack,
        "hung_task_seconds": _HUNG_TASK_SECONDS, "other": {"address": other.address, "ms": other_ms},
        "caller": {"name": caller.name, "pid": caller.pid, "stack": caller_stack},
        "worker": {"name": worker.name, "pid": worker.pid, "cpu": worker.cpu, "stack": worker_stack},
    }


def _stack_with(pid, function):
    """The kernel's stack of a process that sleeps there: it leaves out the mutex functions themselves."""
    stack = facts.stack(pid)
    return stack if function in stack and any(thread.state == "D" for thread in facts.threads(pid)) else None


def _functions(stack):
    return re.findall(r"\] ([\w.]+)\+0x", stack)
