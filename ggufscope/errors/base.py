"""What every error is: one line, and a hint."""

from __future__ import annotations

from typing import Self


class GGUFScopeError(Exception):
    """What is wrong, in one line (``message``), and what to do about it (``hint``)."""

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self._named = False

    def about(self, what: object) -> Self:
        """Put the name of a file before the message, unless the message has one already.

        Of two that are put, the first is that of the file at fault: it was nearer to where it went
        wrong.
        """
        if not self._named and str(what) not in self.message:
            self.message = f"{what}: {self.message}"
            self.args = (self.message,)
        self._named = True
        return self
