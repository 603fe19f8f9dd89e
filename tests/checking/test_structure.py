"""Files that cannot be read, and files that can and are odd all the same."""

from __future__ import annotations

import shutil
import struct
from pathlib import Path

import pytest

from ggufscope import errors
from ggufscope.checking.findings import Grade
from ggufscope.checking.paths import models_in
from ggufscope.checking.structure import _REFUSALS, refusal
from ggufscope.checking.upstream import SAID, said
from ggufscope.recipes.apply import quantize_model
from tests.checking.models import checked, the_one
from tests.models.families import SMALL, write
from tests.models.makers import pair, raw_gguf, tensor, text
from tests.oracles import ggml, llama_cpp_reads

U16, U32, STRING = 2, 4, 8
ARCHITECTURE = pair("general.architecture", STRING, text("flux"))

UNREADABLE = {
    "empty": (b"", "failed to read magic"),
    "a page": (b"<!doctype html><html>", "invalid magic characters"),
    "version 1": (raw_gguf(version=1), "GGUFv1 is no longer supported"),
    "version 9": (raw_gguf(version=9), "but this software only supports up to version"),
    "many tensors": (raw_gguf(n_tensors=1 << 60), "failed to read header"),
    "no key": (raw_gguf([pair("", U32, bytes(4))]), "is empty"),
    "two keys": (raw_gguf([pair("a", U32, bytes(4))] * 2), "duplicate key 'a' for KV pair"),
    "type 99": (raw_gguf([pair("a", 99, bytes(4))]), "key 'a' has invalid GGUF type"),
    "alignment 3": (
        raw_gguf([pair("general.alignment", U32, struct.pack("<I", 3))]),
        "is not a power of 2",
    ),
    "alignment text": (
        raw_gguf([pair("general.alignment", STRING, text("32"))]),
        "key 'general.alignment' must be of type",
    ),
    "long name": (raw_gguf([], [tensor("x" * 80)], bytes(128)), "is too long:"),
    "two tensors": (raw_gguf([], [tensor("a")] * 2, bytes(256)), "duplicate tensor name 'a' for"),
    "five dims": (
        raw_gguf([], [tensor("a", (1,) * 5)], bytes(32)),
        "tensor 'a' has invalid number",
    ),
    "negative": (raw_gguf([], [tensor("a", (-1,))], bytes(32)), "has invalid number of elements:"),
    "huge": (raw_gguf([], [tensor("a", (1 << 40, 1 << 40))], bytes(32)), "may cause overflow"),
    "ragged": (
        raw_gguf([], [tensor("a", (31,), 2)], bytes(32)),
        "elements per row, not a multiple",
    ),
    "gap": (raw_gguf([], [tensor("a", offset=64)], bytes(256)), "tensor 'a' has offset"),
    "cut": (raw_gguf([], [tensor("a", (99,))], bytes(32)), "tensor 'a' data is not within the"),
    "cut header": (raw_gguf([ARCHITECTURE])[:-2], "failed to read key-value pairs"),
}


@pytest.mark.parametrize("name", UNREADABLE)
def test_what_cannot_be_read_is_explained(name: str, tmp_path: Path) -> None:
    data, upstream = UNREADABLE[name]
    path = tmp_path / "m.gguf"
    path.write_bytes(data)
    found = checked(path)
    assert not found.readable
    assert found.verdict.startswith("unreadable")
    (finding,) = found.findings
    assert finding.grade is Grade.ERROR
    assert upstream in finding.llama_cpp
    assert finding.meaning
    assert finding.advice
    assert name == "cut" or not llama_cpp_reads(path)


def test_every_refusal_has_words() -> None:
    kinds = [*errors.FormatError.__subclasses__(), *errors.ShardError.__subclasses__()]
    assert {kind for kind in kinds if kind not in _REFUSALS} == {errors.BeyondLimit}
    assert refusal(errors.BeyondLimit("x", hint="y")).llama_cpp == ""


def test_llama_cpps_words_are_those_of_a_real_build() -> None:
    binary = Path(ggml()._name).read_bytes()
    # `PRIu32` and its kin are other letters on other systems: what is between the places counts.
    lost = [words for words in SAID.values() if words.encode() not in binary]
    assert lost == []
    assert said("shape", "x") == "tensor 'x' has wrong shape; expected ..., got ..."


@pytest.mark.parametrize(
    ("number", "words", "upstream"),
    [
        (31, "one tensor is of Q4_0_4_4 (number 31), which ggml has retired", "elements per row"),
        (250, "type number 250, which ggml does not define", "has invalid ggml type 250."),
    ],
)
def test_types_of_others(number: int, words: str, upstream: str, tmp_path: Path) -> None:
    path = tmp_path / "m.gguf"
    path.write_bytes(raw_gguf([ARCHITECTURE], [tensor("a", (64,), number)], bytes(64)))
    finding = the_one(path, "structure")
    assert finding.grade is Grade.ERROR
    assert words in finding.what
    assert upstream in finding.llama_cpp
    assert not llama_cpp_reads(path)


def test_bytes_too_many_and_too_few(tmp_path: Path) -> None:
    path = tmp_path / "m.gguf"
    path.write_bytes(raw_gguf([ARCHITECTURE], [tensor("a", (33,))], b"\x01" * (132 + 28 + 5)))
    finding = the_one(path, "structure")
    assert (finding.grade, "5 bytes after the last tensor" in finding.what) == (Grade.WARNING, True)
    path.write_bytes(raw_gguf([ARCHITECTURE], [tensor("a", (33,))], b"\x01" * 132))
    finding = the_one(path, "structure")
    assert (finding.grade, "28 bytes of padding" in finding.what) == (Grade.NOTE, True)


def test_shards_of_two_models_and_a_shard_that_is_gone(tmp_path: Path) -> None:
    source = write(tmp_path / "m.gguf", SMALL["llama-gqa"])
    quantize_model(source, {tmp_path / "s.gguf": "COPY"}, split_max_size=40_000)
    shards = sorted(tmp_path.glob("s-*.gguf"))
    assert len(shards) > 2
    assert checked(shards[1]).verdict == "sound"
    assert [path.name for path in models_in([tmp_path])] == ["m.gguf", shards[0].name]
    shutil.move(shards[2], tmp_path / "elsewhere")
    found = checked(shards[0])
    assert not found.readable
    assert found.findings[0].llama_cpp == "failed to load GGUF split from"


def test_a_shard_that_says_something_else(tmp_path: Path) -> None:
    for number, architecture in enumerate(("flux", "other")):
        pairs = [
            pair("general.architecture", STRING, text(architecture)),
            pair("split.no", U16, struct.pack("<H", number)),
            pair("split.count", U16, struct.pack("<H", 2)),
        ]
        path = tmp_path / f"m-0000{number + 1}-of-00002.gguf"
        path.write_bytes(raw_gguf(pairs, [tensor(f"t{number}")], b"\x01" * 128))
    finding = the_one(tmp_path / "m-00001-of-00002.gguf", "structure")
    assert finding.grade is Grade.ERROR
    assert "m-00002-of-00002.gguf says general.architecture is 'other', not 'flux'" in finding.what


def test_a_model_beside_its_own_shards_is_another(tmp_path: Path) -> None:
    for name in ("m.gguf", "m-00001-of-00002.gguf", "m-00002-of-00002.gguf"):
        (tmp_path / name).touch()
    assert [path.name for path in models_in([tmp_path])] == ["m-00001-of-00002.gguf", "m.gguf"]


def test_folders_lead_to_their_models(sample: Path, tmp_path: Path) -> None:
    below = tmp_path / "a" / "b"
    below.mkdir(parents=True)
    shutil.copy(sample, below / "m.gguf")
    blob = tmp_path / "a" / f"sha256-{'0' * 64}"
    blob.write_bytes(b"GGUF....")
    (tmp_path / "a" / f"sha256-{'1' * 64}").write_bytes(b"{}")
    (tmp_path / "a" / "readme.txt").write_text("no model")
    assert models_in([tmp_path]) == [blob, below / "m.gguf"]
    assert models_in([below / "m.gguf", below]) == [below / "m.gguf"]
    with pytest.raises(errors.SourceNotFound):
        models_in([tmp_path / "gone"])
    (tmp_path / "empty").mkdir()
    with pytest.raises(errors.NotAFile, match="no GGUF file is in it"):
        models_in([tmp_path / "empty"])
