"""The full shapes of models that everyone knows, as headers: names, dims and metadata, no data."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

import gguf
import numpy as np

from ggufscope.blocks.layouts import LAYOUTS, Layout
from ggufscope.container.tensor_info import padded
from tests.models.makers import Shapes, add_pair


@dataclass(frozen=True)
class Stated:
    """A tensor as a plan sees it."""

    name: str
    shape: tuple[int, ...]
    type: Layout

    @property
    def nbytes(self) -> int:
        return self.type.row_bytes(prod(self.shape))


@dataclass(frozen=True)
class Whole:
    """A model of full size: what its header says."""

    architecture: str
    hparams: dict[str, Any]
    shapes: Shapes

    @property
    def metadata(self) -> dict[str, Any]:
        own = {f"{self.architecture}.{key}": value for key, value in self.hparams.items()}
        return {"general.architecture": self.architecture, **own}

    def tensors(self) -> list[Stated]:
        """F16 where there are rows, F32 where not: as the converter leaves a model."""
        return [
            Stated(name, shape, LAYOUTS["F16" if _narrow(name, shape) else "F32"])
            for name, shape in self.shapes.items()
        ]


def _narrow(name: str, shape: tuple[int, ...]) -> bool:
    matrix = len(shape) >= 2 and name.endswith(".weight")
    return matrix and not name.endswith(("_norm.weight", "ffn_gate_inp.weight"))


def write_hollow(path: Path, whole: Whole, metadata: dict[str, Any] | None = None) -> Path:
    """Write the header and, as a hole of the right size, the data."""
    writer = gguf.GGUFWriter(path, whole.architecture)
    for key, value in (metadata or {}).items():
        add_pair(writer, key, value)
    for key, value in whole.hparams.items():
        add_pair(writer, f"{whole.architecture}.{key}", value)
    end = 0
    for tensor in whole.tensors():
        kind = gguf.GGMLQuantizationType(tensor.type.number)
        nbytes = tensor.nbytes
        writer.add_tensor_info(
            tensor.name, tensor.shape, np.dtype(np.float16), nbytes, raw_dtype=kind
        )
        end += padded(nbytes, 32)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_ti_data_to_file()
    writer.close()
    with path.open("r+b") as file:
        file.truncate(padded(path.stat().st_size, 32) + end)
    return path


def _decoder(
    layers: int,
    row: int,
    inner: int,
    heads: int,
    kv: int,
    vocab: int,
    *,
    architecture: str = "llama",
    experts: int = 0,
    biases: bool = False,
    freqs: bool = False,
) -> Whole:
    size = row // heads
    layer: Shapes = {
        "attn_norm.weight": (row,),
        "attn_q.weight": (row, row),
        "attn_k.weight": (kv * size, row),
        "attn_v.weight": (kv * size, row),
        "attn_output.weight": (row, row),
        "ffn_norm.weight": (row,),
    }
    if biases:
        layer |= {"attn_q.bias": (row,), "attn_k.bias": (kv * size,), "attn_v.bias": (kv * size,)}
    if experts:
        layer |= {
            "ffn_gate_inp.weight": (experts, row),
            "ffn_gate_exps.weight": (experts, inner, row),
            "ffn_up_exps.weight": (experts, inner, row),
            "ffn_down_exps.weight": (experts, row, inner),
        }
    else:
        layer |= {
            "ffn_gate.weight": (inner, row),
            "ffn_up.weight": (inner, row),
            "ffn_down.weight": (row, inner),
        }
    shapes: Shapes = {
        "token_embd.weight": (vocab, row),
        "output_norm.weight": (row,),
        "output.weight": (vocab, row),
    }
    shapes |= {"rope_freqs.weight": (size // 2,)} if freqs else {}
    shapes |= {f"blk.{n}.{name}": shape for n in range(layers) for name, shape in layer.items()}
    hparams: dict[str, Any] = {
        "block_count": layers,
        "context_length": 4096,
        "embedding_length": row,
        "feed_forward_length": inner,
        "attention.head_count": heads,
        "attention.head_count_kv": kv,
        "attention.layer_norm_rms_epsilon": 1e-5,
        "vocab_size": vocab,
    }
    if experts:
        hparams |= {"expert_count": experts, "expert_used_count": 2}
    return Whole(architecture, hparams, shapes)


def _falcon_40b() -> Whole:
    row, heads, kv, vocab = 8192, 128, 8, 65024
    layer: Shapes = {
        "attn_norm.weight": (row,),
        "attn_norm.bias": (row,),
        "attn_norm_2.weight": (row,),
        "attn_norm_2.bias": (row,),
        "attn_qkv.weight": ((heads + 2 * kv) * 64, row),
        "attn_output.weight": (row, row),
        "ffn_up.weight": (4 * row, row),
        "ffn_down.weight": (row, 4 * row),
    }
    base = _decoder(60, row, 4 * row, heads, kv, vocab, architecture="falcon")
    shapes = {name: shape for name, shape in base.shapes.items() if not name.startswith("blk.")}
    shapes |= {"output_norm.bias": (row,)}
    shapes |= {f"blk.{n}.{name}": shape for n in range(60) for name, shape in layer.items()}
    return Whole("falcon", base.hparams | {"attention.layer_norm_epsilon": 1e-5}, shapes)


WHOLES: dict[str, Callable[[], Whole]] = {
    "Llama-2-7B": lambda: _decoder(32, 4096, 11008, 32, 32, 32000),
    "Mistral-7B": lambda: _decoder(32, 4096, 14336, 32, 8, 32000),
    "Llama-3.1-8B": lambda: _decoder(32, 4096, 14336, 32, 8, 128256, freqs=True),
    "Qwen2.5-7B": lambda: _decoder(
        28, 3584, 18944, 28, 4, 152064, architecture="qwen2", biases=True
    ),
    "Llama-65B": lambda: _decoder(80, 8192, 22016, 64, 64, 32000),
    "Llama-3-70B": lambda: _decoder(80, 8192, 28672, 64, 8, 128256, freqs=True),
    "Qwen2-72B": lambda: _decoder(
        80, 8192, 29568, 64, 8, 152064, architecture="qwen2", biases=True
    ),
    "Mixtral-8x7B": lambda: _decoder(32, 4096, 14336, 32, 8, 32000, experts=8),
    "Falcon-40B": _falcon_40b,
}
"""Every shape, by name."""
