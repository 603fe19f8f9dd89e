"""Small models, opened and run."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import numpy.typing as npt

from ggufscope.container.file import GGUFFile, open_gguf
from ggufscope.forward.transformer import Transformer
from tests.models.families import SMALL, Tensors, write


@contextmanager
def opened(tmp_path: Path, name: str, tensors: Tensors | None = None) -> Iterator[GGUFFile]:
    """The file of a model of `tests/families.py`."""
    with open_gguf(write(tmp_path / f"{name}.gguf", SMALL[name], tensors)) as file:
        yield file


@contextmanager
def running(tmp_path: Path, name: str, tensors: Tensors | None = None) -> Iterator[Transformer]:
    """A model of `tests/families.py`, with the weights of its file."""
    with opened(tmp_path, name, tensors) as file:
        yield Transformer.of(file)


def of_next(logits: npt.NDArray[np.float32], ids: Sequence[int]) -> npt.NDArray[np.float64]:
    """The log-probability of each token but the first, after those before it."""
    wide = logits[:-1].astype(np.float64)
    wide -= wide.max(axis=1, keepdims=True)
    chosen = wide[np.arange(len(ids) - 1), ids[1:]]
    found: npt.NDArray[np.float64] = chosen - np.log(np.exp(wide).sum(axis=1))
    return found
