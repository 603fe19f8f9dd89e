"""The digests of tensors in `quantize/*.json`, made anew with the wheel's own quantizers."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import numpy.typing as npt

from ggufscope.blocks.layouts import layout_named
from tests.golden.command import Outcome
from tests.golden.llama_quantize import sha256
from tests.oracles import ggml
from tests.recipes.golden import load
from tests.slices import SLICES, importance, write_slice

Floats = npt.NDArray[np.float32]
_COUNT = np.float32(4)
"""The count in the made-up importance matrices: the sums are divided by it."""


def check_tensors(names: Iterable[str], sample: Path) -> Iterator[Outcome]:
    """Hold the digest of every tensor of every slice, and of the sample, in every type."""
    with tempfile.TemporaryDirectory() as folder:
        for name in names:
            slice_ = name in SLICES
            path = write_slice(Path(folder) / "slice.gguf", name) if slice_ else sample
            golden = load(name)
            same = sha256(path.read_bytes()) == golden["source"]["sha256"]
            yield Outcome(f"{name}: source", same, "identical" if same else "DIFFERS")
            weights = {t.name: _weights(t) for t in gguf.GGUFReader(path).tensors}
            yield _outcome(f"{name}: tensors", golden["digests"], weights, {})
            if "digests with importance" in golden:
                sums = importance(name, SLICES[name]().shapes)
                weighed = {tensor: row / _COUNT for tensor, row in sums.items()}
                yield _outcome(
                    f"{name}: tensors with importance",
                    golden["digests with importance"],
                    weights,
                    weighed,
                )


def _outcome(
    what: str, golden: dict[str, dict[str, str]], weights: dict[str, Floats], weighed: Any
) -> Outcome:
    wrong, count = [], 0
    for tensor, digests in golden.items():
        for type_, digest in digests.items():
            made = _quantize(weights[tensor], type_, weighed.get(tensor))
            count += 1
            if sha256(made)[:16] != digest:
                wrong.append(f"{tensor} as {type_}")
    if wrong:
        return Outcome(what, False, f"{len(wrong)} of {count} DIFFER: {', '.join(wrong[:5])}")
    return Outcome(what, True, f"{count} identical")


def _weights(tensor: gguf.ReaderTensor) -> Floats:
    """Return float32, (experts, rows, row), whatever the number of dimensions."""
    flat = gguf.quants.dequantize(tensor.data, tensor.tensor_type)
    shape = [int(extent) for extent in reversed(tensor.shape)]
    return np.ascontiguousarray(flat, np.float32).reshape(-1, *([1, *shape][-2:]))


def _quantize(weights: Floats, type_: str, importance: Floats | None) -> bytes:
    """Quantize as llama-quantize does: each expert with its own row of importance."""
    layout = layout_named(type_)
    if type_ == "F32":
        return weights.tobytes()
    ggml().ggml_quantize_init(layout.number)  # the grids of the I-quants
    _, rows, row = weights.shape
    packed = np.empty(rows * layout.row_bytes(row), np.uint8)
    found = b""
    for expert, slab in enumerate(weights):
        weigh = None if importance is None else np.ascontiguousarray(importance[expert])
        ggml().ggml_quantize_chunk(
            layout.number,
            slab.ctypes.data,
            packed.ctypes.data,
            0,
            rows,
            row,
            None if weigh is None else weigh.ctypes.data,
        )
        found += packed.tobytes()
    return found
