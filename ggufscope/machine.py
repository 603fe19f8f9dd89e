"""What this machine has: processors, and memory that is free."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

from ggufscope.errors import TooMuchMemory

_CGROUP: Final = Path("/sys/fs/cgroup")


def processors() -> int:
    """Return the number of processors that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def available_memory() -> int | None:
    """Return the bytes that a process could still take, or None where it cannot be told."""
    found = [number for number in (_of_system(), _of_container()) if number is not None]
    return min(found, default=None)


def require_memory(nbytes: int, what: str, hint: str) -> None:
    """Raise ``TooMuchMemory`` where ``nbytes``, needed for ``what``, are more than there are."""
    available = available_memory()
    if available is not None and nbytes > available:
        raise TooMuchMemory(
            f"{what} would take {_gigabytes(nbytes)} of memory, and {_gigabytes(available)} are "
            "free",
            hint=hint,
        )


def _gigabytes(nbytes: int) -> str:
    return f"{nbytes / 2**30:,.1f} GiB"


def _of_system() -> int | None:
    """Return Linux's estimate of what can be had without swapping; elsewhere all free pages."""
    try:
        for line in Path("/proc/meminfo").read_text(encoding="ascii").splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    except (OSError, ValueError):
        pass
    try:
        return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, OSError, ValueError):
        return None


def _of_container() -> int | None:
    """Return what the limit of a container (cgroup 2) leaves; cached files make room when asked."""
    try:
        limit = (_CGROUP / "memory.max").read_text(encoding="ascii").strip()
        if limit == "max":
            return None
        used = int((_CGROUP / "memory.current").read_text(encoding="ascii"))
        for line in (_CGROUP / "memory.stat").read_text(encoding="ascii").splitlines():
            name, _, number = line.partition(" ")
            used -= int(number) if name == "inactive_file" else 0
        return max(0, int(limit) - used)
    except (OSError, ValueError):
        return None
