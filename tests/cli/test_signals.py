"""A command that is told to end ends, whatever Python is at when the signal comes."""

from __future__ import annotations

import signal
import subprocess
import sys

import pytest

# The signal comes in the callback of a weak reference, where Python drops exceptions.
PROGRAM = """
import signal, sys, time, weakref
from ggufscope.cli import app

class Thing: pass

def command(standalone_mode):
    thing = Thing()
    kept = weakref.ref(thing, lambda _: signal.raise_signal({number}))
    del thing
    time.sleep(60)

app._command = lambda: command
app.main()
"""


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_is_not_lost_in_a_callback(number: int, code: int) -> None:
    program = PROGRAM.format(number=int(number))
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=30, check=False
    )
    assert done.returncode == code
    assert "Exception ignored" not in done.stderr


def test_what_else_is_dropped_is_still_reported() -> None:
    program = PROGRAM.format(number="'no signal'").replace("time.sleep(60)", "pass")
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=30, check=False
    )
    assert done.returncode == 0
    assert "TypeError" in done.stderr
