"""Which version this is; `ggufscope.__version__` says it."""

from __future__ import annotations

__version__ = "0.1.0"
