"""`ggufscope attention`, run as people run it."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ggufscope.container.file import open_gguf
from ggufscope.forward.transformer import Transformer
from tests.cli.conftest import Run
from tests.forward.golden import golden
from tests.llama_cpp import LlamaCpp
from tests.models import makers, vocabularies
from tests.models.families import IDS, SMALL, Small, write

HABITS = ("previous", "first", "itself", "equal", "entropy")


@pytest.fixture
def run(run: Run) -> Run:
    """Run `attention` in this process."""
    return partial(run, "attention")


@pytest.mark.parametrize("name", ["llama-gqa", "gemma2", "qwen3", "mixtral"])
def test_what_is_saved_is_what_llama_cpp_computes(name: str, run: Run, tmp_path: Path) -> None:
    model, saved = write(tmp_path / "m.gguf", SMALL[name]), tmp_path / "a.npz"
    code, _, _ = run(model, "--ids", ",".join(map(str, IDS)), "--save", saved)
    assert code == 0
    theirs = golden(name)
    with np.load(saved, allow_pickle=False) as ours:
        assert set(ours.files) == {"ids", *theirs}
        assert tuple(ours["ids"]) == IDS
        for key, array in theirs.items():
            assert ours[key].dtype == np.float32
            np.testing.assert_allclose(ours[key], array, atol=2e-2 if "gemma" in name else 1e-4)
    assert not list(tmp_path.glob("*.partial"))
    assert not list(tmp_path.glob(".*"))


def test_the_default_prompt_is_tokenized_as_llama_cpp_does(run: Run, sample: Path) -> None:
    code, out, err = run(sample, "--json")
    assert (code, err) == (0, "")
    found = json.loads(out)
    assert found["schema"] == "ggufscope.attention/2"
    assert found["prompt"]["text"] == "The cat sat on the mat"
    with LlamaCpp(sample, 64) as llama:
        ids = llama.tokenize(found["prompt"]["text"], add_special=True)
        best = llama.complete(prompt=ids, n_predict=1, n_probs=1)["logprobs"]["content"][0]
    assert found["prompt"]["ids"] == ids
    assert found["next"][0]["id"] == best["id"]
    assert np.log(found["next"][0]["probability"]) == pytest.approx(best["logprob"], abs=5e-2)
    tokens = len(ids)
    assert [layer["layer"] for layer in found["layers"]] == [0, 1, 2, 3]
    for layer in found["layers"]:
        for head in layer["heads"]:
            assert set(head) == {"head", *HABITS}
            assert head["equal"] is None  # no token comes twice
            assert 0 <= head["previous"] <= 1
    matrix = np.array(found["shown"]["kq_soft_max"])
    assert matrix.shape == (tokens, tokens)
    np.testing.assert_allclose(matrix.sum(axis=1), 1, atol=1e-5)
    assert (np.triu(matrix, 1) == 0).all()
    shown = found["shown"]
    everywhere = [
        (h["previous"], n["layer"], h["head"]) for n in found["layers"] for h in n["heads"]
    ]
    assert max(everywhere)[1:] == (shown["layer"], shown["head"])
    for row, best in zip(matrix, shown["attends_most_to"], strict=True):
        assert best[0]["position"] == int(row.argmax())


def test_a_head_a_layer_and_the_mean_of_a_layer(run: Run, sample: Path, tmp_path: Path) -> None:
    saved = tmp_path / "a.npz"
    head = json.loads(run(sample, "--layer", "1", "--head", "3", "--json", "--save", saved)[1])
    layer = json.loads(run(sample, "--layer", "1", "--json")[1])
    alone = json.loads(run(sample, "--head", "3", "--json")[1])
    with np.load(saved) as arrays:
        maps = [arrays[f"kq_soft_max-{n}"] for n in range(2)]
    np.testing.assert_allclose(head["shown"]["kq_soft_max"], maps[1][3], atol=1e-7)
    assert layer["shown"]["head"] is None
    np.testing.assert_allclose(layer["shown"]["kq_soft_max"], maps[1].mean(axis=0), atol=1e-6)
    assert (alone["shown"]["layer"], alone["shown"]["head"]) == (0, 3)
    np.testing.assert_allclose(alone["shown"]["kq_soft_max"], maps[0][3], atol=1e-7)


LONG = "Tom had a red ball. Mia had a blue cup. " * 6


@pytest.mark.parametrize(
    "prompt", ["a", "The cat sat on the mat", LONG, "\x1b[31m\n\t\u202e 🚀 世界"]
)
def test_it_is_legible_at_80_columns(prompt: str, run: Run, sample: Path) -> None:
    code, out, err = run(sample, "--prompt", prompt)
    assert (code, err) == (0, "")
    assert max(map(len, out.splitlines())) <= 80
    assert "\x1b" not in out
    assert "\u202e" not in out
    for words in ("what each token attends to", "What the heads do", "to come next"):
        assert words in out
    favourites = out[out.index("What each token attends to most") : out.index("What the heads do")]
    counted = int(re.findall(r"^prompt +(\d+) token", out, re.MULTILINE)[0])
    rows = [int(n) for n in re.findall(r"^ *(\d+)  ", favourites, re.MULTILINE)]
    assert rows == list(range(counted))[-24:]
    if prompt == LONG:
        assert f"({counted - 24} before)" in favourites
        assert re.search(r"\.\.\. and \d+\s+more", out)


def test_the_page_holds_every_head(run: Run, sample: Path, tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    code, out, _ = run(sample, "--html", page)
    assert code == 0
    assert str(page) in out.replace("\n", "")
    text = page.read_text(encoding="utf-8")
    assert "attends to the previous token" in text
    assert '"heads":[8,8,8,8]' in text
    assert "http://" not in text.replace("http://www.w3.org", "")


def test_the_page_is_opened_when_it_is_written(
    run: Run, sample: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[str] = []

    def browse(uri: str) -> bool:
        assert page.read_text(encoding="utf-8").endswith("</html>\n")
        opened.append(uri)
        return len(opened) == 1

    monkeypatch.setattr("webbrowser.open", browse)
    page = tmp_path / "a page.html"
    code, _, err = run(sample, "--html", page, "--open")
    assert (code, err, opened) == (0, "", [page.as_uri()])
    code, _, err = run(sample, "--html", page, "--open", "--force")
    assert code == 0
    assert "warning: no browser was found" in err
    code, _, err = run(sample, "--open")
    assert code == 2
    assert "--open has no page to open" in err
    assert "hint: name one: --html FILE" in err


def test_the_size_of_a_large_page_is_said_before_it_is_written(
    run: Run, sample: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ggufscope.report.html.LARGE", 10_000)
    code, _, err = run(sample, "--html", tmp_path / "page.html")
    assert code == 0
    assert re.search(r"warning: the page takes [\d.]+ kB, and some seconds", err)
    assert "a shorter prompt or fewer candidates" in " ".join(err.split())


def test_a_prompt_file_is_the_prompt(run: Run, sample: Path, tmp_path: Path) -> None:
    path = tmp_path / "prompt.txt"
    path.write_bytes(b"One.\r\nTwo.\n")
    found = json.loads(run(sample, "--prompt-file", path, "--json")[1])
    assert found["prompt"]["text"] == "One.\r\nTwo.\n"


def test_verify_says_all_hold(run: Run, sample: Path) -> None:
    code, out, _ = run(sample, "--verify")
    assert code == 0
    assert out.count("  holds") == 8
    assert "all 8 hold" in out
    assert max(map(len, out.splitlines())) <= 80
    found = json.loads(run(sample, "--verify", "--json")[1])
    assert found["holds"] is True
    assert all(each["residual"] <= each["tolerance"] for each in found["identities"])


def test_verify_exits_with_1_where_one_fails(
    run: Run, sample: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ggufscope.measure.identities.rows_sum_to_one", lambda _: float("nan"))
    code, out, _ = run(sample, "--verify")
    assert code == 1
    assert "FAILS in L0" in out
    assert "1 of 8 fail" in out
    code, out, _ = run(sample, "--verify", "--json")
    assert code == 1
    assert json.loads(out)["identities"][0]["residual"] == "nan"


def _nan_model(tmp_path: Path) -> Path:
    small = SMALL["llama-gqa"]
    tensors = small.tensors()
    tensors["blk.2.ffn_down.weight"][7, 3] = np.nan
    return write(tmp_path / "nan.gguf", small, tensors)


def _no_tokenizer(tmp_path: Path) -> Path:
    vocabulary = vocabularies.bpe("gpt-2") | {"model": "martian"}
    return vocabularies.write_model(tmp_path / "v.gguf", vocabulary)


def _no_words(tmp_path: Path) -> Path:
    """A model whose vocabulary has a token for no text."""
    vocabulary = vocabularies.bpe("gpt-2")
    tokens = [f"[{number}]" for number in range(len(vocabulary["tokens"]))]
    return vocabularies.write_model(
        tmp_path / "v.gguf", vocabulary | {"tokens": tokens, "merges": ["[1] [2]"]}
    )


def test_a_text_that_becomes_no_token(run: Run, tmp_path: Path) -> None:
    code, out, err = run(_no_words(tmp_path))
    assert (code, out) == (2, "")
    assert "no token of this vocabulary fits the text" in err
    assert "--ids 1,5,9" in err


def test_without_a_tokenizer_ids_run(run: Run, tmp_path: Path) -> None:
    code, out, _ = run(_no_tokenizer(tmp_path), "--ids", "1 5, 9")
    assert code == 0
    assert "3 tokens: 1 5 9" in out


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--prompt", ""], "the prompt is empty"),
        (["--prompt", "a\udce4"], "the text is not Unicode"),
        (["--ids", ""], "the prompt is empty"),
        (["--ids", "1,x"], "'1,x'"),
        (["--ids", "0,99999"], "token 99999 at position 1 is not in the vocabulary"),
        (["--ids=-1"], "token -1"),
        (["--prompt", "a", "--ids", "1"], "--prompt stands beside --ids"),
        (["--layer", "99"], "there is no layer 99: the model has layers 0 to 3"),
        (["--layer=-1"], "there is no layer -1"),
        (["--layer", "1", "--head", "8"], "there is no head 8: layer 1 has heads 0 to 7"),
        (["--prompt", "word " * 300], "tokens are more than the model's context of 256"),
        (["--prompt-file", "/nowhere"], "/nowhere: no such file"),
        (["--html", "/dev/null/page.html"], "/dev/null/page.html cannot be written"),
        (["--save", "."], ". is a directory"),
        (["--save", "a.npz", "--html", "./a.npz"], "name one file"),
        (["--verify", "--layer", "1"], "--verify checks all layers"),
    ],
)
def test_what_cannot_be_is_said_in_one_line(
    arguments: list[str], says: str, run: Run, sample: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Transformer, "layer", _no_work)
    code, out, err = run(sample, *arguments)
    assert (code, out) == (2, "")
    error, hint = err.splitlines()
    assert error.startswith("error: ")
    assert says in error
    assert hint.startswith("hint: ")


def _no_work(*_: Any, **__: Any) -> None:
    pytest.fail("long work began before everything was checked")


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (_nan_model, "'blk.2.ffn_down.weight' has a NaN or an infinity in row 7"),
        (_no_tokenizer, "'martian', a kind of tokenizer that is not read here"),
        (lambda path: makers.make(path / "m.gguf", "unheard-of"), "'flux-capacitor' cannot be run"),
        (lambda path: makers.make(path / "m.gguf", "mamba"), "'mamba' cannot be run"),
        (lambda path: path, "is a directory"),
    ],
)
def test_a_model_that_cannot_be_run_is_refused_at_once(
    make: Callable[[Path], Path],
    says: str,
    run: Run,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(Transformer, "layer", _no_work)
    code, out, err = run(make(tmp_path))
    assert (code, out) == (2, "")
    error, hint = err.splitlines()
    assert says in error
    assert hint.startswith("hint: ")


def test_a_file_that_exists_is_kept(run: Run, sample: Path, tmp_path: Path) -> None:
    for option, name in (("--save", "a.npz"), ("--html", "a.html")):
        path = tmp_path / name
        path.write_bytes(b"mine")
        code, _, err = run(sample, option, path)
        assert code == 2
        assert "exists" in err
        assert path.read_bytes() == b"mine"
        assert run(sample, option, path, "--force")[0] == 0
        assert path.stat().st_size > 1000


def test_a_run_that_fails_leaves_no_file(
    run: Run, sample: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Transformer, "logits", broken)
    assert run(sample, "--save", tmp_path / "a.npz")[0] == 130
    assert list(tmp_path.iterdir()) == []


def test_a_model_whose_numbers_overflow_is_shown_all_the_same(run: Run, tmp_path: Path) -> None:
    small = SMALL["llama-gqa"]
    tensors = small.tensors()
    for name, weights in tensors.items():
        if name.startswith("output.") or "attn_q" in name or "attn_k" in name:
            weights *= np.float32(1e37)
    model = write(tmp_path / "m.gguf", small, tensors)
    for more in ([], ["--json"], ["--html", tmp_path / "a.html"], ["--save", tmp_path / "a.npz"]):
        code, out, err = run(model, "--ids", "1,2,3,2", *more)
        assert (code, err) == (0, "")
        assert "nan" in out or "overflows float32" in out.replace("\n", " ")
    code, out, err = run(model, "--ids", "1,2,3,2", "--verify")
    assert (code, err) == (1, "")
    assert run(model, "--ids", "1,2,3,2", "--verify", "--json")[0] == 1


def test_unequal_layers_are_no_problem(run: Run, tmp_path: Path) -> None:
    """Sliding windows: all tokens stand in the matrix, those outside the window with 0."""
    model = write(tmp_path / "m.gguf", SMALL["gemma3"])
    code, out, _ = run(model, "--ids", ",".join(map(str, IDS)), "--layer", "0", "--json")
    assert code == 0
    assert len(json.loads(out)["shown"]["kq_soft_max"]) == len(IDS)


def test_every_family_can_be_watched(run: Run, tmp_path: Path) -> None:
    for name, small in SMALL.items():
        assert isinstance(small, Small)
        code, out, err = run(write(tmp_path / f"{name}.gguf", small), "--prompt", "!!ab")
        assert (code, err) == (0, ""), name
        assert "What the heads do" in out
    with open_gguf(tmp_path / "gpt2.gguf") as file:
        assert Transformer.of(file).n_layers == 3
