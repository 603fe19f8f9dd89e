from __future__ import annotations

import doctest
import threading
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

import ggufscope
from ggufscope import errors
from ggufscope.blocks import codec
from ggufscope.blocks.codec import CODECS, dequantize, quantize
from ggufscope.blocks.layouts import LAYOUTS

X = np.random.default_rng(5).standard_normal((3, 2, 512), np.float32)

pytestmark = pytest.mark.usefixtures("engine")


def test_the_documented_examples_run() -> None:
    failed, tried = doctest.testmod(codec)
    assert (failed, tried > 4) == (0, True)


def test_it_is_public() -> None:
    assert ggufscope.quantize is quantize
    assert ggufscope.dequantize is dequantize


@pytest.mark.parametrize(
    "name",
    [name for name, each in CODECS.items() if each.quantize and not each.needs_importance],
)
def test_any_leading_shape(name: str) -> None:
    layout = LAYOUTS[name]
    blocks = quantize(X, name)
    assert blocks.shape == (3, 2, 512 // layout.block_length)
    assert blocks.dtype == layout.dtype
    assert dequantize(blocks, name).shape == X.shape
    assert quantize(X[1, 1], layout).tobytes() == blocks[1, 1].tobytes()
    assert quantize(X[:0], layout).shape == (0, *blocks.shape[1:])
    assert dequantize(blocks[:0], layout).shape == (0, 2, 512)


def test_blocks_come_as_bytes_too() -> None:
    blocks = quantize(X, "Q5_K")
    expected = dequantize(blocks, "Q5_K")
    raw = blocks.view(np.uint8)
    assert raw.shape == (3, 2, 2 * 176)
    forms: list[Any] = [blocks.tobytes(), bytearray(blocks.tobytes()), memoryview(blocks.tobytes())]
    for form in [*forms, raw, raw.reshape(-1), np.asfortranarray(raw), blocks[...], blocks[:, ::1]]:
        assert dequantize(form, "Q5_K", X.shape).tobytes() == expected.tobytes()
    assert dequantize(raw, "q5_k").shape == X.shape
    assert dequantize(forms[0], "Q5_K").shape == (X.size,)
    assert dequantize(blocks[::2, :, :1], "Q5_K").tobytes() == expected[::2, :, :256].tobytes()


@pytest.mark.parametrize("name", ["Q4_K", "F16", "BF16", "IQ4_XS", "Q8_K", "I32", "MXFP4"])
def test_the_byte_order_that_the_dtype_declares_is_obeyed(name: str) -> None:
    layout = LAYOUTS[name]
    make = CODECS[name].quantize
    blocks = quantize(X, name) if make else np.ones((3, 2), layout.dtype)
    swapped = blocks.astype(layout.dtype.newbyteorder(">"))
    assert dequantize(swapped, name).tobytes() == dequantize(blocks, name).tobytes()


@pytest.mark.parametrize("dtype", ["f2", ">f4", "f8", "i4", "u1"])
def test_weights_of_any_real_type_are_read_as_float32(dtype: str) -> None:
    x = (X * 20).clip(0).astype(dtype)
    assert quantize(x, "Q4_0").tobytes() == quantize(x.astype(np.float32), "Q4_0").tobytes()
    assert quantize([[1.0] * 32], "Q4_0").shape == (1, 1)


def test_weights_that_are_not_contiguous() -> None:
    turned = np.asfortranarray(X)
    assert quantize(turned, "Q6_K").tobytes() == quantize(X, "Q6_K").tobytes()
    every_other = np.repeat(X, 2, axis=2)[..., ::2]
    assert quantize(every_other, "Q6_K").tobytes() == quantize(X, "Q6_K").tobytes()


@pytest.mark.parametrize("name", ["Q8_0", "Q4_K", "F16"])
def test_threads_change_nothing(name: str) -> None:
    x = np.random.default_rng(1).standard_normal((64, 4096), np.float32)
    one, many = quantize(x, name, threads=1), quantize(x, name, threads=3)
    assert one.tobytes() == many.tobytes() == quantize(x, name).tobytes()
    assert dequantize(one, name, threads=1).tobytes() == dequantize(one, name, threads=3).tobytes()
    assert threading.active_count() == 1


def test_out_is_filled_and_returned() -> None:
    blocks = quantize(X, "Q3_K")
    out = np.empty(X.shape, np.float32)
    assert dequantize(blocks, "Q3_K", out=out) is out
    assert out.tobytes() == dequantize(blocks, "Q3_K").tobytes()


@pytest.mark.parametrize(
    "out",
    [
        np.empty(X.shape, np.float64),
        np.empty(X.size, np.float32),
        np.empty(X.shape, np.float32, order="F"),
    ],
)
def test_an_out_that_does_not_fit_is_refused(out: npt.NDArray[Any]) -> None:
    with pytest.raises(errors.MismatchedArray, match="out is") as caught:
        dequantize(quantize(X, "Q3_K"), "Q3_K", out=out)
    assert "C-contiguous" in caught.value.hint


def test_a_row_that_does_not_divide() -> None:
    for call in (
        lambda: quantize(X[..., :300], "Q4_K"),
        lambda: dequantize(b"", "Q4_K", (2, 300)),
    ):
        with pytest.raises(errors.IndivisibleRow, match=r"rows of 300 .* Q4_K blocks of 256"):
            call()
    with pytest.raises(errors.IndivisibleRow, match="single number"):
        quantize(1.0, "Q4_K")


@pytest.mark.parametrize(
    ("name", "hint"),
    [("IQ2_XS", "Q2_K"), ("Q8_K", "Q8_0"), ("I32", "astype")],
)
def test_a_type_that_cannot_be_made(name: str, hint: str) -> None:
    with pytest.raises(errors.UnmakeableType, match=name) as caught:
        quantize(X, name)
    assert hint in caught.value.hint


def test_whoever_asks_hears_the_same_words() -> None:
    words = "would become Q8_K, which is not made"
    with pytest.raises(errors.UnmakeableType, match=f"the array {words}"):
        quantize(X, "Q8_K")
    with pytest.raises(errors.NotConvertible, match=f"the KV cache {words}"):
        codec.require_makeable("Q8_K", "the KV cache")


def test_an_engine_has_every_type() -> None:
    assert codec.NUMPY.codecs is CODECS
    assert list(codec.NUMPY.codecs) == list(LAYOUTS)


def test_every_type_can_be_made_or_says_why_not() -> None:
    for name, entry in CODECS.items():
        assert bool(entry.quantize) != bool(entry.missing), name


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("threads", [1, 2])
def test_weights_that_are_not_finite_are_found(value: float, threads: int) -> None:
    x = np.ones((40, 2, 4096), np.float32)
    x[31, 1, 17], x[39, 0, 0] = value, value
    with pytest.raises(errors.NonFiniteWeight, match=rf"\[31, 1, 17\] is {value}") as caught:
        quantize(x, "Q4_0", threads=threads)
    assert "check_finite=False" in caught.value.hint
    assert quantize(x, "Q4_0", check_finite=False).shape == (40, 2, 128)


def test_finite_weights_whose_sum_is_not_are_accepted() -> None:
    x = np.full((2, 64), 3e38, np.float32)
    assert quantize(x, "Q4_0").shape == (2, 2)


def test_a_float64_beyond_float32_is_not_finite() -> None:
    with pytest.raises(errors.NonFiniteWeight, match=r"\[3\] is inf"):
        quantize(np.array([0.0] * 3 + [1e300] * 29), "Q4_0")


@pytest.mark.parametrize("x", [np.ones(32, complex), np.array(["a"] * 32), np.ones(32, bool)])
def test_weights_are_numbers(x: npt.NDArray[Any]) -> None:
    with pytest.raises(errors.MismatchedArray, match="cannot quantize an array of"):
        quantize(x, "Q8_0")


def test_blocks_that_do_not_fit() -> None:
    blocks = quantize(X, "Q4_K")
    with pytest.raises(errors.MismatchedArray, match="143 bytes are not a whole number of Q4_K"):
        dequantize(blocks.tobytes()[:143], "Q4_K")
    with pytest.raises(errors.MismatchedArray, match="12 blocks of Q4_K hold 3072 weights"):
        dequantize(blocks, "Q4_K", (3, 512))
    with pytest.raises(errors.MismatchedArray, match="not an array of float32"):
        dequantize(X, "Q4_K")
    with pytest.raises(errors.MismatchedArray, match="blocks of Q5_K are not an array of"):
        dequantize(blocks, "Q5_K")
    with pytest.raises(errors.UnknownType):
        dequantize(blocks, "Q4_L")
