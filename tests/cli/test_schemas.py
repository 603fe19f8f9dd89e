"""What ``--json`` prints is what the schemas say, for every command."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from jsonschema import Draft202012Validator

from ggufscope.blocks.layouts import LAYOUTS
from ggufscope.cli import app
from ggufscope.recipes.apply import quantize_model
from ggufscope.recipes.options import PlanOptions
from tests.models.families import SMALL, write
from tests.models.kinds import KINDS, write_kind
from tests.models.makers import RECIPES, pair, raw_gguf, tensor, text

FOLDER = Path(app.__file__).parent.parent / "schemas"
CHAPTER = Path(__file__).parents[2] / "samples" / "guide" / "json.md"
SCHEMAS = {path.stem: json.loads(path.read_text(encoding="utf-8")) for path in FOLDER.iterdir()}

INCOMPLETE = frozenset({"gpt2", "falcon", "deepseek2-mla", "deepseek2-unfolded", "hybrid", "mamba"})
"""Models that have what a listing reads, and lack keys that llama.cpp wants."""

Ask = Callable[..., Any]


@pytest.fixture
def ask(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Ask:
    """Run a command with ``--json``, hold what it prints to its schema, and return that."""

    def ask(*arguments: object, code: int = 0) -> Any:
        monkeypatch.setattr(sys, "argv", ["ggufscope", *map(str, arguments), "--json"])
        with pytest.raises(SystemExit) as caught:
            app.main()
        printed = capsys.readouterr()
        assert caught.value.code == code, printed.err
        told = json.loads(printed.out, parse_constant=pytest.fail)
        assert next(iter(told)) == "schema"
        subject = told["schema"].removeprefix("ggufscope.").split("/")[0]
        Draft202012Validator(SCHEMAS[subject]).validate(told)
        return told

    return ask


@pytest.mark.parametrize("subject", SCHEMAS)
def test_schemas_are_schemas_and_leave_nothing_open(subject: str) -> None:
    schema = SCHEMAS[subject]
    assert f" | `ggufscope.{subject}` | `{subject}.json` |\n" in CHAPTER.read_text(encoding="utf-8")
    Draft202012Validator.check_schema(schema)
    assert schema["properties"]["schema"]["const"].startswith(f"ggufscope.{subject}/")
    for part in _objects(schema):
        assert "additionalProperties" in part
        if "properties" in part:
            assert [*part["properties"]] == part["required"]


def _objects(schema: Any) -> Iterator[dict[str, Any]]:
    if isinstance(schema, dict):
        if schema.get("type") in ("object", ["object", "null"]):
            yield schema
        for part in schema.values():
            yield from _objects(part)
    elif isinstance(schema, list):
        for part in schema:
            yield from _objects(part)


@pytest.mark.parametrize("kind", RECIPES)
def test_list(kind: str, ask: Ask, make: Callable[[str], Path]) -> None:
    told = ask("list", make(kind))
    assert told["stored"]["tensors"]
    assert {each["hf_names"] for each in told["stored"]["tensors"]} == {None}


def test_list_of_what_is_odd(ask: Ask, tmp_path: Path) -> None:
    array = (6).to_bytes(4, "little") + (1).to_bytes(8, "little") + b"\x00\x00\x80\xff"
    nested = (9).to_bytes(4, "little") + (1).to_bytes(8, "little") + array
    values = {
        "nan": (6, b"\x00\x00\xc0\x7f"),
        "no": (7, b"\x00"),
        "long": (8, text("x" * 70_000)),
        "infinite": (9, array),
        "nested": (9, nested),
    }
    path = tmp_path / "odd.gguf"
    pairs = [pair(key, *value) for key, value in values.items()]
    path.write_bytes(raw_gguf(pairs, [tensor("a", (4,), 250, 0)], bytes(32)))
    told = ask("list", path)
    assert told["metadata"]["infinite"]["first"] == ["-inf"]
    assert not told["stored"]["tensors"][0]["known_type"]
    found = {key: ask("list", path, "--key", key) for key in values}
    assert found["nan"]["value"] == "nan"
    assert found["no"]["value"] is False
    assert len(found["long"]["value"]) == 70_000
    assert (found["nested"]["value"], found["nested"]["element_type"]) == ([["-inf"]], "ARRAY")


def test_list_with_the_names_of_hugging_face(ask: Ask, make: Callable[[str], Path]) -> None:
    tensors = ask("list", make("mixtral"), "--hf-names", "--layer", "1")["stored"]["tensors"]
    names = {each["name"]: each["hf_names"] for each in tensors}
    told = names["blk.1.attn_q.weight"]
    assert (told["names"], told["stacked"]) == (["model.layers.1.self_attn.q_proj.weight"], False)
    assert "permuted" in told["note"]
    assert names["blk.1.attn_v.weight"]["note"] is None
    experts = names["blk.1.ffn_up_exps.weight"]
    assert experts["stacked"]
    assert experts["names"][2] == "model.layers.1.block_sparse_moe.experts.2.w3.weight"


@pytest.mark.parametrize("kind", RECIPES)
def test_check(kind: str, ask: Ask, make: Callable[[str], Path]) -> None:
    (told,) = ask("check", make(kind), "--hash", "sha1", code=kind in INCOMPLETE)["models"]
    assert told["clean"] is (kind not in INCOMPLETE)
    assert told["hashes"][-1]["tensor"] is None
    assert len(told["hashes"]) == told["tensors"] + 1


def test_check_of_what_cannot_be_read(ask: Ask, sample: Path, tmp_path: Path) -> None:
    path = tmp_path / "m.gguf"
    path.write_bytes(b"")
    told = ask("check", path, sample, "--quick", code=2)["models"]
    assert [(each["readable"], each["kind"]) for each in told] == [(False, None), (True, "model")]
    assert told[0]["findings"][0]["llama_cpp"] == "failed to read magic"


def test_diff(ask: Ask, sample: Path, tmp_path: Path) -> None:
    small = tmp_path / "small.gguf"
    quantize_model(sample, {small: "Q4_K_M"})
    told = ask("diff", sample, small, code=1)
    assert (told["relation"], told["verdict"]) == ("quantized", "B is A quantized to Q4_K_M")
    assert told["counts"]["requantized"] == 30
    assert {each["key"] for each in told["metadata"]} == {
        *("general.file_type", "general.quantization_version")
    }
    assert told["tensors"][0]["made"] == {
        "from": "a",
        "exact": True,
        "ratio": 1.0,
        "through": [],
        "dequantized": False,
    }
    assert ask("diff", sample, sample)["tensors"][0]["relative_error"] is None
    assert ask("diff", sample, small, "--quick", code=1)["relative_error"] is None


def test_diff_of_what_is_odd(ask: Ask, make: Callable[[str], Path], tmp_path: Path) -> None:
    path = tmp_path / "odd.gguf"
    pairs = [pair("nan", 6, b"\x00\x00\xc0\x7f"), pair("long", 8, text("x" * 70_000))]
    path.write_bytes(raw_gguf(pairs, [tensor("a", (4,), 250, 0)], bytes(32)))
    told = ask("diff", path, make("llama-gqa"), code=1)
    assert told["relation"] == "unrelated"
    assert told["metadata"][0]["a"]["value"] == "nan"


@pytest.mark.parametrize("type_", LAYOUTS)
def test_inspect(type_: str, ask: Ask, tmp_path: Path) -> None:
    layout, path = LAYOUTS[type_], tmp_path / "m.gguf"
    data = np.random.default_rng(layout.number).bytes(2 * layout.row_bytes(512))
    path.write_bytes(raw_gguf([], [tensor("t", (512, 2), layout.number, 0)], data))
    save = tmp_path / "t.npy"
    told = ask("inspect", path, "t", "--block", "1", "--save", save, "--rows", "1:")
    assert (told["rows"], told["statistics"]["n"]) == ([1, 2], 512)
    assert len(told["block"]["weights"]) == layout.block_length
    assert np.load(save).shape == (1, 512)
    assert ask("inspect", path, "t")["block"] is None


@pytest.mark.parametrize("kind", KINDS)
def test_size_of_files(kind: str, ask: Ask, tmp_path: Path) -> None:
    source = write_kind(tmp_path / "model.gguf", kind)
    options = ("--fits", "1GiB", "--vram", "1GiB", "--target-size", "1GiB", "-c", "300")
    assert ask("size", source, *options, "--types", "Q8_0,Q4_K_M")["gpu"]


def test_size_of_shapes_and_counts(ask: Ask) -> None:
    told = ask("size", "llama-2-7b", "--target-bpw", "4.5", "-c", "8192", "--fits", "1GiB", code=1)
    assert told["warnings"] == ["the model was made for 4,096 tokens of context"]
    assert ask("size", "deepseek-v3")["sharing"] == []
    told = ask("size", "33")
    assert told["schema"] == "ggufscope.size-count/1"
    assert {each["type"]: each["nbytes"] for each in told["types"]}["Q8_0"] == 36  # begun, paid for


def test_quantize_and_dequantize(ask: Ask, sample: Path, tmp_path: Path) -> None:
    planned = ask("quantize", sample, "--type", "Q8_0", "--type", "Q4_K_M", "--dry-run")
    done = ask("quantize", sample, "--type", "Q8_0", "--type", "Q4_K_M", "-o", tmp_path)
    assert (planned["dry_run"], done["dry_run"]) == (True, False)
    for plan, target in zip(planned["targets"], done["targets"], strict=True):
        assert plan["relative_error"] is None
        assert 0 < target["relative_error"]["roles"]["attention"] < 0.2
        assert plan["tensors"] == target["tensors"]
        assert plan["files"][0]["nbytes"] == target["files"][0]["nbytes"]
    small = tmp_path / Path(done["targets"][0]["files"][0]["path"]).name
    assert not ask("dequantize", small, tmp_path / "out.gguf")["dry_run"]


def test_attention(ask: Ask, sample: Path) -> None:
    told = ask("attention", sample, "--ids", "1,5,5")
    assert (told["prompt"]["text"], told["prompt"]["ids"]) == (None, [1, 5, 5])
    assert told["model"]["path"] == str(sample)
    assert len(told["layers"]) == told["model"]["block_count"]
    ask("attention", sample, "--ids", "1", "--layer", "0")
    assert ask("attention", sample, "--prompt", "Once", "--verify")["holds"]


@pytest.mark.parametrize("name", ["llama-gqa", "gemma2", "phi3", "gpt2"])
def test_attention_explain(name: str, ask: Ask, tmp_path: Path) -> None:
    model = write(tmp_path / "m.gguf", SMALL[name])
    told = ask("attention", model, "--prompt", "!!ab", "--explain", "--token", "a")
    assert told["token"]["word"] == "a"
    assert len(told["tokens"]) == len(told["prompt"]["ids"])


@pytest.mark.parametrize("name", ["sample", "gemma2"])
def test_attention_questions(name: str, ask: Ask, sample: Path, tmp_path: Path) -> None:
    model = sample if name == "sample" else write(tmp_path / "m.gguf", SMALL[name])
    asked = ("attention", model, "--prompt", "!a !b")
    assert ask(*asked, "--token", "b")["token"]["word"] == "b"
    assert ask(*asked, "--to", "a", "--token", "b")["looks"]
    assert ask(*asked, "--to", "a")["token"] is None
    assert ask(*asked, "--heads")["repeated_tokens"] == 24
    assert ask(*asked, "--cached")["same"]
    assert ask(*asked, "--token", "b", "--compare-prompt", "b")["layers"]
    ask("attention", model, "--ids", "1", "--heads")


def test_tokens(ask: Ask, sample: Path) -> None:
    told = ask("tokens", sample, "The cat \U0001f680")
    assert told["tokens"][1]["bytes"] == b"The".hex()
    assert ask("tokens", sample, "--decode", "0")["text"] == "<|endoftext|>"
    assert ask("tokens", sample)["schema"] == "ggufscope.tokens-vocabulary/1"
    assert len(ask("tokens", sample, "--near", "dog", "-n", "3")["nearest"]) == 4


def test_evaluate(ask: Ask, tmp_path: Path) -> None:
    model = write(tmp_path / "m.gguf", SMALL["mixtral"])
    words = ("evaluate", model, "--ids", ",".join(map(str, [*range(3, 70)] * 3)), "-c", "32")
    alone = ask(*words, "--save-base", tmp_path / "base")
    assert alone["candidates"] == []
    assert len(alone["reference"]["so_far"]) == alone["chunks"] == 6
    assert len(ask(*words, "--types", "Q8_0,Q4_0")["candidates"]) == 2
    told = ask(*words, "--all-presets", "--chunks", "2")
    assert {each["name"] for each in told["candidates"]} > {"Q8_0", "Q4_0"}
    assert told["left_out"]
    held = ask("evaluate", model, "--base", tmp_path / "base")
    assert held["reference"]["types"] is None


def test_imatrix(ask: Ask, tmp_path: Path) -> None:
    model, made = write(tmp_path / "m.gguf", SMALL["mixtral"]), tmp_path / "i.gguf"
    ids = ",".join(map(str, range(3, 67)))
    told = ask("imatrix", model, "--ids", ids, "-c", "32", "-o", made)
    assert told["perplexity"]["count"] == 30
    assert ask("imatrix", model, "--ids", ids, "-c", "32", "-o", made, "--no-ppl", "--force")
    assert len(ask("imatrix", made)["histogram"]) == 9
    assert ask("imatrix", made, "-o", tmp_path / "i.dat")["model"] is None
    assert ask("imatrix", tmp_path / "i.dat")["format"] == "dat"
    weighed = ask("quantize", model, "Q4_0", "--imatrix", made, "--dry-run")
    assert weighed["targets"][0]["importance_matrix"]["entries"] == 24


ASK = ("--require", "negligible")


def test_compare_attention(ask: Ask, sample: Path, tmp_path: Path) -> None:
    told = ask("compare-attention", sample, "--types", "Q4_K", "--ids", "1,5,5", *ASK, code=1)
    ask("compare-attention", sample, "--type-k", "q8_0", "--ids", "1", code=0)
    once, twice = tmp_path / "once.gguf", tmp_path / "twice.gguf"
    quantize_model(sample, {once: "Q8_0"})
    assert ask("compare-attention", sample, "--against", once)["accepted"]
    quantize_model(once, {twice: "Q4_0"}, options=PlanOptions(allow_requantize=True))
    found = ask("compare-attention", sample, "--against", twice, code=1)
    assert found["candidates"][0]["verdict"]["making"]["faults"]
    size = ask("size", sample, "--type", "F16")
    assert told["model"]["n_elements"] == size["model"]["n_elements"]
    shared = ("name", "architecture", "n_elements", "block_count")
    assert [told["model"][key] for key in shared] == [
        ask("list", sample)["model"][key] for key in shared
    ]


@pytest.mark.parametrize("options", [("--dry-run",), ()])
def test_edit(options: tuple[str, ...], sample: Path, tmp_path: Path, ask: Ask) -> None:
    model = Path(shutil.copy(sample, tmp_path / "m.gguf"))
    words = ["--set", "general.tags=str[]:[]", "--set", "x=float64:nan", "--remove", "general.name"]
    words += ["--rename", "general.author=general.organization"]
    told = ask("edit", model, *words, "--unsound", *options)
    assert told["dry_run"] is bool(options)
    assert (told["finished"], told["in_place"]) == (False, False)
    found = {each["key"]: each for each in told["differences"]}
    assert found["general.organization"]["was"] == "general.author"
    assert found["general.name"]["after"] is None
    assert found["x"]["after"] == {"type": "FLOAT64", "value": "nan"}
    assert ask("edit", sample, tmp_path / "copy.gguf")["differences"] == []
    assert ask("edit", model, "--set", "llama.context_length=int:300", *options)["in_place"]
