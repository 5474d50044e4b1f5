# SPDX-License-Identifier: Apache-2.0
"""What a case is given: the NICs, a place for its evidence, checks, and things to undo when it ends."""

import time
import traceback


class Failed(Exception):
    """Something is not as the case demands."""


class Lab:
    def __init__(self, channel, nics):
        self._channel = channel
        self._undo = []
        self.nics = nics  # name in topology.py -> Function
        self.data = {}  # for docs.py

    def evidence(self, text):
        """One line that says what was seen, and where."""
        self._channel.send(type="evidence", text=text)

    def check(self, truth, text):
        """Fails the case with this text unless it is true."""
        if not truth:
            raise Failed(text() if callable(text) else text)

    def wait_for(self, condition, seconds, what):
        """Returns the first true value of condition(). Fails the case after so many seconds."""
        until = time.monotonic() + seconds
        while not (value := condition()):
            if time.monotonic() > until:
                raise Failed(f"after {seconds} s still not: {what() if callable(what) else what}")
            time.sleep(0.02)
        return value

    def request(self, call, **arguments):
        return self._channel.request(call, **arguments)

    def finally_do(self, function, *arguments):
        """Runs when the case ends, however it does; the latest first."""
        self._undo.append((function, arguments))

    def clean_up_now(self):
        """Before the case ends, since it looks at what comes then."""
        trouble = self.clean_up()
        self.check(not trouble, trouble)

    def clean_up(self):
        """Returns what went wrong in it, or nothing."""
        trouble = ""
        while self._undo:
            function, arguments = self._undo.pop()
            try:
                function(*arguments)
            except Failed as error:
                trouble += f"\nwhile cleaning up: {error}"
            except Exception:
                trouble += "\nwhile cleaning up:\n" + traceback.format_exc()
        return trouble
