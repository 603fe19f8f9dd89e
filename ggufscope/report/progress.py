"""A bar on standard error while a command runs: one from start to end, whatever the phase.

It shows the phase, how fast it goes and the time that is left; afterwards, the time it took. Where
standard error is not a terminal nothing is shown.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Final, Self

from ggufscope.report.quiet import QUIET
from ggufscope.report.units import printable, size, small
from ggufscope.threads import signals_held

if TYPE_CHECKING:
    from rich.progress import Progress

_FORCED: Final = {"FORCE_COLOR", "TTY_COMPATIBLE"}
"""Variables by which what is none may be a terminal to rich."""


class CommandBar:
    """The bar of one command; a context manager, which ends it."""

    def __init__(self, file: str) -> None:
        """Take the name of the file that is worked on."""
        self._file = printable(file)
        self._bar = _bar(self._file)
        self._done = 0.0  # by the phases before this one
        self._said = False
        self._began = time.monotonic()

    def __enter__(self) -> Self:
        if self._bar is not None:
            with signals_held():  # it draws in a thread of its own
                self._bar.start()
        return self

    def __exit__(self, *failure: object) -> None:
        self.end(said=failure[0] is None)

    def phase(self, words: str, share: float = 1.0, unit: str = "") -> Callable[..., None]:
        """Begin a phase that takes such a share of the whole; return what is told how far it is.

        That takes (done, total) and, where it changes, what is under way. ``unit``: of the rate,
        such as ``"layers"``; bytes by default.
        """
        before, began = self._done, time.monotonic()
        self._done += share
        self._show(before, words, self._file)

        def advance(done: int, total: int, under_way: str = "") -> None:
            seconds = max(time.monotonic() - began, 1e-6)
            rate = f"{small(done / seconds)} {unit}/s" if unit else f"{size(int(done / seconds))}/s"
            what = printable(under_way) or self._file  # there is no room for both
            self._show(before + share * done / max(total, 1), words, rate, what)

        return advance

    def end(self, *, said: bool = True) -> None:
        """Take the bar away before the results are printed, and say how long it took."""
        said, self._said = said and not self._said, True
        if self._bar is None:
            return
        with signals_held():
            self._bar.stop()
        if said:
            took = f"{self._file}: done in {elapsed(time.monotonic() - self._began)}"
            self._bar.console.print(took, style="dim")

    def _show(self, completed: float, *words: str) -> None:
        if self._bar is not None:
            (task,) = self._bar.task_ids
            self._bar.update(task, completed=completed, description=", ".join(words))


def _bar(words: str) -> Progress | None:
    """Return a bar with one task, or None where there is no terminal, or nobody wants it.

    It takes long to import what draws it, and to ask rich: not where the answer is plain.
    """
    if QUIET.get() or not (sys.stderr.isatty() or _FORCED & os.environ.keys()):
        return None
    from ggufscope.report.console import make_console

    console = make_console(stderr=True)
    if not console.is_terminal:
        return None
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
    from rich.table import Column

    bar = Progress(
        BarColumn(bar_width=12),
        TextColumn("{task.percentage:>3.0f}%", markup=False),
        TimeRemainingColumn(),
        TextColumn(
            "{task.description}",
            markup=False,
            table_column=Column(ratio=1, no_wrap=True, overflow="ellipsis"),
        ),
        console=console,
        transient=True,
        expand=True,
    )
    bar.add_task(words, total=1.0)
    return bar


def elapsed(seconds: float) -> str:
    """Return a time with as many digits as matter: ``0.34 s``, ``12.5 s``, ``3 min 07 s``."""
    if seconds < 60:
        return f"{small(seconds)} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest:02} s"
