"""`ggufscope imatrix`, run as people run it."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ggufscope.measure import gathering
from ggufscope.recipes.imatrix_file import read_imatrix, write_imatrix
from ggufscope.recipes.importance import Entry, ImportanceMatrix
from tests import matrices
from tests.cli.conftest import Run
from tests.golden.command import SAMPLE
from tests.models.families import SMALL, write
from tests.slices import write_slice

GOLDEN = Path(__file__).parent.parent / "golden" / "imatrix"


@pytest.fixture
def model(tmp_path: Path) -> Path:
    (tmp_path / "text.txt").write_bytes(matrices.TEXT + b"\n")
    return write(tmp_path / "m.gguf", SMALL["mixtral"])


def test_a_matrix_is_made_and_a_model_quantized_with_it(run: Run, model: Path) -> None:
    code, out, err = run("imatrix", model, "--text", "text.txt", "-c", "32")
    assert (code, err) == (0, "")
    *facts, last = out.splitlines()
    assert facts == [
        "wrote       imatrix.gguf",
        "made of     text.txt",
        "chunks      6 of 32 tokens",
        "entries     24 matrices",
        "reached     all of them",
    ]
    said = re.fullmatch(
        r"perplexity  ([\d.]+) ± ([\d.]+), of the second half of each of 6 chunks", last
    )
    assert said
    assert float(said[1]) == pytest.approx(218.5737, rel=1e-4)
    assert float(said[2]) == pytest.approx(34.0904, rel=1e-4)
    assert read_imatrix("imatrix.gguf").datasets == ("text.txt",)
    code, out, _ = run("quantize", model, "Q4_0", "--imatrix", "imatrix.gguf", "--brief")
    assert code == 0
    weighed = "18 of 23 tensors are weighed by it"  # attn_v is Q8_0 here, and weighs none
    assert f"imatrix  imatrix.gguf, of 6 chunks: {weighed}" in out
    code, out, _ = run(
        "quantize", model, "Q4_0", "--imatrix", "imatrix.gguf", "--dry-run", "--json"
    )
    told = json.loads(out)["targets"][0]["importance_matrix"]
    assert told == {
        "path": "imatrix.gguf",
        "entries": 24,
        "chunk_count": 6,
        "datasets": ["text.txt"],
    }


def test_a_target_is_not_overwritten_unasked(run: Run, model: Path) -> None:
    make = ("imatrix", model, "--text", "text.txt", "-c", "32")
    assert run(*make)[0] == 0
    before = Path("imatrix.gguf").read_bytes()
    code, _, err = run(*make, "--chunks", "1")
    assert (code, "exists" in err, Path("imatrix.gguf").read_bytes()) == (2, True, before)
    assert run(*make, "--chunks", "1", "--force")[0] == 0
    assert read_imatrix("imatrix.gguf").chunk_count == 1
    code, _, err = run(*make, "--resume")
    assert (code, "nothing to resume" in err) == (2, True)
    code, _, err = run(*make, "-o", model, "--force")
    assert (code, "a file that is read" in err) == (2, True)


def test_chunks_longer_than_the_model_name_the_option(run: Run) -> None:
    words = ("imatrix", SAMPLE, "--ids", ",".join(["1"] * 1024), "-o", "long.gguf")
    code, _, err = run(*words, "-c", "512")
    assert code == 0
    assert err.endswith("was made for 256 tokens, and chunks have 512: -c 256 makes them as long\n")
    code, out, err = run(*words, "--force")  # by itself as long as the model was made for
    assert (code, err) == (0, "")
    assert "chunks      4 of 256 tokens\n" in out


def test_ids_are_run_as_they_are(run: Run, model: Path) -> None:
    ids = [int(each) for each in np.random.default_rng(1).integers(3, 72, 64)]
    Path("ids.txt").write_text(" ".join(map(str, ids)), encoding="utf-8")
    run("imatrix", model, "--ids-file", "ids.txt", "-c", "32", "-o", "a.gguf")
    run("imatrix", model, "--ids", ",".join(map(str, ids)), "-c", "32", "-o", "b.gguf", "--no-ppl")
    one, other = read_imatrix("a.gguf"), read_imatrix("b.gguf")
    assert (one.datasets, other.datasets) == (("ids.txt",), ())
    for name, entry in one.entries.items():
        assert entry.sums.tobytes() == other.entries[name].sums.tobytes()
    Path("ids.txt").write_text("1 two", encoding="utf-8")
    code, _, err = run("imatrix", model, "--ids-file", "ids.txt", "-o", "c.gguf")
    assert (code, "ids.txt is no list of ids" in err) == (2, True)


def test_the_first_chunks_are_skipped_and_copies_left(run: Run, model: Path) -> None:
    make = ("imatrix", model, "-f", "text.txt", "-c", "32", "-q")
    assert run(*make, "--from-chunk", "2", "--save-frequency", "3")[0] == 0
    found = {path.name for path in Path().iterdir()}
    assert found >= {"imatrix.gguf", "imatrix.gguf.at_3"}
    assert read_imatrix("imatrix.gguf").chunk_count == 4
    assert run(*make, "-o", "b.gguf", "--chunk", "2", "--chunks", "3")[0] == 0
    assert Path("b.gguf").read_bytes() == Path("imatrix.gguf.at_3").read_bytes()
    code, _, err = run(*make, "-o", "c.gguf", "--from-chunk", "5")
    assert (code, "after the 5 that are skipped" in err) == (2, True)


def test_json_of_what_was_made(run: Run, model: Path) -> None:
    code, out, _ = run("imatrix", model, "-f", "text.txt", "-c", "32", "--chunks", "2", "--json")
    told = json.loads(out)
    assert (code, told["schema"]) == (0, "ggufscope.imatrix-made/1")
    assert told["model"]["architecture"] == "llama"
    assert len(told["perplexity"]["so_far"]) == 2
    assert told["perplexity"]["count"] == 2 * 15


@pytest.mark.parametrize("name", ["stories", "mixtral", "qwen2moe", "gemma2"])
def test_a_matrix_is_shown(name: str, run: Run) -> None:
    code, out, err = run("imatrix", GOLDEN / f"{name}.gguf", "--all")
    assert (code, err) == (0, "")
    assert "made of  text.txt" in out
    assert ("Vectors that reached each expert" in out) == ("m" in name and name != "gemma2")
    for heading in ("over the mean of their matrix", "furthest above", "Layers", "Matrices"):
        assert heading in out
    layers = out[out.index("μCosSim") :].splitlines()
    assert layers[1].split()[0] == "0"
    assert layers[1].endswith("  -")
    assert not layers[2].endswith("-")
    assert "CosSim: likeness to the layer before" in " ".join(out.split())
    code, out, _ = run("imatrix", GOLDEN / f"{name}.gguf", "--json")
    assert json.loads(out)["schema"] == "ggufscope.imatrix/1"


def test_bars_say_which_columns_they_hold(run: Run, tmp_path: Path) -> None:
    """The outer bins have an edge and no centre: 128 times the mean, and a 128th of it."""
    columns = np.full((1, 1024), 1e-9, np.float32)
    columns[0, :4] = 1, 1, 1, 3  # over the mean of all, 6/1024: 171, 171, 171 and 512
    entries = {"blk.0.a.weight": Entry(columns, np.array([1]))}
    write_imatrix(ImportanceMatrix(tmp_path / "i.gguf", entries, ("t",), 1, 512), "i.gguf")
    code, out, _ = run("imatrix", "i.gguf")
    assert code == 0
    bars = [line.split() for line in out.splitlines() if line.strip()[:1] in {"<", "≥"}]
    assert [(*bar[:2], bar[-2]) for bar in bars] == [("<", "1/128", "1,020"), ("≥", "×128", "4")]


def test_experts_that_were_never_reached_are_named(run: Run) -> None:
    matrices.CHANGED["experts never reached"](Path("a.gguf"), "mixtral")
    _, out, _ = run("imatrix", "a.gguf")
    assert "NOT reached" in out
    assert "0, 3, 6" in out


def test_matrices_are_merged_and_turned_into_the_other_format(run: Run) -> None:
    one = GOLDEN / "stories.gguf"
    assert run("imatrix", one, "-o", "a.dat")[0] == 0
    assert read_imatrix("a.dat").legacy
    code, out, _ = run("imatrix", "a.dat", "--in-file", one, "-o", "b.gguf", "-c", "128", "--json")
    told = json.loads(out)
    assert (code, told["chunk_count"], told["model"]) == (0, 34, None)
    code, out, _ = run("imatrix", "a.dat")
    assert "a.dat, legacy .dat" in out
    assert run("imatrix", "b.gguf", "-o", "c", "--output-format", "dat")[0] == 0
    assert read_imatrix("c").legacy


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["M"], "there is no text to run"),
        (["M", "--all"], "--all is about an importance matrix"),
        (
            ["M", "--text", "short.txt"],
            "two chunks of 64 tokens are needed at the least, and short.txt",
        ),
        (["M", "--text", "none.txt"], "no such file"),
        (["M", "--text", "text.txt", "-o", "x.dat", "--resume"], "does not say what run"),
        (["M", "--text", "text.txt", "-c", "32", "--in-file", "text.txt"], "no importance matrix"),
        (["I", "--text", "text.txt"], "--text is for a model"),
        (["I", "--no-ppl"], "--no-ppl is for a model"),
        (["I", "--from-chunk", "2"], "--from-chunk is for a model"),
        (["I", "--in-file", "I"], "--in-file is about what is written, and nothing is"),
        (["I", "-c", "64"], "--context is about what is written"),
        (["I", "--force"], "--force is about what is written"),
        (["text.txt"], "no importance matrix"),
        (["none.gguf"], "no such file"),
        (["array.npy"], "array.npy is no importance matrix: it is neither GGUF nor a .dat\n"),
    ],
)
def test_what_makes_no_sense_is_said(
    arguments: list[str], said: str, run: Run, model: Path
) -> None:
    Path("short.txt").write_text("!!!", encoding="utf-8")
    np.save("array.npy", np.zeros(3))
    names = {"M": model, "I": GOLDEN / "stories.gguf"}
    code, out, err = run("imatrix", *(names.get(word, word) for word in arguments))
    assert (code, out) == (2, "")
    assert said in err
    assert "hint: " in err


def test_a_matrix_from_a_stranger_cannot_write_to_the_terminal(run: Run) -> None:
    matrix = read_imatrix(GOLDEN / "stories.gguf")
    sums = {"blk.0.\x1b[31m.weight": np.ones((1, 4), np.float32)}
    counts = {name: np.ones((1, 1), np.float32) for name in sums}
    matrices.write(Path("a.gguf"), sums, counts, datasets=["\x1b]0;mine\x07"])
    for words in (("imatrix", "a.gguf", "--all"), ("imatrix", "a.gguf", "-o", "b.gguf")):
        code, out, err = run(*words)
        assert code == 0
        assert "\x1b" not in out + err
    write_imatrix(matrix, "c.gguf")


def test_names_take_one_line_and_counts_their_words(run: Run) -> None:
    columns, none = np.ones((1, 4), np.float32), np.zeros((1, 1), np.float32)
    sums, counts = {"blk.0.attn_k.weight": columns}, {"blk.0.attn_k.weight": none}
    matrices.write(Path("a.gguf"), sums, counts, datasets=["text\nverdict  sound\n"])
    code, out, _ = run("imatrix", "a.gguf")
    said = " ".join(out.split())
    assert code == 0
    assert r"made of text\x0averdict sound\x0a chunks" in said
    assert "entries 1 matrix " in said
    assert "NOT reached 1 matrix, the first blk.0.attn_k.weight: there every column" in said


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"a\0b\0", "text.txt is not text: byte 1 is zero"),
        (b"", "and text.txt has 0"),
        (None, "name a file of text"),
    ],
)
def test_a_text_that_is_none(content: bytes | None, said: str, run: Run, model: Path) -> None:
    Path("text.txt").unlink()
    Path("text.txt").mkdir() if content is None else Path("text.txt").write_bytes(content)
    code, _, err = run("imatrix", model, "--text", "text.txt", "-c", "32")
    assert (code, said in err, "m.gguf" in err) == (2, True, False)


def test_a_run_that_is_ended_says_how_to_go_on(
    run: Run, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    finish, done = gathering._finish, list[None]()

    def ended(*arguments: Any) -> None:
        if done:
            raise KeyboardInterrupt
        done.append(finish(*arguments))

    with monkeypatch.context() as patched:
        patched.setattr(gathering, "_finish", ended)
        code, _, err = run("imatrix", model, "-f", "text.txt", "-c", "32", "-o", "a.gguf")
    assert (code, "hint: a.gguf has the chunks so far: --resume" in err) == (130, True)
    code, _, err = run("quantize", model, "Q8_0", "--imatrix", "a.gguf", "--dry-run")
    assert (code, "a.gguf is a checkpoint" in err) == (0, True)
    assert run("imatrix", model, "-f", "text.txt", "-c", "32", "-o", "a.gguf", "--resume")[0] == 0
    run("imatrix", model, "-f", "text.txt", "-c", "32", "-o", "b.gguf")
    assert Path("a.gguf").read_bytes() == Path("b.gguf").read_bytes()


def test_tensors_count_as_weighed_where_their_type_weighs(run: Run, tmp_path: Path) -> None:
    source = write_slice(tmp_path / "s.gguf", "llama-mha")
    matrices.CHANGED["sound"](Path("a.gguf"), "llama-mha")
    for preset, some in (("Q8_0", False), ("Q4_0", True)):
        _, out, _ = run("quantize", source, preset, "--imatrix", "a.gguf", "--dry-run")
        assert (": 0 of " in out) != some
        assert "tensors are weighed by it" in " ".join(out.split())


def test_a_matrix_is_no_model(run: Run) -> None:
    code, _, err = run("quantize", GOLDEN / "stories.gguf", "Q8_0", "--dry-run")
    assert (code, "hint: it is an importance matrix: `ggufscope imatrix`" in err) == (2, True)


def test_quantizing_with_a_matrix_that_does_not_fit(run: Run, tmp_path: Path) -> None:
    source = write_slice(tmp_path / "s.gguf", "llama-mha")
    matrices.CHANGED["too long"](Path("a.gguf"), "llama-mha")
    code, _, err = run("quantize", source, "Q6_K", "--imatrix", "a.gguf")
    assert (code, "a.gguf has 300 numbers for 'blk.2.ffn_up.weight'" in err) == (2, True)
    matrices.CHANGED["no layer 1"](Path("a.gguf"), "llama-mha")
    code, _, err = run("quantize", source, "IQ2_XXS", "--imatrix", "a.gguf")
    assert code == 2
    code, _, err = run("quantize", source, "Q6_K", "--exclude-weights", "x")
    assert (code, "there is no importance matrix" in err) == (2, True)


def test_a_type_is_refused_for_what_a_matrix_lacks(run: Run) -> None:
    made = ("quantize", SAMPLE, "x.gguf", "IQ2_XS", "--pure")
    evaluated = ("evaluate", SAMPLE, "--ids", ",".join("1" * 32), "-c", "16", "--types", "IQ2_XS")
    for command in (made, evaluated):
        code, _, err = run(*command, "--imatrix", GOLDEN / "stories.gguf")
        assert code == 2
        assert "tensor 'output.weight' would become IQ2_XS, for which " in err
        assert f"{GOLDEN / 'stories.gguf'} has nothing" in err
        assert "give one" not in err
