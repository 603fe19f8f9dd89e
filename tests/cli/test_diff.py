"""`ggufscope diff`, run as people run it."""

from __future__ import annotations

from pathlib import Path

import pytest

from ggufscope.container.file import open_gguf
from ggufscope.container.value_types import ValueType
from ggufscope.container.values import Value
from ggufscope.container.writer import GGUFWriter, TensorSpec
from ggufscope.recipes.apply import quantize_model
from tests.models.makers import Recipe, pair, raw_gguf, tensor, text, write_recipe
from tests.program import inside, refused


def _diff(*arguments: str | Path, code: int = 1) -> str:
    done = inside("diff", *arguments)
    assert (done.returncode, done.stderr) == (code, "")
    assert max(map(len, done.stdout.splitlines())) <= 80
    return done.stdout


@pytest.fixture(scope="module")
def small(sample: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("diff") / "q4.gguf"
    quantize_model(sample, {path: "Q4_K_M"})
    return path


def test_a_file_and_itself(sample: Path) -> None:
    output = _diff(sample, sample, code=0)
    assert output.endswith("tensors  39 the same\nverdict  the same weights, the same metadata\n")


def test_a_file_and_its_quantization(sample: Path, small: Path) -> None:
    output = _diff(sample, small)
    assert "tensors  9 the same, 30 requantized\n" in output
    assert "verdict  B is A quantized to Q4_K_M\n" in output
    assert "~ general.file_type\n    1 (F16) > 15 (Q4_K_M)\n" in output
    assert "+ general.quantization_version\n    2\n" in output
    assert "... and 10 tensors more: --all\n" in output
    assert "verdict  A is B quantized to Q4_K_M\n" in _diff(small, sample)
    assert _diff(sample, small, "--all").count("blk.0.") == 9


def test_brief_and_quick(sample: Path, small: Path) -> None:
    assert _diff(sample, small, "--brief") == "B is A quantized to Q4_K_M\n"
    output = _diff(sample, small, "--quick")
    assert "verdict  other headers: 30 types, 2 keys (no weight was looked at)\n" in output
    output = _diff(sample, sample, "--quick", code=0)
    assert output.endswith("verdict  the same headers (no weight was looked at)\n")
    refused(inside("diff", sample, small, "--brief", "--all"), "--brief leaves out")


def test_markdown(sample: Path, small: Path) -> None:
    done = inside("diff", sample, small, "--markdown")
    assert done.returncode == 1
    assert "B is A quantized to Q4_K_M" in done.stdout
    assert "| F16 &gt; Q6_K | 5 |" in done.stdout


def test_what_cannot_be_read(sample: Path, tmp_path: Path) -> None:
    refused(inside("diff", sample, tmp_path / "none.gguf"), "none.gguf")


def test_long_and_raw_text_is_cut_and_escaped(sample: Path, tmp_path: Path) -> None:
    said = []
    for number, words in enumerate(("one\x1b[31m", "other\x1b[32m")):
        path = tmp_path / f"{number}.gguf"
        pairs = [
            pair("a\x1bkey", 8, text("x" * 3000 + words)),
            pair("short", 8, text(words)),
            pair(f"own{number}", 8, text("long " * 1000)),
        ]
        path.write_bytes(raw_gguf(pairs, [tensor("t\x07", (4,), 0, 0)], bytes([number] * 32)))
        said.append(path)
    output = _diff(*said)
    assert "3,008 > 3,010 bytes, other from byte 3,001 on:" in output
    assert "...xxxxxxxxxxxxxxone\\x1b[31m" in output
    assert "one\\x1b[31m > other\\x1b[32m" in output
    assert "- own0" in output
    assert "+ own1" in output
    assert "t\\x07" in output
    assert "\x1b" not in output


def test_arrays_are_summed_up(tmp_path: Path) -> None:
    paths = []
    for number in range(2):
        tokens = [f"t{n}" for n in range(5000)]
        tokens[4000:] = [f"{each}{number}" for each in tokens[4000 : 5000 + number]]
        recipe = Recipe("llama", {}, {"a.weight": (4, 32)}, {"tokenizer.ggml.tokens": tokens})
        paths.append(write_recipe(tmp_path / f"{number}.gguf", recipe))
    output = _diff(*paths)
    assert "    5,000 items, 1,000 differ, the first at 4,000\n    't40000' > 't40001'\n" in output
    assert "the same weights, other metadata: 1 key" in output


def test_a_type_of_a_value_is_a_difference(sample: Path, tmp_path: Path) -> None:
    path = tmp_path / "m.gguf"
    with open_gguf(sample) as file:
        metadata = dict(file.metadata.typed)
        metadata["general.file_type"] = Value.of(ValueType.INT32, 1)
        specs = [TensorSpec.like(each) for each in file.tensors.values()]
        with GGUFWriter(path, metadata, specs) as writer:
            for each in file.tensors.values():
                writer.write(each.name, each.data())
    assert "1 (F16) (uint32) > 1 (F16) (int32)" in _diff(sample, path)
