from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import pytest

from ggufscope.recipes.options import DEFAULTS, PlanOptions
from ggufscope.recipes.plan import TensorLike
from ggufscope.sizing import overview
from ggufscope.sizing.file_size import PresetSizes, preset_sizes
from ggufscope.sizing.shapes import SHAPES

_KNOWN: dict[Any, PresetSizes] = {}


def _remembered(
    tensors: Iterable[TensorLike],
    metadata: Mapping[str, Any],
    presets: Sequence[str] = (),
    options: PlanOptions = DEFAULTS,
) -> PresetSizes:
    """Work out the sizes of a known shape once: most tests of `size` ask for the same few."""
    shape = next((each.name for each in SHAPES.values() if each.tensors is tensors), None)
    if shape is None or options != DEFAULTS:
        return preset_sizes(tensors, metadata, presets, options)
    key = shape, *presets
    if key not in _KNOWN:
        _KNOWN[key] = preset_sizes(tensors, metadata, presets)
    return _KNOWN[key]


@pytest.fixture(scope="session", autouse=True)
def sizes_worked_out_once() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(overview, "preset_sizes", _remembered)
        yield
