"""The count of what was held to real ggml, printed at the end of a run."""

from __future__ import annotations

from collections import defaultdict

import pytest

from tests.blocks.comparison import Tally

_TALLY = Tally(defaultdict(lambda: [0, 0]))


@pytest.fixture
def tally() -> Tally:
    return _TALLY


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if _TALLY.counts:
        terminalreporter.section("compared bit by bit with real ggml")
        for line in _TALLY.lines():
            terminalreporter.line(line)
