"""`ggufscope attention --explain`, and what `--save` keeps, run as people run it."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ggufscope.container.file import open_gguf
from ggufscope.forward.trace import Trace
from ggufscope.forward.transformer import Transformer
from ggufscope.report.attention.numbers import number
from tests.cli.conftest import Run
from tests.models.families import IDS, SMALL, write

NUMBERS = ",".join(map(str, IDS))
PRINTED = re.compile(r"(?<![\w.])-?\d+\.\d{4}(?!\d)|-?\d\.\d{2}e[-+]\d+")


@pytest.fixture
def run(run: Run) -> Run:
    """Run `attention` in this process."""
    return partial(run, "attention")


def _all_numbers(data: Any) -> Iterator[float]:
    if isinstance(data, dict):
        for each in data.values():
            yield from _all_numbers(each)
    elif isinstance(data, list):
        for each in data:
            yield from _all_numbers(each)
    elif isinstance(data, float):
        yield data


@pytest.mark.parametrize("name", SMALL)
def test_every_printed_number_is_one_that_was_computed(name: str, run: Run, tmp_path: Path) -> None:
    model = write(tmp_path / "m.gguf", SMALL[name])
    asked = ("--ids", NUMBERS, "--explain", "--layer", "1", "--head", "2", "--position", "17")
    told = json.loads(run(model, *asked, "--json")[1])
    computed = {number(each) for each in _all_numbers(told)}
    for more in ([], ["--full"]):
        code, out, err = run(model, *asked, *more)
        assert (code, err) == (0, "")
        assert max(map(len, out.splitlines())) <= 80
        printed = PRINTED.findall(out)
        assert len(printed) > (400 if more else 150)
        assert set(printed) <= computed
        assert ("... of 32" in out) == (not more)
    for vector in (told["embd"], told["inpL"], told["tokens"][15]["k"], told["attn_out"]):
        assert {number(each) for each in vector} <= {*printed, "0"}


def test_one_token_of_the_sample(run: Run, sample: Path) -> None:
    code, out, _ = run(
        *(sample, "--prompt", "The cat sat on the mat and the cat ate"),
        *("--explain", "--token", "cat", "--layer", "2", "--head", "5"),
    )
    assert code == 0
    assert "'cat' stands at 2, too: --position chooses" in " ".join(out.split())
    assert "1/sqrt(32) = 0.1768" in out
    assert "key head 1, which heads 4-7 share" in " ".join(out.split())
    assert re.search(r"^10  ▁ate \(later\) +-?\d+\.\d+ +-inf +0 ", out, re.MULTILINE)
    heads = out[out.index("6. W_O") : out.index("7. What")]
    shares = [float(each) for each in re.findall(r"^H\d +[\d.]+ +(\S+)$", heads, re.MULTILINE)]
    assert len(shares) == 8
    assert sum(shares) == pytest.approx(1, abs=1e-3)


def test_a_word_of_several_pieces_and_a_place(run: Run, sample: Path) -> None:
    asked = (sample, "--prompt", "The crocodile sat", "--explain")
    out = run(*asked, "--token", "crocodile")[1]
    told = json.loads(run(*asked, "--token", "crocodile", "--json")[1])["token"]
    assert len(told["pieces"]) > 1
    assert told["position"] == told["pieces"][-1]
    assert f"{len(told['pieces'])} pieces here" in " ".join(out.split())
    first = json.loads(
        run(*asked, "--token", "crocodile", "--position", str(told["pieces"][0]), "--json")[1]
    )
    assert first["token"]["position"] == told["pieces"][0]


def test_a_long_prompt_shows_what_gets_most(run: Run, sample: Path) -> None:
    asked = (sample, "--prompt", "Tom had a red ball. " * 12, "--explain", "--layer", "1")
    out = run(*asked)[1]
    told = json.loads(run(*asked, "--json")[1])
    assert len(re.findall(r"more tokens, with", out)) == 3
    scores = out[out.index("4. Scores") : out.index("5. The values")]
    assert len(re.findall(r"^ *\d+  ", scores, re.MULTILINE)) == 24
    assert len(told["tokens"]) == len(told["prompt"]["ids"])
    assert "more tokens" not in run(*asked, "--full")[1]


def test_numbers_that_overflow_are_shown(run: Run, tmp_path: Path) -> None:
    small = SMALL["llama-gqa"]
    tensors = small.tensors()
    for name, weights in tensors.items():
        if "attn_q" in name or "attn_k" in name:
            weights *= np.float32(1e37)
    model = write(tmp_path / "m.gguf", small, tensors)
    code, out, err = run(model, "--ids", "1,2,3,2", "--explain")
    assert (code, err) == (0, "")
    assert "inf" in out
    assert run(model, "--ids", "1,2,3,2", "--explain", "--json")[0] == 0


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--explain", "--verify"], "two questions"),
        (["--explain", "--html", "a.html"], "--explain writes no file"),
        (["--full"], "--full needs a question"),
        (["--explain", "--token", "dog"], "the prompt has no 'dog'"),
        (["--explain", "--token", "cat", "--position", "1"], "token 1 is The, not 'cat'"),
        (["--explain", "--position", "7"], "tokens 0 to 6"),
        (["--explain", "--layer", "4"], "there is no layer 4"),
        (["--explain", "--head", "8"], "there is no head 8"),
        (["--keep", "Qcur"], "--keep names what --save writes"),
        (["--save", "a.npz", "--keep", "Qcurr"], "computes no such quantity"),
        (["--save", "a.npz", "--keep", "Qcur,"], "--keep has an empty name"),
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


def test_an_architecture_without_a_pass_is_named(run: Run, make: Callable[[str], Path]) -> None:
    code, _, err = run(make("mamba"), "--explain")
    assert code == 2
    assert "'mamba' cannot be run" in err


@pytest.mark.parametrize("name", ["llama-gqa", "mixtral", "gemma2"])
def test_any_quantity_can_be_saved(name: str, run: Run, tmp_path: Path) -> None:
    model, saved = write(tmp_path / "m.gguf", SMALL[name]), tmp_path / "a.npz"
    trace = Trace()
    with open_gguf(model) as file:
        Transformer.of(file).run(IDS, trace=trace)
    assert run(model, "--ids", NUMBERS, "--save", saved, "--keep", "all")[0] == 0
    with np.load(saved) as arrays:
        assert {*arrays.files} == {"ids", *trace}
        for key, array in trace.items():
            assert arrays[key].tobytes() == array.tobytes(), key
    some = ("--keep", "Qcur,Kcur", "--keep", "Vcur", "--force")
    assert run(model, "--ids", NUMBERS, "--save", saved, *some)[0] == 0
    with np.load(saved) as arrays:
        layers = range(SMALL[name].hparams["block_count"])
        assert {*arrays.files} == {"ids", *(f"{q}cur-{n}" for q in "QKV" for n in layers)}
