# SPDX-License-Identifier: Apache-2.0
"""Random scripts for the oracle. A seed always gives the same one."""


def script(seed):
    return ["wq q max=1", "work a: gate g", "1: queue a q", "1: pulse g", "elapse"]
