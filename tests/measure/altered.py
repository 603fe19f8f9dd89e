"""Copies of a model with something wrong in them, at a place that is known."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import numpy.typing as npt

from ggufscope.blocks.codec import dequantize, quantize
from ggufscope.blocks.layouts import Layout
from ggufscope.container.file import GGUFFile
from ggufscope.container.writer import GGUFWriter

Weights = npt.NDArray[np.float32]
Change = Callable[[Weights], Weights]


def altered(file: GGUFFile, path: Path, changes: Mapping[str, Change]) -> Path:
    """Write a copy of a model; each tensor named in `changes` holds what that makes of it."""
    with GGUFWriter.copy_of(file, path) as writer:
        for tensor in file.tensors.values():
            change = changes.get(tensor.name)
            if change is None:
                writer.write(tensor.name, tensor.data())
                continue
            assert isinstance(tensor.type, Layout)
            weights = change(dequantize(tensor.blocks(), tensor.type, tensor.shape).copy())
            made = quantize(weights, tensor.type, check_finite=False)
            writer.write(tensor.name, np.ascontiguousarray(made).view(np.uint8).reshape(-1))
    return path


def head_rows(head: int, size: int = 32) -> slice:
    """The rows of a head in W_q, or of a key head in W_k and W_v."""
    return slice(head * size, (head + 1) * size)


def twice(rows: slice, type_: str) -> Change:
    """Quantize some rows to a coarser type on the way."""

    def change(weights: Weights) -> Weights:
        weights[rows] = dequantize(quantize(weights[rows], type_), type_)
        return weights

    return change
