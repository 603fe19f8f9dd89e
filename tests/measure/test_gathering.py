"""An importance matrix made here: held to those of real llama-imatrix."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from ggufscope import open_gguf, read_tokenizer
from ggufscope.errors import (
    BadUsage,
    ImportanceMismatch,
    NonFiniteActivation,
    TargetExists,
    TokenUnknown,
    TooFewTokens,
)
from ggufscope.forward.transformer import Transformer
from ggufscope.measure.calibrating import make_imatrix
from ggufscope.measure.gathering import Calibration, Collector, Perplexity, Progress, gather
from ggufscope.measure.importance import findings_of
from ggufscope.recipes.apply import quantize_model
from ggufscope.recipes.imatrix_file import read_imatrix, write_imatrix
from ggufscope.recipes.importance import Entry, ImportanceMatrix
from tests.golden.make_imatrix import MATRICES, write_model
from tests.models.families import GELU, SMALL, write

GOLDEN = Path(__file__).parent.parent / "golden" / "imatrix"
SAID = json.loads((GOLDEN / "said.json").read_text(encoding="utf-8"))


def _calibration(folder: Path, model: Path, context: int, *, output: bool = False) -> Calibration:
    with open_gguf(model) as file:
        tokenizer = read_tokenizer(file.metadata)
    text = (folder / "text.txt").read_bytes().decode().removesuffix("\n")
    bos = tokenizer.vocabulary.bos if tokenizer.vocabulary.add_bos else None
    ids = tokenizer.encode(text, parse_special=False)
    return Calibration([("text.txt", ids)], context, bos=bos, process_output=output)


@pytest.mark.parametrize("name", MATRICES)
def test_a_matrix_is_that_of_llama_imatrix(name: str, tmp_path: Path) -> None:
    """Sums within 1e-4, counts and all else equal.

    Where weights are F16 or BF16, what enters a matrix is rounded first, here and there. A number
    in the middle goes the way of the order that a sum was taken in, which moves its column: so each
    sum is within 1e-4 where that has not happened yet, and after it those of a matrix together. Of
    192 tokens one is much: three times as much is let pass there. ggml's GELU is a table of halves.
    """
    of, arguments = MATRICES[name]
    rounds = of == "stories" or of.endswith("F16")
    model = write_model(tmp_path, of)
    context, output = int(arguments[1]), "--process-output" in arguments
    calibration = _calibration(tmp_path, model, context, output=output)
    if "--from-chunk" in arguments:
        calibration = replace(calibration, skipped=3)
    with open_gguf(model) as file:
        runnable = Transformer.of(file, context=context)
        found, perplexity = gather(runnable, calibration, Path("x"))
    theirs = read_imatrix(GOLDEN / f"{name}.gguf")
    assert list(found.entries) == list(theirs.entries)
    for field in ("datasets", "chunk_count", "chunk_size"):
        assert getattr(found, field) == getattr(theirs, field), field
    allowed = 2e-3 if of in GELU else 1e-4
    for key, entry in theirs.entries.items():
        assert found.entries[key].counts.tolist() == entry.counts.tolist(), key
        sums = found.entries[key].sums
        if rounds and not key.startswith("blk.0."):
            off = np.linalg.norm(sums - entry.sums) / np.linalg.norm(entry.sums)
            assert off < (1e-4 if of == "stories" else 3e-4), key
        else:
            np.testing.assert_allclose(sums, entry.sums, rtol=allowed, err_msg=key)
    said = SAID["perplexity"][name]
    np.testing.assert_allclose(perplexity.so_far, said, rtol=2e-2 if of in GELU else 1e-3)


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Transformer]:
    path = write(tmp_path_factory.mktemp("small") / "m.gguf", SMALL["mixtral"])
    with open_gguf(path) as file:
        yield Transformer.of(file, context=16)


def _random(tokens: int = 100, **more: object) -> Calibration:
    ids = np.random.default_rng(5).integers(3, 72, tokens).tolist()
    return Calibration([("a.txt", ids)], 16, **more)  # type: ignore[arg-type]


def test_a_run_that_was_ended_goes_on_to_the_same_bytes(small: Transformer, tmp_path: Path) -> None:
    whole, parts = tmp_path / "whole.gguf", tmp_path / "parts.gguf"
    calibration = _random()
    make_imatrix(small, calibration, whole)

    class Ended(Exception):
        pass

    def end_in_chunk(last: int):  # type: ignore[no-untyped-def]
        def progress(done):  # type: ignore[no-untyped-def]
            if done.steps >= last * (small.n_layers + 1) + 2:
                raise Ended

        return progress

    for last in (1, 3, 4):
        with pytest.raises(Ended):
            make_imatrix(small, calibration, parts, resume=True, progress=end_in_chunk(last))
        saved = read_imatrix(parts)
        assert saved.unfinished
        assert saved.chunk_count == last  # what was complete is there, and nothing else
        assert not [path for path in tmp_path.iterdir() if path not in (whole, parts)]
    _, perplexity = make_imatrix(small, calibration, parts, resume=True)
    assert len(perplexity.so_far) == 2
    assert parts.read_bytes() == whole.read_bytes()
    assert not read_imatrix(parts).unfinished
    with pytest.raises(BadUsage, match="complete"):
        make_imatrix(small, calibration, parts, resume=True)


@pytest.mark.parametrize(("batch", "made"), [(1, (2, 4, 6)), (4, (4, 6)), (100, (6,))])
def test_copies_on_the_way_are_matrices_of_the_text_so_far(
    batch: int, made: tuple[int, ...], small: Transformer, tmp_path: Path
) -> None:
    target, alone = tmp_path / "i.gguf", tmp_path / "alone"
    make_imatrix(small, _random(), target, copy_every=2, batch=batch)
    for chunks in made:
        copy = tmp_path / f"i.gguf.at_{chunks}"
        make_imatrix(small, replace(_random(), chunks=chunks), alone, overwrite=True)
        assert copy.read_bytes() == alone.read_bytes()
        copy.unlink()
    assert {path.name for path in tmp_path.iterdir()} == {"i.gguf", "alone"}
    (tmp_path / "more.gguf.at_8").touch()
    with pytest.raises(TargetExists, match="at_8"):  # before any work
        make_imatrix(small, _random(), tmp_path / "more.gguf", in_files=[target], copy_every=4)
    assert not (tmp_path / "more.gguf").exists()


def test_a_copy_is_made_by_a_run_that_goes_on(small: Transformer, tmp_path: Path) -> None:
    class Ended(Exception):
        pass

    def end(done: Progress) -> None:
        if done.chunks == 3:
            raise Ended

    target = tmp_path / "i.gguf"
    with pytest.raises(Ended):
        make_imatrix(small, _random(), target, copy_every=2, save_every=5, progress=end)
    copy = tmp_path / "i.gguf.at_2"
    before = copy.read_bytes()
    assert not target.exists()
    make_imatrix(small, _random(), target, copy_every=2, resume=True)
    assert copy.read_bytes() == before
    assert (tmp_path / "i.gguf.at_6").read_bytes() == target.read_bytes()


def test_what_enters_is_rounded_as_the_weights_are(tmp_path: Path) -> None:
    for type_, bits in (("F32", 24), ("F16", 11), ("BF16", 8), ("Q8_0", 24)):
        whole = write(tmp_path / "m.gguf", SMALL["llama-mha"])
        quantize_model(whole, {tmp_path / "q.gguf": type_}, overwrite=True)
        with open_gguf(tmp_path / "q.gguf") as file:
            collector = Collector(Transformer.of(file, context=16), None, output=False)
            x = np.array([[1 / 3, -(2.0**-20), 0, 1e-30] * 8], np.float32)
            entered = collector.entering("blk.0.attn_q.weight", x, None)
        mantissa, exponent = np.frexp(x)
        near = np.ldexp(np.round(np.ldexp(mantissa, bits)), exponent - bits)
        near[:, 1::2] *= type_ != "F16" or [1, 0] * 8  # 2**-20 is a half, 1e-30 is none
        np.testing.assert_array_equal(entered, near)
        np.testing.assert_array_equal(
            collector.matrix(tmp_path, (), 16).entries["blk.0.attn_q.weight"].sums, x * x
        )


def test_another_run_is_not_resumed(small: Transformer, tmp_path: Path) -> None:
    target = tmp_path / "m.gguf"
    matrix, _ = gather(small, _random(), target)
    write_imatrix(replace(matrix, unfinished="x"), target)
    with pytest.raises(BadUsage, match="of another run"):
        make_imatrix(small, _random(), target, resume=True)


@pytest.mark.parametrize("batch", [2, 4, 100])
def test_chunks_side_by_side_give_the_same_bytes(
    batch: int, small: Transformer, tmp_path: Path
) -> None:
    one, many = tmp_path / "one.gguf", tmp_path / "many.gguf"
    make_imatrix(small, _random(), one)
    make_imatrix(small, _random(), many, batch=batch)
    assert one.read_bytes() == many.read_bytes()


def test_several_texts_are_as_runs_that_go_on_from_each_other(
    small: Transformer, tmp_path: Path
) -> None:
    ids = np.random.default_rng(6).integers(3, 72, 120).tolist()
    texts = [("a", ids[:50]), ("b", ids[50:])]
    one, first, then = (tmp_path / f"{name}.gguf" for name in ("one", "first", "then"))
    make_imatrix(small, Calibration(texts, 16, chunks=3), one)
    make_imatrix(small, Calibration(texts[:1], 16, chunks=3), first)
    make_imatrix(small, Calibration(texts[1:], 16, chunks=3), then, in_files=[first])
    assert then.read_bytes() == one.read_bytes()
    assert (read_imatrix(one).datasets, read_imatrix(one).chunk_count) == (("a", "b"), 6)


def test_a_legacy_matrix_is_gone_on_from(small: Transformer, tmp_path: Path) -> None:
    old, new = tmp_path / "old.dat", tmp_path / "new.gguf"
    matrix, _ = gather(small, _random(), old)
    write_imatrix(matrix, old, legacy=True)
    make_imatrix(small, _random(40), new, in_files=[old])
    found = read_imatrix(new)
    assert found.chunk_count == 8
    for name, entry in found.entries.items():
        added = 32 * (2 if "exps" in name else 1)
        chunks = -(-matrix.entries[name].counts.max() // 16)  # that is all a legacy file says
        assert entry.counts.sum() == added + 16 * chunks * len(entry.counts), name


def test_what_does_not_fit_is_refused(small: Transformer, tmp_path: Path) -> None:
    wrong = Entry(np.ones((1, 7), np.float32), np.array([3]))
    before = ImportanceMatrix(tmp_path, {"blk.0.attn_q.weight": wrong})
    with pytest.raises(ImportanceMismatch, match="7 numbers"):
        gather(small, _random(), tmp_path, before=before)
    with pytest.raises(TooFewTokens, match=r"has 31$"):
        gather(small, _random(31), tmp_path)
    with pytest.raises(TooFewTokens, match="after the 5 that are skipped, and a"):
        gather(small, _random(skipped=5), tmp_path)
    with pytest.raises(TokenUnknown):
        gather(small, Calibration([("", [1, 99] * 30)], 16), tmp_path)


def test_numbers_that_overflow_are_no_importance(tmp_path: Path) -> None:
    tensors = SMALL["llama-mha"].tensors()
    tensors["blk.1.attn_norm.weight"][3] = 1e38
    path = write(tmp_path / "m.gguf", SMALL["llama-mha"], tensors)
    with open_gguf(path) as file:
        model = Transformer.of(file, context=16)
        target = tmp_path / "i.gguf"
        with pytest.raises(NonFiniteActivation, match=r"'blk.1.attn_q.weight' .* column 3"):
            make_imatrix(model, _random(), target)
    assert not target.exists()


def test_perplexity_by_hand() -> None:
    found = Perplexity()
    assert math.isnan(found.value)
    assert math.isnan(found.error)
    found.add(np.log(np.array([[1, 1, 2], [1, 3, 4]], np.float32)), [2, 1])
    losses = np.array([np.log(2), np.log(8 / 3)])
    assert found.value == pytest.approx(np.exp(losses.mean()))
    assert found.error == pytest.approx(np.exp(losses.mean()) * losses.std() / 1)


@pytest.mark.parametrize("name", ["stories", "mixtral", "qwen2moe"])
def test_the_statistics_are_those_of_llama_imatrix(name: str) -> None:
    findings = findings_of(read_imatrix(GOLDEN / f"{name}.gguf"))
    rows = SAID["statistics"][name]
    tensors = {(row[0], row[1]): row for row in rows if len(row) == 13}
    layers = {row[0]: row for row in rows if len(row) == 4}
    assert len(tensors) == len(findings.tensors)
    assert len(layers) == len(findings.layers)

    def number(text: str) -> float:
        return float(text.removesuffix("%"))

    for each in findings.tensors:
        _, layer, stem, _ = each.name.split(".")
        shown = [number(text) for text in tensors[layer, stem][2:]]
        ours = [each.total, each.smallest, each.largest, each.per_column, each.deviation]
        ours += [100 * each.active, each.columns, each.entropy, 100 * each.evenness]
        ours += [100 * each.z_density, each.cosine or 0.0]
        np.testing.assert_allclose(ours, shown, rtol=1e-3, atol=6e-3, err_msg=each.name)
    for of in findings.layers:
        shown = [number(text) for text in layers[str(of.layer)][1:]]
        ours = [of.total, 100 * of.z_density, of.cosine]
        np.testing.assert_allclose(ours, shown, rtol=1e-3, atol=6e-3)


def test_findings_by_hand() -> None:
    entries = {
        "blk.0.ffn_up_exps.weight": Entry(
            np.array([[0, 2, 14], [8, 8, 8]], np.float32), np.array([2, 0])
        ),
        "nothing.weight": Entry(np.zeros((1, 4), np.float32), np.array([0])),
        "zeros.weight": Entry(np.zeros((1, 4), np.float32), np.array([3])),
    }
    found = findings_of(ImportanceMatrix(Path("x"), entries))
    stack, zeros = found.tensors
    assert (stack.total, stack.per_column, stack.largest, stack.columns) == (8, 8 / 3, 7, 3)
    assert stack.active == pytest.approx(2 / 3)
    assert stack.entropy == pytest.approx(-(np.log2(7 / 8) * 7 + np.log2(1 / 8)) / 8)
    assert (zeros.entropy, zeros.z_density, zeros.cosine) == (0, 0, None)
    assert [each.unreached for each in found.coverage] == [(1,), (0,), ()]
    assert (found.uneven[0].expert, found.uneven[0].column) == (0, 2)
    assert found.uneven[0].times == pytest.approx(21 / 8)
    assert sum(found.histogram) == 3 + 4
