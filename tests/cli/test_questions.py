"""The questions of `ggufscope attention`, run as people run them."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from ggufscope.container.file import open_gguf
from ggufscope.forward.trace import Trace
from ggufscope.forward.transformer import Transformer
from ggufscope.measure.cached import token_by_token
from ggufscope.measure.heads import repeated_tokens
from tests.cli.conftest import Run
from tests.models.families import IDS, SMALL, write

NUMBERS = ",".join(map(str, IDS))
TEXT = "The dog did not cross the street because it was tired"


@pytest.fixture
def run(run: Run) -> Run:
    """Run `attention` in this process."""
    return partial(run, "attention")


QUESTIONS = [
    ("--token", "a"),
    ("--to", "a"),
    ("--to", "a", "--token", "b"),
    ("--heads",),
    ("--cached",),
    ("--token", "a", "--compare-prompt", "b!a"),
]


@pytest.mark.parametrize("name", ["llama-mqa", "gemma2", "gemma3", "qwen3", "phi3", "gpt2"])
@pytest.mark.parametrize("question", QUESTIONS, ids=" ".join)
def test_every_family_can_be_asked(
    name: str, question: tuple[str, ...], run: Run, tmp_path: Path
) -> None:
    model = write(tmp_path / "m.gguf", SMALL[name])
    code, out, err = run(model, "--prompt", "!!ab!b", *question)
    assert (code, err) == (0, "")
    assert max(map(len, out.splitlines())) <= 80


@pytest.mark.parametrize("question", QUESTIONS, ids=" ".join)
def test_numbers_that_overflow_and_a_single_token_end_well(
    question: tuple[str, ...], run: Run, tmp_path: Path
) -> None:
    small = SMALL["llama-gqa"]
    model = write(tmp_path / "m.gguf", small)
    if "b" not in question:
        code, out, err = run(model, "--prompt", "a", *question)
        assert (code, err) == (0, "")
    tensors = small.tensors()
    for name, weights in tensors.items():
        if "attn_q" in name or "attn_k" in name:
            weights *= np.float32(1e37)
    model = write(tmp_path / "m.gguf", small, tensors)
    for form in ([], ["--json"]):
        code, out, err = run(model, "--prompt", "!!ab!b", *question, *form)
        assert (code, err) == (int("--cached" in question), "")
        json.loads(out) if form else out.encode()


@pytest.mark.parametrize("prompt", [TEXT, "Tom had a red ball. Mia had a blue cup. " * 6 + TEXT])
def test_it_is_legible_at_80_columns(prompt: str, run: Run, sample: Path) -> None:
    for question in (
        ("--token", "it"),
        ("--to", "dog"),
        ("--heads",),
        ("--cached",),
        ("--token", "dog", "--compare-prompt", "Tom saw the big dog"),
    ):
        code, out, err = run(sample, "--prompt", prompt, *question)
        assert (code, err) == (0, "")
        assert max(map(len, out.splitlines())) <= 80


def test_a_token_and_who_looks_at_a_word(run: Run, tmp_path: Path) -> None:
    model, trace = write(tmp_path / "m.gguf", SMALL["llama-gqa"]), Trace({"kq_soft_max"})
    with open_gguf(model) as file:
        Transformer.of(file).run(IDS, trace=trace)
    told = json.loads(run(model, "--ids", NUMBERS, "--position", "9", "--json")[1])
    for each in told["heads"]:
        row = trace[f"kq_soft_max-{each['layer']}"][each["head"], 9]
        assert each["kq_soft_max"] == row.tolist()
    assert len(told["heads"]) == 24
    one = json.loads(run(model, "--ids", NUMBERS, "--position", "9", "--layer", "1", "--json")[1])
    assert one["heads"] == told["heads"][8:16]
    looked = told["prompt"]["tokens"][2]
    told = json.loads(run(model, "--ids", NUMBERS, "--to", looked, "--json")[1])
    at = told["to"]["position"]
    shares = [each["share"] for each in told["looks"]]
    assert shares == sorted(shares, reverse=True)
    wanted = {
        (n, h, t): float(trace[f"kq_soft_max-{n}"][h, t, at])
        for n in range(3)
        for h in range(8)
        for t in range(at + 1, len(IDS))
    }
    found = {(e["layer"], e["head"], e["position"]): e["share"] for e in told["looks"]}
    assert found == {key: share for key, share in wanted.items() if share > 0}


def test_a_word_of_several_pieces_is_looked_at_as_a_whole(run: Run, sample: Path) -> None:
    asked = (sample, "--prompt", "The crocodile was tired", "--to", "crocodile", "--token", "tired")
    told = json.loads(run(*asked, "--json")[1])
    assert len(told["to"]["pieces"]) > 1
    token = json.loads(run(*asked[:3], "--token", "tired", "--json")[1])
    rows = {(e["layer"], e["head"]): e["kq_soft_max"] for e in token["heads"]}
    for each in told["looks"]:
        row = rows[each["layer"], each["head"]]
        assert each["share"] == pytest.approx(sum(row[n] for n in told["to"]["pieces"]), abs=1e-6)


def test_to_means_the_place_before_the_token(run: Run, sample: Path) -> None:
    asked = (sample, "--prompt", "The dog and it and the dog", "--to", "dog")
    assert json.loads(run(*asked, "--token", "it", "--json")[1])["to"]["position"] == 2
    assert json.loads(run(*asked, "--json")[1])["to"]["position"] == 7
    said = run(*asked)[1]
    assert said.endswith("Nobody: no token after it gives it anything.\n\n")
    said = run(sample, "--prompt", "The cat sat on the mat", "--token", "cat", "--to", "mat")[1]
    assert said.endswith("Not at all: cat stands before mat, and no token sees a later one.\n\n")


def test_the_heads_of_a_layer_share_its_output(run: Run, sample: Path) -> None:
    told = json.loads(run(sample, "--heads", "--json")[1])
    for layer in range(4):
        shares = [each["share"] for each in told["heads"] if each["layer"] == layer]
        assert sum(shares) == pytest.approx(1, abs=1e-4)


def test_a_head_that_w_o_ignores_is_named(run: Run, tmp_path: Path) -> None:
    small = SMALL["llama-gqa"]
    tensors = small.tensors()
    tensors["blk.1.attn_output.weight"][:, 3 * 8 : 4 * 8] = 0
    out = run(write(tmp_path / "m.gguf", small, tensors), "--ids", NUMBERS, "--heads")[1]
    assert "W_O ignores L1 H3 on this prompt" in out


def test_random_tokens_come_twice_and_fit(tmp_path: Path) -> None:
    with open_gguf(write(tmp_path / "m.gguf", SMALL["llama-gqa"])) as file:
        ids = repeated_tokens(Transformer.of(file), 7)
        short = repeated_tokens(Transformer.of(file, context=9), 7)
        assert repeated_tokens(Transformer.of(file, context=4), 7) == []
    assert ids[0] == 7
    assert ids[1:25] == ids[25:]
    assert len(set(ids[1:25])) == 24
    assert len(short) == 9


def test_the_cache_changes_nothing_and_what_it_saves(run: Run, tmp_path: Path) -> None:
    model = write(tmp_path / "m.gguf", SMALL["llama-gqa"])
    told = json.loads(run(model, "--ids", NUMBERS, "--cached", "--json")[1])
    count = len(IDS)
    assert (told["computed"], told["read"]) == (count, count * (count - 1) // 2)
    assert told["without"] == count * (count + 1) // 2
    assert told["numbers"] == 3 * 2 * (8 + 8)
    assert told["same"]
    assert told["gap"] < 1e-5
    with open_gguf(model) as file:
        found = token_by_token(Transformer.of(file), IDS)
        logits = Transformer.of(file).run(IDS)
    assert found.next_whole.tolist() == logits.argmax(axis=1).tolist()


def test_a_cache_that_changes_something_is_told(
    run: Run, sample: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ggufscope.measure.cached.KVCache", lambda: _coarse())
    code, out, _ = run(sample, "--cached")
    assert code == 1
    assert "NOT the same" in out


def _coarse() -> object:
    from ggufscope.forward.cache import KVCache

    return KVCache("Q4_0", "Q4_0")


def test_the_same_word_in_two_prompts(run: Run, sample: Path) -> None:
    asked = (sample, "--prompt", "The dog was tired", "--token", "dog", "--compare-prompt")
    same = json.loads(run(*asked, "The dog ate", "--json")[1])
    assert same["embd_cosine"] == pytest.approx(1)
    for layer in same["layers"]:  # what comes after changes nothing
        assert layer["l_out_cosine"] == pytest.approx(1)
        assert max(each["difference"] for each in layer["heads"]) < 1e-5
    other = json.loads(run(*asked, "Tom saw the big dog", "--json")[1])
    assert other["embd_cosine"] == pytest.approx(1)
    assert other["layers"][-1]["l_out_cosine"] < 0.95
    trace = Trace({"kqv"}), Trace({"kqv"})
    with open_gguf(sample) as file:
        model = Transformer.of(file)
        for ids, each in zip((other["prompt"], other["other_prompt"]), trace, strict=True):
            model.run(ids["ids"], trace=each)
    one, two = (
        each["kqv-2"][:, place["position"]].astype(np.float64)
        for each, place in zip(trace, other["tokens"], strict=True)
    )
    wanted = np.linalg.norm(one - two, axis=1)
    wanted /= np.maximum(np.linalg.norm(one, axis=1), np.linalg.norm(two, axis=1))
    found = [each["difference"] for each in other["layers"][2]["heads"]]
    np.testing.assert_allclose(found, wanted, atol=1e-6)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--heads", "--cached"], "two questions"),
        (["--heads", "--save", "a.npz"], "--heads writes no file"),
        (["--cached", "--layer", "1"], "--cached is about all heads"),
        (["--token", "cat", "--head", "1"], "--token shows all heads"),
        (["--token", "cat", "--verify"], "--verify is about all tokens"),
        (["--heads", "--full"], "--full needs a question that is cut"),
        (["--compare-prompt", "The cat"], "--compare-prompt needs --token"),
        (["--compare-prompt", "A dog", "--token", "cat"], "the prompt has no 'cat'"),
        (["--compare-prompt", "", "--token", "cat"], "the prompt is empty"),
        (["--to", "dog"], "the prompt has no 'dog'"),
        (["--token", "cat", "--layer", "9"], "there is no layer 9"),
    ],
)
def test_what_cannot_be_is_said_before_any_work(
    arguments: list[str], says: str, run: Run, sample: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Transformer, "layer", lambda *_, **__: pytest.fail("work began"))
    code, out, err = run(sample, *arguments)
    assert (code, out) == (2, "")
    error, hint = err.splitlines()
    assert says in error
    assert hint.startswith("hint: ")
