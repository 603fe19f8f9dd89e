"""What every error is: one line, and a hint."""

from __future__ import annotations

from typing import Self


class GGUFScopeError(Exception):
    """What is wrong, in one line (``message``), and what to do about it (``hint``)."""

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def about(self, what: object) -> Self:
        """Put the name of a file before the message, unless the message has it already."""
        if str(what) not in self.message:
            self.message = f"{what}: {self.message}"
            self.args = (self.message,)
        return self
