"""Threads for a stream of items, ``side_by_side``, which a signal cannot leave waiting for ever.

Threads that are kept for a pass are in ``pool.py``. Ctrl-C at any moment cannot turn into a wait
without end, here and there:

a signal's handler raises between any two instructions of the main thread. Where that is inside a
lock that Python code takes (``threading.Event``, ``queue.Queue``, an executor's own), the lock
stays taken, and the threads that need it wait for ever: measured with ``ProcessPoolExecutor``, one
of forty killed runs never ended. So signals are held where such locks are taken, and the main
thread waits on a ``SimpleQueue``, which is a single instruction to Python. What must be done at the
end is asked for twice: the first call is lost where a signal comes before it holds them.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterable, Iterator, Sized
from contextlib import contextmanager, suppress
from itertools import islice
from queue import Empty, SimpleQueue
from typing import Any, Final, TypeVar

Item = TypeVar("Item")
Made = TypeVar("Made")

_AHEAD: Final = 4
"""Items taken for each thread: one at work, others so that it need not wait for a slower one."""
_SIGNALS: Final = tuple(
    getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)
)


@contextmanager
def signals_held() -> Iterator[None]:
    """Have the handlers of signals that end a program called after the block, not inside it."""
    if threading.current_thread() is not threading.main_thread():
        yield  # handlers run in the main thread alone
        return
    came: list[int] = []
    handlers = {number: signal.getsignal(number) for number in _SIGNALS}
    held = {number: handler for number, handler in handlers.items() if callable(handler)}
    try:
        for number in held:
            signal.signal(number, lambda number, _: came.append(number))
        yield
    finally:
        for number, handler in held.items():
            signal.signal(number, handler)
        if came:
            signal.raise_signal(came[0])


def side_by_side(
    work: Callable[[Item], Made], items: Iterable[Item], threads: int
) -> Iterator[Made]:
    """Call ``work`` for each item, in as many threads; yield what each returns, in order.

    Items are taken a few ahead of what was given. What ``work`` raises is raised where its result
    would have been given; nothing is at work any more then.
    """
    if isinstance(items, Sized):
        threads = min(threads, len(items))
    if threads <= 1:
        yield from map(work, items)
        return
    todo: SimpleQueue[tuple[int, Item] | None] = SimpleQueue()
    done: SimpleQueue[tuple[int, Made | None, BaseException | None] | None] = SimpleQueue()

    def labour() -> None:
        while (task := todo.get()) is not None:
            at, item = task
            try:
                done.put((at, work(item), None))
            except BaseException as error:
                done.put((at, None, error))
        done.put(None)

    running = 0

    def finish() -> None:
        nonlocal running
        with signals_held():
            drain(todo)  # what is not begun is left
            for _ in range(running):
                todo.put(None)
            while running:
                running -= done.get() is None

    try:
        with signals_held():
            running = start(labour, threads)
        if running:
            yield from _in_order(items, todo, done, _AHEAD * running)
        else:
            yield from map(work, items)
    finally:
        try:
            finish()
        finally:
            finish()


def drain(queue: SimpleQueue[Any]) -> int:
    """Take all out of a queue; return how much it was."""
    taken = 0
    with suppress(Empty):
        while True:
            queue.get_nowait()
            taken += 1
    return taken


def start(labour: Callable[[], None], threads: int) -> int:
    """Start threads; return how many could be had."""
    for started in range(threads):
        try:
            # A daemon: one that was lost to a signal must not keep the program from ending.
            threading.Thread(target=labour, daemon=True).start()
        except RuntimeError:  # the system allows no more
            return started
    return threads


def _in_order(
    items: Iterable[Any], todo: SimpleQueue[Any], done: SimpleQueue[Any], ahead: int
) -> Iterator[Any]:
    early: dict[int, tuple[Any, BaseException | None]] = {}
    waiting = enumerate(items)
    begun = given = 0
    while True:
        for task in islice(waiting, given + ahead - begun):
            todo.put(task)
            begun += 1
        if given == begun:
            return
        while given not in early:
            at, made, error = done.get()
            early[at] = made, error
        made, error = early.pop(given)
        given += 1
        if error is not None:
            raise error
        yield made
