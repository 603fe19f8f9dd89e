"""What `diff` finds between two files, held to NumPy in float64 over the `gguf` package."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import numpy.typing as npt
import pytest

from ggufscope.arrays import Floats
from ggufscope.blocks.codec import dequantize, quantize
from ggufscope.container.file import GGUFFile, open_gguf
from ggufscope.measure import reading
from ggufscope.measure.diff import agreement as agreeing
from ggufscope.measure.diff.agreement import agreement
from ggufscope.measure.diff.diff import Diff, diff
from ggufscope.measure.diff.metadata import metadata_changes
from ggufscope.measure.diff.pairs import Kind
from ggufscope.measure.diff.verdict import Relation
from ggufscope.measure.metrics.vectors import cosine, relative_error
from ggufscope.recipes.apply import quantize_model
from ggufscope.recipes.options import PlanOptions
from tests.measure.altered import altered
from tests.models.makers import Recipe, add_pair, write_recipe

Tensors = Mapping[str, tuple[npt.NDArray[Any], str]]


def _write(path: Path, tensors: Tensors, order: str = "<", **pairs: Any) -> Path:
    """Write weights in a type each, with the `gguf` package."""
    endian = gguf.GGUFEndian.BIG if order == ">" else gguf.GGUFEndian.LITTLE
    writer = gguf.GGUFWriter(path, "llama", endianess=endian)
    for key, value in pairs.items():
        add_pair(writer, key, value)
    for name, (weights, type_) in tensors.items():
        number = gguf.GGMLQuantizationType[type_]
        data = weights if type_ == "F32" else gguf.quants.quantize(weights, number)
        writer.add_tensor(name, data, raw_dtype=number)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def _drawn(rows: int = 24, row: int = 256, seed: int = 0) -> Floats:
    return np.random.default_rng(seed).standard_normal((rows, row)).astype(np.float32)


def _diff(a: Path, b: Path, **options: Any) -> Diff:
    with open_gguf(a) as first, open_gguf(b) as second:
        return diff(first, second, **options)


def _of(weights: Tensors, others: Tensors, folder: Path) -> Diff:
    return _diff(_write(folder / "a.gguf", weights), _write(folder / "b.gguf", others))


@pytest.mark.parametrize("types", ["F32 Q4_0", "F16 Q8_0", "Q5_1 Q4_1", "BF16 TQ2_0", "Q8_0 F32"])
def test_the_numbers_are_those_of_float64(
    types: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reading, "TILE", 1 << 10)
    monkeypatch.setattr(agreeing, "STRETCH", 1 << 8)
    x = _drawn()
    x[7, 9] = 40.0
    one, other = types.split()
    found = _of({"w": (x, one)}, {"w": (x, other)}, tmp_path).tensors[0].agreement
    r, c = (_decoded(tmp_path / name).astype(np.float64) for name in ("a.gguf", "b.gguf"))
    assert found is not None
    assert found.error.n == x.size
    assert found.relative == pytest.approx(
        float(np.linalg.norm(c - r) / np.linalg.norm(r)), rel=1e-12
    )
    assert found.cosine == pytest.approx(float(cosine(r.reshape(-1), c.reshape(-1))), rel=1e-12)
    assert found.error.largest == float(np.abs(c - r).max())
    assert found.place == int(np.abs(c - r).argmax())


def _decoded(path: Path) -> Floats:
    (tensor,) = gguf.GGUFReader(path).tensors
    decoded: Floats = gguf.quants.dequantize(tensor.data, tensor.tensor_type)
    return decoded.reshape(-1)


EDGES = {
    "zeros": [0.0, -0.0, 0.0],
    "tiny": [1e-45, -1e-45, 3e-45],
    "denormal": [1e-40, 2e-40, -1e-39],
    "huge": [3e38, -3e38, 1e38],
    "constant": [2.0, 2.0, 2.0],
    "hot": [1e-6, 1e6, 1e-6],
}


@pytest.mark.parametrize("one", EDGES)
@pytest.mark.parametrize("other", EDGES)
def test_edges_are_measured_as_elsewhere(one: str, other: str) -> None:
    r, c = (np.array(EDGES[name], np.float32) for name in (one, other))
    found = agreement(r, c)
    assert found.relative == pytest.approx(float(relative_error(r, c)), rel=1e-12)
    assert found.cosine == pytest.approx(float(cosine(r, c)), rel=1e-9)
    assert found.equal == bool((r == c).all())


def test_what_is_no_number_is_counted_and_the_rest_is_measured() -> None:
    nan, inf = np.nan, np.inf
    r = np.array([1, nan, inf, inf, nan, -inf], np.float32)
    c = np.array([2, nan, inf, -inf, 5.0, -inf], np.float32)
    found = agreement(r, c)
    assert (found.unmatched, found.relative, found.error.relative) == (2, inf, 1.0)
    assert not found.equal
    assert agreement(r, r).equal
    assert found.strange == (True, True)
    assert agreement(r[:1], np.array([nan], np.float32)).strange == (False, True)
    assert agreement(r, r).strange == (False, False)


def test_parts_add_up_to_the_whole() -> None:
    r, c = _drawn(seed=1).reshape(-1), _drawn(seed=2).reshape(-1)
    parts = agreement(r[:1000], c[:1000]) + agreement(r[1000:], c[1000:], 1000)
    whole = agreement(r, c)
    assert parts.error.largest == whole.error.largest
    assert parts.place == whole.place
    assert parts.relative == pytest.approx(whole.relative, rel=1e-12)


def test_the_same_bytes_are_not_decoded(
    sample: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with open_gguf(sample) as file:
        other = altered(file, tmp_path / "b.gguf", {"output_norm.weight": lambda w: w + 1})
    read = []

    def counted(blocks: Any, *more: Any, **options: Any) -> Floats:
        read.append(blocks.size)
        return dequantize(blocks, *more, **options)

    monkeypatch.setattr(reading, "dequantize", counted)
    found = _diff(sample, other)
    assert read == [256, 256]
    assert (found.count(Kind.SAME), found.count(Kind.DIFFERENT)) == (38, 1)
    assert found.tensors[0].name == "output_norm.weight"
    assert found.verdict.words == (
        "the same weights, but for 1 tensor, the first 'output_norm.weight'"
    )


@pytest.mark.parametrize("preset", ["Q8_0", "Q4_K_M", "Q3_K_S", "Q5_0", "BF16", "F32", "Q4_K_S"])
def test_quantizations_are_known_by_name(preset: str, sample: Path, tmp_path: Path) -> None:
    path = tmp_path / "b.gguf"
    quantize_model(sample, {path: preset})
    found = _diff(sample, path)
    if preset == "F32":
        assert found.verdict.words == "the same weights, in other types"
        assert {each.kind for each in found.tensors} == {Kind.RECODED, Kind.SAME}
        return
    assert found.verdict.words == f"B is A quantized to {preset}"
    assert _diff(path, sample).verdict.words == f"A is B quantized to {preset}"
    assert all(each.made.exact for each in found.tensors if each.made)


@pytest.mark.parametrize(("first", "then"), [("Q8_0", "Q4_K_M"), ("Q4_K_S", "Q8_0")])
def test_what_was_quantized_twice(first: str, then: str, sample: Path, tmp_path: Path) -> None:
    once, twice = tmp_path / "once.gguf", tmp_path / "twice.gguf"
    quantize_model(sample, {once: first})
    quantize_model(once, {twice: then}, options=PlanOptions(allow_requantize=True))
    found = _diff(sample, twice)
    way = first.removesuffix("_S")
    assert found.verdict.words.startswith(f"B is A quantized to {then}, by way of {way}")
    assert found.verdict.relation is Relation.QUANTIZED


@pytest.mark.parametrize("plain", ["F16", "BF16", "F32"])
@pytest.mark.parametrize("preset", ["Q4_K_M", "Q8_0"])
def test_what_was_dequantized(preset: str, plain: str, sample: Path, tmp_path: Path) -> None:
    once, back = tmp_path / "once.gguf", tmp_path / "back.gguf"
    quantize_model(sample, {once: preset})
    quantize_model(once, {back: plain}, options=PlanOptions(allow_requantize=True))
    found, other = _diff(once, back), _diff(back, once)
    if plain == "F32":
        assert found.verdict.relation is other.verdict.relation is Relation.SAME_WEIGHTS
        return
    assert found.verdict.words == f"B is A dequantized to {plain}"
    assert other.verdict.words == f"A is B dequantized to {plain}"
    assert found.verdict.relation is Relation.DEQUANTIZED
    assert {each.made.source for each in found.tensors if each.made} == {"a"}
    assert {each.made.source for each in other.tensors if each.made} == {"b"}


def test_another_weight_is_no_dequantization(sample: Path, tmp_path: Path) -> None:
    once, back, touched = (tmp_path / name for name in ("once.gguf", "back.gguf", "touched.gguf"))
    quantize_model(sample, {once: "Q8_0"})
    quantize_model(once, {back: "F16"}, options=PlanOptions(allow_requantize=True))

    def moved(weights: Floats) -> Floats:
        weights[37, 100:110] += 0.25
        return weights

    with open_gguf(back) as file:
        altered(file, touched, {"blk.1.ffn_up.weight": moved})
    found = _diff(once, touched)
    assert found.verdict.words.startswith("B is A dequantized to F16, but for 1 tensor")
    (odd,) = [each.name for each in found.tensors if each.kind is Kind.DIFFERENT]
    assert odd == "blk.1.ffn_up.weight"


def test_two_quantizations_of_one_model(sample: Path, tmp_path: Path) -> None:
    paths = [tmp_path / "a.gguf", tmp_path / "b.gguf"]
    quantize_model(sample, dict(zip(paths, ["Q4_K_M", "Q5_K_M"], strict=True)))
    assert _diff(*paths).verdict.words == (
        "two quantizations of the same weights: Q4_K_M and Q5_K_M"
    )


def test_weights_by_an_importance_are_still_a_quantization(tmp_path: Path) -> None:
    x = _drawn(64, 512, seed=4)
    weighed = quantize(x, "Q4_0", importance=np.random.default_rng(1).lognormal(0, 1, 512))
    a = _write(tmp_path / "a.gguf", {"w": (x, "F32")})
    writer = gguf.GGUFWriter(tmp_path / "b.gguf", "llama")
    number = gguf.GGMLQuantizationType.Q4_0
    writer.add_tensor("w", weighed.view(np.uint8).reshape(64, -1), raw_dtype=number)
    for step in ("header", "kv_data", "tensors"):
        getattr(writer, f"write_{step}_to_file")()
    writer.close()
    found = _diff(a, tmp_path / "b.gguf")
    (tensor,) = found.tensors
    assert tensor.made is not None
    assert (tensor.made.source, tensor.made.exact) == ("a", False)
    assert tensor.made.ratio != 1
    assert found.verdict.words == "B is A quantized to Q4_0, not just as plain quantization does it"


def test_a_few_foreign_rows_are_no_quantization(sample: Path, tmp_path: Path) -> None:
    small, odd = tmp_path / "a.gguf", tmp_path / "b.gguf"
    quantize_model(sample, {small: "Q8_0"})

    def swap(weights: Floats) -> Floats:
        weights[500:504] = weights[600:604].copy()
        return weights

    with open_gguf(small) as file:
        altered(file, odd, {"token_embd.weight": swap})
    found = _diff(sample, odd)
    assert found.tensors[0].name == "token_embd.weight"
    assert found.tensors[0].kind is Kind.DIFFERENT
    assert found.verdict.relation is Relation.QUANTIZED
    assert found.verdict.words.endswith("but for 1 tensor, the first 'token_embd.weight'")


def _trained(amount: float, seed: int = 3) -> Callable[[Floats], Floats]:
    rng = np.random.default_rng(seed)
    return lambda w: w + amount * w.std() * rng.standard_normal(w.shape).astype(np.float32)


@pytest.mark.parametrize(
    ("amount", "relation"), [(0.02, Relation.FINE_TUNE), (0.5, Relation.FINE_TUNE)]
)
def test_a_fine_tune(amount: float, relation: Relation, sample: Path, tmp_path: Path) -> None:
    with open_gguf(sample) as file:
        names = {name: _trained(amount) for name in file.tensors}
        other = altered(file, tmp_path / "b.gguf", names)
    found = _diff(sample, other)
    assert found.verdict.relation is relation
    assert found.verdict.words.startswith("a fine-tune of the same architecture: cosine 0.")
    small = tmp_path / "small.gguf"
    quantize_model(other, {small: "Q4_K_M"})
    assert _diff(sample, small).verdict.relation is Relation.FINE_TUNE


@pytest.mark.parametrize("which", ["A", "B"])
def test_weights_that_are_no_number_are_in_the_verdict(
    which: str, sample: Path, tmp_path: Path
) -> None:
    def damage(weights: Floats) -> Floats:
        weights.reshape(-1)[3:9] = np.nan
        return weights

    def of_damaged(count: int) -> Diff:
        with open_gguf(sample) as file:
            names = [*file.tensors][-count:]
            bad = altered(file, tmp_path / f"{count}.gguf", dict.fromkeys(names, damage))
        return _diff(*((bad, sample) if which == "A" else (sample, bad)))

    many = of_damaged(25)
    assert many.verdict.relation is Relation.DAMAGED
    said = f"the same architecture, but 25 tensors of {which} have weights that are no number"
    assert many.verdict.words == said
    assert many.relative == np.inf
    one = of_damaged(1)
    assert one.verdict.relation is Relation.SAME_WEIGHTS
    assert one.verdict.words.endswith(f"; 1 tensor of {which} has weights that are no number")


def test_models_trained_apart(tmp_path: Path) -> None:
    recipe = Recipe("llama", {}, {f"blk.{n}.attn_q.weight": (64, 64) for n in range(4)})
    paths = [write_recipe(tmp_path / f"{n}.gguf", recipe, seed=n) for n in range(2)]
    assert _diff(*paths).verdict.relation is Relation.RETRAINED


def test_models_of_other_architectures(make: Callable[[str], Path]) -> None:
    found = _diff(make("llama-gqa"), make("gpt2"))
    assert found.verdict.relation is Relation.UNRELATED
    assert not found.same


def test_shards_and_byte_orders_are_no_difference(sample: Path, tmp_path: Path) -> None:
    quantize_model(sample, {tmp_path / "s.gguf": "COPY"}, split_max_size=2_000_000)
    quantize_model(sample, {tmp_path / "whole.gguf": "COPY"})
    (first, *others) = sorted(tmp_path.glob("s-*.gguf"))
    assert others
    found = _diff(tmp_path / "whole.gguf", first)
    assert found.same
    assert found.verdict.relation is Relation.IDENTICAL
    assert _diff(others[-1], tmp_path / "whole.gguf").same
    assert _diff(others[-1], sample).verdict.words == "the same weights, other metadata: 1 key"
    x = {"w": (_drawn(), "F32")}
    a = _write(tmp_path / "a.gguf", x, tokens=["a", "b"])
    b = _write(tmp_path / "b.gguf", x, ">", tokens=["a", "b"])
    found = _diff(a, b)
    assert found.metadata == ()
    assert [each.kind for each in found.tensors] == [Kind.RECODED]
    assert found.verdict.words == "the same weights, in other bytes"


def test_names_and_shapes(tmp_path: Path) -> None:
    x, y, z = (_drawn(seed=n) for n in range(3))
    a = {"same": (x, "F32"), "old": (y, "F16"), "vocab": (z, "F32"), "gone": (y, "Q8_0")}
    b = {
        "same": (x, "F32"),
        "new": (y, "F16"),
        "vocab": (np.concatenate([z, x[:3]]), "F32"),
        "more": (x, "Q8_0"),
    }
    found = {each.name: each for each in _of(a, b, tmp_path).tensors}
    assert {name: each.kind for name, each in found.items()} == {
        "same": Kind.SAME,
        "old": Kind.RENAMED,
        "vocab": Kind.RESHAPED,
        "gone": Kind.REMOVED,
        "more": Kind.ADDED,
    }
    renamed, vocabulary = found["old"], found["vocab"].agreement
    assert renamed.b is not None
    assert renamed.b.name == "new"
    assert vocabulary is not None
    assert (vocabulary.error.n, vocabulary.equal) == (z.size, True)
    (tmp_path / "c").mkdir()
    only = _of({"old": (x, "F32")}, {"new": (x, "F32")}, tmp_path / "c")
    assert only.verdict.words == "the same weights under other names"


def test_quick_reads_no_weight(sample: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ggufscope.container.file.read_into", pytest.fail)
    found = _diff(sample, sample, quick=True)
    assert found.same
    assert found.verdict.relation is Relation.SAME_HEADERS


def test_metadata(tmp_path: Path) -> None:
    base: dict[str, Any] = {
        "n": 1,
        "s": "x",
        "f": float("nan"),
        "t": ["a", "b", "c"],
        "i": [1, 2, 3],
        "old": 5,
    }
    more: dict[str, Any] = {
        "n": 2,
        "s": "x",
        "f": float("nan"),
        "t": ["a", "x"],
        "i": [1, 2, 3],
        "new": True,
    }
    files: list[GGUFFile] = []
    for number, pairs in enumerate((base, more)):
        path = _write(tmp_path / f"{number}.gguf", {"w": (_drawn(), "F32")}, **pairs)
        files.append(open_gguf(path))
    changes = metadata_changes(files[0].metadata, files[1].metadata)
    assert [(each.key, str(each.change), each.differing, each.first) for each in changes] == [
        ("n", "changed", None, None),
        ("t", "changed", 2, 1),
        ("old", "removed", None, None),
        ("new", "added", None, None),
    ]
    for file in files:
        file.close()
