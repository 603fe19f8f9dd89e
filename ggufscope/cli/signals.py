"""Being told to end: every signal that asks for it lets the command clean up, once.

Each line below is here because something went wrong without it.
"""

from __future__ import annotations

import signal
import sys
from typing import Final

_ENDING: Final = ("SIGTERM", "SIGHUP")


def install() -> None:
    """Have SIGINT, SIGTERM and SIGHUP raise what unwinds the command.

    The temporary files of a run were left behind where SIGTERM, or SIGHUP of a terminal that was
    closed, ended it at once. A second Ctrl-C of an impatient user did so too, while the first was
    being cleaned up after: only the first one counts. A signal that is ignored stays so: ``nohup``
    ignores SIGHUP for its command.
    """
    for name in ("SIGINT", *_ENDING):
        number = getattr(signal, name, None)  # Windows has no SIGHUP
        if number is not None and signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, _end)
    _keep_what_signals_raise()


def _end(number: int, frame: object) -> None:
    for name in ("SIGINT", *_ENDING):
        other = getattr(signal, name, None)
        if other is not None:
            signal.signal(other, signal.SIG_IGN)
    if number == signal.SIGINT:
        raise KeyboardInterrupt
    sys.exit(128 + number)


def _keep_what_signals_raise() -> None:
    """Raise once more what a signal raised where Python drops exceptions.

    A signal may come while a weak reference's callback runs (an import has those); what its handler
    raises there is reported and forgotten, and the command went on as if nobody had asked.
    """
    if not hasattr(signal, "setitimer"):  # Windows, where nothing but Ctrl-C comes
        return
    lost: list[BaseException] = []

    def dropped(what: sys.UnraisableHookArgs) -> None:
        if isinstance(what.exc_value, SystemExit | KeyboardInterrupt):
            lost.append(what.exc_value)
            signal.setitimer(signal.ITIMER_REAL, 0.01)
        else:
            sys.__unraisablehook__(what)

    def again(number: int, frame: object) -> None:
        raise lost.pop()

    sys.unraisablehook = dropped
    signal.signal(signal.SIGALRM, again)
