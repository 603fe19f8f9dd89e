"""Well made or not: files quantized twice, honest ones of any depth, faults put in on purpose.

Each case is a row of a table that the run prints.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import permutations
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ggufscope.blocks.codec import dequantize
from ggufscope.blocks.layouts import Layout
from ggufscope.container.file import open_gguf
from ggufscope.container.writer import GGUFWriter
from ggufscope.measure.candidates import of_file
from ggufscope.measure.compare import compare
from ggufscope.measure.effect import Level
from ggufscope.measure.making import Fault
from ggufscope.measure.verdict import Verdict
from ggufscope.recipes.apply import quantize_model
from ggufscope.recipes.options import PlanOptions
from tests.measure.altered import Change, Weights, altered, head_rows
from tests.models.deep import write_deep
from tests.oracles import ggml_quantize

IDS = [0, 896, 317, 260, 462, 451, 285, 635, 351, 259, 582, 14]
PRESETS = ("Q8_0", "Q5_K_M", "Q4_K_M", "Q3_K_M", "Q4_0", "Q2_K")
AGAIN = PlanOptions(allow_requantize=True)


@dataclass
class Table:
    """What the cases gave, to be printed at the end."""

    rows: list[tuple[str, str, str]]

    def judge(self, what: str, reference: Path, candidate: Path, ids: list[int]) -> Verdict:
        """Compare two files, and take the row down."""
        with open_gguf(reference) as file, open_gguf(candidate) as other:
            verdict = compare(file, ids, [of_file(file, other)]).candidates[0].verdict
        assert verdict.making is not None
        (said, *_) = [*map(_said, verdict.making.faults), "well made"]
        self.rows.append((what, str(verdict.effect.level), said))
        return verdict


def _said(fault: Fault) -> str:
    return " ".join(filter(None, (fault.tensor, fault.part, fault.through or fault.reason)))


@pytest.fixture(scope="module")
def table(request: pytest.FixtureRequest) -> Iterator[Table]:
    found = Table([])
    yield found
    capture = request.config.pluginmanager.getplugin("capturemanager")
    with capture.global_and_fixture_disabled():
        print("\n")
        for what, level, said in found.rows:
            print(f"{what:40} {level:11} {said}")


@pytest.fixture(scope="module")
def made(sample: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Quantize the sample by a preset, once; gives its path."""
    folder = tmp_path_factory.mktemp("made")

    def made(preset: str) -> Path:
        path = folder / f"{preset}.gguf"
        if not path.exists():
            quantize_model(sample, {path: preset})
        return path

    return made


@pytest.mark.parametrize(("first", "then"), [*permutations(PRESETS, 2)])
def test_a_file_quantized_twice_is_named_with_the_type_between(
    first: str, then: str, sample: Path, tmp_path: Path, made: Callable[[str], Path], table: Table
) -> None:
    again = tmp_path / "again.gguf"
    quantize_model(made(first), {again: then}, options=AGAIN)
    verdict = table.judge(f"{first} -> {then}", sample, again, IDS)
    assert verdict.making is not None
    assert verdict.well_made is False
    assert not verdict.accepted
    assert {fault.reason for fault in verdict.making.faults} == {"quantized twice"}
    with open_gguf(made(first)) as file:
        for fault in verdict.making.faults:
            middle = file.tensors[fault.tensor].type.name
            assert fault.through == f"F16 -> {middle} -> {fault.type}"


def importance(kind: str, columns: int, seed: int) -> Any:
    """What the columns of a matrix count for, as an importance matrix has it."""
    rng = np.random.default_rng(seed)
    drawn = {
        "log-normal": lambda: np.exp(2 * rng.standard_normal(columns)),
        "spiky": lambda: np.where(rng.random(columns) < 0.01, 1e4, 1.0),
    }[kind]()
    return np.ascontiguousarray(drawn, np.float32)


def weighed(reference: Path, plain: Path, path: Path, kind: str) -> Path:
    """Write a quantized file again, its layers by real ggml with an importance."""
    with (
        open_gguf(reference) as file,
        open_gguf(plain) as other,
        GGUFWriter.copy_of(other, path) as writer,
    ):
        for seed, tensor in enumerate(other.tensors.values()):
            source = file.tensors[tensor.name]
            if not tensor.name.startswith("blk.") or tensor.type == source.type:
                writer.write(tensor.name, tensor.data())
                continue
            assert isinstance(source.type, Layout)
            assert isinstance(tensor.type, Layout)
            x = dequantize(source.blocks(), source.type, source.shape)
            columns = importance(kind, x.shape[-1], seed)
            blocks = ggml_quantize(np.ascontiguousarray(x), tensor.type, columns)
            writer.write(tensor.name, blocks.reshape(-1))
    return path


HONEST = [
    (layers, preset, kind)
    for layers in (4, 16, 32)
    for preset in (*PRESETS, "Q6_K", "Q3_K_S", "Q5_0", "IQ4_XS")
    for kind in ("", "log-normal", "spiky")
    if not kind or preset != "Q8_0"
]


@pytest.mark.parametrize(("layers", "preset", "kind"), HONEST)
def test_an_honest_file_is_well_made_at_any_depth(
    layers: int, preset: str, kind: str, sample: Path, tmp_path: Path, table: Table
) -> None:
    reference = sample if layers == 4 else write_deep(tmp_path / "deep.gguf", layers)
    ids = IDS if layers == 4 else list(range(3, 24))
    path = tmp_path / "plain.gguf"
    quantize_model(reference, {path: preset})
    if kind:
        path = weighed(reference, path, tmp_path / "weighed.gguf", kind)
    what = f"{preset}, {layers} layers{kind and f', {kind} importance'}"
    verdict = table.judge(what, reference, path, ids)
    assert verdict.making is not None
    assert verdict.making.faults == ()
    assert verdict.well_made
    assert verdict.accepted
    if not kind:
        assert verdict.making.identical == verdict.making.tensors
    if preset == "Q8_0" and layers == 4:  # random weights amplify what is small
        assert verdict.effect.level is Level.NEGLIGIBLE


def _scaled(rows: slice) -> Change:
    def change(weights: Weights) -> Weights:
        weights[rows] *= np.float32(1.2)
        return weights

    return change


def _reversed(rows: slice) -> Change:
    def change(weights: Weights) -> Weights:
        weights[rows] = weights[rows][::-1].copy()
        return weights

    return change


def _moved(to: slice, source: slice) -> Change:
    def change(weights: Weights) -> Weights:
        weights[to] = weights[source].copy()
        return weights

    return change


def _noisy(weights: Weights) -> Weights:
    noise = np.random.default_rng(1).standard_normal(weights.shape)
    # As large as half of what Q2_K loses.
    changed: Weights = (weights + 0.3 * weights.std() * noise).astype(np.float32)
    return changed


def _foreign(weights: Weights) -> Weights:
    noise = np.random.default_rng(2).standard_normal(weights.shape)
    changed: Weights = (weights.std() * noise).astype(np.float32)
    return changed


def _columns(weights: Weights) -> Weights:
    weights[:, :32] = weights[:, 64:96]
    return weights


# What is done to which tensor, and the part of it that is to be named, if it is a part.
FAULTS: dict[str, tuple[str, Change, str]] = {
    "W_q scaled by 1.2": ("blk.1.attn_q.weight", _scaled(slice(None)), ""),
    "a head of W_q scaled by 1.2": ("blk.2.attn_q.weight", _scaled(head_rows(5)), "head 5"),
    "a key head scaled by 1.2": ("blk.2.attn_k.weight", _scaled(head_rows(1)), "KV head 1"),
    "rows of a head reversed": ("blk.2.attn_q.weight", _reversed(head_rows(3)), "head 3"),
    "two rows swapped": ("blk.0.attn_q.weight", _reversed(slice(70, 72)), "head 2"),
    "two rows of ffn_up swapped": ("blk.0.ffn_up.weight", _reversed(slice(70, 72)), "row 70"),
    "a head from elsewhere": ("blk.3.attn_q.weight", _moved(head_rows(6), head_rows(1)), "head 6"),
    "a head of W_o from elsewhere": ("blk.3.attn_output.weight", _columns, ""),
    "a tensor of another model": ("blk.1.ffn_down.weight", _foreign, ""),
    "noise": ("blk.1.ffn_gate.weight", _noisy, ""),
}


@pytest.mark.parametrize("preset", ["F16", "Q8_0", "Q4_K_M", "Q3_K_M", "Q4_0", "Q2_K"])
@pytest.mark.parametrize("kind", ["", "log-normal"])
@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_is_named_with_tensor_layer_and_head(
    fault: str,
    kind: str,
    preset: str,
    sample: Path,
    tmp_path: Path,
    made: Callable[[str], Path],
    table: Table,
) -> None:
    name, change, part = FAULTS[fault]
    plain = sample if preset == "F16" else made(preset)
    with open_gguf(sample) as file:
        wrong = altered(file, tmp_path / "wrong.gguf", {name: change})
    other = wrong
    if preset != "F16":
        other = tmp_path / "fault.gguf"
        quantize_model(wrong, {other: preset})
        if kind:
            other = weighed(wrong, plain, tmp_path / "weighed.gguf", kind)
    verdict = table.judge(f"{preset}{kind and f' {kind}'}: {fault}", sample, other, IDS)
    assert verdict.making is not None
    found = verdict.making.faults
    if (fault, kind, preset) == ("noise", "log-normal", "Q2_K"):
        # As much as the type itself loses: an importance matrix may do that as well.
        assert found == ()
        return
    assert {each.tensor for each in found} == {name}
    assert found[0].layer == int(name.split(".")[1])
    if part and not kind:
        assert {each.part for each in found} == {part}
