"""A text run through a model and its candidates: held to real llama-perplexity."""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest

from ggufscope import open_gguf, read_tokenizer
from ggufscope.arrays import Doubles
from ggufscope.blocks.codec import engine
from ggufscope.container.file import GGUFFile
from ggufscope.errors import BadBase, DifferentModels, NoRoom, TokenUnknown
from ggufscope.forward import activations
from ggufscope.forward.activations import Activations
from ggufscope.measure.base_file import BaseFile, BaseWriter, packed
from ggufscope.measure.candidates import Weighs, of_file, of_types
from ggufscope.measure.evaluate import evaluate
from ggufscope.measure.evaluation import Evaluation, Scores, beaten
from ggufscope.measure.gathering import Calibration
from tests.golden.make_imatrix import write_model
from tests.golden.make_perplexity import (
    QUANTIZED,
    SAMPLE_RUNS,
    SMALL_RUNS,
    WITH_LOGITS,
    context_of,
    write_quantized,
)
from tests.models.families import GELU, SMALL, write

GOLDEN = Path(__file__).parent.parent / "golden" / "perplexity"
LOGITS = GOLDEN / f"{WITH_LOGITS}.logits"
SAID = json.loads((GOLDEN / "said.json").read_text(encoding="utf-8"))

Chunks = list[list[int]]


def _chunks(folder: Path, file: GGUFFile, context: int) -> tuple[Chunks, int | None]:
    tokenizer = read_tokenizer(file.metadata)
    text = (folder / "text.txt").read_bytes().decode().removesuffix("\n")
    ids = tokenizer.encode(text, parse_special=False)
    bos = tokenizer.vocabulary.bos if tokenizer.vocabulary.add_bos else None
    return Calibration([("text.txt", ids)], context).cut(), bos


@pytest.mark.parametrize("name", [*SMALL_RUNS, *SAMPLE_RUNS])
def test_a_perplexity_is_that_of_llama_perplexity(name: str, tmp_path: Path) -> None:
    """Of weights in F32 within 1e-4, the error of it and every chunk on the way as well.

    Where weights are F16 ggml rounds what enters a matrix to halves, and its GELU is a table of
    halves: both are further off.
    """
    model = write_model(tmp_path, name)
    with open_gguf(model) as file:
        chunks, bos = _chunks(tmp_path, file, context_of(name))
        found = evaluate(file, chunks, bos=bos).reference
    said = SAID["perplexity"][name]
    allowed = 1e-3 if name in GELU else 3e-4 if name == "stories" else 1e-4
    np.testing.assert_allclose(found.so_far, said["so_far"], rtol=allowed)
    assert found.perplexity.value == pytest.approx(said["value"], rel=allowed)
    assert found.perplexity.error == pytest.approx(said["error"], rel=allowed)
    assert found.so_far[-1] == pytest.approx(found.perplexity.value)


@pytest.fixture(scope="module")
def against_base(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Evaluation]:
    """A quantized sample, held to a file of what it says in F32, as llama.cpp was asked."""
    folder = tmp_path_factory.mktemp("sample")
    model = write_model(folder, "stories-F32")
    with open_gguf(model) as file:
        chunks, bos = _chunks(folder, file, 128)
        with BaseWriter(folder / "base") as writer:
            evaluate(file, chunks, bos=bos, save_base=writer)

    @cache
    def against_base(preset: str) -> Evaluation:
        path = write_quantized(folder, preset)
        with open_gguf(model) as file, open_gguf(path) as quantized:
            base = BaseFile.read(folder / "base")
            return evaluate(file, chunks, [of_file(file, quantized)], bos=bos, base=base)

    return against_base


PERCENTS = {"Maximum": 100, "Median": 50, "Minimum": 0}


@pytest.mark.parametrize("preset", ["Q2_K as F32", *QUANTIZED])
def test_a_divergence_is_that_of_llama_perplexity(
    preset: str, against_base: Callable[[str], Evaluation]
) -> None:
    """Every number it prints, to the last digit it prints where weights are F32.

    Of blocks ggml multiplies what it rounded to 8 bits. Measured on these four: perplexities differ
    by 0.26% at the most, mean divergences by 9e-4 nats, the share of same tokens by 0.5 points.
    """
    evaluation = against_base(preset)
    (_, ours), said = evaluation.candidates, SAID["divergence"][preset]
    found = ours.divergence
    assert found is not None
    exact = preset.endswith("F32")
    pairs = {
        "Mean PPL(Q)": ours.perplexity,
        "Mean PPL(base)": evaluation.reference.perplexity,
        "Mean ln(PPL(Q)/PPL(base))": found.log_ratio,
        "Mean PPL(Q)/PPL(base)": found.ratio,
        "Mean PPL(Q)-PPL(base)": found.difference,
        "Mean KLD": found.kl_divergence,
    }
    for name, estimate in pairs.items():
        value, error = said[name]
        allowed = 2e-6 if exact else 1.2e-3 if name == "Mean KLD" else 0.01
        allowed = max(allowed, 3e-5) if "base" in name else allowed
        assert estimate.value == pytest.approx(value, abs=allowed), name
        assert estimate.error == pytest.approx(error, abs=3e-5 if exact else 0.002), name
    points = {
        "Mean Δp": found.change,
        "RMS Δp": found.change_rms,
        "Same top p": found.same_top,
    }
    for name, estimate in points.items():
        allowed = 1e-3 if exact else 0.6 if name == "Same top p" else 0.15
        assert 100 * estimate.value == pytest.approx(said[name][0], abs=allowed), name
        assert 100 * estimate.error == pytest.approx(said[name][1], abs=allowed), name
    assert 100 * found.correlation == pytest.approx(
        said["Cor(ln(PPL(Q)), ln(PPL(base)))"][0], abs=0.006 if exact else 0.1
    )
    if not exact:
        return
    for name, (value, *_) in said.items():
        where, _, what = name.rpartition(" ")
        spread = {"KLD": found.kl_spread, "Δp": found.change_spread}.get(what, {})
        percent = PERCENTS.get(where) if where in PERCENTS else where.removesuffix("%")
        if where in ("Mean", "RMS") or not spread:
            continue
        ours_at = spread[float(percent or 0)] * (100 if what == "Δp" else 1)
        # Both read the same 16 bits, of two bases that differ in their last one here and there.
        assert ours_at == pytest.approx(value, rel=1e-3, abs=1e-4 if what == "KLD" else 3e-2), name


def test_the_model_itself_is_no_further_from_its_base_than_16_bits(
    against_base: Callable[[str], Evaluation],
) -> None:
    itself = against_base("Q2_K as F32").candidates[0].divergence
    assert itself is not None
    assert abs(itself.kl_divergence.value) < 1e-5
    assert itself.same_top.value == 1.0


def test_a_file_of_logits_of_llama_perplexity_is_read(tmp_path: Path) -> None:
    model = write_model(tmp_path, WITH_LOGITS)
    base = BaseFile.read(LOGITS)
    with open_gguf(model) as file:
        chunks, bos = _chunks(tmp_path, file, 32)
        assert [[*chunk] for chunk in base.chunks] == chunks
        found = evaluate(file, chunks, bos=bos, base=base)
        with BaseWriter(tmp_path / "ours") as writer:
            evaluate(file, chunks, bos=bos, save_base=writer)
    (itself,) = found.candidates
    assert itself.divergence is not None
    assert abs(itself.divergence.kl_divergence.value) < 1e-5
    assert itself.divergence.same_top.value == 1.0
    assert itself.perplexity.value == pytest.approx(SAID["perplexity"][WITH_LOGITS]["value"], 1e-4)
    # What is written here is what llama-perplexity writes, but for the last bits of its numbers.
    ours, theirs = (tmp_path / "ours").read_bytes(), LOGITS.read_bytes()
    start = base.start
    assert (len(ours), ours[:start]) == (len(theirs), theirs[:start])
    count = len(chunks) * 15
    mine = BaseFile.read(tmp_path / "ours").rows(0, count)
    np.testing.assert_allclose(mine, base.rows(0, count), atol=5e-4)


@pytest.fixture
def small(tmp_path: Path) -> Iterator[GGUFFile]:
    with open_gguf(write(tmp_path / "m.gguf", SMALL["mixtral"])) as file:
        yield file


def _random(chunks: int = 5, context: int = 16) -> Chunks:
    ids = np.random.default_rng(5).integers(3, 72, (chunks, context))
    return [[int(each) for each in chunk] for chunk in ids]


def test_numbers_are_those_of_whole_passes(small: GGUFFile) -> None:
    """As Transformer and the definitions give them, one chunk after another."""
    from ggufscope import PlannedWeights, StoredWeights, Transformer
    from ggufscope.measure.metrics.distributions import kl_divergence, log_softmax, top1_agrees

    chunks = _random()
    candidate = of_types(small, ["Q4_0"])[0]
    found = evaluate(small, chunks, [candidate], bos=1)
    model = Transformer.of(small, context=16)
    other = model.with_weights(PlannedWeights(StoredWeights(small), candidate.types))
    losses, divergences, changes, same = [], [], [], []
    for chunk in chunks:
        ids = [1, *chunk[1:]]
        p, q = (each.run(ids)[8:15] for each in (model, other))
        told = [log_softmax(each)[np.arange(7), chunk[9:]] for each in (p, q)]
        losses += list(-told[1])
        divergences += list(kl_divergence(p, q))
        changes += list(np.exp(told[1]) - np.exp(told[0]))
        same += list(top1_agrees(p, q))
    (each,) = found.candidates
    assert (found.scored, found.context, found.chunks) == (35, 16, 5)
    assert each.divergence is not None
    assert each.perplexity.value == pytest.approx(math.exp(np.mean(losses)))
    assert each.divergence.kl_divergence.value == pytest.approx(np.mean(divergences))
    assert each.divergence.kl_spread[99.0] == pytest.approx(np.percentile(divergences, 99))
    assert each.divergence.change_rms.value == pytest.approx(np.sqrt(np.mean(np.square(changes))))
    assert each.divergence.same_top.value == pytest.approx(np.mean(same))


def test_memory_changes_nothing(small: GGUFFile, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nor how many rows, tiles and chunks go together: the same numbers, to the last bit.

    Without kernels BLAS multiplies, which adds in another order where other rows go together.
    """
    from ggufscope.forward import remembered
    from ggufscope.measure import evaluate as module

    names = ["Q4_0", "Q8_0"]
    expected = evaluate(small, _random(), names, bos=1)
    monkeypatch.setattr(activations, "_MOST", 0)
    monkeypatch.setattr(Activations.__init__, "__defaults__", (0,))
    monkeypatch.setattr(module, "_LOGITS", 5 * 72)
    monkeypatch.setattr(module, "TOGETHER", 16)
    monkeypatch.setattr(remembered.RememberedWeights.__init__, "__kwdefaults__", {"budget": 100})
    found = evaluate(small, _random(), names, bos=1)
    if engine().kernels is not None:
        assert found == expected
    for each, other in zip(found.candidates, expected.candidates, strict=True):
        assert each.divergence is not None
        assert other.divergence is not None
        ours, theirs = each.divergence.kl_divergence, other.divergence.kl_divergence
        assert each.perplexity.value == pytest.approx(other.perplexity.value, rel=1e-5)
        assert ours.value == pytest.approx(theirs.value, rel=1e-3)


def test_a_disk_without_room_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: type("", (), {"free": 10})())
    with pytest.raises(NoRoom, match="has room for 10 bytes") as caught:
        Activations(2, 2, 16, 16, most=0)
    assert "TMPDIR" in caught.value.hint


def test_candidates_that_are_pointless_are_named(small: GGUFFile) -> None:
    found = evaluate(small, _random(20), ["F16", "Q8_0", "Q4_0"], bos=1)
    assert [each.beaten_by for each in found.candidates] == ["", "", ""]


def test_who_is_beaten_and_how_clearly_by_hand() -> None:
    generator = np.random.default_rng(3)
    noise = generator.uniform(0, 1, 1000)

    def scores(divergences: Doubles) -> Scores:
        return replace(Scores.empty(1000), divergences=divergences)

    sizes = [Weighs({}, nbytes, 4.0) for nbytes in (100, 90, 95, 80, 90)]
    each = [
        scores(noise + 0.1),  # larger than the next, and further off by the same at every token
        scores(noise),
        scores(noise + generator.normal(0.01, 3, 1000) + 1e-3),  # about as far, and larger
        scores(noise + 1),  # far, but the smallest
        scores(noise),  # the same as the second
    ]
    each[2] = scores(each[2].divergences - each[2].divergences.mean() + noise.mean() + 1e-3)
    found = beaten(sizes, each)
    assert [winner and winner[1] for winner in found] == [True, None, False, None, None]
    assert found[0] is not None
    assert found[0][0] in (1, 4)


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"", "is no file of logits"),
        (b"GGUF" * 10, "is no file of logits"),
        (b"_logits_" + bytes(11), "is no file of logits"),
        (b"_logits_" + bytes(12), "claims 0 chunks"),
        (b"_logits_" + b"\xff" * 12, "claims -1 chunks"),
        (b"_logits_" + (1 << 20).to_bytes(4, "little") * 3, "claims 1,048,576 chunks"),
        (LOGITS.read_bytes()[:-1], "ends after 5 of 6 chunks"),
        (LOGITS.read_bytes()[:800], "ends after 0 of 6 chunks"),
    ],
)
def test_damaged_files_of_logits_are_refused(data: bytes, said: str, tmp_path: Path) -> None:
    path = tmp_path / "base"
    path.write_bytes(data)
    with pytest.raises(BadBase, match=said):
        BaseFile.read(path)


def test_the_chunks_that_are_there_can_be_taken(tmp_path: Path) -> None:
    path = tmp_path / "base"
    path.write_bytes(LOGITS.read_bytes()[:-1])
    assert len(BaseFile.read(path, most=5).chunks) == 5


def test_a_base_of_another_model_is_refused(small: GGUFFile, tmp_path: Path) -> None:
    chunks = _random()
    with BaseWriter(tmp_path / "base") as writer:
        writer.begin(chunks, 71)
        writer.add(np.zeros((35, 71), np.float32))
    base = BaseFile.read(tmp_path / "base")
    with pytest.raises(DifferentModels, match="71 tokens in its vocabulary"):
        evaluate(small, chunks, base=base)
    with pytest.raises(TokenUnknown):
        evaluate(small, [[1000] * 16, [1] * 16])


def test_a_base_that_is_not_finished_leaves_nothing(tmp_path: Path) -> None:
    def end() -> None:
        with BaseWriter(tmp_path / "base") as writer:
            writer.begin(_random(), 72)
            raise RuntimeError

    with pytest.raises(RuntimeError):
        end()
    assert not list(tmp_path.iterdir())


EDGES = {
    "zeros": [0.0] * 5,
    "tiny": [1e-40, 0, -1e-40, 0, 0],
    "huge": [3e38, -3e38, 0, 1, 2],
    "outlier": [100.0, 0, 0, 0, -100],
    "infinity": [math.inf, 0, 0, 0, 0],
    "nan": [math.nan, 0, 0, 0, 0],
    "negative zero": [-0.0, 0.0, -0.0, 0.0, 1],
}


@pytest.mark.parametrize("name", EDGES)
def test_logits_at_the_edge_are_packed_without_a_word(name: str) -> None:
    rows = packed(np.array([EDGES[name]], np.float32))
    assert rows.dtype.itemsize == 8 + 2 * 6
    assert not rows["numbers"][0, 5]
    if name == "zeros":
        logs = rows["scale"] * rows["numbers"][0, :5] + rows["least"]
        np.testing.assert_allclose(logs, -np.log(5), rtol=1e-6)
    if name == "outlier":
        assert rows["numbers"][0].tolist() == [65535, 0, 0, 0, 0, 0]
        assert rows["least"][0] == pytest.approx(-16)
