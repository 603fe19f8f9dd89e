"""The room for parallel work: who works, what is raised, and that a signal leaves nothing."""

from __future__ import annotations

import gc
import signal
import threading
import time
from collections.abc import Callable, Iterator

import numpy as np
import pytest

from ggufscope import pool as room
from ggufscope.forward import ops
from ggufscope.pool import in_parallel, one_pass
from ggufscope.threads import side_by_side
from tests.forward.arrays import ArrayMatrix


def _now() -> int:
    """How many threads the matrix libraries may have: SciPy brings one of its own."""
    return max(int(each.num_threads) for each in room._matrix_library().lib_controllers)


@pytest.fixture
def threads_now() -> Iterator[Callable[[], int]]:
    before = _now()
    _set(2)
    yield _now
    _set(before)


def _set(count: int) -> None:
    """In a thread of its own: threadpoolctl obeys the first one until it is gone."""

    def work() -> None:
        for library in room._matrix_library().lib_controllers:
            library.set_num_threads(count)

    setter = threading.Thread(target=work)
    setter.start()
    setter.join()


@pytest.fixture(autouse=True)
def _nothing_stays() -> Iterator[None]:
    before = threading.active_count()
    gc.freeze()  # all that is there already is not looked through
    yield
    # A signal between the last instruction of `__enter__` and the block, or within `contextlib`,
    # leaves it to the collector to end what was begun.
    gc.collect()
    assert room._users == 0
    assert room._pool is None
    deadline = time.monotonic() + 5
    while threading.active_count() > before and time.monotonic() < deadline:
        time.sleep(0.001)
    assert threading.active_count() == before


def test_the_matrix_library_has_its_threads_back(threads_now: Callable[[], int]) -> None:
    with one_pass():
        assert threads_now() == 1
        with one_pass():
            assert threads_now() == 1
        assert threads_now() == 1
    assert threads_now() == 2


def test_it_has_them_back_after_an_error_and_from_many_threads(
    threads_now: Callable[[], int],
) -> None:
    inside, leave = threading.Barrier(4), threading.Event()

    def hold() -> None:
        with one_pass():
            inside.wait()
            leave.wait()

    holders = [threading.Thread(target=hold, daemon=True) for _ in range(3)]
    for holder in holders:
        holder.start()
    inside.wait()
    with pytest.raises(KeyError), one_pass():
        raise KeyError
    assert threads_now() == 1
    leave.set()
    for holder in holders:
        holder.join()
    assert threads_now() == 2


def test_where_the_matrix_library_is_out_of_reach_it_has_the_cores(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    nothing = room._matrix_library().select(user_api="none")
    monkeypatch.setattr(room, "_matrix_library", lambda: nothing)
    with one_pass() as pool:
        assert pool.threads == 0
    matrix = ArrayMatrix("w", np.eye(200, 4096, dtype=np.float32))
    x = np.arange(4096, dtype=np.float32)[None]
    assert ops.linear(x, matrix).tolist() == [list(range(200))]


@pytest.mark.parametrize("processors", [1, 2, 5])
def test_work_within_work_shares_one_pool(processors: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(room, "processors", lambda: processors)
    workers: set[int] = set()

    def inner(number: int) -> int:
        workers.add(threading.get_ident())
        time.sleep(0.001)
        return number

    def outer(number: int) -> list[int]:
        return in_parallel(inner, range(number))

    assert in_parallel(outer, range(7)) == [list(range(n)) for n in range(7)]
    assert len(workers) <= processors
    assert in_parallel(inner, []) == []


def test_of_several_errors_the_first_is_raised(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(room, "processors", lambda: 4)
    begun: list[int] = []

    def work(number: int) -> None:
        begun.append(number)
        time.sleep(0.01 if number < 2 else 0)
        if number:
            raise ValueError(number)

    with pytest.raises(ValueError, match="1"):
        in_parallel(work, range(100))
    assert len(begun) < 100


class _Told(Exception):
    """What the signal raises."""


def _in_parallel() -> None:
    in_parallel(lambda _: in_parallel(abs, [1, 2, 3]), range(20))


def _side_by_side() -> None:
    list(side_by_side(abs, range(20), 3))


@pytest.mark.parametrize("job", [_in_parallel, _side_by_side])
def test_a_signal_at_any_moment_ends_it_and_nothing_waits(
    job: Callable[[], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The test would hang where a lock stayed taken, or a thread were waited for in vain."""

    armed: list[bool] = []

    def told(*_: object) -> None:
        if armed:
            armed.clear()
            raise _Told

    monkeypatch.setattr(room, "processors", lambda: 3)
    # SIGTERM is one of those that are held where threads are started and ended.
    ended = signal.signal(signal.SIGTERM, told)
    alarm = signal.signal(signal.SIGALRM, lambda *_: signal.raise_signal(signal.SIGTERM))
    interrupted = 0
    gc.disable()  # Hypothesis has a callback there, and what is raised in one is lost
    try:
        for turn in range(300):
            try:
                armed.append(True)
                signal.setitimer(signal.ITIMER_REAL, 1e-5 + turn * 4e-6)
                job()
                armed.clear()
            except _Told:
                interrupted += 1
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, alarm)
        signal.signal(signal.SIGTERM, ended)
        gc.enable()
    assert interrupted
    assert in_parallel(abs, [-1, -2]) == [1, 2]
