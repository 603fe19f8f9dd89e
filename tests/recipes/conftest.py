from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest

from ggufscope import GGUFFile, open_gguf
from tests import slices


@pytest.fixture(scope="session")
def sliced(tmp_path_factory: pytest.TempPathFactory, sample: Path) -> Callable[[str], GGUFFile]:
    """Open the slice of a kind, or `stories`, the sample; each is written once."""
    directory = tmp_path_factory.mktemp("slices")

    @cache
    def get(kind: str) -> GGUFFile:
        if kind == "stories":
            return open_gguf(sample)
        return open_gguf(slices.write_slice(directory / f"{kind}.gguf", kind))

    return get
