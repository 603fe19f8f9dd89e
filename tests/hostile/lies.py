"""Malformed files, each named after its lie: of the header, of the model, of the vocabulary.

Those of the header are refused by whoever opens the file; ``tests/container/test_header.py`` has
them, each with its error, and holds them to llama.cpp. Those below have a sound header, and lie to
whoever makes something of it. All are made of parts that are always the same.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Final

from ggufscope.container.journal import Change
from tests.container.test_header import LIES as HEADER_LIES
from tests.hostile.mutations import (
    ARRAY,
    BOOL,
    F32,
    I32,
    STRING,
    U8,
    U16,
    U32,
    U64,
    Line,
    Model,
    Raw,
    model_of,
    text_of,
)

ESCAPE: Final = b"\x1b[31m\x1b]0;owned\x07\xc2\x9b2J\xe2\x80\xae"
"""What a terminal would act on: colours, a title, an eight-bit CSI, text from right to left."""
TOKENIZER: Final = b"tokenizer.ggml."


def _u32(number: int) -> Raw:
    return Raw(U32, struct.pack("<I", number))


def _text(data: bytes) -> Raw:
    return Raw(STRING, text_of(data))


def _array(type_: int, items: list[bytes]) -> Raw:
    return Raw(ARRAY, struct.pack("<IQ", type_, len(items)) + b"".join(items))


def _with(**pairs: Raw | None) -> Model:
    """A llama whose metadata has these values; ``__`` is a dot, None leaves a key out."""
    model = model_of("llama")
    found = dict(model.pairs)
    for name, raw in pairs.items():
        key = name.replace("__", ".").encode()
        if raw is None:
            del found[key]
        else:
            found[key] = raw
    return replace(model, pairs=found)


def _vocabulary(**pairs: Raw | None) -> Model:
    return _with(**{f"tokenizer__ggml__{name}": raw for name, raw in pairs.items()})


def _tensors(change: Callable[[Line], Line | None]) -> Model:
    model = model_of("llama")
    lines = (change(line) for line in model.tensors)
    return replace(model, tensors=tuple(line for line in lines if line is not None))


def _renamed(name: bytes) -> Model:
    return _tensors(lambda it: replace(it, name=name) if it.name == b"output_norm.weight" else it)


_TOKENS: Final = [text_of(b"a"), text_of(b"b")]

MODEL_LIES: Final[dict[str, Callable[[], Model]]] = {
    # Metadata of the model.
    "no architecture": lambda: _with(general__architecture=None),
    "an architecture of escapes": lambda: _with(general__architecture=_text(ESCAPE)),
    "an architecture of nothing": lambda: _with(general__architecture=_text(b"")),
    "an architecture that is a number": lambda: _with(general__architecture=_u32(7)),
    "a name of escapes": lambda: _with(general__name=_text(ESCAPE * 100)),
    "a name that is no UTF-8": lambda: _with(general__name=_text(b"\xff\xfe\xc0\x80")),
    "a key of escapes": lambda: _with(**{"general__" + ESCAPE.decode(): _u32(1)}),
    "no layers": lambda: _with(llama__block_count=_u32(0)),
    "2**32 - 1 layers": lambda: _with(llama__block_count=_u32(2**32 - 1)),
    "layers as a text": lambda: _with(llama__block_count=_text(b"2")),
    "no heads": lambda: _with(llama__attention__head_count=_u32(0)),
    "2**31 heads": lambda: _with(llama__attention__head_count=_u32(2**31)),
    "more heads for keys than for queries": lambda: _with(
        llama__attention__head_count_kv=_u32(1 << 20)
    ),
    "heads of one layer": lambda: _with(
        llama__attention__head_count=_array(I32, [struct.pack("<i", 4)])
    ),
    "heads below zero": lambda: _with(
        llama__attention__head_count=_array(I32, [struct.pack("<i", -4)] * 2)
    ),
    "no width": lambda: _with(llama__embedding_length=_u32(0)),
    "a width of 2**64 - 1": lambda: _with(
        llama__embedding_length=Raw(U64, struct.pack("<Q", 2**64 - 1))
    ),
    "a context of 2**32 - 1": lambda: _with(llama__context_length=_u32(2**32 - 1)),
    "an epsilon that is no number": lambda: _with(
        llama__attention__layer_norm_rms_epsilon=Raw(F32, struct.pack("<f", math.nan))
    ),
    "a rotation that is odd": lambda: _with(llama__rope__dimension_count=_u32(7)),
    "a rotation of infinity": lambda: _with(
        llama__rope__freq_base=Raw(F32, struct.pack("<f", math.inf))
    ),
    "a file type of 2**31": lambda: _with(general__file_type=_u32(2**31)),
    "a split of three that is one file": lambda: _with(
        split__count=Raw(U16, struct.pack("<H", 3)), split__no=Raw(U16, struct.pack("<H", 0))
    ),
    "a split of 2**16 - 1": lambda: _with(split__count=Raw(U16, struct.pack("<H", 2**16 - 1))),
    # Tensors.
    "no tensors": lambda: _tensors(lambda _: None),
    "a tensor name of escapes": lambda: _renamed(ESCAPE),
    "a tensor of layer 10**19": lambda: _renamed(b"blk.10000000000000000000.attn_q.weight"),
    "a tensor of layer -1": lambda: _renamed(b"blk.-1.attn_q.weight"),
    "a tensor name of markup": lambda: _renamed(b"[link=file:///etc/passwd]x[/link]"),
    "tensors of no weights": lambda: _tensors(lambda it: replace(it, dims=(32, 0))),
    "tensors of no dimensions": lambda: _tensors(lambda it: replace(it, dims=())),
    "tensors of a type to come": lambda: _tensors(lambda it: replace(it, type=2**31)),
    "matrices that are turned": lambda: _tensors(lambda it: replace(it, dims=it.dims[::-1])),
    "matrices that are cubes": lambda: _tensors(lambda it: replace(it, dims=(*it.dims, 1, 2))),
    "noise as Q4_K": lambda: _tensors(
        lambda it: replace(it, type=12, dims=(256, *it.dims[1:])) if len(it.dims) > 1 else it
    ),
    # The vocabulary.
    "no tokens": lambda: _vocabulary(tokens=_array(STRING, [])),
    "tokens that are numbers": lambda: _vocabulary(tokens=_array(U8, [b"a"] * 40)),
    "tokens that are one text": lambda: _vocabulary(tokens=_text(b"ab")),
    "fewer tokens than rows": lambda: _vocabulary(tokens=_array(STRING, _TOKENS)),
    "a token a thousand times": lambda: _vocabulary(tokens=_array(STRING, _TOKENS[:1] * 1000)),
    "tokens of escapes": lambda: _vocabulary(
        tokens=_array(STRING, [text_of(ESCAPE + b"%d" % n) for n in range(40)])
    ),
    "more types than tokens": lambda: _vocabulary(
        token_type=_array(I32, [struct.pack("<i", 3)] * 10_000)
    ),
    "types beyond all types": lambda: _vocabulary(
        token_type=_array(I32, [struct.pack("<i", -(2**31))] * 40)
    ),
    "scores that are no numbers": lambda: _vocabulary(
        scores=_array(F32, [struct.pack("<f", math.nan)] * 40)
    ),
    "merges of one part": lambda: _vocabulary(merges=_array(STRING, [text_of(b"ab")] * 3)),
    "merges of nothing": lambda: _vocabulary(merges=_array(STRING, [text_of(b" ")] * 3)),
    "a first token beyond the last": lambda: _vocabulary(bos_token_id=_u32(2**31)),
    "a first token that is a flag": lambda: _vocabulary(bos_token_id=Raw(BOOL, b"\1")),
    "a flag of 255": lambda: _vocabulary(add_bos_token=Raw(BOOL, b"\xff")),
    "a vocabulary of no kind": lambda: _vocabulary(model=_text(b"none")),
    "words cut in a way to come": lambda: _vocabulary(pre=_text(ESCAPE)),
    "a template that runs code": lambda: _with(
        tokenizer__chat_template=_text(b"{{ ''.__class__.__mro__[1].__subclasses__() }}" + ESCAPE)
    ),
    "a template of 1 MB": lambda: _with(
        tokenizer__chat_template=_text(b"{% for x in range(10**9) %}" * 40_000)
    ),
}

REFUSED: Final = {*HEADER_LIES, "a split of three that is one file", "a split of 2**16 - 1"}
"""What no command may take for a model."""
NAMES: Final = [*HEADER_LIES, *MODEL_LIES, "a journal of a stranger"]


def write_lie(name: str, path: Path) -> Path:
    """Write the file of this lie."""
    if name in HEADER_LIES:
        path.write_bytes(HEADER_LIES[name][1])
    elif name in MODEL_LIES:
        MODEL_LIES[name]().write(path)
    else:  # a model, and beside it what would change it into something else
        model_of("llama").write(path)
        old = path.read_bytes()[:4096]
        change = Change(0, bytes(512) + old[512:], old[:512] + ESCAPE.ljust(len(old) - 512, b"x"))
        path.with_name(f".{path.name}.journal").write_bytes(change.encode())
    return path
