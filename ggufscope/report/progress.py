"""A bar on standard error while something long runs, with the time that is left."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from ggufscope.report.console import make_console


@contextmanager
def steps_bar(description: str) -> Iterator[Callable[[int, int], None]]:
    """Give a function to be told (done, total); nothing is shown in a pipe."""
    console = make_console(stderr=True)
    bar = Progress(
        BarColumn(bar_width=30),
        TextColumn("{task.percentage:>3.0f}%"),
        TimeRemainingColumn(),
        TextColumn("{task.description}"),
        console=console,
        disable=not console.is_terminal,
        transient=True,
    )
    with bar:
        task = bar.add_task(description, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)
