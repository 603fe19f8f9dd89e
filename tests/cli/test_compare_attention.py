"""`ggufscope compare-attention`, run as people run it."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ggufscope.cli import app
from ggufscope.container.file import open_gguf
from ggufscope.recipes.apply import quantize_model
from ggufscope.recipes.options import PlanOptions
from tests.measure.altered import altered, head_rows

Run = Callable[..., int]

BY = ("--by", "layer", "--by", "head")


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch) -> Run:
    """Run the command in this process at 80 columns; gives the exit code."""

    def run(*arguments: str | Path) -> int:
        monkeypatch.setenv("COLUMNS", "80")
        monkeypatch.setattr(sys, "argv", ["ggufscope", "compare-attention", *map(str, arguments)])
        with pytest.raises(SystemExit) as caught:
            app.main()
        return int(caught.value.code or 0)

    return run


def test_it_fits_one_screen_with_the_answer_at_its_end(
    run: Run, sample: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(sample) == 0
    said = capsys.readouterr()
    assert said.err == ""
    lines = said.out.splitlines()
    assert len(lines) < 24  # the prompt of the shell has a line, too
    assert max(map(len, lines)) <= 80
    assert "…" not in said.out
    assert "\x1b" not in said.out
    assert lines[0].startswith("model      stories-f16.gguf")
    assert [line.split(":")[0] for line in lines[4:7]] == [
        "Q8_0  A negligible effect",
        "Q4_K  A small effect",
        "Q2_K  A visible effect",
    ]
    assert lines[-1] == "All 3 candidates pass; the largest effect is visible (Q2_K)."
    assert "Measured over 7 tokens: few, so the KL divergence is noisy." in said.out


def test_a_broken_candidate_does_not_pass_where_no_limit_was_set(
    run: Run, sample: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = (sample, "--types", "TQ1_0", "--ids", "1,2,3,4", "--brief")
    for limits, code, answer in (
        ((), 0, "No limit was set; the largest effect is broken (TQ1_0).\n"),
        (("--tolerance", "1"), 0, "It passes; the largest effect is broken (TQ1_0).\n"),
        (("--require", "visible"), 1, "TQ1_0 fails; the largest effect is broken (TQ1_0).\n"),
    ):
        assert run(*asked, *limits) == code
        assert capsys.readouterr().out.endswith(answer)


def test_the_largest_of_one_level_is_named(
    run: Run, sample: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for asked, name in (
        (("--type-k", "q8_0", "--type-v", "q4_0"), "KV Q8_0/Q4_0"),
        (("--types", "F32,F16,BF16"), "BF16"),
    ):
        assert run(sample, *asked, "--brief") == 0
        out = capsys.readouterr().out
        assert out.endswith(f"the largest effect is negligible ({name}).\n")


def test_layers_and_heads_come_where_they_are_asked_for(
    run: Run, sample: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(sample, "--types", "Q4_K,Q2_K", "--by", "layer") == 0
    layers = capsys.readouterr().out
    assert layers.count("layer 3") == 2
    assert "layer / head" not in layers
    assert "Q2_K minus FP32" not in layers
    assert run(sample, "--types", "Q4_K,Q2_K", "--by", "layer", "--by", "head") == 0
    both = capsys.readouterr().out
    assert both.count("layer / head") == 2
    assert "... and 16 that moved less: --json" in both
    assert "Q2_K minus FP32" in both
    for said in (layers, both):
        assert max(map(len, said.splitlines())) <= 80
        assert "…" not in said
        assert said.splitlines()[-1].startswith("All 2 candidates pass; ")


def test_long_names_leave_the_tables_their_room(
    run: Run, sample: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    target = tmp_path / "a-name-that-is-far-too-long-for-a-table-Q8_0.gguf"
    quantize_model(sample, {target: "Q8_0"})
    assert run(sample, "--against", target, "--types", "Q8_0") == 0
    out = capsys.readouterr().out
    assert f"(2) {target.name}" in out
    assert "…" not in out
    assert max(map(len, out.splitlines())) <= 80


def _json(run: Run, capsys: pytest.CaptureFixture[str], *arguments: str | Path) -> Any:
    code = run(*arguments, "--json")
    data = json.loads(capsys.readouterr().out)
    assert code == (0 if data["accepted"] else 1)
    return data


def test_json_is_complete(run: Run, sample: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = _json(run, capsys, sample, "--types", "Q4_K", "--recipe", "Q4_K_M")
    assert data["schema"] == "ggufscope.compare-attention/3"
    assert data["prompt"]["text"] == "The cat sat on the mat"
    assert len(data["prompt"]["ids"]) == len(data["prompt"]["tokens"]) == 7
    assert [each["name"] for each in data["candidates"]] == ["Q4_K", "Q4_K_M"]
    for each in data["candidates"]:
        assert len(each["kl_divergence"]["by_token"]) == 7
        assert len(each["layers"]) == 4
        heads = [head for layer in each["layers"] for head in layer["heads"]]
        assert len(heads) == 32
        assert all(isinstance(number, float | int) for head in heads for number in head.values())
        tensors = [t["name"] for layer in each["layers"] for t in layer["tensors"]]
        tensors += [t["name"] for t in each["other_tensors"]]
        assert len(tensors) == len(set(tensors)) == 30
        assert each["verdict"]["making"] is None
        assert each["verdict"]["effect"]["level"] == "small"


def test_what_is_longer_than_the_context_goes_in_windows(
    run: Run, sample: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    page = tmp_path / "page.html"
    ids = ",".join(["0", *map(str, range(300, 450))])
    arguments = (sample, "--types", "Q8_0", "--context", "40", "--ids", ids)
    assert run(*arguments, "--html", page) == 0
    out = capsys.readouterr().out
    assert "151 tokens, in 4 windows of at most 39" in " ".join(out.split())
    assert "the first of 4 windows" not in out  # where no map is
    assert max(map(len, out.replace(str(page), "").splitlines())) <= 80
    found = re.search(r'id="data">(.*?)</script>', page.read_text("utf-8"), re.DOTALL)
    assert found is not None
    assert len(json.loads(found[1])["tokens"]) == 39  # those of the first
    assert "those of the first of 4 windows" in page.read_text("utf-8")
    assert run(*arguments, "--layer", "0", "--head", "0") == 0
    assert capsys.readouterr().out.count("layer 0, head 0, the first of 4 windows") == 3
    assert run(*arguments, "--json") == 0
    data = json.loads(capsys.readouterr().out)
    assert data["prompt"]["windows"] == [39, 38, 39, 38]  # the first token begins each
    assert len(data["candidates"][0]["kl_divergence"]["by_token"]) == 154
    assert data["candidates"][0]["verdict"]["effect"]["level"] == "negligible"


def test_a_tolerance_decides_the_exit_code(
    run: Run, sample: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(sample, "--types", "Q4_K", "--tolerance", "0.5") == 0
    assert run(sample, "--types", "Q8_0,Q4_K", "--tolerance", "0.005", "--by", "head") == 1
    out = " ".join(capsys.readouterr().out.split())
    assert "Q4_K A small effect: 1.41% of the attention moved. Out of tolerance: first in" in out
    assert out.endswith("Q4_K fails; the largest effect is small (Q4_K).")
    # What fails is what is drawn.
    assert "Q4_K minus FP32" in out


def test_a_requirement_decides_the_exit_code(
    run: Run, sample: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(sample, "--require", "visible") == 0
    assert run(sample, "--require", "small") == 1
    out = " ".join(capsys.readouterr().out.split())
    assert "5.97% of the attention moved. That is beyond --require small." in out
    assert out.endswith("Q2_K fails; the largest effect is visible (Q2_K).")
    assert run(sample, "--require", "negligible") == 1
    assert "Q4_K, Q2_K fail; " in capsys.readouterr().out
    assert run(sample, "--require", "tiny") == 2


def test_a_fault_is_named_with_tensor_layer_and_head(
    run: Run, sample: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def change(weights: Any) -> Any:
        weights[head_rows(3)] *= np.float32(1.2)
        return weights

    with open_gguf(sample) as file:
        wrong = altered(file, tmp_path / "wrong.gguf", {"blk.2.attn_q.weight": change})
    other = tmp_path / "fault.gguf"
    quantize_model(wrong, {other: "Q2_K"})
    assert run(sample, "--against", other, "--by", "head") == 1
    out = " ".join(capsys.readouterr().out.split())
    assert "Not well made: blk.2.attn_q.weight (layer 2, head 3) is scaled by about 1.2" in out
    assert "NOT WELL" in out
    assert "fault.gguf minus FP32: layer 2, head 3" in out
    assert out.endswith("fault.gguf fails; the largest effect is visible (fault.gguf).")
    data = _json(run, capsys, sample, "--against", other)
    assert data["candidates"][0]["verdict"]["well_made"] is False
    (fault,) = data["candidates"][0]["verdict"]["making"]["faults"]
    assert (fault["layer"], fault["head"], fault["reason"]) == (2, 3, "scaled")
    assert fault["gain"] == pytest.approx(1.2, abs=0.02)


def test_a_file_quantized_twice_fails_however_little_it_lost(
    run: Run, sample: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    once, twice, well = (tmp_path / f"{name}.gguf" for name in ("once", "twice", "well"))
    quantize_model(sample, {once: "Q8_0", well: "Q4_K_M"})
    quantize_model(once, {twice: "Q4_K_M"}, options=PlanOptions(allow_requantize=True))
    assert run(sample, "--against", twice, "--against", well) == 1
    out = " ".join(capsys.readouterr().out.split())
    assert "is exactly F16 -> Q8_0 -> Q4_K, quantized twice, and 29 faults more." in out
    assert "Well made: exactly what plain quantization gives." in out
    assert "twice.gguf fails; " in out


def test_a_prompt_in_each_form_is_the_same_prompt(
    run: Run, sample: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = "Ben found a small cup"
    path = tmp_path / "prompt.txt"
    path.write_text(text)
    common = (sample, "--types", "Q8_0")
    said = _json(run, capsys, *common, "--prompt", text)
    read = _json(run, capsys, *common, "--prompt-file", path)
    numbers = _json(run, capsys, *common, "--ids", ",".join(map(str, said["prompt"]["ids"])))
    assert said["candidates"] == read["candidates"] == numbers["candidates"]
    assert numbers["prompt"]["text"] is None
    assert numbers["prompt"]["tokens"] == said["prompt"]["tokens"]


def test_layer_and_head_choose_what_is_shown(
    run: Run, sample: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(sample, "--types", "Q2_K", "--layer", "3", "--head", "6", *BY) == 0
    out = capsys.readouterr().out
    assert "Q2_K minus FP32: layer 3, head 6" in out
    assert "layer 3 " in out
    assert "layer 1 " not in out
    assert "3 / 6 " in out
    assert "3 / 5 " not in out


def test_the_cache_keys_and_values_apart(
    run: Run, sample: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    alone = _json(run, capsys, sample, "--type-k", "q8_0", "--type-v", "q4_0")
    assert [c["name"] for c in alone["candidates"]] == ["K Q8_0", "V Q4_0", "KV Q8_0/Q4_0"]
    assert alone["candidates"][1]["cache_types"] == ["F32", "Q4_0"]
    (values,) = _json(run, capsys, sample, "--type-v", "q4_0")["candidates"]
    assert values == alone["candidates"][1]
    cache = ("--type-k", "q8_0", "--type-v", "q8_0")
    both = _json(run, capsys, sample, *cache, "--types", "Q4_K")
    (candidate,) = both["candidates"]
    assert candidate["name"] == "Q4_K, KV Q8_0"
    assert candidate["types"] == {"Q4_K": 30}


def test_only_a_part_is_quantized(
    run: Run, sample: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = {
        part: _json(run, capsys, sample, "--types", "Q2_K", "--only", part)["candidates"][0]
        for part in ("attention", "ffn", "all")
    }
    counts = {part: sum(each["types"].values()) for part, each in found.items()}
    assert counts == {"attention": 16, "ffn": 12, "all": 30}
    assert found["ffn"]["layers"][0]["heads"][0]["total_variation"] == 0


def test_one_token_is_a_prompt(run: Run, sample: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = _json(run, capsys, sample, "--types", "Q2_K", "--ids", "896")
    assert data["reference"]["perplexity"] is None
    assert [each["perplexity"] for each in data["candidates"]] == [None]
    assert run(sample, "--types", "Q8_0", "--ids", "896") == 0
    assert "nothing" not in capsys.readouterr().err


def test_a_model_that_is_quantized_already_is_said_to_be_so_first(
    run: Run, sample: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    small, other = tmp_path / "small.gguf", tmp_path / "other.gguf"
    quantize_model(sample, {small: "Q4_K_S", other: "Q3_K_M"})
    data = _json(run, capsys, small, "--types", "Q8_0")
    assert data["model"]["types"] == {"Q4_K": 25, "Q5_K": 4, "Q6_K": 1}
    assert data["original"] is False
    assert data["candidates"][0]["accepted"]
    assert run(small, "--against", small) == 0
    out = capsys.readouterr().out
    assert " ".join(out.split()).startswith(
        "small.gguf is already quantized (Q4_K 25, Q5_K 4, Q6_K 1); the original is needed"
    )
    assert max(map(len, out.splitlines())) <= 80
    # Without the original nothing tells how it was made.
    data = _json(run, capsys, small, "--against", other)
    assert data["candidates"][0]["verdict"]["well_made"] is None


def test_a_pipe_gets_it_without_colour_or_bar(sample: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "ggufscope", "compare-attention", str(sample), "--types", "Q8_0"],
        capture_output=True,
        text=True,
        encoding="utf-8",
        check=True,
        env={"PATH": "/usr/bin:/bin", "PYTHONPATH": str(Path(__file__).parents[2])},
    )
    assert done.stderr == ""
    assert "\x1b" not in done.stdout
