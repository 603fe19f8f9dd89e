"""What no block may hold, held to `ggml_validate_row_data`; and XXH64, held to its own vectors."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest

from ggufscope.blocks.codec import ENGINE_VARIABLE, engine
from ggufscope.blocks.kernels import load
from ggufscope.blocks.layouts import LAYOUTS, Layout
from ggufscope.blocks.validity import bad_blocks, watched
from ggufscope.blocks.xxh64 import XXH64, lanes_over
from tests.oracles import ggml_accepts

# ggml takes no row of Q8_1 at all: a type for dot products, which no file holds.
VALIDATED = [layout for layout in LAYOUTS.values() if layout.name != "Q8_1"]
BLOCKS = 1000


@pytest.fixture(params=["numpy", "auto"])
def each_engine(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv(ENGINE_VARIABLE, request.param)
    return str(request.param)


def corrupted(layout: Layout) -> npt.NDArray[np.uint8]:
    """(1000, block_bytes): noise; of a third, the watched bits are set; of another, all but one."""
    rng = np.random.default_rng(layout.number)
    raw = rng.integers(0, 256, (BLOCKS, layout.block_bytes), np.uint8)
    for each in watched(layout):
        words: npt.NDArray[np.uint64] = np.zeros((BLOCKS, 8), np.uint8).view("<u8")[:, 0]
        field = slice(each.offset, each.offset + each.width)
        words.view(np.uint8).reshape(BLOCKS, 8)[:, : each.width] = raw[:, field]
        bits = [bit for bit in range(64) if each.mask >> bit & 1]
        words[: BLOCKS // 3] |= np.uint64(each.mask)
        words[: BLOCKS // 9] &= np.uint64(~each.mantissa & (1 << 64) - 1)  # infinities
        middle = slice(BLOCKS // 3, 2 * BLOCKS // 3)
        words[middle] |= np.uint64(each.mask)
        one = np.array([1 << bit for bit in bits], np.uint64)
        words[middle] &= ~rng.choice(one, words[middle].shape)
        raw[:, field] = words.view(np.uint8).reshape(BLOCKS, 8)[:, : each.width]
    return raw


@pytest.mark.parametrize("layout", VALIDATED, ids=lambda layout: layout.name)
def test_the_same_verdict_as_ggml_on_a_thousand_corrupted_blocks(
    layout: Layout,
) -> None:
    raw = corrupted(layout)
    refused = np.array([not ggml_accepts(block, layout) for block in raw])
    ours = np.array([bool(bad_blocks(block.data, layout)) for block in raw])
    assert np.array_equal(ours, refused)
    assert refused.any() == (bool(watched(layout)) or layout.name == "F64")
    for bad in bad_blocks(raw.data, layout) if watched(layout) else ():
        (field,) = (each for each in watched(layout) if each.field == bad.field)
        one = [any(it.field == bad.field for it in bad_blocks(b.data, layout)) for b in raw]
        assert (bad.blocks, bad.first) == (sum(one), one.index(True)), field


@pytest.mark.parametrize(
    "number", [1e300, -3.5e38, 3.4028235677973366e38, float("nan"), 3e38, 5e-324]
)
def test_a_double_is_read_as_a_float(number: float) -> None:
    raw = np.array([0, number])
    with np.errstate(over="ignore"):
        narrow = raw.astype(np.float32)
    said = [np.isfinite(narrow).all(), ggml_accepts(raw, LAYOUTS["F64"])]
    assert said == 2 * [not bad_blocks(raw.view(np.uint8).data, LAYOUTS["F64"])]


@pytest.mark.parametrize("layout", LAYOUTS.values(), ids=list(LAYOUTS))
def test_blocks_of_zeros_and_of_the_largest_numbers_are_sound(layout: Layout) -> None:
    raw = np.zeros((3, layout.block_bytes), np.uint8)
    assert bad_blocks(raw.data, layout) == []
    for each in watched(layout):
        largest = (each.mantissa | each.mask) & ~(each.mask & -each.mask)  # the last exponent
        field = slice(each.offset, each.offset + each.width)
        raw[1, field] = np.array([largest], "<u8").view(np.uint8)[: each.width]
    assert bad_blocks(raw.data, layout) == []
    assert layout.name == "Q8_1" or ggml_accepts(raw, layout)


@pytest.mark.parametrize(
    ("type_", "number", "said"),
    [
        ("F32", np.float32("nan"), "nan"),
        ("F32", np.float32("-inf"), "-inf"),
        ("F64", np.float64("inf"), "inf"),
        ("F16", np.float16("-inf"), "-inf"),
        ("BF16", np.uint16(0x7F80), "inf"),
        ("BF16", np.uint16(0xFFC0), "nan"),
    ],
)
@pytest.mark.parametrize("order", ["<", ">"])
def test_what_stands_there_is_said_in_either_byte_order(
    type_: str, number: np.generic, said: str, order: str
) -> None:
    words = np.zeros(20_000, number.dtype)
    words[[12_345, 19_999]] = number
    stored = words.astype(words.dtype.newbyteorder(order))
    (bad,) = bad_blocks(stored.view(np.uint8).data, LAYOUTS[type_], order)  # type: ignore[arg-type]
    assert bad == ("", 2, 12_345, said)


def test_fields_and_exponents_are_named() -> None:
    blocks = np.zeros(5, LAYOUTS["Q4_K"].dtype)
    blocks["dmin"][3] = np.inf
    assert bad_blocks(blocks.view(np.uint8).data, LAYOUTS["Q4_K"]) == [("dmin", 1, 3, "inf")]
    blocks = np.zeros(5, LAYOUTS["MXFP4"].dtype)
    blocks["e"][[2, 4]] = 255
    assert bad_blocks(blocks.view(np.uint8).data, LAYOUTS["MXFP4"]) == [("e", 2, 2, "255")]
    with pytest.raises(ValueError, match="whole number of Q4_K blocks"):
        bad_blocks(memoryview(bytes(145)), LAYOUTS["Q4_K"])
    assert bad_blocks(memoryview(b""), LAYOUTS["Q4_K"]) == []


# xxHash's own sanity test (XSUM_XXH64_testdata): its generator, and the hashes of some lengths.
_PRIME32, _PRIME64 = 2654435761, 11400714785074694797
KNOWN = {
    0: "ef46db3751d8e999",
    1: "e934a84adb052768",
    4: "9136a0dca57457ee",
    14: "8282dcc4994e35c8",
    222: "b641ae8cb691c174",
}


def generated(length: int) -> bytes:
    state, made = _PRIME32, bytearray()
    for _ in range(length):
        made.append(state >> 56)
        state = state * _PRIME64 & (1 << 64) - 1
    return bytes(made)


@pytest.mark.parametrize("length", KNOWN)
def test_xxh64_is_xxhashs(length: int, each_engine: str) -> None:
    found = XXH64()
    found.update(generated(length))
    assert found.hexdigest() == KNOWN[length]


def test_xxh64_is_the_same_however_it_is_fed(each_engine: str) -> None:
    data = generated(222)
    for step in (1, 7, 31, 32, 33, 100):
        found = XXH64()
        for start in range(0, len(data), step):
            found.update(data[start : start + step])
        assert found.hexdigest() == KNOWN[222]


def test_kernels_are_those_of_the_engine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(ENGINE_VARIABLE, "numpy")
    assert engine().kernels is None


def test_every_instruction_set_hashes_as_python_does() -> None:
    data = np.random.default_rng(1).integers(0, 256, 32 * 100, np.uint8)
    wanted = lanes_over(np.arange(4, dtype=np.uint64), data.view("<u8"))
    for kernel in load()[0].values():
        lanes = np.arange(4, dtype=np.uint64)
        kernel.xxh64(lanes, data)
        assert lanes.tolist() == wanted
        with pytest.raises(ValueError, match="four lanes"):
            kernel.xxh64(np.zeros(3, np.uint64), data)
