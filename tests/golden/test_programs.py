"""The programs that made the golden files make them again: the same digests, the same arrays."""

from __future__ import annotations

from typing import Any

import pytest

from tests.golden import make_compare, make_forward, make_quantize, make_searched


@pytest.mark.slow
@pytest.mark.parametrize("program", [make_quantize, make_forward, make_compare, make_searched])
def test_what_the_wheel_can_make_is_what_lies_here(
    program: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    assert program.main(["--check"]) == 0, capsys.readouterr().out
