"""The cache against what real llama.cpp allocates and logs: to the byte."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from ggufscope.blocks.layouts import layout_named
from ggufscope.container.file import open_gguf
from ggufscope.container.value_types import ValueType
from ggufscope.container.values import Value
from ggufscope.errors import CacheTypeDoesNotFit
from ggufscope.sizing.budget import memory_of
from ggufscope.sizing.kv_cache import CacheKind, kv_cache_of
from ggufscope.sizing.settings import CACHE_TYPES, RunSettings
from ggufscope.sizing.shapes import SHAPES
from tests.llama_memory import Memory, measure
from tests.models.kinds import KINDS, write_kind
from tests.shapes import Whole, write_hollow

SETTINGS = [
    RunSettings(4096),
    RunSettings(16384),
    RunSettings(100),
    RunSettings(5000, parallel=3, batch=96),
    RunSettings(16384, parallel=4),
    RunSettings(16384, parallel=3, unified=True),
    RunSettings(8192, batch=128, swa_full=True),
    RunSettings(32768, batch=4096),
]
TYPES = [
    RunSettings(4096, type_k=layout_named(k), type_v=layout_named(v))
    for k, v in [*((name, name) for name in CACHE_TYPES), ("Q8_0", "F16"), ("F32", "Q4_0")]
]


TOYS = ("gemma3n", "rwkv7")
"""Of their width here, and of no real one, side networks outweigh what the estimate counts."""


def run_of(settings: RunSettings) -> dict[str, Any]:
    """The same settings in llama.cpp's own terms."""
    return {
        "n_ctx": settings.context,
        "n_seq_max": settings.parallel,
        "n_ubatch": settings.batch,
        "n_batch": max(settings.batch, 2048),
        "type_k": settings.layouts[0].name,
        "type_v": settings.layouts[1].name,
        "kv_unified": settings.unified,
        "swa_full": settings.swa_full,
        "flash_attn_type": -1 if settings.flash_attention else 0,
    }


@pytest.mark.parametrize("kind", KINDS)
def test_a_loaded_model_takes_what_is_foretold(kind: str, tmp_path: Path) -> None:
    path = write_kind(tmp_path / "model.gguf", kind)
    metadata = open_gguf(path).metadata
    one_type = any(key.endswith("_length_mla") for key in metadata)
    runs = [*SETTINGS, *(s for s in TYPES if s.type_k == s.type_v or not one_type)]
    for settings, found in zip(runs, measure(path, [run_of(s) for s in runs]), strict=True):
        foretold = memory_of(metadata, settings)
        assert foretold.cache.nbytes == found.context, settings
        _check_log(found, foretold.cache.nbytes)
        if kind not in TOYS:
            assert foretold.compute.low <= found.compute <= foretold.compute.high, settings


_LOGGED = re.compile(r"size = +([\d.]+) MiB \( *(\d+) cells, +(\d+) layers")


def _check_log(found: Memory, nbytes: int) -> None:
    """What llama.cpp prints is the same sum, rounded: each line to a hundredth of a MiB."""
    lines = [float(size) for size, *_ in _LOGGED.findall(found.log)]
    assert lines
    assert abs(sum(lines) - nbytes / 2**20) <= 0.005 * len(lines) + 1e-6


@pytest.mark.parametrize("name", SHAPES)
def test_llama_cpp_takes_every_named_shape_as_a_model(name: str, tmp_path: Path) -> None:
    """It finds every tensor that it needs, of the shape that it needs, and none too many."""
    shape = SHAPES[name]
    required = dict(_REQUIRED.get(shape.architecture, {}))
    hollow = Whole(
        shape.architecture,
        {**shape.hparams, "attention.layer_norm_rms_epsilon": 1e-6, **required},
        {tensor.name: tensor.shape for tensor in shape.tensors},
    )
    path = write_hollow(tmp_path / "hollow.gguf", hollow, {"tokenizer.ggml.model": "none"})
    runs = [
        RunSettings(4096),
        RunSettings(32768),
        RunSettings(32768, batch=128, parallel=4),
        RunSettings(16384, type_k=layout_named("Q8_0"), type_v=layout_named("Q8_0")),
        RunSettings(32768, flash_attention=False),
    ]
    weights = sum(tensor.nbytes for tensor in shape.tensors)
    measured = measure(path, [run_of(settings) for settings in runs], alloc=False)
    for settings, found in zip(runs, measured, strict=True):
        foretold = memory_of(shape.metadata, settings)
        assert found.model == weights
        assert found.context == foretold.cache.nbytes, settings
        assert foretold.compute.low <= found.compute <= foretold.compute.high, settings


_REQUIRED = {"deepseek2": {"expert_gating_func": 2}, "gpt-oss": {}}
"""Keys that llama.cpp asks for, and that say nothing of sizes."""


@pytest.mark.parametrize(
    ("name", "per_token"),
    [
        ("llama-2-7b", 512 << 10),
        ("mistral-7b", 128 << 10),
        ("llama-3.1-8b", 128 << 10),
        ("qwen2.5-7b", 56 << 10),
    ],
)
def test_bytes_a_token_as_everyone_knows_them(name: str, per_token: int) -> None:
    def cache(type_: str) -> int:
        layout = layout_named(type_)
        settings = RunSettings(4096, type_k=layout, type_v=layout)
        return kv_cache_of(SHAPES[name].metadata, settings).nbytes

    assert cache("F16") == 4096 * per_token
    assert cache("Q8_0") == 0.53125 * 4096 * per_token
    assert cache("Q4_0") == 0.28125 * 4096 * per_token


def test_deepseek_keeps_one_latent_a_token() -> None:
    cache = kv_cache_of(SHAPES["deepseek-v3"].metadata, RunSettings(163840))
    assert cache.nbytes == 61 * 576 * 2 * 163840
    assert f"{cache.nbytes / 2**30:.2f}" == "10.72"
    (total,) = cache.by_kind()
    assert (total.kind, len(total.layers)) == (CacheKind.LATENT, 61)


def test_layers_are_told_apart_by_what_they_keep(tmp_path: Path) -> None:
    def totals(kind: str) -> list[tuple[CacheKind, int, int]]:
        metadata = open_gguf(write_kind(tmp_path / "model.gguf", kind)).metadata
        found = kv_cache_of(metadata, RunSettings(8192)).by_kind()
        return [(total.kind, len(total.layers), total.cells) for total in found]

    assert totals("gemma3") == [(CacheKind.WINDOW, 7, 1536), (CacheKind.FULL, 1, 8192)]
    assert totals("jamba") == [(CacheKind.STATE, 2, 1), (CacheKind.FULL, 1, 8192)]
    assert totals("nemotron_h") == [(CacheKind.STATE, 2, 1), (CacheKind.FULL, 1, 8192)]
    assert totals("gemma3n") == [
        (CacheKind.WINDOW, 16, 1536),
        (CacheKind.FULL, 4, 8192),
        (CacheKind.SHARED, 2, 0),
    ]


def test_phi_3_has_a_window_in_its_file_that_llama_cpp_does_not_use() -> None:
    shape = SHAPES["phi-3-mini"]
    assert shape.metadata["phi3.attention.sliding_window"] == 2047
    (total,) = kv_cache_of(shape.metadata, RunSettings(4096)).by_kind()
    assert total.kind is CacheKind.FULL


def test_types_that_llama_cpp_refuses_are_refused(tmp_path: Path) -> None:
    latent = open_gguf(write_kind(tmp_path / "latent.gguf", "deepseek2"))
    mixed = RunSettings(4096, type_k=layout_named("Q8_0"))
    with pytest.raises(CacheTypeDoesNotFit, match="Q8_0 and F16"):
        kv_cache_of(latent.metadata, mixed)
    with pytest.raises(AssertionError, match="does not support different K"):
        measure(latent.path, [run_of(mixed)])
    recipe = KINDS["llama-gqa"]()
    metadata = {f"llama.{key}": value for key, value in recipe.hparams.items()}
    metadata |= {"general.architecture": "llama", "llama.attention.key_length": 24}
    with pytest.raises(CacheTypeDoesNotFit, match="key of one head has 24 numbers"):
        kv_cache_of(metadata, mixed)


@pytest.mark.parametrize("kind", KINDS)
def test_states_are_in_the_layers_that_have_tensors_for_them(kind: str, tmp_path: Path) -> None:
    file = open_gguf(write_kind(tmp_path / "model.gguf", kind))
    signs = re.compile(r"blk\.(\d+)\.(?:ssm_out|ssm_norm|shortconv\.conv|time_mix_ln|attn_gate)\.")
    recurrent = {int(match[1]) for match in map(signs.match, file.tensors) if match}
    parts = kv_cache_of(file.metadata, RunSettings(4096)).parts
    assert {part.layer for part in parts if part.kind is CacheKind.STATE} == recurrent


def test_windows_are_in_their_layers() -> None:
    def full(name: str) -> list[int]:
        parts = kv_cache_of(SHAPES[name].metadata, RunSettings(4096)).parts
        return [part.layer for part in parts if part.kind is CacheKind.FULL]

    assert full("gemma-3-4b") == [5, 11, 17, 23, 29]
    assert full("gemma-2-9b") == [*range(1, 42, 2)]
    assert full("gpt-oss-20b") == [*range(1, 24, 2)]


def test_a_file_may_say_itself_which_layers_keep_a_state() -> None:
    recipe = KINDS["qwen3next"]()
    metadata = {f"qwen3next.{key}": value for key, value in recipe.hparams.items()}
    said = Value.array(ValueType.BOOL, [False, True, True, False]).data
    metadata |= {
        "general.architecture": "qwen3next",
        "qwen3next.attention.recurrent_layers": said,
    }
    parts = kv_cache_of(metadata, RunSettings(4096)).parts
    assert [p.layer for p in parts if p.kind is CacheKind.STATE] == [1, 2]
