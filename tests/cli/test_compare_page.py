"""The page of `ggufscope compare-attention`, as it is written, and what is in it."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest
from scipy.special import softmax

from ggufscope.container.file import open_gguf
from ggufscope.forward.transformer import Transformer
from ggufscope.measure.compare import compare
from tests.cli.conftest import Run
from tests.models import makers

IDS = (0, 273, 525, 658, 482, 259, 758)
"""The default prompt, "The cat sat on the mat", as the sample has it."""


def test_the_page_is_written_once(run: Run, sample: Path, tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    words = ("compare-attention", sample, "--types", "Q8_0", "--html")
    assert run(*words, page)[0] == 0
    text = page.read_text(encoding="utf-8")
    assert text.startswith("<!DOCTYPE html>")
    assert "Q8_0, layer by layer" in text
    before = page.stat().st_mtime_ns
    assert run(*words, page)[0] == 2
    assert page.stat().st_mtime_ns == before
    assert run(*words, page, "--force")[0] == 0
    code, _, err = run(*words, "/dev/null/page.html")
    assert code == 2
    assert "error: " in err


def test_the_page_names_what_changed_and_what_comes_next(
    run: Run, sample: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[str] = []

    def browse(uri: str) -> bool:
        opened.append(uri)
        return True

    monkeypatch.setattr("webbrowser.open", browse)
    page = tmp_path / "page.html"
    words = ("--types", "Q8_0,Q2_K", "--ids", ",".join(map(str, IDS)), "--html", page, "--open")
    assert run("compare-attention", sample, *words)[0] == 0
    assert opened == [page.as_uri()]
    text = page.read_text(encoding="utf-8")
    assert '<a href="#candidate=Q2_K&amp;head=L2H0">L2H0 12.0%</a>' in text
    found = re.search(r'id="data">(.*?)</script>', text, re.DOTALL)
    assert found is not None
    data = json.loads(found[1])
    assert data["groups"] == [2, 2, 2, 2]  # KV heads of each layer
    names = [score["name"] for score in data["runs"][0]["scores"]]
    assert names[0] == "attends to the previous token"
    assert names[-1] == "entropy"
    # What each run holds likely to come next, as the logits after the last token have it.
    with open_gguf(sample) as file:
        shares = softmax(Transformer.of(file).run(IDS)[-1].astype(np.float64))
        likely = compare(file, IDS, ["Q8_0", "Q2_K"]).next_tokens
    assert [each.id for each in likely][:5] == np.argsort(-shares)[:5].tolist()
    for each, (_, reference, *others) in zip(likely, data["next"], strict=True):
        assert each.shares[0] == pytest.approx(shares[each.id], abs=1e-5)
        assert (reference, *others) == pytest.approx(each.shares, rel=1e-6)
    # Each candidate's own five are among them.
    for number in (1, 2):
        assert sum(each.shares[number] for each in likely) > 0.8


def test_hostile_tokens_reach_no_terminal(run: Run, tmp_path: Path) -> None:
    recipe = makers.RECIPES["llama-gqa"]()
    tokens = ["\x1b[31m", "\u202e", "\n", "</script>"] + [f"t{n}" for n in range(36)]
    recipe.metadata |= {
        "tokenizer.ggml.model": "llama",
        "tokenizer.ggml.tokens": tokens,
        "tokenizer.ggml.scores": [0.0] * 40,
        "tokenizer.ggml.token_type": [1] * 40,
    }
    model = makers.write_recipe(tmp_path / "m.gguf", recipe)
    page = tmp_path / "page.html"
    words = ("--types", "Q8_0", "--ids", "0,1,2,3", "--html", page)
    _, out, _ = run("compare-attention", model, *words)
    for text in (out, page.read_text(encoding="utf-8")):
        assert "\x1b" not in text
        assert "\u202e" not in text
    assert page.read_text(encoding="utf-8").count("</script>") == 2
