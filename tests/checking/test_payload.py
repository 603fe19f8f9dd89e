"""Every block: numbers that are none, holes of a download, and who else gets the bytes."""

from __future__ import annotations

from pathlib import Path

import gguf
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ggufscope import quantize
from ggufscope.checking import payload
from ggufscope.checking.findings import Grade
from ggufscope.checking.payload import LEAST_ZEROS, PAGE, payload_findings, zero_stretches
from ggufscope.container.file import Tensor, open_gguf
from tests.checking.models import checked, found_in, large, the_one
from tests.container.test_unfinished import cut_off

TYPES = ["F32", "F16", "BF16", "Q4_K", "Q8_0", "MXFP4", "IQ4_NL"]


def write(path: Path, type_: str = "Q4_K", order: str = "<", rows: int = 256) -> Path:
    """A file of two matrices of a type, (rows, 1024) each, and a vector between them."""
    endian = gguf.GGUFEndian.BIG if order == ">" else gguf.GGUFEndian.LITTLE
    writer = gguf.GGUFWriter(path, "unheard-of", endianess=endian)
    kind = gguf.GGMLQuantizationType[type_]
    for name in ("first.weight", "second.weight"):
        blocks = quantize(large(len(name), rows), type_)
        if type_ in {"F16", "F32"}:
            writer.add_tensor(name, blocks)
        else:
            writer.add_tensor(name, blocks.view(np.uint8).reshape(rows, -1), raw_dtype=kind)
        if name == "first.weight":
            writer.add_tensor("norm.weight", np.zeros(8192, np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def poke(path: Path, tensor: str, at: int, data: bytes) -> None:
    """Write bytes into a tensor, from byte ``at`` of it on."""
    with open_gguf(path) as file:
        place = file.tensor(tensor).offset + at
    with path.open("r+b") as opened:
        opened.seek(place)
        opened.write(data)


@pytest.mark.parametrize("type_", TYPES)
def test_sound_weights_are_sound(type_: str, tmp_path: Path) -> None:
    path = write(tmp_path / "m.gguf", type_)
    assert [each for each in found_in(path) if each.subject == "weights"] == []
    assert "weights" in checked(path).looked_at
    assert "weights" not in checked(path, quick=True).looked_at


@pytest.mark.parametrize("threads", [1, 2])
def test_tensor_block_row_and_weights_are_named(
    threads: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(payload, "SLAB", 30_000)  # many slabs
    path = write(tmp_path / "m.gguf")
    for block in (809, 1000):  # of 144 bytes, four to a row; d comes first, then dmin
        poke(path, "second.weight", 144 * block + 2, b"\x00\x7c")
    finding = the_one(path, "weights", threads=threads)
    assert finding.grade is Grade.ERROR
    assert finding.tensor == "second.weight"
    assert finding.what == (
        "tensor 'second.weight' (Q4_K): dmin is inf in block 809 "
        "(weights 256 to 511 of row 202); 2 blocks have such"
    )
    assert finding.llama_cpp == "tensor 'second.weight' has invalid data"


def test_a_weight_by_itself_is_named(tmp_path: Path) -> None:
    path = write(tmp_path / "m.gguf", "F16")
    poke(path, "first.weight", 2 * (1024 * 7 + 33), b"\x01\xfe")
    said = the_one(path, "weights").what
    assert said == "tensor 'first.weight' (F16): there is nan in weight 33 of row 7"
    path = write(tmp_path / "n.gguf", "MXFP4")
    poke(path, "first.weight", 17 * 3, b"\xff")
    said = the_one(path, "weights").what
    assert "the exponent e is 255, which stands for no number in block 3" in said


def test_a_big_endian_file(tmp_path: Path) -> None:
    path = write(tmp_path / "m.gguf", "F32", ">")
    poke(path, "first.weight", 4 * 5, b"\x7f\x80\x00\x00")
    findings = found_in(path)
    assert [each.subject for each in findings if each.grade is Grade.ERROR] == ["weights"]
    assert "there is inf in weight 5 of row 0" in findings[0].what
    assert "extremely large" in findings[1].llama_cpp


@pytest.mark.parametrize("type_", TYPES)
def test_a_hole_is_an_error(type_: str, tmp_path: Path) -> None:
    path = write(tmp_path / "m.gguf", type_)
    with open_gguf(path) as file:
        offset = file.tensor("second.weight").offset
    at = -offset % PAGE + 5 * PAGE  # where a page of the file begins
    poke(path, "second.weight", at, bytes(LEAST_ZEROS + PAGE))
    finding = the_one(path, "weights")
    assert finding.grade is Grade.ERROR
    assert "a part of the file was never written" in finding.meaning
    begins = int(finding.what.split("file bytes ")[1].split(" ")[0].replace(",", ""))
    assert offset + at - 8 <= begins <= offset + at


def test_what_begins_and_ends_with_no_page_is_a_warning(tmp_path: Path) -> None:
    path = write(tmp_path / "m.gguf", "F32")
    with open_gguf(path) as file:
        offset = file.tensor("second.weight").offset
    poke(path, "second.weight", -offset % PAGE + 1000, bytes(20_000))
    finding = the_one(path, "weights")
    assert finding.grade is Grade.WARNING
    assert "20,000 zero bytes in a row" in finding.what


def test_rows_of_zeros_are_a_note_and_few_zeros_nothing(tmp_path: Path) -> None:
    path = write(tmp_path / "m.gguf", "F32")
    poke(path, "second.weight", 4096 * 10, bytes(4096 * 20))
    finding = the_one(path, "weights")
    assert (finding.grade, "has 20 rows, of 256" in finding.what) == (Grade.NOTE, True)
    assert checked(path).clean
    path = write(tmp_path / "n.gguf", "F32")
    poke(path, "second.weight", 100, bytes(LEAST_ZEROS - 8))
    assert [each for each in found_in(path) if each.subject == "weights"] == []


def test_a_matrix_of_zeros_and_the_end_of_a_file(tmp_path: Path) -> None:
    path = write(tmp_path / "m.gguf", "F16")
    poke(path, "first.weight", 0, bytes(2 * 1024 * 256))
    assert the_one(path, "weights").what == "tensor 'first.weight' (F16) is all zero"
    whole = write(tmp_path / "w.gguf", "F16")
    path = cut_off(whole, tmp_path / "c.gguf", "norm.weight")
    finding = the_one(path, "weights")
    assert finding.grade is Grade.ERROR
    assert finding.what == "c.gguf: every tensor from 'norm.weight' on is zero, 2 of 3"


class _Whole:
    """What came by, for a comparison with the file."""

    def __init__(self) -> None:
        self.came: dict[str, bytearray] = {}

    def take(self, tensor: Tensor, start: int, data: memoryview) -> None:
        assert len(self.came.setdefault(tensor.name, bytearray())) == start
        self.came[tensor.name] += data


def test_everybody_gets_every_byte_in_order(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(payload, "SLAB", 10_000)
    sinks = [_Whole(), _Whole()]
    told: list[tuple[int, int]] = []
    with open_gguf(write(tmp_path / "m.gguf", "Q8_0")) as file:
        payload_findings(file, sinks, 2, lambda done, total, _: told.append((done, total)))
        for sink in sinks:
            assert sink.came == {t.name: bytes(t.data()) for t in file.tensors.values()}
        total = sum(tensor.nbytes for tensor in file.tensors.values())
    assert told[-1] == (total, total)
    assert told == sorted(told)


@given(st.lists(st.tuples(st.booleans(), st.integers(1, 3 * PAGE)), min_size=1, max_size=6))
def test_stretches_are_those_that_a_loop_finds(parts: list[tuple[bool, int]]) -> None:
    data = np.concatenate([np.full(n, 0 if zero else 7, np.uint8) for zero, n in parts])
    edges = np.flatnonzero(np.diff(np.concatenate([[0], data == 0, [0]]).astype(np.int8)))
    every = list(zip(edges[::2].tolist(), edges[1::2].tolist(), strict=True))
    found = zero_stretches(data)
    assert set(found) <= set(every)
    assert [each for each in every if each[1] - each[0] >= 2 * PAGE - 1 or each[0] == 0] == [
        each for each in found if each[1] - each[0] >= 2 * PAGE - 1 or each[0] == 0
    ]
    if every and every[-1][1] == len(data):
        assert found[-1] == every[-1]
