"""The threads of a pass, and how many the matrix library may have beside them.

``one_pass`` keeps threads for as long as a pass takes, and ``in_parallel`` has them do a list of
items, each of which may use it again. What a signal may do meanwhile is told in ``threads.py``.
"""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, TypeVar

from ggufscope.machine import processors
from ggufscope.threads import drain, signals_held, start

if TYPE_CHECKING:
    from threadpoolctl import ThreadpoolController

Item = TypeVar("Item")
Made = TypeVar("Made")


class Pool:
    """Threads that help whoever has work in parallel; the matrix library has one thread meanwhile.

    Small products are what a streamed pass is made of. OpenBLAS's own threads wait for each other
    by spinning, which costs more than such a product takes, and beside ours they would fight for
    the same cores. Where the library cannot be told to stay with one, it has the cores and there
    are no threads of ours.
    """

    def __init__(self) -> None:
        self._batches: SimpleQueue[SimpleQueue[Callable[[], None]] | None] = SimpleQueue()
        self._ready: SimpleQueue[None] = SimpleQueue()
        self._over: SimpleQueue[None] = SimpleQueue()
        self._ended: SimpleQueue[None] = SimpleQueue()
        self._keepers = 0
        if _matrix_library().lib_controllers:
            # threadpoolctl obeys one thread at a time, and passes in several threads may end in any
            # order: so a thread of ours sets the limit, and takes it back.
            self._keepers = start(self._keep_limit, 1)
        if self._keepers:
            self._ready.get()
        # One more than these is at work: the thread that asks.
        self.threads = start(self._serve, processors() - 1) if self._keepers else 0

    def _keep_limit(self) -> None:
        with _matrix_library().limit(limits=1):
            self._ready.put(None)
            self._over.get()
        self._ended.put(None)

    def _serve(self) -> None:
        for library in _matrix_library().lib_controllers:
            library.set_num_threads(1)  # in some builds each thread has a limit of its own
        _here.passes = 1  # whoever asks waits for what is asked for, in a pass
        while (batch := self._batches.get()) is not None:
            with suppress(Empty):  # it was done before it could be helped with
                batch.get_nowait()()
        self._ended.put(None)

    def call(self, batch: SimpleQueue[Callable[[], None]], count: int) -> None:
        """Have threads call what is in a batch, if it is still there when they come to it."""
        for _ in range(count):
            self._batches.put(batch)

    def end(self) -> None:
        """End the threads, and let the matrix library have its own back."""
        for queue, count in ((self._batches, self.threads), (self._over, self._keepers)):
            for _ in range(count):
                queue.put(None)
            for _ in range(count):
                self._ended.get()


@functools.cache
def _matrix_library() -> ThreadpoolController:
    """Return the controller of what NumPy multiplies with; of nothing, if it cannot be reached."""
    from threadpoolctl import ThreadpoolController

    return ThreadpoolController().select(user_api="blas")


_lock = threading.Lock()
_pool: Pool | None = None
_users = 0
_here = threading.local()
"""``passes``: those that this thread is in, so that the pool outlasts what it is doing."""


@contextmanager
def one_pass() -> Iterator[Pool]:
    """Keep one pool of threads, and the matrix library at one thread, until the block ends.

    Blocks may lie within each other, and in several threads: all share the first one's pool.
    """
    entered: list[Pool] = []

    def leave() -> None:
        if not entered:
            return
        with signals_held():
            if entered:
                entered.clear()
                _leave()

    try:
        with signals_held():
            entered.append(_enter())
        yield entered[0]
    finally:
        try:
            leave()
        finally:
            leave()


def _enter() -> Pool:
    global _pool, _users  # the cores, and the matrix library, belong to the whole process, too
    with _lock:
        _pool = _pool or Pool()
        _users += 1
        _here.passes = _passes_here() + 1
        return _pool


def _leave() -> None:
    global _pool, _users
    with _lock:
        _here.passes = max(0, _passes_here() - 1)
        _users -= 1
        if _users == 0 and _pool is not None:
            _pool.end()
            _pool = None


def _passes_here() -> int:
    passes: int = getattr(_here, "passes", 0)
    return passes


def _pool_of_pass() -> AbstractContextManager[Pool]:
    """Return the pool of the pass that this thread is in, or that of a pass for the block alone."""
    pool = _pool
    return one_pass() if pool is None or not _passes_here() else nullcontext(pool)


def in_parallel(work: Callable[[Item], Made], items: Sequence[Item]) -> list[Made]:
    """Call ``work`` for each item, here and in the threads of the pass; return what each returned.

    ``work`` may do parts of itself in parallel, too. Of several errors that of the first item is
    raised; nothing is at work any more then.
    """
    if len(items) == 1 and _users:
        return [work(items[0])]
    todo: SimpleQueue[int] = SimpleQueue()
    made: dict[int, Made] = {}
    errors: dict[int, BaseException] = {}

    def labour() -> None:
        with suppress(Empty):
            while True:
                at = todo.get_nowait()
                try:
                    made[at] = work(items[at])
                except Exception as error:
                    errors[at] = error
                    drain(todo)

    batch: SimpleQueue[Callable[[], None]] = SimpleQueue()
    done: SimpleQueue[None] = SimpleQueue()

    def helped() -> None:
        try:
            labour()
        except BaseException as error:
            errors[-1] = error
        done.put(None)

    helpers, finished = 0, False

    def finish() -> None:
        nonlocal helpers, finished
        if finished:
            return
        with signals_held():
            drain(todo)
            helpers -= drain(batch)  # those that did not come
            while helpers:
                done.get()
                helpers -= 1
            finished = True

    for at in range(len(items)):
        todo.put(at)
    with _pool_of_pass() as pool:
        helpers = max(0, min(pool.threads, len(items) - 1))
        for _ in range(helpers):
            batch.put(helped)
        try:
            pool.call(batch, helpers)
            labour()
        finally:
            try:
                finish()
            finally:
                finish()
    if errors:
        raise errors[min(errors)]
    return [made[at] for at in range(len(items))]
