from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import hypothesis
import pytest

from tests import sweeps
from tests.models import makers

# A slow machine is no defect: examples are counted, not timed.
hypothesis.settings.register_profile("untimed", deadline=None)
hypothesis.settings.load_profile("untimed")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if not any("::" in word for word in config.args):
        sweeps.mark(items)


@pytest.fixture
def make(tmp_path: Path) -> Callable[[str], Path]:
    """Make the model of a kind of `makers.RECIPES`; gives its path."""
    return lambda kind: makers.make(tmp_path / f"{kind}.gguf", kind)


@pytest.fixture(scope="session")
def sample() -> Path:
    """The trained model that the project ships."""
    path = Path(__file__).parent.parent / "samples" / "stories-f16.gguf"
    assert path.is_file(), "samples/stories-f16.gguf is missing: it is part of the repository"
    return path
