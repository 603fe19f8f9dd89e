"""`ggufscope inspect`, run as people run it."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import gguf
import numpy as np
import pytest

from ggufscope.recipes.apply import quantize_model
from tests.models.makers import raw_gguf, tensor
from tests.program import inside, refused

NAME = "blk.0.attn_q.weight"


def _inspect(*arguments: str | Path) -> str:
    done = inside("inspect", *arguments)
    assert (done.returncode, done.stderr) == (0, "")
    assert max(map(len, done.stdout.splitlines())) <= 80
    return done.stdout


@pytest.fixture(scope="module")
def small(sample: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("inspect") / "q4.gguf"
    quantize_model(sample, {path: "Q4_K_M"})
    return path


def test_a_tensor(sample: Path) -> None:
    output = _inspect(sample, NAME)
    assert output.startswith(f"tensor     {NAME}: W_q: queries, layer 0\n")
    assert "HF name    model.layers.0.self_attn.q_proj.weight; rows permuted" in output
    assert "stored     256×256 F16: 65,536 weights, 128 KiB, 16 bits each" in output
    assert "How its weights are spread" in output
    assert re.search(r"^Q8_0 +8\.5 +68\.0 KiB +0\.52%  █+$", output, re.MULTILINE)
    assert re.search(r"^F16 +16 +128 KiB +as it is$", output, re.MULTILINE)
    assert "\nrelative root mean square error of all weights, without an importance" in output


def test_where_it_lies_is_where_it_lies(sample: Path) -> None:
    output = _inspect(sample, NAME, "--brief")
    reader = gguf.GGUFReader(sample)
    (there,) = (each for each in reader.tensors if each.name == NAME)
    start, stop = there.data_offset, there.data_offset + there.n_bytes
    assert f"where      bytes {start:,} to {stop:,} of stories-f16.gguf" in output
    assert "How its weights" not in output


def test_a_block_taken_apart(small: Path) -> None:
    output = _inspect(small, NAME, "--block", "1")
    assert "Block 1 of Q4_K, taken apart" in output
    assert "weight = d * scale * level - dmin * minimum" in output
    assert "For all weights: d = " in output
    assert output.count("scale = ") == 8
    assert output.count(" > ") == 256
    assert "What other types would cost" not in output


def test_a_vector_and_a_plain_type(sample: Path) -> None:
    output = _inspect(sample, "output_norm.weight", "--block", "3")
    assert "rows  " not in output
    assert "weight = sign * power * fraction" in output


def test_rows_are_cut_and_saved(sample: Path, tmp_path: Path) -> None:
    save, page = tmp_path / "w.npy", tmp_path / "w.html"
    output = _inspect(sample, NAME, "--rows", "3:7", "--save", save, "--html", page)
    ends = "".join(f"page{page}weights{save}".split())  # long paths are wrapped
    assert "".join(output.split()).endswith(ends)
    assert "looked at  rows 3 to 6" in output
    (there,) = (each for each in gguf.GGUFReader(sample).tensors if each.name == NAME)
    np.testing.assert_array_equal(np.load(save), there.data[3:7].astype(np.float32))
    assert "4 rows and 256 columns" in page.read_text(encoding="utf-8")
    refused(inside("inspect", sample, NAME, "--save", save), "w.npy")
    _inspect(sample, NAME, "--save", save, "--force", "-q")
    assert np.load(save).shape == (256, 256)


def test_the_page_asks_for_nothing(sample: Path, tmp_path: Path) -> None:
    page = tmp_path / "w.html"
    _inspect(sample, NAME, "--html", page)
    text = page.read_text(encoding="utf-8")
    assert "default-src 'none'; style-src 'unsafe-inline'; img-src data:" in text
    assert "<script" not in text
    assert re.findall(r'(?:src|href)="(?!data:)', text) == []
    assert text.count("<circle") > 10


def test_a_strangers_name_is_escaped(tmp_path: Path) -> None:
    path, page = tmp_path / "m.gguf", tmp_path / "m.html"
    name = "<b>\x1b[31m"
    path.write_bytes(raw_gguf([], [tensor(name, (4, 2), 0, 0)], bytes(32)))
    output = _inspect(path, name, "--html", page)
    assert "tensor     <b>\\x1b[31m: other" in output
    assert "<h1>&lt;b&gt;\\x1b[31m</h1>" in page.read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("blk.0.attn_w.weight",), "has no tensor 'blk.0.attn_w.weight'"),
        ((NAME, "--block", "256"), "no block 65536"),
        ((NAME, "--rows", "9"), "--rows '9' is not A:B"),
        ((NAME, "--rows", "9:9"), "has no rows 9:9"),
        ((NAME, "--rows", ":257"), "has no rows 0:257"),
        ((NAME, "--rows", "1" * 30 + ":"), "no tensor has"),
        ((NAME, "--brief", "--block", "1"), "--brief leaves out"),
        ((NAME, "--html", "x", "--save", "x"), "name one file"),
    ],
)
def test_what_cannot_be_done(words: tuple[str, ...], said: str, sample: Path) -> None:
    words = tuple("65536" if word == "256" else word for word in words)
    refused(inside("inspect", sample, *words), said)


def test_a_block_of_one_weight_is_said_to_hold_one(sample: Path) -> None:
    done = inside("inspect", sample, "output_norm.weight", "--block", "999")
    assert (done.returncode, "a block of F32 holds 1 weight of a row" in done.stderr) == (2, True)


def test_a_misspelt_name_is_offered(sample: Path) -> None:
    done = inside("inspect", sample, "blk.0.atn_q.weight")
    assert "hint: did you mean blk.0.attn_q.weight" in done.stderr


def test_a_type_that_nobody_knows(make: Callable[[str], Path], tmp_path: Path) -> None:
    path = tmp_path / "m.gguf"
    path.write_bytes(raw_gguf([], [tensor("t", (4,), 250, 0)], bytes(32)))
    refused(inside("inspect", path, "t"), "ggml does not define")
