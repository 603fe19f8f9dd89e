"""`ggufscope quantize` and `dequantize`, run as people run them."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import ggufscope
from ggufscope.cli import app
from ggufscope.container.file import open_gguf
from ggufscope.container.shards import shard_name
from tests.program import inside
from tests.recipes import golden
from tests.slices import write_slice

Run = Callable[..., int]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch) -> Run:
    """Run the program in this process; gives the exit code."""

    def run(*arguments: str | Path) -> int:
        monkeypatch.setattr(sys, "argv", ["ggufscope", *map(str, arguments)])
        with pytest.raises(SystemExit) as caught:
            app.main()
        return int(caught.value.code or 0)

    return run


def _sha(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.mark.parametrize(
    "case", golden.load("options"), ids=lambda case: " ".join([case["model"], *case["arguments"]])
)
def test_llama_quantizes_options_do_what_they_do_there(
    case: Any, run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    kind, _, before = case["model"].partition("@")
    split = {"split_max_tensors": 80} if "--keep-split" in case["arguments"] else {}
    source = write_slice(tmp_path / "source.gguf", kind, **split)
    if split:
        source = tmp_path / "source-00002-of-00003.gguf"
    if before:
        assert run("quantize", source, tmp_path / "before.gguf", before) == 0
        source = tmp_path / "before.gguf"
    target = tmp_path / "out.gguf"
    code = run("quantize", *case["arguments"], source, target, case["preset"])
    output = capsys.readouterr()
    if "refused" in case:
        assert code == 2
        assert "error: " in output.err
        assert "\nhint: " in output.err
        assert not target.exists()
    else:
        assert code == 0
        # A slice has a few rows of each matrix: that is said of those architectures that run here.
        # Of a layer to leave out that is not there, llama-quantize says nothing.
        odd = ("the model is not whole", "there is no layer 42")
        assert all(any(words in line for words in odd) for line in output.err.splitlines())
        written = sorted(tmp_path.glob("out*"))
        digests = case["sha256"] if split else [case["sha256"]]
        assert [_sha(path) for path in written] == digests


def test_the_target_has_the_type_in_its_name(run: Run, sample: Path, tmp_path: Path) -> None:
    source = tmp_path / "stories-f16.gguf"
    source.write_bytes(sample.read_bytes())
    assert run("quantize", source, "q8_0") == 0
    assert (
        _sha(tmp_path / "stories-Q8_0.gguf") == golden.load("stories")["presets"]["Q8_0"]["sha256"]
    )


def test_several_types_go_to_a_directory(run: Run, sample: Path, tmp_path: Path) -> None:
    assert run("quantize", sample, "--type", "Q8_0", "--type", "Q2_K", "-o", tmp_path) == 0
    for preset in ("Q8_0", "Q2_K"):
        expected = golden.load("stories")["presets"][preset]["sha256"]
        assert _sha(tmp_path / f"stories-{preset}.gguf") == expected


@pytest.mark.parametrize("types", [("Q8_0,Q2_K",), ("Q8_0", "Q2_K"), ("Q8_0,", "Q2_K")])
def test_types_may_be_listed_or_repeated(
    types: tuple[str, ...], run: Run, sample: Path, tmp_path: Path
) -> None:
    options = [word for type_ in types for word in ("--type", type_)]
    assert run("quantize", sample, *options, "-o", tmp_path) == 0
    written = {"stories-Q2_K.gguf", "stories-Q8_0.gguf"}
    assert {path.name for path in tmp_path.iterdir()} == written


def test_a_dry_run_says_what_the_run_does(
    run: Run, sample: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ("quantize", sample, tmp_path / "out.gguf", "Q4_K_M")
    assert run(*arguments, "--dry-run", "--json") == 0
    (outlook,) = json.loads(capsys.readouterr().out)["targets"]
    assert list(tmp_path.iterdir()) == []
    assert run(*arguments, "--json") == 0
    (result,) = json.loads(capsys.readouterr().out)["targets"]
    assert outlook["files"] == result["files"]
    assert result["files"][0]["nbytes"] == (tmp_path / "out.gguf").stat().st_size
    assert outlook["tensors"] == result["tensors"]
    errors = result["relative_error"]
    assert set(errors["tensors"]) == {
        t["name"] for t in result["tensors"] if t["type"] != t["source_type"]
    }
    assert 0.01 < errors["roles"]["output"] < errors["roles"]["attention"] < 0.1


def test_the_cost_is_what_the_tensors_lost(
    run: Run, sample: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("quantize", sample, tmp_path / "out.gguf", "Q2_K", "--json") == 0
    (result,) = json.loads(capsys.readouterr().out)["targets"]
    name = "blk.1.ffn_up.weight"
    before = open_gguf(sample).tensor(name).blocks().astype(np.float64)
    after = ggufscope.dequantize(open_gguf(tmp_path / "out.gguf").tensor(name).blocks(), "Q2_K")
    lost = np.sqrt(np.square(after - before).sum() / np.square(before).sum())
    assert result["relative_error"]["tensors"][name] == pytest.approx(lost, rel=1e-5)


def test_a_dry_run_says_that_a_target_is_there(
    run: Run, sample: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "out.gguf").write_text("precious")
    asked = ("quantize", sample, tmp_path / "out.gguf", "Q4_K_M", "--dry-run", "--brief")
    for more, needs in (((), True), (("--force",), False), (("--resume",), False)):
        assert run(*asked, *more) == 0
        said = "".join(capsys.readouterr().out.split())  # a long path has a line's end within it
        assert (f"needs--force:{tmp_path / 'out.gguf'}exists" in said) is needs
    assert (tmp_path / "out.gguf").read_text() == "precious"


def test_every_view_fits_80_columns(
    run: Run,
    sample: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    target = tmp_path / "out.gguf"
    for more in (["--dry-run"], []):
        assert run("quantize", sample, target, "Q4_K_M", *more) == 0
        lines = capsys.readouterr().out.replace(str(target), "out.gguf").splitlines()
        assert max(map(len, lines)) <= 80


@pytest.mark.parametrize(("limit", "many"), [("2M", False), ("1M", True)])
def test_many_shards_are_named_by_the_first_and_the_last(
    limit: str, many: bool, sample: Path, tmp_path: Path
) -> None:
    target = tmp_path / "g.gguf"
    done = inside("quantize", sample, target, "COPY", "--split-max-size", limit)
    assert done.returncode == 0
    count = len([*tmp_path.glob("g-*.gguf")])
    said = "".join(done.stdout.split()).partition("size")[0]
    first, last = (tmp_path / shard_name("g.gguf", n, count) for n in (0, count - 1))
    assert (count > 4) is many
    assert ("".join(f"wrote{first}to{last}".split()) == said) is many  # long paths are wrapped
    assert said.count(".gguf") == (2 if many else count)


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        ([], "a type is needed"),
        (["Q9_K"], "there is no preset 'Q9_K'"),
        (["IQ2_XS"], "without an importance matrix"),
        (["Q8_0", "--token-embedding-type", "IQ2_XS"], "without an importance matrix"),
        (["a", "b", "c"], "one word too many"),
        (["Q8_0", "--type", "Q8_0"], "cannot be used together with --type"),
        (["--type", "Q8_0", "--type", "Q8_0"], "two of the types give one target"),
        (["Q8_0", "--split-max-size", "lots"], "is no size"),
        (["Q8_0", "--override-kv", "a=b"], "overrides no key"),
        (["Q8_0", "--override-kv", "=int:2"], "names no key"),
        (["Q8_0", "--tensor-type", "("], "gives no tensor a type"),
        (["Q8_0", "--tensor-type-file", "missing"], "missing: no such file"),
        (["Q8_0", "--output-tensor-type", "Q9"], "unknown ggml type 'Q9'"),
    ],
)
def test_what_makes_no_sense(
    arguments: list[str],
    complaint: str,
    run: Run,
    sample: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    source = tmp_path / "model.gguf"
    source.write_bytes(sample.read_bytes())
    assert run("quantize", source, *arguments) == 2
    output = capsys.readouterr()
    assert output.out == ""
    assert complaint in output.err
    assert "\nhint: " in output.err
    assert list(tmp_path.iterdir()) == [source]


@pytest.mark.parametrize("type_", ["F32", "F16", "BF16"])
def test_dequantizing(type_: str, run: Run, sample: Path, tmp_path: Path) -> None:
    assert run("quantize", sample, tmp_path / "q.gguf", "Q4_K_M") == 0
    assert run("dequantize", tmp_path / "q.gguf", tmp_path / "d.gguf", "--type", type_) == 0
    name = "blk.2.ffn_down.weight"
    stored = open_gguf(tmp_path / "q.gguf").tensor(name)
    made = open_gguf(tmp_path / "d.gguf").tensor(name)
    weights = ggufscope.dequantize(stored.blocks(), stored.type.name)
    assert made.type.name == type_
    assert made.blocks().tobytes() == ggufscope.quantize(weights, type_).tobytes()


def test_a_large_model_is_done_by_workers(
    run: Run, sample: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ggufscope.recipes.apply._LARGE", 1)
    monkeypatch.setenv("GGUFSCOPE_ENGINE", "numpy")
    assert run("quantize", sample, tmp_path / "out.gguf", "Q2_K", "--threads", "2") == 0
    assert _sha(tmp_path / "out.gguf") == golden.load("stories")["presets"]["Q2_K"]["sha256"]


def test_a_pipe_shows_no_bar(sample: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "ggufscope", "quantize"]
    command += [str(sample), str(tmp_path / "o.gguf"), "Q8_0"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stderr == ""
    assert "What it cost" in done.stdout


def test_the_cost_of_quantizing_again_is_against_the_source(
    run: Run, sample: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    once = tmp_path / "once.gguf"
    assert run("quantize", sample, once, "Q4_K_M") == 0
    assert "error, relative to the weights" in capsys.readouterr().out
    assert run("quantize", "--allow-requantize", once, tmp_path / "again.gguf", "Q8_0") == 0
    assert "error, against the Q4_K_M source" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("layers", "said"),
    [
        ("0,9", ["there is no layer 9; they are 0 to 3"]),
        ("0,1,2,3", ["leaves no layer"]),
        ("1,2", []),
    ],
)
def test_what_is_odd_about_layers_to_leave_out_is_said(
    layers: str,
    said: list[str],
    run: Run,
    sample: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """As llama-quantize does, it writes the file all the same."""
    assert run("quantize", sample, tmp_path / "o.gguf", "Q8_0", "--prune-layers", layers) == 0
    warnings = capsys.readouterr().err.splitlines()
    assert len(warnings) == len(said)
    assert all(words in warning for words, warning in zip(said, warnings, strict=True))


def test_a_dry_run_says_what_the_run_will_ask_for(
    run: Run, sample: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = tmp_path / "q4.gguf"
    assert run("quantize", sample, source, "Q4_K_M") == 0
    capsys.readouterr()
    assert run("quantize", source, tmp_path / "o.gguf", "Q4_0", "--dry-run", "--brief") == 0
    assert "needs  --allow-requantize: " in capsys.readouterr().out
    allowed = ("--allow-requantize", "--dry-run", "--brief")
    assert run("quantize", source, tmp_path / "o.gguf", "Q4_0", *allowed) == 0
    assert "needs" not in capsys.readouterr().out
    assert run("dequantize", source, tmp_path / "f32.gguf") == 0
    said = capsys.readouterr().out
    assert "F32: nothing was lost" in said
    assert "%" not in said
    assert run("dequantize", source, tmp_path / "f32.gguf", "--force", "--brief") == 0
    assert "cost   nothing was lost" in capsys.readouterr().out


def test_a_forgotten_type_and_a_folder_are_seen(
    run: Run, sample: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("quantize", sample, "q/a.gguf") == 2
    assert capsys.readouterr().err == (
        "error: a type is needed: 'q/a.gguf' looks like a TARGET\n"
        "hint: ggufscope quantize SOURCE q/a.gguf TYPE, such as Q4_K_M\n"
    )
    assert run("quantize", sample, tmp_path, "Q8_0") == 2
    assert capsys.readouterr().err == (
        f"error: {tmp_path} is a directory\nhint: name a file in it, or write -o {tmp_path}\n"
    )
