# SPDX-License-Identifier: Apache-2.0
"""How the host side gives up: with a text that says what is missing and what to do."""


class Lacking(Exception):
    """The environment lacks something that the laboratory needs (exit code 5)."""


class GuestLost(Exception):
    """The guest does not answer any more: it died, hangs, or was too slow."""
