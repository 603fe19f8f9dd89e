"""Both engines, and the count of what was held to real ggml."""

from __future__ import annotations

import pytest

from ggufscope.blocks.codec import ENGINE_VARIABLE
from ggufscope.blocks.kernels import load
from tests.blocks.comparison import TALLY, Tally


@pytest.fixture(params=["numpy", "compiled"])
def engine(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Each engine in turn; the compiled one where it was installed."""
    if request.param == "compiled" and not load()[0]:
        pytest.skip(f"no kernels: {load()[1]}")
    monkeypatch.setenv(ENGINE_VARIABLE, request.param)
    return str(request.param)


@pytest.fixture
def tally() -> Tally:
    return TALLY
