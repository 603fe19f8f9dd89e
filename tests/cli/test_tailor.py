"""`ggufscope quantize --target-size` and the like, run as people run it."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from jsonschema import Draft202012Validator

from ggufscope import open_gguf
from ggufscope.cli import app
from ggufscope.recipes.imatrix_file import write_imatrix
from ggufscope.recipes.importance import Entry, ImportanceMatrix
from ggufscope.recipes.sensitivities import read_sensitivities
from ggufscope.report import units
from ggufscope.sizing.chosen import best_mixes
from ggufscope.sizing.file_size import file_sizes
from tests.golden.command import HELDOUT, SAMPLE
from tests.models.families import SMALL, write

Run = Callable[..., tuple[int, str, str]]
TEXT = HELDOUT.with_suffix(".txt")


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Run:
    """Run `quantize` in this process; gives the exit code and what it printed."""
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.chdir(tmp_path)

    def run(*arguments: str | Path) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["ggufscope", "quantize", *map(str, arguments)])
        with pytest.raises(SystemExit) as caught:
            app.main()
        printed = capsys.readouterr()
        text = "" if "--json" in arguments else printed.out
        assert all(len(line) <= 80 for line in text.splitlines())
        assert "Traceback" not in printed.err
        return int(caught.value.code or 0), printed.out, printed.err

    return run


def schema(name: str) -> Draft202012Validator:
    path = Path(app.__file__).parent.parent / "schemas" / f"{name}.json"
    return Draft202012Validator(json.loads(path.read_text(encoding="utf-8")))


def test_a_mix_is_chosen_written_and_its_measurement_used_again(run: Run, tmp_path: Path) -> None:
    brief = ("--text", TEXT, "--tokens", "200", "--sensitivities", "s.json")
    code, out, err = run(
        *(SAMPLE, "m.gguf", "--target-size", "1800000B", *brief, "--write-types", "t.txt")
    )
    assert (code, err) == (0, "")
    assert re.search(r"^chosen by  200 tokens in 4 windows, 4 gradients each$", out, re.M)
    assert re.search(r"^choice +1\.7\d MiB +\d\.\d\d ", out, re.M)
    assert re.search(r"^Q3_K_S +1\.59 MiB ", out, re.M)
    assert "less than Q3_K_S, on 20" in " ".join(out.split())
    nbytes = Path("m.gguf").stat().st_size
    assert 1_790_000 < nbytes <= 1_800_000
    known = json.loads(Path("s.json").read_text())
    schema("sensitivity").validate(known)

    label = re.search(r"^preset     (\S+), with a --tensor-type for each tensor$", out, re.M)
    assert label
    code, _, _ = run(SAMPLE, "again.gguf", label[1], "--tensor-type-file", "t.txt")
    assert code == 0
    assert Path("again.gguf").read_bytes() == Path("m.gguf").read_bytes()

    code, out, err = run(SAMPLE, "--target-bpw", "5", *brief, "--dry-run", "--json")
    told = json.loads(out)
    schema("quantize").validate(told)
    assert told["targets"][0]["files"][0]["path"].endswith("stories-5.00bpw.gguf")
    chosen = told["chosen"]
    assert chosen["choice"]["predicted"] == pytest.approx(
        sum(known["costs"][name][type_] for name, type_ in chosen["choice"]["types"].items())
    )
    assert chosen["chosen_by"]["tokens"] == known["tokens"]
    assert chosen["frontier"][0]["cost"] > chosen["frontier"][-1]["cost"]


def test_a_dry_run_explains_each_step_and_the_frontier(run: Run) -> None:
    arguments = ("--text", TEXT, "--tokens", "200", "--dry-run", "--explain")
    code, out, err = run(
        *(SAMPLE, "--target-kl", "0.001", "--type", "Q3_K,Q4_K,Q6_K", "--floor", "Q3_K"),
        *("--tensor-type", "attn_v=q8_0", *arguments),
    )
    assert (code, err) == (0, "")
    assert re.search(r"^blk\.0\.attn_q +Q\d_K +\S+ ", out, re.M)
    assert "attn_v" not in out.split("What each tensor costs")[1].split("The least")[0]
    assert re.search(r"Q4_K: \+[\d.]+ KiB,\s+-\S+e-\d", out)
    assert re.search(r"^[a-z] +choice +\d\.\d\d MiB +\d\.\d+ +\S+ +\S+$", out, re.M)
    assert "Predicted divergence in nats (up) against size (right)" in out
    assert re.search(r"^ +(0\.0\d*|1e-\d+) ┤.*·", out, re.M)
    assert "Q2_K" not in out
    assert not list(Path().iterdir())


def test_a_page_has_the_frontier_and_what_was_tried(run: Run) -> None:
    arguments = ("--text", TEXT, "--tokens", "100", "--dry-run", "--explain")
    code, out, err = run(SAMPLE, "--target-bpw", "4.2", *arguments, "--html", "p.html")
    assert (code, err) == (0, "")
    page = Path("p.html").read_text(encoding="utf-8")
    frontier = re.search(r'<polyline class="frontier" points="([^"]+)"', page)
    assert frontier
    points = [tuple(map(float, each.split(","))) for each in frontier[1].split()]
    assert [x for x, _ in points] == sorted(x for x, _ in points)
    assert [y for _, y in points] == sorted(y for _, y in points)  # down is less divergence
    dots = re.findall(r"<title>([^<]+):[^<]+</title>", page)
    assert {"choice", "choice, tried", "Q3_K_M", "Q3_K_M, tried", "Q6_K"} <= set(dots)
    assert page.count("<td>blk.0.attn_q.weight") + page.count(">blk.0.attn_q.weight<") > 0
    assert "<script" not in page
    rows = re.findall(r"^[a-z] +(\S+) +([\d.]+) MiB +([\d.]+) +(\S+) +(\S+)$", out, re.M)
    assert len(rows) > 4
    for name, _, bits, predicted, least in rows:
        assert float(least) <= 1.05 * float(predicted), name
        assert name != "choice" or float(bits) <= 4.2
    code, _, err = run(SAMPLE, "--target-bpw", "4.2", *arguments, "--html", "p.html")
    assert code == 2
    assert "p.html exists" in err
    code, _, err = run(
        *(SAMPLE, "--target-bpw", "4", "--text", "p.html", "--html", "p.html", "--force")
    )
    assert code == 2
    assert "is a file that is read" in err


@pytest.mark.parametrize(
    ("asked", "word"), [(("--target-size", "1800000B"), "size"), (("--target-bpw", "4"), "tensors")]
)
def test_the_least_of_a_size_is_what_can_be_made(
    asked: tuple[str, str], word: str, run: Run
) -> None:
    """Whatever the size of a preset: the best mix of it, not of the next step below it."""
    kept = ("--text", TEXT, "--tokens", "100", "--sensitivities", "s.json")
    code, out, _ = run(SAMPLE, *asked, *kept, "--dry-run", "--explain")
    assert code == 0
    assert re.search(rf"^ +file +{word} +bits +predicted +the least of this size$", out, re.M)
    axis = {"size": "size", "tensors": "bytes of tensors"}[word]
    assert f"(up) against {axis} (right)" in out
    rows = re.findall(r"^[a-z] +(\w+) +([\d.]+ MiB) +([\d.]+) +\S+ +(\S+)$", out, re.M)
    tried = re.search(r"^choice +([\d.]+ MiB) +([\d.]+)", out, re.M)
    assert tried
    with open_gguf(SAMPLE) as file:
        presets = file_sizes(file)
        known = read_sensitivities("s.json")
        for name, nbytes, bits_, least in rows:
            if name == "choice":
                assert word == "tensors" or nbytes == tried[1]
                assert float(bits_) == float(tried[2])
                continue
            of = presets[name]
            assert nbytes == units.size(of.weighs if word == "size" else of.nbytes)
            if word == "size":
                (best,) = best_mixes(file, known, nbytes=of.weighs)
            else:
                (best,) = best_mixes(file, known, bits=of.bits_per_weight)
            assert best.mix
            assert least == units.small(best.mix.predicted), name
    assert len(rows) > 4


def test_the_text_that_ships_is_said_to_be_one(run: Run) -> None:
    code, out, err = run(SAMPLE, "--target-bpw", "4", "--tokens", "64", "--dry-run", "--brief")
    assert code == 0
    assert re.search(r"^on other text +size .*\nchoice +1\.\d\d MiB ", out, re.M)
    assert "tokens not used to choose" not in out
    assert "chosen by the text that ships: give --text with some of your own" in err


def test_an_expert_that_no_token_chose_is_warned_of(run: Run, tmp_path: Path) -> None:
    small = SMALL["mixtral"]
    tensors = small.tensors()
    tensors["blk.0.ffn_gate_inp.weight"][:] = 0
    write(tmp_path / "m.gguf", small, tensors)
    (tmp_path / "t.txt").write_text("A CAB IS HERE.\n\nANOTHER ONE: A BAD CAB.\n")
    code, out, err = run(
        *("m.gguf", "--target-bpw", "12", "--text", "t.txt", "--dry-run", "--json")
    )
    assert code == 0, err
    assert "blk.0.ffn_up_exps.weight: 2 experts were chosen by no token of the text" in err
    assert json.loads(out)["chosen"]["unreached_experts"]["blk.0.ffn_up_exps.weight"] == 2


def test_with_an_importance_matrix(run: Run, tmp_path: Path) -> None:
    with open_gguf(SAMPLE) as file:
        entries = {
            t.name: Entry(np.full((1, t.shape[-1]), 2, np.float32), np.ones(1, np.int64))
            for t in file.tensors.values()
            if len(t.shape) == 2 and t.name.startswith("blk")
        }
    write_imatrix(ImportanceMatrix(Path("i.gguf"), entries, ("t",), 1, 512), tmp_path / "i.gguf")
    code, out, err = run(
        *(SAMPLE, "m.gguf", "--target-size", "1500000B", "--text", TEXT, "--tokens", "100"),
        *("--imatrix", "i.gguf", "--json", "--exclude-weights", "attn_k"),
    )
    assert code == 0, err
    told = json.loads(out)
    schema("quantize").validate(told)
    assert told["targets"][0]["importance_matrix"]["entries"] == 24
    assert Path("m.gguf").stat().st_size == told["chosen"][told["chosen"]["kept"]]["nbytes"]


def test_a_matrix_made_on_the_way_is_kept_and_serves_again(run: Run) -> None:
    size = ("--target-size", "1400000B", "--text", TEXT, "--tokens", "100")
    kept = ("--sensitivities", "s.json", "--types", "IQ2_S,Q3_K,Q5_K")
    code, out, err = run(
        *(SAMPLE, "m.gguf", *size, *kept, "--make-imatrix", "i.gguf", "--write-types", "t.txt")
    )
    assert (code, err) == (0, "")
    code, _, err = run(SAMPLE, "again.gguf", *size, *kept, "--imatrix", "i.gguf")
    assert (code, err) == (0, "")
    assert Path("again.gguf").read_bytes() == Path("m.gguf").read_bytes()
    with open_gguf("m.gguf") as file:
        assert file.metadata["quantize.imatrix.file"] == "i.gguf"
        assert str(file.metadata["quantize.imatrix.dataset"]).endswith("heldout.txt")

    label = re.search(r"^preset     (\S+), with a --tensor-type", out, re.M)
    assert label  # without the measurement, by the recipe and the matrix alone
    rules = ("--tensor-type-file", "t.txt", "--imatrix", "i.gguf")
    assert run(SAMPLE, "plain.gguf", label[1], *rules)[0] == 0
    assert Path("plain.gguf").read_bytes() == Path("m.gguf").read_bytes()
    for arguments in (kept, ("--imatrix", "i.gguf")):
        code, _, err = run(SAMPLE, *size, *arguments, "--make-imatrix", "j.gguf")
        assert code == 2
        assert "--make-imatrix stands beside" in err
    code, _, err = run(SAMPLE, *size, "--make-imatrix", "i.gguf")
    assert code == 2
    assert "i.gguf" in err


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["Q4_K_M", "--target-size", "2MiB"], "'Q4_K_M' stands beside a target"),
        (["a", "b", "--target-size", "2MiB"], "'b' stands beside a target"),
        (["a", "-o", "d", "--target-size", "2MiB"], "cannot be used together with --output-dir"),
        (["--target-size", "2MiB", "--target-kl", "1"], "contradict each other"),
        (["--target-size", "much"], "--target-size 'much' is no size of a file"),
        (["--target-bpw", "0"], "--target-bpw 0 is no number of bits"),
        (["--target-kl", "nan"], "--target-kl nan is no divergence"),
        (["--target-bpw", "4", "--pure"], "--pure leaves no types to choose"),
        (["--target-bpw", "4", "--type", "Q9"], "Q9"),
        (["--target-bpw", "4", "--floor", "Q9"], "Q9"),
        (["Q4_0", "--floor", "Q4_K"], "--floor is about a mix that is chosen by measurement"),
        (["Q4_0", "--explain"], "--explain is about a mix"),
        (["Q4_0", "--text", "t.txt"], "--text is about a mix"),
        (["Q4_0", "--make-imatrix", "i.gguf"], "--make-imatrix is about a mix"),
        (["--target-bpw", "4", "--text", "short.txt"], "the text is too short"),
        (["--target-bpw", "4", "--sensitivities", "short.txt"], "has no sensitivities"),
        (["--target-bpw", "4", "--sensitivities", str(SAMPLE)], "bytes, and a file of"),
        (["--target-size", "1MiB", "--tokens", "64"], "the smallest choice of these types has 1,2"),
    ],
)
def test_what_makes_no_sense_is_one_line(
    arguments: list[str], said: str, run: Run, tmp_path: Path, monkeypatch: Any
) -> None:
    monkeypatch.setattr("ggufscope.recipes.sensitivities.LONGEST", 1 << 20)
    (tmp_path / "short.txt").write_text("Too short.\n")
    code, out, err = run(SAMPLE, *arguments)
    assert (code, out) == (2, "")
    assert said in " ".join(err.split())
    assert "hint:" in err
    assert {path.name for path in tmp_path.iterdir()} == {"short.txt"}


def test_nothing_is_written_over(run: Run, tmp_path: Path) -> None:
    (tmp_path / "t.txt").write_text("mine")
    code, _, err = run(
        *(SAMPLE, "--target-bpw", "4", "--write-types", "t.txt", "--text", TEXT, "--dry-run")
    )
    assert code == 2
    assert "t.txt" in err
    assert (tmp_path / "t.txt").read_text() == "mine"


ONE = (SAMPLE, "--text", TEXT, "--tokens", "100", "--types", "Q3_K,Q8_0")


def test_what_cannot_be_written_is_said_before_anything_is_measured(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_work(*_: object, **__: object) -> None:
        raise AssertionError("it was measured")

    monkeypatch.setattr("ggufscope.measure.tailor.tailor", no_work)
    text, there = tmp_path / "t.txt", tmp_path / "there.gguf"
    text.write_text(TEXT.read_text("utf-8"), "utf-8")
    there.write_bytes(b"mine")
    size = (SAMPLE, "--target-size", "2MB", "--text", text)
    for words, said in (
        ((there,), "there.gguf exists"),
        (("z.gguf", "--make-imatrix", "z.gguf"), "z.gguf would be written twice"),
        (("--write-types", "x", "--html", tmp_path / "x"), "would be written twice"),
        ((text, "--force"), "t.txt is a file that is read"),
        ((SAMPLE, "--force"), "is a file that is read"),
    ):
        code, out, err = run(*size, *words)
        assert (code, out) == (2, "")
        assert said in err
    assert {path.name for path in tmp_path.iterdir()} == {"t.txt", "there.gguf"}
    assert there.read_bytes() == b"mine"


def test_the_same_line_goes_on_where_it_was_ended(run: Run) -> None:
    line = (
        *(*ONE, "m.gguf", "--target-size", "2500000B", "--resume"),
        *("--sensitivities", "s.json", "--make-imatrix", "i.gguf"),
        *("--write-types", "t.txt", "--html", "p.html"),
    )
    code, _, err = run(*line)
    assert (code, err) == (0, "")
    made = Path("m.gguf").read_bytes()
    Path("m.gguf").unlink()  # as if it had been ended before
    code, _, err = run(*line)
    assert (code, err) == (0, "")
    assert Path("m.gguf").read_bytes() == made
    Path("t.txt").write_text("mine")
    Path("m.gguf").unlink()
    code, _, err = run(*line)
    assert code == 2
    assert "t.txt exists" in err


def test_what_costs_least_may_do_though_more_is_predicted(run: Run) -> None:
    only = (*ONE[:-1], "Q8_0", "--dry-run", "--json", "--sensitivities", "s.json")
    code, out, err = run(*only, "--target-kl", "1")
    assert (code, err) == (0, "")
    choice = json.loads(out)["chosen"]["choice"]
    low, high = sorted((choice["predicted"], choice["kl_divergence"]))
    between = (low + high) / 2
    code, _, err = run(*only, "--target-kl", f"{between:.6g}")
    if high == choice["predicted"]:
        assert code == 0, err
    else:
        assert "was found that diverges by" in err
    code, _, err = run(*only, "--target-kl", "1e-12")
    assert code == 2
    assert "the nearest one diverges by" in err
    assert "allow a larger divergence" in err


def test_all_shards_together_have_no_more_than_the_size(run: Run) -> None:
    kept = ("--sensitivities", "s.json", "--split-max-size", "50K")
    for size in range(2_300_000, 2_600_000, 60_000):
        code, out, err = run(*ONE, "--target-size", f"{size}B", *kept, "--dry-run", "--json")
        assert (code, err) == (0, "")
        assert json.loads(out)["chosen"]["choice"]["nbytes"] <= size
