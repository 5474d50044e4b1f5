# SPDX-License-Identifier: Apache-2.0
"""Runs cases in the guest, one after the other, as the host names them. One process: a fork costs 10 ms here."""

import sys
import time
import traceback
from pathlib import Path

sys.dont_write_bytecode = True
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import registry  # noqa: E402
from guest import facts, functions  # noqa: E402
from guest.channel import Channel  # noqa: E402
from guest.lab import Failed, Lab  # noqa: E402


def run(case, lab):
    lab.data = {}
    passed, failure = False, ""
    try:
        case.run(lab)
        passed = True
    except Failed as error:
        failure = str(error)
    except Exception:  # a case that breaks is a failed case, and the next one still runs
        failure = "the case itself broke:\n" + traceback.format_exc()
    failure += lab.clean_up()
    return passed and not failure, failure


def main():
    channel = Channel()
    nics = functions.find_nics(time.monotonic() + 20)
    known = {case.name: case for case in registry.cases()}
    lab = Lab(channel, nics)
    channel.send(type="ready", uptime=facts.uptime())
    while True:
        case = known[channel.receive()["run"]]
        passed, failure = run(case, lab)
        channel.send(type="result", passed=passed, failure=failure, data=lab.data)


if __name__ == "__main__":
    main()
