"""Small models, opened and run."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ggufscope.container.file import GGUFFile, open_gguf
from ggufscope.forward.transformer import Transformer
from tests.families import SMALL, Tensors, write


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
