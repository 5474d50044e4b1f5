# SPDX-License-Identifier: Apache-2.0
"""Each personality of a virtio NIC with each of the features that change its rings, by declining what it offers."""

import itertools

from guest import traffic, upci
from registry import case

_FRAMES = 10_000
_SIZES = "60-9000"  # one buffer or several where those can be merged, one large one where not

# How it is driven: pair, words of the URI, packed rings.
_PERSONALITIES = [
    ("packed", "", True),
    ("packed", ",features=-RING_PACKED", False),
    ("transitional", ",driver=modern", False),
    ("transitional", ",driver=legacy", False),
    ("legacy", "", False),
]
_DECLINABLE = ("INDIRECT_DESC", "EVENT_IDX", "MRG_RXBUF")


def _with_declined(words, declined):
    names = ":".join(f"-{name}" for name in declined)
    if not names:
        return words
    return f"{words}:{names}" if "features=" in words else f"{words},features={names}"


def _cell(lab, a, b, words, packed, declined):
    """Frames both ways, observed; what was negotiated is what was wanted, and is in use."""
    words = _with_declined(words, declined)
    outcome, _ = traffic.net_test(lab, a, b, _FRAMES, "--size", _SIZES, "--observed", "--timeout", "10s", words=words)
    document = outcome.document
    for device in document["devices"]:
        names = device["features"]
        wanted = {name: name not in declined for name in _DECLINABLE} | {"RING_PACKED": packed}
        found = {name: name in names for name in wanted}
        lab.check(found == wanted, f"{device['device']} negotiated {names}")
    lab.check(document["ring_accesses"] > 0 and document["ring_violations"] == 0, lambda: f"{words}: {outcome}")
    frames = 2 * _FRAMES
    spared = document["kicks_suppressed"], frames - document["interrupts"]
    lab.check("EVENT_IDX" in declined or min(spared) > 0, lambda: f"{words}: no kick or no interrupt was spared\n{outcome}")
    merges = "MRG_RXBUF" not in declined
    # A frame that takes several buffers is a chain of several segments.
    for what, wanted in (("merged_frames", merges), ("indirect_chains", merges and "INDIRECT_DESC" not in declined)):
        lab.check((document[what] > 0) == wanted, lambda what=what: f"{words}: {what} is {document[what]}\n{outcome}")


@case("declined-features", boot="rings", timeout=600)
def declined_features(lab):
    """{modern packed, modern split, transitional by either interface, legacy} x {indirect} x {event_idx} x {mrg_rxbuf}, observed"""
    cells = 0
    for name, personalities in itertools.groupby(_PERSONALITIES, key=lambda entry: entry[0]):
        a, b = lab.nics[f"{name}-0"], lab.nics[f"{name}-1"]
        upci.bind(lab, a, b)
        for _, words, packed in personalities:
            for count in range(len(_DECLINABLE) + 1):
                for declined in itertools.combinations(_DECLINABLE, count):
                    _cell(lab, a, b, words, packed, declined)
                    cells += 1
        lab.clean_up_now()
        lab.evidence(f"{name}: {traffic.frames_pass_again(lab, a, b)}")
    lab.evidence(f"{cells} cells, in each {_FRAMES} frames of {_SIZES} bytes each way, none lost, changed or twice; no rule of the rings was "
                 "broken; merged frames and indirect chains are there where they were negotiated and only there, and kicks and "
                 "interrupts were spared where EVENT_IDX was")
