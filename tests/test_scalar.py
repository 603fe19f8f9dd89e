"""The scalar model in `samples/`, which is there to be read, gives the program's own numbers."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
from scipy import special

from ggufscope.container.file import open_gguf
from ggufscope.forward.trace import Trace
from ggufscope.forward.transformer import Transformer
from samples import scalar_attention
from tests import program
from tests.documents import ROOT

PAGE = ROOT / "samples" / "scalar_attention.py"
TEXT = "The cat sat on the mat"


@pytest.fixture(scope="module")
def model(sample: Path) -> scalar_attention.Model:
    return scalar_attention.Model(str(sample))


def test_every_share_and_logit_is_that_of_the_pass(
    model: scalar_attention.Model, sample: Path
) -> None:
    ids = model.tokenizer.encode(TEXT)
    shares, logits = [], []
    for token in ids:
        logits.append(model.step(token))
        shares.append([list(layer) for layer in model.shares])
    with open_gguf(sample) as file:
        trace = Trace({"kq_soft_max", "Kcur"})
        expected = Transformer.of(file).run(ids, trace=trace)
    np.testing.assert_allclose(logits, expected, atol=2e-5)
    for layer in range(4):
        for position in range(len(ids)):
            row = trace[f"kq_soft_max-{layer}"][:, position, : position + 1]
            np.testing.assert_allclose(shares[position][layer], row, atol=1e-6)
        keys = np.array(model.keys[layer])
        np.testing.assert_allclose(keys, trace[f"Kcur-{layer}"].reshape(keys.shape), atol=2e-5)


def test_it_prints_what_the_command_prints(
    sample: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = ("--prompt", TEXT, "--explain", "--layer", 2, "--head", 5, "--token", "mat", "--json")
    done = json.loads(program.inside("attention", sample, *asked).stdout)
    monkeypatch.chdir(ROOT)
    scalar_attention.main(TEXT)
    last = capsys.readouterr().out.splitlines()[-1]
    printed = " ".join(f"{token['kq_soft_max']:.4f}" for token in done["tokens"])
    assert last.split("  ", 1)[1].strip().startswith(printed)
    assert last.endswith(f"next: {done['next']['likeliest'][0]['token']}")


@pytest.mark.parametrize(
    "scores",
    [
        [2.1, 0.3, -0.5],
        [0.0] * 4,
        [-0.0, 0.0],
        [1e308, -5e307],
        [1000.0, 999.0, -1e9],
        [5e-324, 0.0],
        [-math.inf, 1.0],
        [1e6] + [0.0] * 9,
    ],
)
def test_its_softmax_is_softmax(scores: list[float]) -> None:
    np.testing.assert_allclose(scalar_attention.softmax(scores), special.softmax(scores), rtol=1e-9)


@pytest.mark.parametrize("x", [0.0, -0.0, 1.0, -1.0, 800.0, -800.0, 1e308, -1e308, 5e-324])
def test_its_silu_overflows_nowhere(x: float) -> None:
    assert scalar_attention.silu(x) == pytest.approx(x * float(special.expit(x)), rel=1e-12)


def test_it_is_a_page_without_arrays() -> None:
    text = PAGE.read_text(encoding="utf-8")
    assert "numpy" not in text
    assert len(text.splitlines()) <= 150
