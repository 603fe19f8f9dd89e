"""A model's shape without its file: names, extents and types of its tensors, and its metadata.

A shape says which tensors a layer has, by their stems, and the hyperparameters; how large each
tensor is follows from the anatomy table, the same that ``ggufscope list`` reads. Matrices are F16,
all else F32, as llama.cpp's converter leaves a model: presets start from there.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from itertools import count, islice
from math import prod
from typing import Any, Final

from ggufscope.blocks.layouts import LAYOUTS
from ggufscope.container.file import GGUFFile, Shard
from ggufscope.container.header import DEFAULT_ALIGNMENT, Header, Metadata
from ggufscope.container.source import NoFile
from ggufscope.container.tensor_info import TensorInfo, padded
from ggufscope.container.value_types import ValueType
from ggufscope.container.values import Value
from ggufscope.model.anatomy.rows import Kind
from ggufscope.model.anatomy.symbols import layer_dims, measure
from ggufscope.model.anatomy.table import HEAD, LAYER, TAIL
from ggufscope.model.hparams import HParams, read_hparams
from ggufscope.recipes.categories import why_kept

_AXES: Final = {
    **{
        row.name.removesuffix(".weight"): row.axes
        for row in reversed((*HEAD, *LAYER, *TAIL))
        if row.kind is Kind.STORED
    },
    # What the table leaves open, since families differ.
    "attn_q_norm": "D",
    "attn_k_norm": "D",
    "exp_probs_b": "X",
    "ffn_gate_shexp": "P E",
    "ffn_up_shexp": "P E",
    "ffn_down_shexp": "E P",
    "rope_freqs": "R",
}

_FUSED_UP: Final = ["F+F", "E"]


@dataclass(frozen=True)
class ModelShape:
    """A model that everyone knows, without its weights."""

    name: str
    architecture: str
    hparams: Mapping[str, int]
    """By GGUF key, without the architecture in front."""
    layers: tuple[tuple[int, str], ...]
    """So many layers of these tensors: stems, ``.bias`` where it is not the weight."""
    outside: str = "token_embd output_norm output"
    assumes: str = ""
    """What had to be settled to get one file for the name."""

    @property
    def metadata(self) -> dict[str, Any]:
        """What the header of its file says of its shape."""
        own = {f"{self.architecture}.{key}": value for key, value in self.hparams.items()}
        return {"general.architecture": self.architecture, "general.name": self.name, **own}

    @cached_property
    def tensors(self) -> tuple[TensorInfo, ...]:
        """Every tensor of its file, in F16 and F32."""
        places = [("", 0, self.outside)]
        numbers = count()
        for many, words in self.layers:
            layers = islice(numbers, many)
            places += [(f"blk.{layer}.", layer, words) for layer in layers]
        found: list[TensorInfo] = []
        end = 0
        for place, layer, words in places:
            for word in words.split():
                found.append(self._tensor(place, word, layer, words, end))
                end = padded(end + found[-1].nbytes, DEFAULT_ALIGNMENT)
        return tuple(found)

    def as_file(self) -> GGUFFile:
        """Return what the header of its file says; there are no weights to read."""
        values = {
            key: Value.of(ValueType.STRING if isinstance(data, str) else ValueType.UINT32, data)
            for key, data in self.metadata.items()
        }
        header = Header(3, "<", Metadata(values), self.tensors, DEFAULT_ALIGNMENT, 0)
        size = padded(header.data_end, DEFAULT_ALIGNMENT)
        return GGUFFile((Shard(NoFile(self.name, size, self.assumes), header),))

    @property
    def n_elements(self) -> int:
        """Numbers in its file: the parameters, and what the converter adds."""
        return sum(prod(tensor.shape) for tensor in self.tensors)

    @cached_property
    def _read(self) -> HParams:
        return read_hparams(self.metadata)

    def _tensor(self, place: str, word: str, layer: int, words: str, offset: int) -> TensorInfo:
        stem, dot, suffix = word.partition(".")
        fused = stem == "ffn_up" and "ffn_gate" not in words
        axes = _FUSED_UP if fused else _AXES[stem].split()
        if suffix == "bias" and len(axes) > 1:
            axes = axes[:-1]  # a number for each row
        dims = layer_dims(self._read, layer, 1, None)
        shape = tuple(measure(axis, dims, self.architecture) for axis in axes)
        if stem == "rope_freqs":  # a number for each pair of a head
            shape = (shape[0] // 2,)
        name = f"{place}{stem}.{suffix if dot else 'weight'}"
        kept = why_kept(name, shape, self.architecture)
        layout = LAYOUTS["F32" if kept else "F16"]
        return TensorInfo(name, shape[::-1], layout, offset, layout.row_bytes(prod(shape)))
