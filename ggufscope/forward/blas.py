"""Keeping NumPy's matrix library to one thread while threads of our own share out the work.

Small products are what a streamed pass is made of. OpenBLAS's own threads wait for each other by
spinning, which costs more than such a product takes; beside a pool of ours they would fight for the
same cores. Where the library cannot be told (it is not OpenBLAS, or cannot be reached), the pool
stays away from products instead: ``workers`` is 1 then, and the library threads as it likes.
"""

from __future__ import annotations

import ctypes
import functools
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import import_module
from typing import Final

from ggufscope.machine import processors

_NAMES: Final = ("scipy_openblas_{}64_", "scipy_openblas_{}", "openblas_{}64_", "openblas_{}")
"""What builds of OpenBLAS call their functions; the first is that of NumPy's wheels."""


@functools.cache
def _switch() -> tuple[Callable[[], int], Callable[[int], object]] | None:
    """Give OpenBLAS's getter and setter of its number of threads, or None."""
    try:
        # A library that NumPy's own extension is linked to is found through the extension.
        library = ctypes.CDLL(import_module("numpy._core._multiarray_umath").__file__)
    except (ImportError, OSError, TypeError):
        return None
    for name in _NAMES:
        try:
            getter = getattr(library, name.format("get_num_threads"))
            setter = getattr(library, name.format("set_num_threads"))
        except AttributeError:
            continue
        return getter, setter
    return None


def workers() -> int:
    """Give how many threads of ours may multiply side by side."""
    return processors() if _switch() else 1


_lock = threading.Lock()
_users = 0
_before = 1


@contextmanager
def one_thread() -> Iterator[None]:
    """Hold the matrix library to one thread; it has its threads back when the last user is done."""
    global _users, _before  # the number of threads belongs to the whole process, too
    switch = _switch()
    if switch is None:
        yield
        return
    getter, setter = switch
    with _lock:
        if _users == 0:
            _before = getter()
            setter(1)
        _users += 1
    try:
        yield
    finally:
        with _lock:
            _users -= 1
            if _users == 0:
                setter(_before)
