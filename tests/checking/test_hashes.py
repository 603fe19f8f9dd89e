"""Hashes in the manifest of `llama-gguf-hash`: its own lines are in `golden/hashes`."""

from __future__ import annotations

import hashlib
import shutil
from pathlib import Path

import pytest

from ggufscope.checking.findings import Finding, Grade, TensorHash
from ggufscope.checking.hashes import ALGORITHMS, parse_manifest, strongest
from ggufscope.checking.payload import SLAB
from ggufscope.container.file import open_gguf
from ggufscope.errors import BadUsage
from ggufscope.recipes.apply import quantize_model
from tests.checking.models import checked
from tests.golden.make_hashes import GOLDEN, NAME

MANIFEST = GOLDEN.read_text(encoding="utf-8")


@pytest.fixture
def model(sample: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The sample under the name that the manifest was made with."""
    monkeypatch.chdir(tmp_path)
    shutil.copy(sample, NAME)
    return Path(NAME)


def _found(path: Path, manifest: str, **options: object) -> list[Finding]:
    checks = checked(path, manifest=parse_manifest(manifest, "m"), **options)
    return [each for each in checks.findings if each.subject == "hash"]


@pytest.mark.parametrize("algorithm", ALGORITHMS)
@pytest.mark.parametrize("layers", [True, False])
def test_lines_are_those_of_llama_gguf_hash(algorithm: str, layers: bool, model: Path) -> None:
    lines = [each.line() for each in checked(model, algorithm=algorithm, layers=layers).hashes]
    theirs = [line for line in MANIFEST.splitlines() if line.startswith(algorithm)]
    assert lines == (theirs if layers else theirs[-1:])
    assert len(theirs) == 40


def test_its_manifest_is_verified(model: Path) -> None:
    assert _found(model, MANIFEST) == []
    assert strongest(parse_manifest(MANIFEST, "m")) == "sha256"
    moved = Path("folder")
    moved.mkdir()
    assert _found(model.rename(moved / NAME), MANIFEST) == []


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_one_changed_bit_is_found(algorithm: str, model: Path) -> None:
    with open_gguf(model) as file:
        place = file.tensor("blk.2.ffn_up.weight").offset + 999
    raw = bytearray(model.read_bytes())
    raw[place] ^= 1
    model.write_bytes(raw)
    tensor, whole = _found(model, MANIFEST, algorithm=algorithm)
    assert tensor.tensor == "blk.2.ffn_up.weight"
    assert f"tensor 'blk.2.ffn_up.weight': {algorithm} is " in tensor.what
    assert f"{NAME}, all tensors of it" in whole.what
    assert {tensor.grade, whole.grade} == {Grade.ERROR}


def test_a_manifest_of_another_file(model: Path) -> None:
    other = MANIFEST.replace(NAME, "other.gguf")
    (finding,) = _found(model, other)
    assert finding.llama_cpp == "Manifest Missing Entry"
    more = MANIFEST + f"sha256    {'0' * 64}  {NAME}:blk.9.attn_q.weight\n"
    (finding,) = _found(model, more)
    assert "1 tensors of the manifest are not in the file" in finding.what
    few = "".join(line + "\n" for line in MANIFEST.splitlines() if "ffn_up" in line)
    (finding,) = _found(model, few)
    assert (finding.grade, finding.llama_cpp) == (Grade.WARNING, "Not Found")


def test_what_is_no_manifest() -> None:
    for text in (
        "",
        "hello\n",
        "md5  00ff  a.gguf\n",
        "sha256 xyz a.gguf",
        "sha1 0 a" + "  -  " * 9000,
    ):
        with pytest.raises(BadUsage, match="no line with a hash"):
            parse_manifest(text, "m")
    (line,) = parse_manifest("xxh64     00FF  a b.gguf:t  -  Ok\n", "m")
    assert line == TensorHash("xxh64", "00ff", "a b.gguf", "t")


def test_each_shard_has_lines_of_its_own(sample: Path, tmp_path: Path) -> None:
    quantize_model(sample, {tmp_path / "m.gguf": "COPY"}, split_max_size=3_000_000)
    first = tmp_path / "m-00001-of-00003.gguf"
    hashes = checked(first, algorithm="sha1").hashes
    assert [each.path for each in hashes if each.tensor is None] == [
        str(tmp_path / f"m-0000{n}-of-00003.gguf") for n in (1, 2, 3)
    ]
    assert len(hashes) == 39 + 3


def test_a_blob_of_ollama_is_held_to_its_name(sample: Path, tmp_path: Path) -> None:
    raw = sample.read_bytes()
    path = tmp_path / f"sha256-{hashlib.sha256(raw).hexdigest()}"
    path.write_bytes(raw)
    assert len(raw) > SLAB
    (finding,) = checked(path).findings
    assert (finding.grade, finding.subject) == (Grade.NOTE, "hash")
    path.write_bytes(raw[:-1] + b"\x01")
    (finding,) = checked(path).findings
    assert finding.grade is Grade.ERROR
    assert "not its name" in finding.what
