"""`ggufscope check`, run as people run it, at 80 columns."""

from __future__ import annotations

import json
import os
import re
import shutil
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from ggufscope.container.file import open_gguf
from tests.checking.models import with_metadata
from tests.checking.test_belonging import FITS, LORA, other
from tests.cli.conftest import Run
from tests.golden.make_hashes import GOLDEN, NAME
from tests.models.families import SMALL, write
from tests.models.makers import raw_gguf, tensor
from tests.program import inside


@pytest.fixture
def run(run: Run) -> Run:
    """Run `check` in this process."""
    return partial(run, "check")


@pytest.fixture
def damaged(sample: Path, tmp_path: Path) -> Path:
    """The sample with a NaN in one weight."""
    path = tmp_path / "damaged.gguf"
    raw = bytearray(sample.read_bytes())
    with open_gguf(sample) as file:
        at = file.tensor("blk.1.ffn_up.weight").offset + 2 * (256 * 3 + 17)
    raw[at : at + 2] = b"\xff\xff"
    path.write_bytes(raw)
    return path


def test_a_sound_file(run: Run, sample: Path) -> None:
    code, out, err = run(sample)
    assert (code, err) == (0, "")
    assert out.endswith("verdict  sound\n")
    assert "model, 39 tensors, 6.79 MiB" in out
    assert run(sample, "--brief") == (0, f"{sample}: sound\n", "")
    code, out, _ = run(sample, "--quick")
    assert (code, out.splitlines()[-1]) == (0, "verdict  sound; no weight was looked at")


def test_what_is_wrong_what_it_means_and_what_to_do(run: Run, damaged: Path) -> None:
    code, out, err = run(damaged)
    assert (code, err) == (1, "")
    words = " ".join(out.split())
    assert "verdict not sound: 1 error" in words
    assert "error tensor 'blk.1.ffn_up.weight' (F16): there is nan in weight 17 of row 3" in words
    assert "It means: what is computed with these weights is no number" in words
    assert "What to do: download it again" in words
    assert "llama.cpp says: tensor 'blk.1.ffn_up.weight' has invalid data" in words
    assert max(map(len, out.splitlines())) <= 80
    assert run(damaged, "--quick")[0] == 0


def test_an_unreadable_file_is_an_answer_with_2(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "page.gguf"
    path.write_text("<!doctype html><html>")
    code, out, err = run(path)
    assert (code, err) == (2, "")
    assert "verdict  unreadable\n" in out
    assert "it is a web page" in out
    code, out, err = run(tmp_path / "gone.gguf")
    assert (code, out) == (2, "")
    assert err.startswith(f"error: {tmp_path / 'gone.gguf'}: no such file\nhint: ")


def test_several_files_and_folders(run: Run, damaged: Path, sample: Path, tmp_path: Path) -> None:
    (tmp_path / "bad.gguf").write_bytes(b"")
    code, out, _ = run(sample, tmp_path, "--brief")
    assert code == 2
    assert out.splitlines()[-1] == "3 files: 1 sound, 1 unreadable, 1 not sound"
    code, out, _ = run(sample, damaged)
    assert code == 1
    assert out.count("verdict  ") == 2
    told = json.loads(run(sample, tmp_path, "--json")[1])
    assert [model["outcome"] for model in told["models"]] == ["sound", "unreadable", "not sound"]


def test_a_path_that_leads_nowhere_keeps_no_other_waiting(
    run: Run, sample: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "access", lambda *_, **__: False)  # nobody asks: what opens it says
    (tmp_path / "empty").mkdir()
    names = (tmp_path / "gone.gguf", tmp_path / "empty", sample)
    code, out, err = run(*names, "--quick", "--brief")
    assert (code, err) == (2, "")
    assert out.splitlines()[-1] == "3 files: 2 unreadable, 1 sound"
    assert "gone.gguf:nosuchfile" in "".join(run(*names, "--quick")[1].split())


def test_hashes_are_a_manifest_that_is_verified(
    run: Run, sample: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    shutil.copy(sample, NAME)
    code, out, _ = run(NAME, "--hash", "xxh64")
    theirs = [line for line in GOLDEN.read_text().splitlines() if line.startswith("xxh64")]
    assert code == 0
    assert out.splitlines()[-40:] == theirs
    manifest = tmp_path / "manifest"
    manifest.write_text(out)
    code, out, _ = run(NAME, "--verify", manifest)
    assert (code, "hashes against the manifest" in " ".join(out.split())) == (0, True)
    code, out, _ = run(NAME, "--hash", "sha1", "--no-layer", "--brief")
    assert (len(out.splitlines()), "sha1 " in out) == (3, True)
    raw = bytearray(sample.read_bytes())
    raw[-40] ^= 1
    Path(NAME).write_bytes(raw)
    code, out, _ = run(NAME, "--verify", manifest)
    assert code == 1
    assert "llama.cpp says: Mismatch" in out


def test_the_recipe_is_written_down_and_taken_again(run: Run, sample: Path, tmp_path: Path) -> None:
    from ggufscope.recipes.apply import quantize_model
    from ggufscope.recipes.options import PlanOptions, parse_type_rules

    made, rules = tmp_path / "m.gguf", tmp_path / "recipe.txt"
    options = PlanOptions(tensor_types=parse_type_rules("attn_v=q8_0"))
    quantize_model(sample, {made: "Q4_K_M"}, options=options)
    code, out, _ = run(made, "--recipe-out", rules)
    assert code == 0
    assert "called Q4_K_M, is Q4_K_M but for 4 of 30 matrices" in " ".join(out.split())
    assert "^blk\\.0\\.attn_v\\.weight$=q8_0\n" in rules.read_text()
    assert len(rules.read_text().splitlines()) == 30
    assert run(made, "--recipe-out", rules)[0] == 2
    assert run(made, "--recipe-out", rules, "--force")[0] == 0
    code, _, err = run(made, "--recipe-out", made, "--force")
    assert (code, "is a file that is read" in err) == (2, True)
    again = tmp_path / "again.gguf"
    words = ("quantize", sample, again, "Q4_K_M", "--tensor-type-file", rules, "-q", "--brief")
    assert inside(*words).returncode == 0
    assert again.read_bytes() == made.read_bytes()


def test_whether_another_file_belongs_to_it(run: Run, tmp_path: Path) -> None:
    model = write(tmp_path / "m.gguf", SMALL["llama-gqa"])
    lora = other(tmp_path / "l.gguf", "llama", LORA, FITS)
    wrong = other(tmp_path / "w.gguf", "qwen2", LORA, FITS)
    code, out, _ = run(model, "--with", lora)
    assert (code, "l.gguf belongs to it, as a LoRA adapter" in out) == (0, True)
    code, out, _ = run(model, "--with", lora, "--with", wrong)
    assert (code, "w.gguf does not belong to it" in out) == (1, True)
    assert "llama.cpp says: model arch and LoRA arch mismatch" in out
    code, _, err = run(model, "--with", tmp_path / "gone.gguf")
    assert (code, "no such file" in err) == (2, True)
    code, out, _ = run(lora)
    assert (code, "adapter, 4 tensors" in out) == (0, True)


@pytest.mark.parametrize("count", [1, 2])
def test_a_file_to_belong_that_cannot_be_read_is_its_own_fault(
    count: int, run: Run, tmp_path: Path
) -> None:
    models = [write(tmp_path / f"m{n}.gguf", SMALL["llama-gqa"]) for n in range(count)]
    empty = tmp_path / "empty.gguf"
    empty.write_bytes(b"")
    for path, said in ((empty, "the file is empty"), (tmp_path / "gone.gguf", "no such file")):
        code, out, err = run(*models, "--with", path)
        assert (code, out) == (2, "")
        assert err.startswith(f"error: {path}")
        assert said in err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--quick", "--hash", "sha256"], "--quick reads no weight"),
        (["--no-layer"], "--no-layer is about hashes"),
        (["--json", "--brief"], "are two forms of one result"),
        (["--hash", "md5"], "md5"),
    ],
)
def test_options_that_make_no_sense(words: list[str], said: str, run: Run, sample: Path) -> None:
    code, out, err = run(sample, *words)
    assert (code, out) == (2, "")
    assert said in err


def test_no_control_character_of_a_file_is_printed(tmp_path: Path) -> None:
    name = "blk.0.\x1b[31mred\u202e.weight"
    path = tmp_path / "m.gguf"
    lines = [tensor("output.weight", (32, 2)), tensor(name, (32, 2), offset=256)]
    path.write_bytes(raw_gguf([], lines, b"\xff" * 512))
    evil = {"tokenizer.chat_template": "{{ x.__class__ \x1b[2J }}"}
    done = inside("check", path, with_metadata(tmp_path / "n.gguf", evil), "--hash", "sha1")
    assert done.returncode == 1
    out = done.stdout
    assert not re.search("[\x00-\x08\x0b-\x1f\x7f\u202e]", out)
    assert "\\x1b[31mred\\u202e" in out
    assert max(len(line) for line in out.splitlines() if not line.startswith("sha1")) <= 80


def test_many_findings_are_cut_and_all_are_in_json(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "m.gguf"
    lines = [tensor(f"t{n}", (32, 2), offset=256 * n) for n in range(30)]
    path.write_bytes(raw_gguf([], lines, b"\xff" * 256 * 30))
    code, out, _ = run(path)
    assert (code, out.splitlines()[-1]) == (1, "... and 11 more: --json has all")
    told: Any = json.loads(run(path, "--json")[1])
    assert len(told["models"][0]["findings"]) == 31
