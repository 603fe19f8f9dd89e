"""Six small models of different architectures, and what a stranger could make of them.

A case is one value of the metadata, or one line of the tensor table, replaced by an absurd one: of
its own type or of another. The file around it stays sound, so that the lie reaches whoever uses it.
"""

from __future__ import annotations

import math
import random
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import gguf
import numpy as np

from tests.models import vocabularies
from tests.models.families import SMALL, Small
from tests.models.makers import raw_gguf

U8, I8, U16, I16, U32, I32, F32, BOOL, STRING, ARRAY, U64, I64, F64 = range(13)
_CODES = {U8: "B", I8: "b", U16: "H", I16: "h", U32: "I", I32: "i", F32: "f", BOOL: "B"}
_CODES |= {U64: "Q", I64: "q", F64: "d"}


@dataclass(frozen=True)
class Raw:
    """A value of the metadata: its type number and its bytes."""

    type: int
    data: bytes


@dataclass(frozen=True)
class Line:
    """A line of the tensor table: dims are ggml's, the fastest first."""

    name: bytes
    dims: tuple[int, ...]
    type: int


@dataclass(frozen=True)
class Model:
    """A whole file in parts that can be replaced."""

    pairs: dict[bytes, Raw]
    tensors: tuple[Line, ...]

    def write(self, path: Path) -> Path:
        """Write it with zeros and ones for data; offsets follow the sizes, as they must."""
        pairs = [
            text_of(key) + struct.pack("<I", raw.type) + raw.data for key, raw in self.pairs.items()
        ]
        lines, offset = [], 0
        for line in self.tensors:
            head = text_of(line.name) + struct.pack("<I", len(line.dims))
            dims = b"".join(struct.pack("<q", extent) for extent in line.dims)
            lines.append(head + dims + struct.pack("<IQ", line.type, offset))
            offset += -(-nbytes_of(line) // 32) * 32
        data = np.resize(_NOISE, offset).tobytes() if offset < 1 << 24 else b""
        path.write_bytes(raw_gguf(pairs, lines, data))
        return path


_NOISE = np.frombuffer(
    np.random.default_rng(1).standard_normal(4096).astype(np.float32).tobytes(), np.uint8
)


def nbytes_of(line: Line) -> int:
    """The bytes of a tensor; nonsense where the type is unknown or the dims are."""
    try:
        block, size = gguf.GGML_QUANT_SIZES[gguf.GGMLQuantizationType(line.type)]
    except (KeyError, ValueError):
        return 0
    return int(max(0, math.prod(line.dims)) // block * size)


def text_of(raw: bytes) -> bytes:
    return struct.pack("<Q", len(raw)) + raw


def _vocabulary(kind: str) -> dict[str, Any]:
    """A vocabulary of few tokens: those of its kind that matter, and some pieces."""
    makers: dict[str, Callable[[], dict[str, Any]]] = {
        "bpe": lambda: vocabularies.bpe("llama-bpe"),
        "qwen2": lambda: vocabularies.bpe("qwen2"),
        "sentencepiece": vocabularies.sentencepiece,
        "gemma4": vocabularies.gemma4,
        "wordpiece": vocabularies.wordpiece,
        "unigram": lambda: vocabularies.unigram(
            precompiled_charsmap=[*vocabularies.charsmap(vocabularies.REPLACED)]
        ),
    }
    return makers[kind]()


MODELS: dict[str, tuple[str, str]] = {
    "llama": ("llama-gqa", "bpe"),
    "gemma3": ("gemma3", "sentencepiece"),
    "qwen2moe": ("qwen2moe", "qwen2"),
    "phi3": ("phi3-long", "wordpiece"),
    "gpt2": ("gpt2", "unigram"),
    "gemma2": ("gemma2", "gemma4"),
}
"""Architecture -> the small model, and the kind of its vocabulary."""


@cache
def model_of(name: str) -> Model:
    """Read one of ``MODELS``, written by the `gguf` package, into parts."""
    small_name, vocabulary = MODELS[name]
    small = SMALL[small_name]
    vocab = _vocabulary(vocabulary)
    pairs: dict[bytes, Raw] = {}
    for key, value in {
        "general.architecture": small.architecture,
        "general.name": "small",
        "general.file_type": 0,
        "general.alignment": 32,
        **{f"{small.architecture}.{key}": value for key, value in small.hparams.items()},
        **{f"tokenizer.ggml.{key}": value for key, value in vocab.items()},
    }.items():
        pairs[key.encode()] = _raw(value)
    size = len(vocab["tokens"])
    layers = 2
    pairs[f"{small.architecture}.block_count".encode()] = _raw(layers)
    if f"{small.architecture}.vocab_size".encode() in pairs:
        pairs[f"{small.architecture}.vocab_size".encode()] = _raw(size)
    return Model(pairs, tuple(_lines(small, size, layers)))


def _lines(small: Small, vocabulary: int, layers: int) -> Iterator[Line]:
    shapes = dict(small.shapes) | {name: (len(row),) for name, row in small.factors.items()}
    for name, shape in shapes.items():
        if name.startswith("blk.") and int(name.split(".")[1]) >= layers:
            continue
        if name in ("token_embd.weight", "output.weight"):
            shape = (vocabulary, shape[1])
        yield Line(name.encode(), tuple(reversed(shape)), 0)


def _raw(value: Any) -> Raw:
    if isinstance(value, bool):
        return Raw(BOOL, bytes([value]))
    if isinstance(value, int):
        return Raw(U32, struct.pack("<I", value))
    if isinstance(value, float):
        return Raw(F32, struct.pack("<f", value))
    if isinstance(value, str):
        return Raw(STRING, text_of(value.encode("utf-8", "surrogateescape")))
    if value and isinstance(value[0], str):
        return _array(STRING, [text_of(v.encode("utf-8", "surrogateescape")) for v in value])
    if value and isinstance(value[0], float):
        return _array(F32, [struct.pack("<f", v) for v in value])
    return _array(I32, [struct.pack("<i", v) for v in value])


def _array(type_: int, items: list[bytes]) -> Raw:
    return Raw(ARRAY, struct.pack("<IQ", type_, len(items)) + b"".join(items))


# ---- absurd values ----

_INTEGERS = [0, 1, 2, 3, 7, 255, 256, 2**15, 2**16, 2**31 - 1, 2**31, 2**32 - 1, 2**62, 2**63 - 1]
_INTEGERS += [2**63, 2**64 - 1, -1, -2, -(2**31), -(2**63)]
_REALS = [math.nan, math.inf, -math.inf, 0.0, -0.0, -1.0, 1e-45, 1e-320, 3.4e38, 1.7e308, 0.5, 2.0]
_TEXTS = [
    *(b"", b" ", b"x" * 5000, b"\x1b[31mred\x1b[0m", b"\xff\xfe", b"\0", "\u202e\u2066".encode()),
    *(
        b"[link=https://x]y[/link]",
        b"[/x]",
        b"9" * 400,
        b"nan",
        b"<0xZZ>",
        b"llama",
        b"gpt2",
        b"t5",
    ),
    *(b"bert", b"none", b"default", b"yarn", b"longrope", b"{0}", b"%s", b"../../etc/passwd"),
]


def _number(type_: int, rng: random.Random) -> bytes:
    if type_ in (F32, F64):
        value = rng.choice(_REALS)
        try:
            return struct.pack("<" + _CODES[type_], value)
        except OverflowError:
            return struct.pack("<" + _CODES[type_], math.inf)
    size = struct.calcsize("<" + _CODES[type_])
    return int(rng.choice(_INTEGERS) % 2 ** (8 * size)).to_bytes(size, "little")


def _value(type_: int, rng: random.Random, depth: int = 0) -> bytes:
    if type_ == STRING:
        return text_of(rng.choice(_TEXTS))
    if type_ != ARRAY:
        return _number(type_, rng)
    inner = rng.choice([t for t in range(13) if t != ARRAY or depth < 2])
    count = rng.choice([0, 1, 2, 3, 7, 600])
    count = min(count, 3) if inner == ARRAY else count
    return _array(inner, [_value(inner, rng, depth + 1) for _ in range(count)]).data


def _items(raw: Raw) -> tuple[int, list[bytes]]:
    type_, count = struct.unpack_from("<IQ", raw.data)
    items, at = [], 12
    for _ in range(count):
        if type_ == STRING:
            end = at + 8 + struct.unpack_from("<Q", raw.data, at)[0]
        else:
            end = at + struct.calcsize("<" + _CODES[type_])
        items.append(raw.data[at:end])
        at = end
    return type_, items


def _changed_array(raw: Raw, rng: random.Random) -> Raw:
    """An array of the same type, with other items or another number of them."""
    if struct.unpack_from("<I", raw.data)[0] == ARRAY:  # one that was made here
        return Raw(ARRAY, _value(ARRAY, rng))
    type_, items = _items(raw)
    how = rng.randrange(7)
    if how == 0:
        items = items[: len(items) // 2]
    elif how == 1:
        items = items[:1]
    elif how == 2:
        items = items * 2
    elif how == 3:
        items = items[::-1]
    elif how == 4 and items:
        items = [*items, items[0]]
    elif items:
        for _ in range(1 if how == 5 else max(1, len(items) // 3)):
            items[rng.randrange(len(items))] = _value(type_, rng)
    return _array(type_, items)


def _pair(model: Model, rng: random.Random) -> Model:
    key = rng.choice(sorted(model.pairs))
    old = model.pairs[key]
    how = rng.random()
    if how < 0.05:
        return replace(model, pairs={k: v for k, v in model.pairs.items() if k != key})
    if how < 0.45:
        new = (
            _changed_array(old, rng) if old.type == ARRAY else Raw(old.type, _value(old.type, rng))
        )
    else:
        type_ = rng.randrange(13)
        new = Raw(type_, _value(type_, rng))
    return replace(model, pairs=model.pairs | {key: new})


_NAMES = [
    *(b"", b"x", b"blk.", b"blk.0.", b"blk.-1.attn_q.weight", b"blk.999999999.attn_q.weight"),
    *(b"blk.99999999999999999999.attn_q.weight", b"\x1b[31m.weight", b"\xff\xfe.weight", b"[/x]"),
    *(b"output.weight", b"rope_freqs.weight", b"blk.0.ssm_in.weight", b"v.blk.0.attn_q.weight"),
    *(b"blk.0.attn_qkv.weight", b"blk.1.ffn_gate_inp.weight", b"blk.0.attn_q.bias", b"a" * 63),
    *(b"[link=file:///etc/passwd]x[/link]", b"blk.0.attn_k_b.weight", b"weight", b"[bold]"),
]


def _table(model: Model, rng: random.Random) -> Model:
    lines = list(model.tensors)
    at = rng.randrange(len(lines))
    line = lines[at]
    how = rng.randrange(7)
    if how == 0:
        del lines[at]
    elif how == 1:
        name = rng.choice(_NAMES)
        if name not in {other.name for other in lines}:
            lines[at] = replace(line, name=name)
    elif how == 2:
        lines[at] = replace(line, dims=tuple(reversed(line.dims)))
    elif how == 3:
        dims = rng.choice(
            [(), (0,), (1,), (0, 0), (32, 0), (1, 1, 1, 1), (32,), (32, 32, 2), (7, 5)]
        )
        lines[at] = replace(line, dims=dims)
    elif how == 4:
        lines[at] = replace(line, type=rng.choice([*range(43), 133, 1000, 2**32 - 1]))
    elif how == 5:
        dims = tuple(
            rng.choice([extent, extent + 1, extent // 2, 2 * extent]) for extent in line.dims
        )
        lines[at] = replace(line, dims=dims)
    else:
        for n, other in enumerate(lines):
            if len(other.dims) > 1:
                lines[n] = replace(other, type=rng.choice([1, 2, 8, 30]))
    return replace(model, tensors=tuple(lines))


def cases(seed: int, count: int) -> Iterator[tuple[str, Model]]:
    """Seeded cases: a name to find one again, and the file."""
    for number in range(count):
        rng = random.Random(f"{seed}/{number}")
        name = rng.choice([*MODELS])
        model = model_of(name)
        mutate: Callable[[Model, random.Random], Model] = _pair if rng.random() < 0.7 else _table
        for _ in range(rng.choice([1, 1, 1, 2, 3])):
            model = mutate(model, rng)
        yield f"{seed}/{number} ({name})", model
