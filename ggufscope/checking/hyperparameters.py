"""The metadata of a model against itself: numbers that contradict each other, or cannot be meant.

Follows what ``load_hparams`` and ``load_arch_hparams`` in llama.cpp's ``src/llama-model.cpp`` and
``src/models`` refuse or assert.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any, Final

from ggufscope.checking.findings import Finding, error, note, warning
from ggufscope.checking.upstream import said
from ggufscope.container.file import GGUFFile
from ggufscope.container.values import Array
from ggufscope.errors import HyperparameterError
from ggufscope.model.families import FAMILIES, OTHER_GRAPHS, WINDOWS
from ggufscope.model.hparams import ROPE_SCALINGS, HParams, read_hparams
from ggufscope.model.keys import architecture_of, value_of
from ggufscope.model.required import REQUIRED
from ggufscope.model.required_keys import KNOWN, missing_keys
from ggufscope.model.roles import role_of

_WHOLE_HEAD: Final = frozenset({"llama", "llama-embed", "deci", "falcon"})
"""Architectures whose heads llama.cpp wants rotated whole."""
_LARGEST_EPSILON: Final = 0.01
_OLLAMA: Final = {"gptoss": "gpt-oss", "mllama": "", "qwen25vl": "qwen2vl", "deepseekocr": ""}
"""Names that Ollama's own engine has for architectures, and llama.cpp's; empty where it differs."""

_WRONG: Final = "the file was converted wrongly, or its metadata was edited"
_AGAIN: Final = "convert the original model again, or correct the key"


def metadata_findings(file: GGUFFile) -> Iterator[Finding]:
    """Yield what the metadata of a model cannot mean."""
    yield from _architecture(file)
    yield from _not_numbers(file.metadata)
    architecture = architecture_of(file.metadata)
    if architecture is None or not file.tensors:
        return  # of a vocabulary by itself no program reads more
    yield from _missing_keys(file.metadata, architecture)
    try:
        hparams = read_hparams(file.metadata)
    except HyperparameterError as refused:
        if architecture in KNOWN:
            yield error("metadata", refused.message, _WRONG, refused.hint or _AGAIN)
        return
    yield from _heads(hparams)
    yield from _numbers(hparams, file.metadata)
    yield from _layers(file, hparams)
    yield from _rows(file)


def hyperparameters_are_read(file: GGUFFile) -> bool:
    """Return whether ``metadata_findings`` looks at the hyperparameters of a file at all."""
    if not file.tensors:
        return False
    try:
        read_hparams(file.metadata)
    except HyperparameterError:
        return architecture_of(file.metadata) in KNOWN
    return True


def _architecture(file: GGUFFile) -> Iterator[Finding]:
    name = architecture_of(file.metadata)
    if name is None:
        yield error(
            "metadata",
            "key 'general.architecture' is missing or not a string",
            "no program can tell what kind of model it is",
            "convert the original model again",
            said("key", "general.architecture"),
            key="general.architecture",
        )
    elif name in _OLLAMA:
        theirs = _OLLAMA[name]
        yield error(
            "metadata",
            f"architecture {name!r} is that of Ollama's own engine",
            "Ollama runs the file; llama.cpp "
            + (f"calls the model {theirs!r}, with other tensors" if theirs else "does not"),
            "for llama.cpp, download a GGUF that was made for it",
            said("architecture") + f"{name}'",
            key="general.architecture",
        )
    elif not any(name in known for known in (FAMILIES, OTHER_GRAPHS, WINDOWS)):
        yield note(
            "metadata",
            f"architecture {name!r:.60} is not known to this program",
            "its structure and its weights were checked, not which tensors it needs: it may be "
            "newer than this program",
            "a newer ggufscope may know it; whether your llama.cpp does, it says when it loads it",
            said("architecture") + f"{name:.60}'",
            key="general.architecture",
        )


def _not_numbers(metadata: Mapping[str, Any]) -> Iterator[Finding]:
    for key in metadata:
        value = value_of(metadata, key)
        if isinstance(value, float) and not math.isfinite(value):
            yield error(
                "metadata",
                f"key {key!r} is {value}",
                "what is computed with it is no number either",
                _AGAIN,
                key=key,
            )


def _missing_keys(metadata: Mapping[str, Any], architecture: str) -> Iterator[Finding]:
    for key in missing_keys(metadata, architecture):
        yield error(
            "metadata",
            f"key {key!r} is missing",
            "the model cannot be computed without it",
            _AGAIN,
            said("key", key),
            key=key,
        )


def _heads(hparams: HParams) -> Iterator[Finding]:
    name, layers = hparams.architecture, range(hparams.block_count)
    heads, shared = hparams.head_count, hparams.head_count_kv
    if heads is not None and shared is not None:
        uneven = [n for n in layers if shared[n] and heads[n] % shared[n]]
        if uneven:
            at = uneven[0]
            yield error(
                "metadata",
                f"layer {at} has {heads[at]} query heads for {shared[at]} key/value heads",
                "query heads share key/value heads evenly in every model",
                _AGAIN,
                key=f"{name}.attention.head_count_kv",
            )
    rotated, size = hparams.rope_dimension_count, hparams.key_length
    if rotated is not None and size is not None and not hparams.is_mla:
        unequal = name in _WHOLE_HEAD and rotated != size
        if rotated % 2 or (rotated > size and FAMILIES.get(name)) or unequal:
            yield error(
                "metadata",
                f"{rotated} dimensions of a head of {size} are rotated",
                "pairs are rotated, of the dimensions that a head has"
                + ("; this architecture rotates all of them" if unequal else ""),
                _AGAIN,
                said("n_rot", rotated, size) if unequal else "",
                key=f"{name}.rope.dimension_count",
            )


def _numbers(hparams: HParams, metadata: Mapping[str, Any]) -> Iterator[Finding]:
    name = hparams.architecture
    experts, used = hparams.expert_count or 0, hparams.expert_used_count or 0
    if experts and (not used or used > experts):
        yield error(
            "metadata",
            f"{used} of {experts} experts are used for a token",
            "the router chooses some of the experts that there are",
            _AGAIN,
            f"GGML_ASSERT({said('experts' if used else 'no expert')}) failed",
            key=f"{name}.expert_used_count",
        )
    for key, epsilon in (
        ("attention.layer_norm_epsilon", hparams.layer_norm_epsilon),
        ("attention.layer_norm_rms_epsilon", hparams.layer_norm_rms_epsilon),
    ):
        if epsilon is not None and not 0 < epsilon <= _LARGEST_EPSILON:
            yield warning(
                "metadata",
                f"key '{name}.{key}' is {epsilon:g}",
                "norms add it so that they divide by no zero: it is about 1e-5 in every model",
                _AGAIN,
                key=f"{name}.{key}",
            )
    for key, number in (
        ("rope.freq_base", hparams.rope_freq_base),
        ("rope.scaling.factor", hparams.rope_scaling_factor),
    ):
        if number is not None and number < 0:
            yield error(
                "metadata",
                f"key '{name}.{key}' is {number:g}",
                "positions are rotated by powers of the one, and divided by the other: neither is "
                "negative in any model",
                _AGAIN,
                key=f"{name}.{key}",
            )
    if hparams.rope_scaling_type not in ROPE_SCALINGS:
        yield error(
            "metadata",
            f"key '{name}.rope.scaling.type' is {hparams.rope_scaling_type!r:.60}",
            f"llama.cpp knows {', '.join(ROPE_SCALINGS)}",
            _AGAIN,
            key=f"{name}.rope.scaling.type",
        )
    if hparams.context_length == 0:
        yield warning(
            "metadata",
            f"key '{name}.context_length' is 0",
            "it is the length of the texts that the model was trained on, and the default context",
            _AGAIN,
            key=f"{name}.context_length",
        )


def _layers(file: GGUFFile, hparams: HParams) -> Iterator[Finding]:
    """Yield a number of layers that is not the number that the tensors have."""
    found = {role.layer for name in file.tensors if (role := role_of(name)).layer is not None}
    highest = max((layer for layer in found if layer is not None), default=-1)
    if highest >= hparams.block_count:
        yield error(
            "metadata",
            f"key '{hparams.architecture}.block_count' is {hparams.block_count}, and there are "
            f"tensors of layer {highest}",
            "the layers beyond the count are not loaded; llama.cpp refuses what is left over",
            _AGAIN,
            said("left over", len(file.tensors)),
            key=f"{hparams.architecture}.block_count",
        )
    elif found and hparams.architecture not in REQUIRED:
        # llama.cpp does without the layers that predict further tokens.
        needed = range(hparams.block_count - hparams.nextn_predict_layers)
        gone = sorted(set(needed) - found)
        if gone:
            yield error(
                "metadata",
                f"layer {gone[0]} has no tensor, of {hparams.block_count} layers"
                + (f"; {len(gone)} layers have none" if len(gone) > 1 else ""),
                "a part of the model is missing",
                "download it again, or convert the original model again",
                said("missing tensor", f"blk.{gone[0]}.attn_norm.weight"),
                key=f"{hparams.architecture}.block_count",
            )


def _rows(file: GGUFFile) -> Iterator[Finding]:
    """Yield an embedding that has not a row for each token, where no table says its shape."""
    table, tokens = (
        file.tensors.get("token_embd.weight"),
        file.metadata.get("tokenizer.ggml.tokens"),
    )
    known = architecture_of(file.metadata) in REQUIRED
    if table is None or known or not isinstance(tokens, Array) or len(table.shape) != 2:
        return
    rows, count = table.shape[0], len(tokens)
    if rows != count:
        yield error(
            "metadata",
            f"token_embd.weight has {rows:,} rows, and the vocabulary {count:,} tokens",
            "each token has a row of the embedding",
            "convert the original model again: the converter pads the vocabulary where it must",
            said("shape", "token_embd.weight"),
            tensor="token_embd.weight",
        )
