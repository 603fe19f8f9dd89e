"""The one table of codecs, and ``quantize()`` and ``dequantize()`` over arrays of any shape.

A codec reads blocks and makes them from rows. What they share is here: shapes, byte order, checks,
chunks that stay in the cache, threads.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cache, partial
from math import prod
from typing import Final

import numpy as np
import numpy.typing as npt

from ggufscope.arrays import Array, Blocks, Floats
from ggufscope.blocks import floats, iq1, iq2, iq3, iq4, kquants, microscale, simple, ternary
from ggufscope.blocks.kernels import Kernels, load
from ggufscope.blocks.layouts import LAYOUTS, Layout, layout_named
from ggufscope.blocks.neighbours import squares_overflow
from ggufscope.errors import (
    BadUsage,
    GGUFScopeError,
    IndivisibleRow,
    MismatchedArray,
    NonFiniteWeight,
    NotConvertible,
    UnmakeableBlock,
    UnmakeableType,
)
from ggufscope.machine import processors
from ggufscope.threads import side_by_side

BytesLike = bytes | bytearray | memoryview


Make = Callable[[Floats, Blocks, Floats | None], None]
"""x (rows, row) -> out (rows, blocks), both C-contiguous, with the importance (row,) of columns."""


@dataclass(frozen=True, slots=True)
class Codec:
    """How one type is read, and made. ``quantize`` is missing where a type cannot be made."""

    dequantize: Callable[[Blocks, Floats], None]
    """Blocks (n,) -> out (n, block_length), C-contiguous."""

    quantize: Make | None = None

    missing: str = ""
    """Why there is no ``quantize``, and what to do instead."""

    weighs: bool = True
    """Whether importance changes what ``quantize`` makes, as in ggml."""

    needs_importance: bool = False
    """Whether ``quantize`` weighs errors by importance alone, as ggml does: it takes no None."""

    @property
    def makes_alone(self) -> bool:
        """Whether the type can be made without an importance."""
        return self.quantize is not None and not self.needs_importance


@dataclass(frozen=True, slots=True)
class Engine:
    """What converts. Another engine is another table with the same keys."""

    name: str
    codecs: Mapping[str, Codec]
    chunk: int
    """Weights converted at a time, in whole rows."""
    releases_gil: bool
    """Whether it lets go of the interpreter for a chunk: threads then serve as processes do."""
    kernels: Kernels | None = None
    """What it was compiled to."""


def _by_block(
    dequantize: Callable[[Blocks, Floats], None], make: Callable[[Floats, Blocks], None]
) -> Codec:
    """Return a codec that hands rows on as x (n, block_length) -> out (n,), without importance."""

    def quantize(x: Floats, out: Blocks, importance: Floats | None) -> None:
        make(x.reshape(out.size, -1), out.reshape(-1))

    return Codec(dequantize, quantize, weighs=False)


def _by_importance(
    dequantize: Callable[[Blocks, Floats], None], make: Callable[[Floats, Blocks, Floats], None]
) -> Codec:
    """Return a codec that makes nothing without an importance."""

    def quantize(x: Floats, out: Blocks, importance: Floats | None) -> None:
        if importance is None:
            raise ValueError("this type is made by importance alone")
        make(x, out, importance)

    return Codec(dequantize, quantize, needs_importance=True)


_FOR_DOT_PRODUCTS: Final = "ggml makes it for dot products only and stores it in no file; use Q8_0"
_NOT_WEIGHTS: Final = "it holds exact values, not weights; convert with astype()"
CODECS: Final[dict[str, Codec]] = {
    "F32": _by_block(floats.dequantize_plain, floats.quantize_f32),
    "F16": _by_block(floats.dequantize_f16, floats.quantize_f16),
    "Q4_0": Codec(simple.dequantize_q4_0, simple.quantize_q4_0),
    "Q4_1": Codec(simple.dequantize_q4_1, simple.quantize_q4_1),
    "Q5_0": Codec(simple.dequantize_q5_0, simple.quantize_q5_0),
    "Q5_1": Codec(simple.dequantize_q5_1, simple.quantize_q5_1),
    "Q8_0": _by_block(simple.dequantize_q8, simple.quantize_q8_0),
    "Q8_1": Codec(simple.dequantize_q8, missing=_FOR_DOT_PRODUCTS),
    "Q2_K": Codec(kquants.dequantize_q2_k, kquants.quantize_q2_k),
    "Q3_K": Codec(kquants.dequantize_q3_k, kquants.quantize_q3_k),
    "Q4_K": Codec(kquants.dequantize_q4_k, kquants.quantize_q4_k),
    "Q5_K": Codec(kquants.dequantize_q5_k, kquants.quantize_q5_k),
    "Q6_K": Codec(kquants.dequantize_q6_k, kquants.quantize_q6_k),
    "Q8_K": Codec(kquants.dequantize_q8_k, missing=_FOR_DOT_PRODUCTS),
    "IQ2_XXS": _by_importance(iq2.dequantize_iq2_xxs, iq2.quantize_iq2_xxs),
    "IQ2_XS": _by_importance(iq2.dequantize_iq2_xs, iq2.quantize_iq2_xs),
    "IQ3_XXS": Codec(iq3.dequantize_iq3_xxs, iq3.quantize_iq3_xxs),
    "IQ1_S": _by_importance(iq1.dequantize_iq1_s, iq1.quantize_iq1_s),
    "IQ4_NL": Codec(iq4.dequantize_iq4_nl, iq4.quantize_iq4_nl),
    "IQ3_S": Codec(iq3.dequantize_iq3_s, iq3.quantize_iq3_s),
    "IQ2_S": Codec(iq2.dequantize_iq2_s, iq2.quantize_iq2_s),
    "IQ4_XS": Codec(iq4.dequantize_iq4_xs, iq4.quantize_iq4_xs),
    "I8": Codec(floats.dequantize_plain, missing=_NOT_WEIGHTS),
    "I16": Codec(floats.dequantize_plain, missing=_NOT_WEIGHTS),
    "I32": Codec(floats.dequantize_plain, missing=_NOT_WEIGHTS),
    "I64": Codec(floats.dequantize_plain, missing=_NOT_WEIGHTS),
    "F64": Codec(floats.dequantize_plain, missing=_NOT_WEIGHTS),
    "IQ1_M": Codec(iq1.dequantize_iq1_m, iq1.quantize_iq1_m),
    "BF16": _by_block(floats.dequantize_bf16, floats.quantize_bf16),
    "TQ1_0": _by_block(ternary.dequantize_tq1_0, ternary.quantize_tq1_0),
    "TQ2_0": _by_block(ternary.dequantize_tq2_0, ternary.quantize_tq2_0),
    "MXFP4": _by_block(microscale.dequantize_mxfp4, microscale.quantize_mxfp4),
    "NVFP4": _by_block(microscale.dequantize_nvfp4, microscale.quantize_nvfp4),
    "Q1_0": _by_block(simple.dequantize_q1_0, simple.quantize_q1_0),
    "Q2_0": _by_block(simple.dequantize_q2_0, simple.quantize_q2_0),
}
"""Every type, in order of its number."""

NUMPY: Final = Engine("numpy", CODECS, chunk=1 << 17, releases_gil=False)
"""A handful of arrays of a chunk are in use for reading, a dozen for a search. In smaller chunks
threads would spend their time waiting for each other at NumPy's calls (at 1 << 15 two of them are
slower than one); in larger ones the arrays leave the cache."""


ENGINES: Final = ("auto", "numpy", "compiled")
"""What can be asked for: ``auto`` takes the kernels where they were compiled."""

ENGINE_VARIABLE: Final = "GGUFSCOPE_ENGINE"
"""Where the choice lies: the processes that this one starts make the same."""


def compiled(kernels: Kernels) -> Engine:
    """Return the engine of one instruction set; NumPy does what it has no kernel for."""

    def codec_of(layout: Layout, codec: Codec) -> Codec:
        make = partial(kernels.quantize, layout) if kernels.makes(layout) else codec.quantize
        return replace(codec, dequantize=partial(kernels.dequantize, layout), quantize=make)

    codecs = {
        name: codec_of(LAYOUTS[name], codec) if kernels.reads(LAYOUTS[name]) else codec
        for name, codec in CODECS.items()
    }
    return Engine("compiled", codecs, chunk=1 << 17, releases_gil=True, kernels=kernels)


@cache
def engine_named(name: str) -> Engine:
    """Return the engine that was asked for. Raises ``BadUsage`` where there is none."""
    if name not in ENGINES:
        raise BadUsage(f"no engine is called {name!r}", hint=f"there are {', '.join(ENGINES)}")
    kernels, why_not = load() if name != "numpy" else ({}, "")
    if name == "compiled" and not kernels:
        raise BadUsage(
            f"there are no compiled kernels: {why_not}",
            hint="install ggufscope where a C++ compiler or the package index can be reached",
        )
    return compiled(next(iter(kernels.values()))) if kernels else NUMPY


def engine() -> Engine:
    """Return the engine that this process converts with."""
    return engine_named(os.environ.get(ENGINE_VARIABLE, "") or "auto")


def describe_engine() -> str:
    """Return what converts, in a line: the instruction set and the compiler, or why it is NumPy."""
    kernels = engine().kernels
    if kernels is None:
        return f"numpy; {missing_kernels() or 'as asked'}"
    return f"compiled; {kernels.instruction_set}, by {kernels.compiler}"


def missing_kernels() -> str:
    """Return why NumPy converts although nobody asked for it, or nothing."""
    return load()[1] if engine_named("auto") is NUMPY and engine() is NUMPY else ""


def require_makeable(
    type: str,
    what: str,
    error: Callable[..., GGUFScopeError] = NotConvertible,
    *,
    importance: bool = False,
) -> Make:
    """Return what makes a type; raise the error where ``what`` would need it and nothing does.

    ``importance`` says whether there is one: some types cannot be made without.
    """
    codec = engine().codecs[type]
    if codec.quantize is None:
        message = f"{what} would become {type}, which is not made"
        raise error(message, hint=codec.missing)
    if codec.needs_importance and not importance:
        raise error(
            f"{what} would become {type}, which cannot be made without an importance matrix",
            hint="give one, or choose a type that needs none, such as Q2_K",
        )
    return codec.quantize


def quantize(
    x: npt.ArrayLike,
    type: str | Layout,
    *,
    importance: npt.ArrayLike | None = None,
    threads: int | None = None,
    check_finite: bool = True,
) -> Blocks:
    """x (..., row) -> blocks (..., row / block_length) of the type's dtype.

    The bytes are those of ggml's ``ggml_quantize_chunk``. x is any array of real numbers, read as
    float32; one that is not C-contiguous is copied first. For F32, F16 and BF16 the result is
    plain, one number a weight (BF16 as its bits, ``uint16``).

    ``importance`` (row,), finite and from 0, says how much an error in each column counts.
    ``threads`` converters run side by side; by default, one for each processor. The result does
    not depend on it. With ``check_finite=False`` a NaN or an infinity is quantized as ggml does it;
    NaNs other than the canonical one may then differ, as they do between builds of ggml.

    Raises ``UnknownType``, ``UnmakeableType``, ``IndivisibleRow``,
    ``NonFiniteWeight`` with the index of the first one, ``UnmakeableBlock`` with the row where ggml
    would end, and ``MismatchedArray`` if x does not hold real numbers, or importance does not fit
    its columns.

    >>> import numpy as np, ggufscope
    >>> weights = np.linspace(-1, 1, 2 * 256, dtype=np.float32).reshape(2, 256)
    >>> blocks = ggufscope.quantize(weights, "Q4_K")
    >>> blocks.shape, blocks.nbytes
    ((2, 1), 288)
    >>> blocks["scales"].shape
    (2, 1, 12)
    """
    layout = _layout(type)
    make = require_makeable(
        layout.name, "the array", UnmakeableType, importance=importance is not None
    )
    weights = np.asarray(x)
    if weights.dtype.kind not in "fiu":
        raise MismatchedArray(
            f"cannot quantize an array of {weights.dtype}", hint="real numbers are needed"
        )
    shape = _block_shape(weights.shape, layout)
    row = whole = weights.shape[-1]
    columns = None if importance is None else _columns(importance, row)
    if columns is None and row > engine().chunk:
        row = layout.block_length  # by itself no type looks beyond a block: a long row is cut too
    rows = weights.reshape(weights.size // max(1, row), row)
    blocks = np.empty((len(rows), row // layout.block_length), layout.dtype)

    def convert(start: int, stop: int) -> None:
        part = np.ascontiguousarray(rows[start:stop], dtype=np.float32)
        if check_finite:
            _check_finite(part, start * row, weights.shape)
        try:
            make(part, blocks[start:stop], columns)
        except UnmakeableBlock as error:
            for number in range(len(part)):  # which row it was
                try:
                    make(part[number : number + 1], blocks[start + number :][:1], columns)
                except UnmakeableBlock:
                    error.row = (start + number) * row // whole
                    break
            found = squares_overflow(f"row {error.row} as {layout.name}")
            found.row = error.row
            raise found from None

    _run(convert, len(rows), row, threads)
    return blocks.reshape(shape)


def dequantize(
    blocks: Array | BytesLike,
    type: str | Layout,
    shape: tuple[int, ...] | None = None,
    *,
    out: Floats | None = None,
    threads: int | None = None,
) -> Floats:
    """blocks -> weights (..., row) float32, as ggml's ``dequantize_row_*`` gives them.

    blocks is what ``quantize`` returns, (..., k) of the type's dtype in any byte order that its
    dtype declares, or their bytes: ``bytes``, or a ``uint8`` array (..., k * block_bytes).
    ``shape`` is that of the weights; by default the last axis of blocks is widened.

    ``out``, float32, C-contiguous and of that shape, is filled and returned, so that a caller can
    use one array again and again. For ``threads`` see ``quantize``.

    Raises ``UnknownType``, ``IndivisibleRow``, and ``MismatchedArray`` if blocks, shape and out do
    not belong together.

    >>> import numpy as np, ggufscope
    >>> weights = np.linspace(-1, 1, 2 * 256, dtype=np.float32).reshape(2, 256)
    >>> stored = ggufscope.quantize(weights, "Q4_K").tobytes()
    >>> near = ggufscope.dequantize(stored, "Q4_K", (2, 256))
    >>> print(f"{np.abs(near - weights).max():.4f}")
    0.0320
    """
    layout = _layout(type)
    array = _as_blocks(blocks, layout)
    if shape is None:
        *leading, last = array.shape
        shape = (*leading, last * layout.block_length)
    elif prod(_block_shape(shape, layout)) != array.size:
        raise MismatchedArray(
            f"{array.size} blocks of {layout.name} hold {array.size * layout.block_length} weights,"
            f" not those of shape {shape}"
        )
    if out is None:
        out = np.empty(shape, np.float32)
    elif out.shape != shape or out.dtype != np.float32 or not out.flags.c_contiguous:
        raise MismatchedArray(
            f"out is {out.dtype} {out.shape}, not float32 {shape}", hint="it must be C-contiguous"
        )
    flat, weights = array.reshape(-1), out.reshape(-1, layout.block_length)
    read = engine().codecs[layout.name].dequantize

    def convert(start: int, stop: int) -> None:
        read(flat[start:stop].astype(layout.dtype, copy=False), weights[start:stop])

    _run(convert, len(flat), layout.block_length, threads)
    return out


def through(x: Floats, type: str, importance: Floats | None = None) -> Floats:
    """x (..., row) -> what quantizing it to a type leaves, in this thread alone."""
    blocks = quantize(x, type, importance=importance, threads=1, check_finite=False)
    return dequantize(blocks, type, x.shape, threads=1)


def _layout(type: str | Layout) -> Layout:
    return type if isinstance(type, Layout) else layout_named(type)


def _block_shape(shape: tuple[int, ...], layout: Layout) -> tuple[int, ...]:
    if not shape:
        raise IndivisibleRow("a single number has no rows", hint="pass an array of one axis")
    blocks, rest = divmod(shape[-1], layout.block_length)
    if rest:
        raise IndivisibleRow(
            f"rows of {shape[-1]} weights do not divide into {layout.name} blocks"
            f" of {layout.block_length}",
            hint="the last axis is the row; a type with smaller blocks may fit",
        )
    return (*shape[:-1], blocks)


def _as_blocks(blocks: Array | BytesLike, layout: Layout) -> Blocks:
    """blocks or bytes -> (..., k) of the layout's dtype, or of its fields in another byte order."""
    array = blocks if isinstance(blocks, np.ndarray) else np.frombuffer(blocks, np.uint8)
    if array.dtype.newbyteorder("=") == layout.dtype.newbyteorder("=") and array.ndim:
        return array
    if array.dtype != np.uint8 or not array.ndim:
        raise MismatchedArray(
            f"blocks of {layout.name} are not an array of {array.dtype}, shape {array.shape}",
            hint="pass their bytes as uint8, or the array that quantize() returned",
        )
    if array.shape[-1] % layout.block_bytes:
        raise MismatchedArray(
            f"{array.shape[-1]} bytes are not a whole number of {layout.name} blocks"
            f" of {layout.block_bytes} bytes"
        )
    return np.ascontiguousarray(array).view(layout.dtype)


def _check_finite(part: Floats, start: int, shape: tuple[int, ...]) -> None:
    place = floats.first_not_finite(part)
    if place is not None:
        where = np.unravel_index(start + place, shape)
        raise NonFiniteWeight(
            f"the weight at [{', '.join(map(str, where))}] is {part.flat[place]} as float32",
            hint="pass check_finite=False to quantize it as ggml does",
        )


def _columns(importance: npt.ArrayLike, row: int) -> Floats:
    columns = np.ascontiguousarray(importance, np.float32)
    if columns.shape != (row,) or not (np.isfinite(columns) & (columns >= 0)).all():
        raise MismatchedArray(
            f"an importance of shape {columns.shape} does not fit rows of {row} weights",
            hint="one finite number from 0 for each column",
        )
    return columns


def _run(convert: Callable[[int, int], None], rows: int, row: int, threads: int | None) -> None:
    """Call ``convert(start, stop)`` for some rows at a time; raise the first error."""
    alone = threads == 1 and engine().releases_gil  # a kernel needs no room beside x and blocks
    step = max(1, rows if alone else engine().chunk // row)

    def one(start: int) -> None:
        # Edge data overflows and divides by zero as it does in C. The setting is the thread's.
        with np.errstate(all="ignore"):
            convert(start, min(start + step, rows))

    for _ in side_by_side(one, range(0, rows, step), threads or processors()):
        pass
