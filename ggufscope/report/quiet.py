"""Whether anything but results is shown."""

from __future__ import annotations

from contextvars import ContextVar
from typing import Final

QUIET: Final = ContextVar("quiet", default=False)
"""True where only results are wanted: no warnings and no bar. Errors are always said."""
