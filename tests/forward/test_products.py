"""x @ W.T from stored blocks: by each engine, cut as it may be, in any number of threads."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from ggufscope.arrays import Blocks, Floats
from ggufscope.blocks.codec import ENGINE_VARIABLE, dequantize, quantize
from ggufscope.blocks.kernels import load
from ggufscope.blocks.layouts import LAYOUTS, Layout
from ggufscope.container.file import GGUFFile, open_gguf
from ggufscope.container.value_types import ValueType
from ggufscope.container.values import Value
from ggufscope.container.writer import GGUFWriter, TensorSpec
from ggufscope.errors import NonFiniteWeight
from ggufscope.forward import products
from ggufscope.forward.held import LayerWeights
from ggufscope.forward.products import product
from ggufscope.forward.weights import PlannedWeights, StoredWeights, Weights
from tests.forward.running import running
from tests.models.families import IDS

ROWS, LENGTH = 700, 1280
RNG = np.random.default_rng(2)
X = RNG.standard_normal((9, LENGTH)).astype(np.float32)


class Stored:
    """A matrix of one type, and how it is asked for."""

    name = "w"

    def __init__(self, type_: str, weights: Floats) -> None:
        self.shape = (weights.shape[0], weights.shape[1])
        self.layout = LAYOUTS[type_]
        self._blocks = weights.astype("f8") if type_ == "F64" else quantize(weights, type_)
        self.asked: list[tuple[int, int]] = []

    def rows(self, start: int, stop: int) -> Floats:
        return dequantize(*self.blocks(start, stop))

    def blocks(self, start: int, stop: int) -> tuple[Blocks, Layout]:
        self.asked.append((start, stop))
        return self._blocks[start:stop], self.layout


@pytest.fixture(params=["numpy", "compiled"])
def engine(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    if request.param == "compiled" and not load()[0]:
        pytest.skip(f"no kernels: {load()[1]}")
    monkeypatch.setenv(ENGINE_VARIABLE, request.param)
    return str(request.param)


@pytest.mark.usefixtures("engine")
@pytest.mark.parametrize("type_", ["F32", "F64", "BF16", "Q4_K", "Q8_0"])
def test_a_product_is_that_of_the_decoded_weights(type_: str) -> None:
    stored = Stored(type_, RNG.standard_normal((ROWS, LENGTH)).astype(np.float32))
    weights = stored.rows(0, ROWS).astype(np.float64)
    for tokens in (1, 2, 9):
        got = product(X[:tokens], stored, (0, ROWS))
        assert got.flags.c_contiguous
        np.testing.assert_allclose(got, X[:tokens].astype(np.float64) @ weights.T, atol=4e-4)
        part = product(X[:tokens], stored, (3, 600))
        np.testing.assert_allclose(part, got[:, 3:600], atol=4e-4)


@pytest.mark.usefixtures("engine")
def test_a_type_changes_nothing_but_the_numbers() -> None:
    stored = Stored("Q4_K", RNG.standard_normal((ROWS, LENGTH)).astype(np.float32))
    plain = Stored("F32", stored.rows(0, ROWS))
    assert np.array_equal(product(X, stored, (0, ROWS)), product(X, plain, (0, ROWS)))


def test_compiled_how_a_matrix_is_cut_changes_no_bit(monkeypatch: pytest.MonkeyPatch) -> None:
    if not load()[0]:
        pytest.skip(f"no kernels: {load()[1]}")
    monkeypatch.setenv(ENGINE_VARIABLE, "compiled")
    stored = Stored("Q4_K", RNG.standard_normal((ROWS, LENGTH)).astype(np.float32))
    whole = product(X, stored, (0, ROWS))
    assert len(stored.asked) > 2
    monkeypatch.setattr(products, "STRETCH", range(1, LENGTH * 13))
    assert np.array_equal(product(X, stored, (0, ROWS)), whole)
    one_by_one = np.concatenate([product(x[None], stored, (0, ROWS)) for x in X])
    assert np.array_equal(one_by_one, whole)


def test_the_engines_agree_but_for_the_last_bits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not load()[0]:
        pytest.skip(f"no kernels: {load()[1]}")
    logits: list[npt.NDArray[np.float32]] = []
    for name in ("numpy", "compiled"):
        monkeypatch.setenv(ENGINE_VARIABLE, name)
        with running(tmp_path, "llama-gqa") as model:
            logits.append(model.run(IDS))
    np.testing.assert_allclose(logits[0], logits[1], atol=1e-5)


@pytest.mark.usefixtures("engine")
@pytest.mark.parametrize("type_", ["F16", "F64"])
def test_a_number_that_is_none_is_named(type_: str, tmp_path: Path) -> None:
    weights = RNG.standard_normal((ROWS, 64))
    weights[433, 5] = np.inf
    with (
        open_gguf(written(tmp_path, type_, weights)) as file,
        pytest.raises(NonFiniteWeight, match=r"'w' has a NaN or an infinity in row 433$"),
    ):
        product(X[:2, :64], StoredWeights(file).matrix("w"), (0, ROWS))


@pytest.mark.usefixtures("engine")
@pytest.mark.parametrize("hold", [StoredWeights, lambda file: LayerWeights(StoredWeights(file))])
def test_a_number_that_is_none_is_named_before_it_is_quantized(
    hold: Callable[[GGUFFile], Weights], tmp_path: Path
) -> None:
    """The largest of a block is no NaN, so that its blocks may hold none: see an expert's."""
    weights = RNG.standard_normal((ROWS, 64))
    weights[433, 5] = np.nan
    with open_gguf(written(tmp_path, "F16", weights)) as file:
        planned = PlannedWeights(hold(file), {"w": "Q4_0"}).matrix("w")
        with pytest.raises(NonFiniteWeight, match=r"'w' has a NaN or an infinity in row 433$"):
            product(X[:2, :64], planned, (0, ROWS))


def written(directory: Path, type_: str, weights: npt.NDArray[np.float64]) -> Path:
    path = directory / "m.gguf"
    metadata = {"general.architecture": Value.of(ValueType.STRING, "llama")}
    with GGUFWriter(path, metadata, [TensorSpec("w", weights.shape, LAYOUTS[type_])]) as writer:
        writer.write("w", weights.astype({"F16": "<f2", "F64": "<f8"}[type_]))
    return path


@pytest.mark.usefixtures("engine")
@pytest.mark.parametrize("shape", [(0, 64), (1, 64)])
def test_a_product_of_few_rows_or_none(shape: tuple[int, int]) -> None:
    made = product(X[:2, : shape[1]], Stored("F32", np.ones(shape, np.float32)), (0, shape[0]))
    assert made.shape == (2, shape[0])


@pytest.mark.usefixtures("engine")
def test_a_product_that_overflows_is_no_defect_of_the_weights() -> None:
    stored = Stored("F32", np.full((5, 64), 3e38, np.float32))
    assert np.isposinf(product(np.full((1, 64), 3e38, np.float32), stored, (0, 5))).all()
