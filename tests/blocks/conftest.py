"""The count of what was held to real ggml, printed at the end of a run."""

from __future__ import annotations

from collections import defaultdict

import pytest

from ggufscope.blocks.codec import ENGINE_VARIABLE
from ggufscope.blocks.kernels import load
from tests.blocks.comparison import Tally

_TALLY = Tally(defaultdict(lambda: [0, 0]))


@pytest.fixture(params=["numpy", "compiled"])
def engine(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Each engine in turn; the compiled one where it was installed."""
    if request.param == "compiled" and not load()[0]:
        pytest.skip(f"no kernels: {load()[1]}")
    monkeypatch.setenv(ENGINE_VARIABLE, request.param)
    return str(request.param)


@pytest.fixture
def tally() -> Tally:
    return _TALLY


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if _TALLY.counts:
        terminalreporter.section("compared bit by bit with real ggml")
        for line in _TALLY.lines():
            terminalreporter.line(line)
