"""A bar on standard error while something long runs, with the time that is left."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from ggufscope.report.console import make_console
from ggufscope.report.quiet import QUIET
from ggufscope.report.units import printable
from ggufscope.threads import signals_held


@contextmanager
def steps_bar(description: str) -> Iterator[Callable[..., None]]:
    """Return a function to be told (done, total) and, where it changes, what is under way.

    Nothing is shown in a pipe, or where only results are wanted.
    """
    console = make_console(stderr=True)
    bar = Progress(
        BarColumn(bar_width=30),
        TextColumn("{task.percentage:>3.0f}%", markup=False),
        TimeRemainingColumn(),
        TextColumn("{task.description}", markup=False),
        console=console,
        disable=QUIET.get() or not console.is_terminal,
        transient=True,
    )
    with signals_held():  # it draws in a thread of its own
        bar.start()
    try:
        task = bar.add_task(description, total=None)

        def advance(done: int, total: int, under_way: str | None = None) -> None:
            words = description if under_way is None else printable(under_way)
            bar.update(task, completed=done, total=total, description=words)

        yield advance
    finally:
        with signals_held():
            bar.stop()
