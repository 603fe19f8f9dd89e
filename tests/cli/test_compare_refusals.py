"""What `ggufscope compare-attention` cannot do: one clear error, before any long work."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ggufscope.container.file import open_gguf
from ggufscope.forward import weights
from ggufscope.forward.transformer import Transformer
from tests.cli.conftest import Run
from tests.measure.altered import altered
from tests.models import makers


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--prompt", ""], "the prompt is empty"),
        (["--ids", ""], "the prompt is empty"),
        (["--ids", "1,x"], "no list of ids"),
        (["--ids", "1,1024"], "1024"),
        (["--ids", "-1"], "-1"),
        (["--ids", ",".join(["1"] * 257 + ["1024"])], "token 1024 at position 257"),
        (["--ids", "0,1", "--context", "1"], "a context of 1 token has room for"),
        (["--prompt", "a", "--ids", "1"], "beside"),
        (["--prompt-file", "nowhere.txt"], "nowhere.txt"),
        (["--layer", "99"], "no layer 99"),
        (["--layer", "-1"], "no layer -1"),
        (["--head", "8"], "no head 8"),
        (["--types", "Q9_9"], "Q9_9"),
        (["--types", ","], "names no type"),
        (["--types", "Q4_K,q4_k"], "twice"),
        (["--types", "IQ1_S"], "IQ1_S"),
        (["--recipe", "Q9_K"], "Q9_K"),
        (["--type-k", "q9"], "q9"),
        (["--type-v", "q9"], "q9"),
        (["--tolerance", "much"], "much"),
        (["--against", "nowhere.gguf"], "nowhere.gguf"),
        (["--brief", "--by", "head"], "--brief leaves out what --by asks for"),
        (["--brief", "--layer", "1"], "--brief leaves out what --layer asks for"),
        (["--brief", "--head", "0"], "--brief leaves out what --head asks for"),
        (["--types", "IQ1_S"], "`evaluate --imatrix` take it"),
    ],
    ids=lambda value: " ".join(value)[:24] if isinstance(value, list) else "",
)
def test_what_cannot_be_done_is_one_clear_error_before_any_work(
    arguments: list[str],
    said: str,
    run: Run,
    sample: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def no_work(*_: object) -> None:
        raise AssertionError("a weight was read")

    monkeypatch.setattr(weights._StoredMatrix, "rows", no_work)
    code, _, error = run("compare-attention", sample, *arguments)
    assert code == 2
    assert error.startswith("error: ")
    assert said in error
    assert "\nhint: " in error
    assert len(error.splitlines()) == 2


@pytest.mark.parametrize("which", ["reference", "candidate"])
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_weight_that_is_no_number_is_found_before_the_first_layer(
    which: str,
    value: float,
    run: Run,
    sample: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def damage(weights: Any) -> Any:
        weights[17, 5] = value
        return weights

    with open_gguf(sample) as file:
        bad = altered(file, tmp_path / "bad.gguf", {"blk.3.ffn_down.weight": damage})
    monkeypatch.setattr(Transformer, "embed", lambda *_, **__: pytest.fail("it began"))
    arguments = [bad] if which == "reference" else [sample, "--against", bad]
    said = f"error: {bad}: tensor 'blk.3.ffn_down.weight' has a NaN or an infinity in row 17\n"
    code, _, error = run("compare-attention", *arguments)
    assert code == 2
    assert error.startswith(said)
    code, _, error = run("evaluate", *arguments, "--ids", ",".join(["1"] * 32), "-c", "16")
    assert code == 2
    assert error.startswith(said)


@pytest.mark.parametrize("command", ["compare-attention", "evaluate"])
def test_a_candidate_that_is_cut_short_is_the_only_file_named(
    command: str, run: Run, sample: Path, tmp_path: Path
) -> None:
    cut = tmp_path / "cut.gguf"
    cut.write_bytes(sample.read_bytes()[:1_000_000])
    code, _, error = run(command, sample, "--against", cut, "--ids", "1,2,3")
    assert code == 2
    assert str(cut) in error
    assert str(sample) not in error


def test_two_files_that_are_not_the_same_model(run: Run, sample: Path, tmp_path: Path) -> None:
    other = makers.make(tmp_path / "other.gguf", "llama-gqa")
    code, _, err = run("compare-attention", sample, "--against", other)
    assert code == 2
    assert "is not the same model as" in err


def test_an_architecture_without_a_forward_pass(run: Run, tmp_path: Path) -> None:
    model = makers.make(tmp_path / "m.gguf", "mamba")
    code, _, err = run("compare-attention", model, "--ids", "1")
    assert code == 2
    assert err.startswith("error: ")


def test_a_model_without_a_tokenizer_is_run_by_ids(run: Run, tmp_path: Path) -> None:
    words = ("compare-attention", makers.make(tmp_path / "m.gguf", "llama-gqa"), "--types", "Q8_0")
    code, out, _ = run(*words, "--ids", "1,2,3")
    assert code in {0, 1}
    assert "3 tokens" in out
    code, _, err = run(*words)
    assert code == 2
    assert "--ids" in err


@pytest.mark.parametrize("command", ["compare-attention", "evaluate"])
@pytest.mark.parametrize(
    ("made_by", "said"),
    [
        (["quantize", "Q8_0", "--prune-layers", "0,1,2,3"], "'llama.block_count' is 0"),
        (["edit", "--remove", "llama.attention.layer_norm_rms_epsilon", "--unsound"], "epsilon"),
        (["imatrix"], "'general.architecture' is missing"),
    ],
    ids=["no layers", "no epsilon", "imatrix"],
)
def test_an_error_of_a_candidate_names_the_candidate(
    command: str, made_by: list[str], said: str, run: Run, sample: Path, tmp_path: Path
) -> None:
    candidate, (maker, *options) = tmp_path / "candidate.gguf", made_by
    ids = ",".join(map(str, range(512)))
    if maker == "imatrix":
        options = ["--ids", ids, "--context", "256", "--output"]
        assert run(maker, sample, *options, candidate)[0] == 0
    else:
        assert run(maker, sample, candidate, *options)[0] == 0
    code, _, error = run(command, sample, "--against", candidate, "--ids", ids)
    assert code == 2
    assert said in error
    assert f"error: {candidate}: " in error
    assert sample.name not in error
