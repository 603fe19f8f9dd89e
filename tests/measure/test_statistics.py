"""Statistics of a tensor, held to NumPy and SciPy in float64 over the `gguf` package."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path

import gguf
import numpy as np
import pytest

from ggufscope.arrays import Array, Floats
from ggufscope.blocks.layouts import LAYOUTS
from ggufscope.container.file import open_gguf
from ggufscope.measure import reading
from ggufscope.measure.costs import LENGTH, STRETCHES, costs_of
from ggufscope.measure.picture import picture
from ggufscope.measure.statistics import BINS, Part, Statistics, part_of, statistics
from ggufscope.report.inspect.page import png
from tests.oracles import ggml_quantize


def _part(path: Path, x: Floats, type_: str = "F32") -> Part:
    writer = gguf.GGUFWriter(path, "llama")
    number = gguf.GGMLQuantizationType[type_]
    data = x if type_ == "F32" else gguf.quants.quantize(x, number)
    writer.add_tensor("w", data, raw_dtype=number)
    for step in ("header", "kv_data", "tensors"):
        getattr(writer, f"write_{step}_to_file")()
    writer.close()
    return part_of(open_gguf(path).tensor("w"))


def _drawn(*shape: int) -> Floats:
    return np.random.default_rng(5).standard_normal(shape).astype(np.float32)


def _agree(found: Statistics, x: Floats) -> None:
    y = x.reshape(-1).astype(np.float64)
    assert (found.smallest, found.largest) == (y.min(), y.max())
    assert (found.smallest_at, found.largest_at) == (int(y.argmin()), int(y.argmax()))
    assert found.zeros == (y == 0).sum()
    assert found.mean_weight == pytest.approx(y.mean(), rel=1e-9, abs=1e-300)
    assert found.deviation == pytest.approx(y.std(), rel=1e-9, abs=1e-12 * abs(y.mean()))
    assert found.root_mean_square == pytest.approx(np.sqrt(np.square(y).mean()), rel=1e-9)
    assert sum(found.counts) + found.below + found.above == found.finite == y.size


@pytest.mark.parametrize("tile", [1 << 9, 1 << 18])
@pytest.mark.parametrize("type_", ["F32", "Q8_0", "BF16"])
def test_numbers_are_numpys(
    type_: str, tile: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from scipy.stats import kurtosis  # half a second

    monkeypatch.setattr(reading, "TILE", tile)
    x = _drawn(70, 128)
    x[33, 44], x[2, 2] = 50.0, 0.0
    found = statistics(_part(tmp_path / "m.gguf", x, type_))
    y = gguf.quants.dequantize(*_stored(tmp_path / "m.gguf")).reshape(x.shape)
    _agree(found, y)
    z = y.astype(np.float64)
    assert found.kurtosis == pytest.approx(kurtosis(z, axis=None, fisher=False), rel=1e-9)
    assert found.outliers == (np.abs(z - z.mean()) > 6 * z.std()).sum() == 1
    counts, _ = np.histogram(z, BINS, found.edges)
    assert np.abs(counts - found.counts).max() <= 1
    assert found.row_norms is not None
    assert found.column_norms is not None
    np.testing.assert_allclose(found.row_norms.values, np.linalg.norm(z, axis=1), rtol=1e-12)
    np.testing.assert_allclose(found.column_norms.values, np.linalg.norm(z, axis=0), rtol=1e-12)
    assert found.row_norms.largest[0][0] == 33


def _stored(path: Path) -> tuple[Array, gguf.GGMLQuantizationType]:
    (tensor,) = gguf.GGUFReader(path).tensors
    return tensor.data, tensor.tensor_type


EDGES: dict[str, Floats] = {
    "zeros": np.zeros((2, 32), np.float32),
    "negative zero": np.full((2, 32), -0.0, np.float32),
    "constant": np.full((2, 32), 7.0, np.float32),
    "denormal": np.arange(64, dtype=np.uint32).view(np.float32).reshape(2, 32),
    "huge": np.linspace(-3e38, 3e38, 64, dtype=np.float32).reshape(2, 32),
    "tiny": np.linspace(-1e-30, 1e-30, 64, dtype=np.float32).reshape(2, 32),
}


@pytest.mark.parametrize("name", EDGES)
def test_edges(name: str, tmp_path: Path) -> None:
    part = _part(tmp_path / "m.gguf", EDGES[name])
    _agree(statistics(part), EDGES[name])
    costs_of(part)
    shown = picture(part)
    assert shown is not None
    assert png(shown, 1.0)


def test_what_is_no_number_is_counted_apart(tmp_path: Path) -> None:
    x = _drawn(4, 64)
    x[0, 0], x[1, 1], x[3, 63] = np.nan, np.inf, -np.inf
    part = _part(tmp_path / "m.gguf", x)
    found = statistics(part)
    kept = x[np.isfinite(x)].astype(np.float64)
    assert (found.n, found.finite) == (256, 253)
    assert found.mean_weight == pytest.approx(kept.mean())
    assert found.deviation == pytest.approx(kept.std())
    assert x[part.index(found.largest_at)] == found.largest == kept.max()
    assert statistics(_part(tmp_path / "n.gguf", np.full((2, 32), np.nan, np.float32))).finite == 0


def test_experts_and_vectors(tmp_path: Path) -> None:
    x = _drawn(3, 5, 64)
    found = statistics(_part(tmp_path / "a.gguf", x))
    assert found.row_norms is not None
    assert found.row_norms.values.shape == (15,)
    _agree(found, x)
    vector = statistics(_part(tmp_path / "b.gguf", x[0, 0]))
    assert vector.row_norms is vector.column_norms is None


def test_costs_are_those_of_ggml(tmp_path: Path) -> None:
    x = _drawn(32, 256)
    part = _part(tmp_path / "m.gguf", x)
    found = {cost.type: cost for cost in costs_of(part).costs}
    for name in ("Q4_K", "Q8_0", "IQ4_NL", "BF16"):
        cost, layout = found[name], LAYOUTS[name]
        number = gguf.GGMLQuantizationType[name]
        y = gguf.quants.dequantize(ggml_quantize(x, layout), number).reshape(x.shape)
        assert cost.error is not None
        error = np.linalg.norm((y - x).astype(np.float64)) / np.linalg.norm(x.astype(np.float64))
        assert cost.error.relative == pytest.approx(error, rel=1e-6)
        assert cost.nbytes == layout.row_bytes(x.size)
    assert found["F32"].error is not None
    assert found["F32"].error.relative == 0


def test_only_a_sample_of_a_large_tensor_is_tried(tmp_path: Path) -> None:
    found = costs_of(_part(tmp_path / "m.gguf", _drawn(300, 256)))
    assert found.tried == STRETCHES * LENGTH


def test_a_picture_shows_what_stands_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading, "TILE", 1 << 10)
    x = _drawn(40, 96)
    x[7, 50], x[8, 3] = -90.0, np.nan
    part = _part(tmp_path / "m.gguf", x)
    whole = picture(part)
    np.testing.assert_array_equal(whole, x)
    small = picture(part, 10)
    assert small is not None
    assert small.shape == (10, 10)
    cell = x[4:8, 48:58]
    assert small[1, 5] == cell.reshape(-1)[np.nanargmax(np.abs(cell))] == -90.0


def test_a_png_is_one() -> None:
    data = png(np.array([[-1.0, 0.0, 1.0], [np.nan, 9.0, -9.0]], np.float32), 1.0)
    assert data[:8] == b"\x89PNG\r\n\x1a\n"
    at, chunks = 8, {}
    while at < len(data):
        (length,) = struct.unpack_from(">I", data, at)
        kind, body = data[at + 4 : at + 8], data[at + 8 : at + 8 + length]
        assert struct.unpack_from(">I", data, at + 8 + length) == (zlib.crc32(kind + body),)
        chunks[kind], at = body, at + 12 + length
    assert struct.unpack(">II", chunks[b"IHDR"][:8]) == (3, 2)
    pixels = np.frombuffer(zlib.decompress(chunks[b"IDAT"]), np.uint8).reshape(2, 10)
    assert (pixels[:, 0] == 0).all()
    assert pixels[0, 1:].reshape(3, 3).tolist() == [[33, 102, 172], [244] * 3, [178, 70, 10]]
    assert pixels[1, 1:4].tolist() == [216, 27, 96]
