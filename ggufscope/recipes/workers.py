"""Who does the jobs: processes where the work is large, threads where it is not, or an executor.

NumPy's calls are short, and threads of one process get in each other's way: measured on two cores,
two threads quantize Q4_K 1.4 times as fast as one, two processes 1.9 times.

The processes are not those of ``concurrent.futures``: that pool waits without end when a signal, or
the loss of a worker, meets it at the wrong moment. Here one thread sends jobs through pipes and
waits for answers, a worker that ends is seen by the end of its pipe, and one whose parent ends too.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import traceback
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import BrokenExecutor, CancelledError, Executor, Future, wait
from contextlib import contextmanager, suppress
from itertools import chain
from multiprocessing import connection
from queue import SimpleQueue
from types import TracebackType
from typing import Any, Final, TypeVar

from ggufscope.errors import WorkersLost
from ggufscope.threads import side_by_side, signals_held

Work = Callable[[Any], Any]
Kept = TypeVar("Kept")
Done = Generator[tuple[tuple[Any, Kept], Any], None, None]
"""Tasks that are done, each with what was made. Closed early, it leaves nothing at work."""

MOST_WORKERS: Final = 256
"""More side by side would only take memory."""
REPLACED: Final = 2
"""How often, for each worker, one that was ended from outside is replaced."""
AHEAD: Final = 2
"""Jobs handed over for each worker: one at work, one waiting."""

_REFUSED: Final = (OSError, ImportError, NotImplementedError)
"""What Python raises where processes, or what they talk through, cannot be had."""
_FOR_WORKERS: Final = {
    # A worker is started as `python -c`, for which Python puts the working folder first on its
    # path: a file `pickle.py` that came with a model would be run.
    "PYTHONSAFEPATH": "1",
    "OPENBLAS_NUM_THREADS": "1",  # its own threads would only be in the way
}


def by_threads(work: Work, tasks: Iterable[tuple[Any, Kept]], count: int) -> Done[Kept]:
    """Call ``work`` with the first of each task, in threads; give each task and what was made."""
    yield from side_by_side(lambda task: (task, work(task[0])), tasks, count)


def by_executor(
    work: Work, tasks: Iterable[tuple[Any, Kept]], executor: Executor, count: int
) -> Done[Kept]:
    """Have an executor do what ``by_threads`` does; raises ``WorkersLost`` where it lost some.

    What the executor itself cancels is done again: Dask's does so where the connection to its
    scheduler was lost for a while.
    """
    under_way: dict[Future[Any], tuple[tuple[Any, Kept], int]] = {}
    finished: SimpleQueue[Future[Any]] = SimpleQueue()
    waiting = ((task, 0) for task in tasks)
    again: deque[tuple[tuple[Any, Kept], int]] = deque()
    try:
        while True:
            while len(under_way) < AHEAD * count:
                given = again.popleft() if again else next(waiting, None)
                if given is None:
                    break
                with signals_held():
                    future = executor.submit(work, given[0][0])
                    under_way[future] = given
                    future.add_done_callback(finished.put)
            if not under_way:
                return
            future = finished.get()
            task, tries = under_way.pop(future)
            if future.cancelled() and tries < REPLACED:
                again.append((task, tries + 1))
            else:
                yield task, future.result()
    except (BrokenExecutor, CancelledError):
        raise WorkersLost(
            "the executor that was given lost a worker", hint="give it a new one"
        ) from None
    finally:
        # Whatever ended this, nothing is at work any more. What can be cancelled has not begun, or
        # is on another machine; Dask's executor may never say how such a future ended.
        with signals_held():
            wait([future for future in under_way if not future.cancel()])


def by_processes(
    work: Work,
    tasks: Iterable[tuple[Any, Kept]],
    count: int,
    warn: Callable[[str], object] = lambda _: None,
) -> Done[Kept]:
    """Have processes do what ``by_threads`` does, in any order.

    ``work`` is a function that can be imported. A worker that is ended from outside is replaced,
    and what it had is done again. Where none can be had threads take over, and ``warn`` is told.
    Raises ``WorkersLost`` when they are ended again and again.
    """
    with _Crew(work, count, warn) as crew:
        waiting = iter(tasks)
        yield from crew.each(waiting)
        rest = chain(crew.again, waiting)
    yield from by_threads(work, rest, count)


class _Member:
    """A worker process, and what it was given: one task at work, others waiting."""

    def __init__(self, work: Work) -> None:
        self.tasks: deque[Any] = deque()
        context = multiprocessing.get_context("spawn")
        self.line, theirs = context.Pipe()
        try:
            self.process = context.Process(target=_serve, args=(theirs, work), daemon=True)
            self.process.start()
        except BaseException:
            self.line.close()
            raise
        finally:
            theirs.close()

    def give(self, task: Any) -> None:
        self.tasks.append(task)
        with suppress(OSError):  # it ended: the end of its pipe will tell
            self.line.send(task[0])

    def end(self) -> None:
        """End it, whatever it is at: what it writes to is not complete before it says so."""
        self.line.close()
        self.process.kill()
        self.process.join()
        self.process.close()


class _Crew:
    """All workers of a run. A context manager."""

    def __init__(self, work: Work, count: int, warn: Callable[[str], object]) -> None:
        self.again: deque[Any] = deque()
        """What has to be done again."""
        self._work, self._count, self._warn = work, count, warn
        self._members: list[_Member] = []
        self._lost = 0

    def each(self, tasks: Iterator[Any]) -> Iterator[Any]:
        """Do tasks until there are none, or no workers."""
        self._fill()
        while self._members:
            self._hand_out(tasks)
            busy = {member.line: member for member in self._members if member.tasks}
            if not busy:
                return
            lost = []
            for line in connection.wait([*busy]):
                member = busy[line]  # type: ignore[index]  # one of those that were given
                try:
                    made, error = member.line.recv()
                except (EOFError, OSError):
                    lost.append(member)
                    continue
                task = member.tasks.popleft()
                if error is not None:
                    raise error
                yield task, made
            for member in lost:
                self._replace(member)

    def _hand_out(self, tasks: Iterator[Any]) -> None:
        for depth in range(AHEAD):
            for member in self._members:
                if len(member.tasks) <= depth:
                    task = self.again.popleft() if self.again else next(tasks, None)
                    if task is None:
                        return
                    member.give(task)

    def _replace(self, member: _Member) -> None:
        self._members.remove(member)
        self.again.extend(member.tasks)
        with signals_held():
            member.end()
        self._lost += 1
        if self._lost > REPLACED * self._count:
            raise WorkersLost(
                f"{self._lost} worker processes were ended from outside: the system does so when "
                "memory is short",
                hint="use fewer workers, such as --threads 1",
            )
        self._fill()

    def _fill(self) -> None:
        """Start what is missing; where not all can be had, go on with those that there are."""
        try:
            while len(self._members) < self._count:
                with signals_held(), _environment():
                    self._members.append(_Member(self._work))
        except _REFUSED as error:
            reason = getattr(error, "strerror", None) or str(error)
            self._count = len(self._members)
            there = f"{self._count} do the work" if self._count else "threads do the work"
            self._warn(f"no more worker processes can be had ({reason}): {there}, slower")

    def __enter__(self) -> _Crew:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        with signals_held():
            for member in self._members:
                member.end()


def _serve(line: connection.Connection, work: Work) -> None:
    """Do jobs until nobody hands out any more: all that a worker does."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with suppress(EOFError, OSError):
        while True:
            argument = line.recv()
            try:
                made, wrong = work(argument), None
            except Exception as error:
                error.add_note("".join(traceback.format_exception(error)))
                made, wrong = None, error
            line.send((made, wrong))


@contextmanager
def _environment() -> Iterator[None]:
    """Start processes that import nothing from the working folder, and leave Ctrl-C to us."""
    before = {name: os.environ.get(name) for name in _FOR_WORKERS}
    mask = None
    if hasattr(signal, "pthread_sigmask"):  # a process inherits what its parent blocks
        mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    os.environ.update(_FOR_WORKERS)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
        if mask is not None:
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)
