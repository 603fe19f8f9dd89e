"""The one room for parallel work: threads, and how many the matrix library may have beside them.

``side_by_side`` starts threads for a stream of items. ``one_pass`` keeps threads for as long as a
pass takes, and ``in_parallel`` has them do a list of items, each of which may use it again. Ctrl-C
at any moment cannot turn into a wait without end:

a signal's handler raises between any two instructions of the main thread. Where that is inside a
lock that Python code takes (``threading.Event``, ``queue.Queue``, an executor's own), the lock
stays taken, and the threads that need it wait for ever: measured with ``ProcessPoolExecutor``, one
of forty killed runs never ended. So signals are held where such locks are taken, and the main
thread waits on a ``SimpleQueue``, which is a single instruction to Python. What must be done at the
end is asked for twice: the first call is lost where a signal comes before it holds them.
"""

from __future__ import annotations

import functools
import signal
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence, Sized
from contextlib import contextmanager, suppress
from itertools import islice
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Any, Final, TypeVar

from ggufscope.machine import processors

if TYPE_CHECKING:
    from threadpoolctl import ThreadpoolController

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
            _drain(todo)  # what is not begun is left
            for _ in range(running):
                todo.put(None)
            while running:
                running -= done.get() is None

    try:
        with signals_held():
            running = _start(labour, threads)
        if running:
            yield from _in_order(items, todo, done, _AHEAD * running)
        else:
            yield from map(work, items)
    finally:
        try:
            finish()
        finally:
            finish()


def _drain(queue: SimpleQueue[Any]) -> int:
    """Take all out of a queue; return how much it was."""
    taken = 0
    with suppress(Empty):
        while True:
            queue.get_nowait()
            taken += 1
    return taken


def _start(labour: Callable[[], None], threads: int) -> int:
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


class _Pool:
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
            self._keepers = _start(self._keep_limit, 1)
        if self._keepers:
            self._ready.get()
        # One more than these is at work: the thread that asks.
        self.threads = _start(self._serve, processors() - 1) if self._keepers else 0

    def _keep_limit(self) -> None:
        with _matrix_library().limit(limits=1):
            self._ready.put(None)
            self._over.get()
        self._ended.put(None)

    def _serve(self) -> None:
        for library in _matrix_library().lib_controllers:
            library.set_num_threads(1)  # in some builds each thread has a limit of its own
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
_pool: _Pool | None = None
_users = 0


@contextmanager
def one_pass() -> Iterator[_Pool]:
    """Keep one pool of threads, and the matrix library at one thread, until the block ends.

    Blocks may lie within each other, and in several threads: all share the first one's pool.
    """
    entered: list[_Pool] = []

    def leave() -> None:
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


def _enter() -> _Pool:
    global _pool, _users  # the cores, and the matrix library, belong to the whole process, too
    with _lock:
        _pool = _pool or _Pool()
        _users += 1
        return _pool


def _leave() -> None:
    global _pool, _users
    with _lock:
        _users -= 1
        if _users == 0 and _pool is not None:
            _pool.end()
            _pool = None


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
                    _drain(todo)

    batch: SimpleQueue[Callable[[], None]] = SimpleQueue()
    done: SimpleQueue[None] = SimpleQueue()

    def helped() -> None:
        try:
            labour()
        except BaseException as error:
            errors[-1] = error
        done.put(None)

    helpers = 0

    def finish() -> None:
        nonlocal helpers
        with signals_held():
            _drain(todo)
            helpers -= _drain(batch)  # those that did not come
            while helpers:
                done.get()
                helpers -= 1

    for at in range(len(items)):
        todo.put(at)
    with one_pass() as pool:
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
