"""NaN and infinities are found before a pass, in every type that can hold one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ggufscope.blocks.codec import CODECS, dequantize, quantize
from ggufscope.blocks.layouts import LAYOUTS
from ggufscope.container.file import GGUFFile, open_gguf
from ggufscope.container.value_types import ValueType
from ggufscope.container.values import Value
from ggufscope.container.writer import GGUFWriter, TensorSpec
from ggufscope.errors import NonFiniteWeight
from ggufscope.forward import finite
from ggufscope.forward.finite import require_finite_weights
from ggufscope.forward.transformer import Transformer
from tests.forward.running import opened
from tests.models.families import SMALL

ROWS, LENGTH = 5, 512
MADE = [name for name, codec in CODECS.items() if codec.quantize is not None]


def _write(path: Path, type_: str, blocks: Any) -> Path:
    spec = TensorSpec("w.weight", (ROWS, LENGTH), LAYOUTS[type_])
    metadata = {"general.architecture": Value.of(ValueType.STRING, "llama")}
    with GGUFWriter(path, metadata, [spec]) as writer:
        writer.write("w.weight", np.ascontiguousarray(blocks))
    return path


def _blocks(type_: str) -> Any:
    x = np.random.default_rng(3).standard_normal((ROWS, LENGTH)).astype(np.float32)
    return quantize(x, type_, importance=np.ones(LENGTH))


@pytest.mark.parametrize("type_", MADE)
def test_finite_weights_pass(type_: str, tmp_path: Path) -> None:
    told: list[tuple[int, int]] = []
    with open_gguf(_write(tmp_path / "m.gguf", type_, _blocks(type_))) as file:
        require_finite_weights(file, lambda done, total: told.append((done, total)))
    assert told
    assert told[-1][0] == told[-1][1] > 0


@pytest.mark.parametrize("type_", MADE)
@pytest.mark.parametrize("slab", [1, 1 << 20])
def test_a_nan_is_found_wherever_it_is(
    type_: str, slab: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(finite, "SLAB", slab)
    layout = LAYOUTS[type_]
    blocks = _blocks(type_).copy()
    row = blocks.reshape(ROWS, -1)[3]
    fields = [n for n in layout.dtype.names or () if layout.dtype[n].kind == "f"]
    if fields:
        row[fields[0]][-1] = np.inf
    elif layout.dtype.kind == "f":
        row[-1] = np.nan
    elif type_ == "BF16":
        row[-1] = 0x7FC0
    elif type_ == "MXFP4":
        row["e"][-1] = 0xFF
    elif type_ == "IQ1_M":
        row["scales"][-1] = 0xFF
    else:
        return  # whole numbers only: nothing in it can be a NaN
    with np.errstate(all="ignore"):
        broken = ~np.isfinite(dequantize(blocks, type_, (ROWS, LENGTH)))
    path = _write(tmp_path / "m.gguf", type_, blocks)
    with open_gguf(path) as file:
        if not broken.any():
            require_finite_weights(file)
            return
        with pytest.raises(NonFiniteWeight, match=r"'w\.weight' has a NaN or an infinity in row 3"):
            require_finite_weights(file)


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("blk.1.ffn_down.weight", "llama-gqa"),
        ("output.weight", "llama-gqa"),
        ("blk.1.attn_norm.weight", "llama-gqa"),
        ("token_embd.weight", "llama-gqa"),
        ("token_embd.weight", "llama-mqa"),
        ("blk.1.ffn_down_exps.weight", "mixtral"),
        ("blk.1.ffn_gate_inp.weight", "mixtral"),
    ],
)
def test_of_a_large_file_a_short_pass_finds_what_was_not_looked_at(
    name: str, kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(finite, "LARGE", 0)
    tensors = SMALL[kind].tensors()
    tensors[name].reshape(-1)[-1] = np.nan

    def look_and_run(file: GGUFFile) -> None:
        require_finite_weights(file, tokens=3)
        Transformer.of(file).run([1, 2, 3])

    with (
        opened(tmp_path, kind, tensors) as file,
        pytest.raises(NonFiniteWeight, match=rf"'{name}' has a NaN or an infinity in row"),
    ):
        look_and_run(file)


def test_of_a_large_file_what_a_short_pass_reads_is_not_looked_at(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tensors = SMALL["llama-gqa"].tensors()
    tensors["blk.1.ffn_down.weight"][3, 4] = np.inf
    with opened(tmp_path, "llama-gqa", tensors) as file:
        with pytest.raises(NonFiniteWeight):
            require_finite_weights(file, tokens=3)  # a small one is, for it costs nothing
        monkeypatch.setattr(finite, "LARGE", 0)
        require_finite_weights(file, tokens=3)
        with pytest.raises(NonFiniteWeight):
            require_finite_weights(file, tokens=finite.FEW + 1)
        with pytest.raises(NonFiniteWeight):
            require_finite_weights(file)
