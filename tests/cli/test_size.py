"""`ggufscope size`, run as people run it."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from ggufscope import open_gguf
from ggufscope.cli import app
from ggufscope.sizing import file_size, here
from ggufscope.sizing.here import GPU, Here
from ggufscope.sizing.names import known_names
from tests.golden.command import SAMPLE
from tests.models.kinds import KINDS, write_kind
from tests.models.makers import write_recipe
from tests.recipes import golden
from tests.sizing.test_chosen import costing
from tests.slices import write_slice

Run = Callable[..., int]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch) -> Run:
    """Run the program in this process; gives the exit code."""
    monkeypatch.setenv("COLUMNS", "80")

    def run(*arguments: str | Path) -> int:
        monkeypatch.setattr(sys, "argv", ["ggufscope", *map(str, arguments)])
        with pytest.raises(SystemExit) as caught:
            app.main()
        return int(caught.value.code or 0)

    return run


@pytest.fixture
def ask(run: Run, capsys: pytest.CaptureFixture[str]) -> Callable[..., Any]:
    """Ask `size` for JSON."""

    def ask(*arguments: str | Path, code: int = 0) -> Any:
        assert run("size", *arguments, "--json") == code
        return json.loads(capsys.readouterr().out)

    return ask


def test_a_count_gives_the_table_of_the_documents(
    run: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("size", "7B") == 0
    rows = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert ["F32", "32", "28,000,000,000", "28.000", "26.077", "~28", "GB"] in rows
    assert ["Q4_K", "4.5", "3,937,500,000", "3.938", "3.667", "~4", "GB"] in rows
    assert ["Q2_K", "2.625", "2,296,875,000", "2.297", "2.139", "~2.5", "GB"] in rows
    text = " ".join(" ".join(row) for row in rows)
    assert "Presets mix types: in llama-2-7b Q4_K_M has 4.84 bits, Q2_K 3.01." in text


@pytest.mark.parametrize("kind", ["llama-gqa", "llama-ragged", "mixtral", "gemma2", "deepseek2"])
def test_every_preset_weighs_what_quantize_and_llama_quantize_write(
    kind: str, ask: Callable[..., Any], run: Run, tmp_path: Path, capsys: Any
) -> None:
    source = write_slice(tmp_path / "source.gguf", kind)
    told = {each["preset"]: each for each in ask(source)["presets"]}
    refused = written = 0
    for preset, real in golden.load(kind)["presets"].items():
        if preset == "COPY":
            continue
        if preset not in told:
            refused += 1
            assert "refused" in real, preset
            continue
        wants = "requires an imatrix" in real.get("refused", "")
        assert told[preset]["needs_importance_matrix"] == wants, preset
        if not wants:
            assert told[preset]["file_nbytes"] == real["nbytes"], preset
            written += 1
        assert run("quantize", source, preset, "--dry-run", "--json") == 0
        (outlook,) = json.loads(capsys.readouterr().out)["targets"]
        assert told[preset]["file_nbytes"] == outlook["files"][0]["nbytes"], preset
        assert told[preset]["tensor_nbytes"] == outlook["tensor_nbytes"], preset
        fallbacks = sum(tensor["fallback_from"] is not None for tensor in outlook["tensors"])
        assert told[preset]["fallbacks"] == fallbacks, preset
    assert len(told) + refused == 35
    assert written > 20


def test_the_answer_comes_first(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("size", "llama-3.1-8b", "--fits", "8GiB", "--context", "4096,16384") == 0
    said = capsys.readouterr().out
    assert " ".join(said.split("\n\n")[0].split()) == (
        "Q6_K with 4,096 tokens of context and Q5_K_M with 16,384 fit in 8 GiB; "
        "Q6_K leaves room for 11,776."
    )


def test_where_nothing_fits_the_exit_code_is_1(
    run: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("size", "deepseek-v3", "--fits", "8GiB") == 1
    said = capsys.readouterr().out
    assert said.startswith("Nothing fits in 8 GiB with 4,096 tokens of context; the smallest, Q2_K")
    assert run("size", "deepseek-v3", "--fits", "8GiB", "--fits", "2TiB") == 0
    assert run("size", "llama-3.1-8b", "--target-bpw", "1.5") == 1
    assert run("size", "llama-3.1-8b", "--target-bpw", "4.5") == 0
    assert run("size", "llama-3.1-8b", "--vram", "1GiB", "--ram", "1GiB") == 1
    assert run("size", "llama-3.1-8b", "--vram", "1GiB") == 0


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        (
            ("--target-bpw", "2.5"),
            "No preset is as small as 2.5 bits per weight without an importance matrix: the "
            "smallest, Q2_K, has 3.1593; with one (--with-imatrix) IQ2_XXS has 2.3824.",
        ),
        (
            ("--target-bpw", "0.5"),
            "No preset is as small as 0.5 bits per weight: the smallest, Q2_K, has 3.1593; with an "
            "importance matrix (--with-imatrix) IQ1_S has 2.0042.",
        ),
        (
            ("--fits", "3GiB", "-c", "4096"),
            "Nothing fits in 3 GiB with 4,096 tokens of context without an importance matrix; the "
            "smallest, Q2_K, needs 3.84 GiB; with one (--with-imatrix) IQ1_M does.",
        ),
        (
            ("--fits", "2GiB", "-c", "4096"),
            "Nothing fits in 2 GiB with 4,096 tokens of context; the smallest, Q2_K, needs "
            "3.84 GiB; with an importance matrix (--with-imatrix) IQ1_S, 2.76 GiB.",
        ),
    ],
)
def test_what_an_importance_matrix_would_change_is_said(
    run: Run, asked: tuple[str, ...], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("size", "llama-3.1-8b", "--brief", *asked) == 1
    assert " ".join(capsys.readouterr().out.split()) == said


def test_a_size_is_said_as_it_was_asked(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("size", "llama-3.1-8b", "--brief", "--fits", "5GB", "-c", "4096") == 0
    assert "fits in 5 GB (4.66 GiB)" in " ".join(capsys.readouterr().out.split())


def test_a_shape_in_brief_has_its_usual_sizes(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("size", "llama-3.1-8b", "--brief") == 0
    said = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in said[4:]] == ["F16", "Q8_0", "Q4_K_M"]
    assert said[-1] == "Q4_K_M     4.58 GiB, 4.8944 bits"
    assert run("size", "llama-3.1-8b", "--brief", "--type", "Q6_K") == 0
    assert capsys.readouterr().out.splitlines()[4:] == ["Q6_K       6.14 GiB, 6.5633 bits"]


def test_a_quantized_file_is_asked_about_as_it_is(
    run: Run, ask: Callable[..., Any], sample: Path, tmp_path: Path, capsys: Any
) -> None:
    source = tmp_path / "model-Q4_K_M.gguf"
    assert run("quantize", sample, source, "Q4_K_M") == 0
    capsys.readouterr()
    assert run("size", source, "--fits", "8MiB", "--vram", "64MiB") == 0
    said = capsys.readouterr().out
    assert said.startswith("The file as it is fits in 8 MiB with up to 256 tokens of context.\n")
    assert "the file as it is fits on the GPU whole." in " ".join(said.split())
    assert run("size", source, "--fits", "1MiB") == 1
    assert capsys.readouterr().out.startswith("The file as it is does not fit in 1 MiB: it needs")
    assert run("size", source, "--target-size", "1GiB", "--type", "Q8_0") == 1
    assert capsys.readouterr().out.startswith("No preset can be made of this file")
    told = ask(source, "--fits", "8MiB")
    assert told["model"]["as_it_is"]["file_nbytes"] == source.stat().st_size
    assert told["fits"][0]["as_it_is"]["longest_context"] == 256
    once = [each["preset"] for each in told["presets"] if not each["quantizes_twice"]]
    assert once == ["Q4_K_M"]  # which is the file itself


def test_a_16_bit_file_is_asked_about_first(
    run: Run, ask: Callable[..., Any], sample: Path, capsys: Any
) -> None:
    """Exit code 1 where it does not fit itself, whatever would; F32 and BF16 gain it nothing."""

    def said(*arguments: str, code: int) -> str:
        assert run("size", sample, *arguments) == code
        output = capsys.readouterr()
        assert output.err == ""
        assert max(map(len, output.out.splitlines())) <= 80
        return " ".join(output.out.partition("\n\n")[0].split())

    fits = "The file as it is fits in 14 MiB with up to 256 tokens of context."
    assert said("--fits", "14MiB", code=0) == fits
    assert said("--fits", "8MiB", code=1) == (
        "The file as it is does not fit in 8 MiB: it needs 12.1 MiB. "
        "Q5_K_M with 256 tokens of context would fit in 8 MiB."
    )
    assert said("--fits", "8MiB", "-c", "32", code=0) == (
        "The file as it is fits in 8 MiB with up to 32 tokens of context."
    )
    assert said("--fits", "7.8MiB", "-c", "32,256", code=0) == (
        "The file as it is fits in 7.8 MiB with up to 32 tokens of context. "
        "Q5_K_M with 256 tokens of context would fit in 7.8 MiB."
    )
    assert said("--fits", "2MiB", code=1) == (
        "The file as it is does not fit in 2 MiB: it needs 12.1 MiB. Nothing fits in 2 MiB with "
        "256 tokens of context; the smallest, Q2_K, needs 6.73 MiB; with an importance matrix "
        "(--with-imatrix) IQ1_S, 6.24 MiB."
    )
    told = ask(sample, "--fits", "64MiB")
    aside = {each["preset"]: each["set_aside"] for each in told["presets"]}
    assert aside["F32"] == aside["BF16"] == "no smaller"
    assert aside["F16"] is None
    assert told["fits"][0]["best"] == [{"context": 256, "preset": "F16"}]


def test_all_on_the_gpu_is_better_than_a_part_of_more(
    run: Run, sample: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def said(*arguments: str | Path, code: int = 0) -> str:
        assert run("size", *arguments) == code
        return " ".join(capsys.readouterr().out.partition("\n\n")[0].split())

    model = ("llama-3.1-8b", "-c", "4096")
    length = "With 4,096 tokens of context"
    assert said(*model, "--vram", "7GiB") == f"{length} Q6_K fits on the GPU whole."
    assert said(*model, "--vram", "2GiB") == (
        f"{length} no preset fits on the GPU whole; Q2_K has 14 of 33 layers there."
    )
    assert said(*model, "--vram", "1GiB", "--ram", "1GiB", code=1) == (
        f"{length} nothing fits in both memories."
    )
    assert said(sample, "--vram", "8MiB") == (
        "With 256 tokens of context the file as it is runs with 2 of 5 layers on the GPU; "
        "Q6_K fits on the GPU whole."
    )
    assert said(sample, "--vram", "1MiB", "--ram", "9MiB", code=1) == (
        "With 256 tokens of context the file as it is does not fit in both memories; "
        "no layer fits on the GPU; Q8_0 runs without it."
    )
    assert said(sample, "--vram", "1MiB", "--ram", "1MiB", code=1).endswith(
        "the file as it is does not fit in both memories; nor does any preset."
    )


GIB = 1 << 30
CARDS = (GPU("Old", 2 * GIB, 4 * GIB), GPU("RTX 4090", 23 * GIB, 24 * GIB))


@pytest.mark.parametrize(
    ("machine", "answer", "code"),
    [
        (Here(9 * GIB), "Q8_0 with 4,096 tokens of context fits in 9 GiB", 0),
        (Here(1 * GIB), "Nothing fits in 1 GiB", 1),
        (Here(9 * GIB, trouble="nvidia-smi failed: broken"), "Q8_0 with 4,096 tokens", 0),
        (Here(9 * GIB, CARDS), "With 4,096 tokens of context F16 fits on the GPU whole.", 0),
        (Here(1 * GIB, CARDS[:1]), "With 4,096 tokens of context nothing fits in both", 1),
    ],
)
def test_here_is_this_machine(
    machine: Here, answer: str, code: int, run: Run, capsys: Any, monkeypatch: Any
) -> None:
    monkeypatch.setattr(here, "this_machine", lambda: machine)
    arguments = ("size", "llama-3.1-8b", "--fits", "here", "-c", "4096")
    assert run(*arguments) == code
    output = capsys.readouterr()
    assert " ".join(output.out.split()).startswith(answer)
    assert f"{machine.free / GIB:.2f} GiB free on this machine" in output.out
    assert output.err == "".join(f"warning: {words}\n" for words in machine.warnings())
    assert max(map(len, output.out.splitlines())) <= 80
    if machine.gpus == CARDS:
        assert "RTX 4090: 23.0 GiB free of 24.0 GiB, the one counted" in output.out
    assert run(*arguments, "--json") == code
    told = json.loads(capsys.readouterr().out)
    assert told["here"]["free_nbytes"] == machine.free
    assert [gpu["name"] for gpu in told["here"]["gpus"]] == [gpu.name for gpu in machine.gpus]


def test_this_machine_has_some_memory(ask: Callable[..., Any]) -> None:
    told = ask("smollm2-135m", "--fits", "here", "--type", "Q2_K")
    assert told["here"]["free_nbytes"] > 2**28


@pytest.mark.parametrize("kind", ["llama-gqa", "mixtral"])
def test_an_importance_matrix_is_named_in_the_header(
    kind: str, ask: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """To the byte what llama-quantize wrote, where the names are those that it was given."""
    source = write_slice(tmp_path / "source.gguf", kind)
    monkeypatch.setattr(file_size, "USUAL_NAMES", (f"{kind}.imatrix", "made-up.txt"))
    told = {each["preset"]: each for each in ask(source, "--with-imatrix")["presets"]}
    written = 0
    for preset, real in golden.load(kind)["with importance"].items():
        if preset in told and "nbytes" in real:
            assert told[preset]["file_nbytes"] == real["nbytes"], preset
            written += 1
    assert written > 25


def test_the_names_that_are_counted_on_are_said(
    run: Run, ask: Callable[..., Any], sample: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Real llama-quantize, given files of these names, wrote 2,207,936 bytes."""
    (plain,), (named,) = (
        ask(sample, "--type", "Q4_K_M", *more)["presets"] for more in ((), ("--with-imatrix",))
    )
    assert named["file_nbytes"] == plain["file_nbytes"] + 224 == 2_207_936
    assert run("size", sample, "--with-imatrix") == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "'imatrix.gguf' made of 'calibration_datav3.txt': longer names, or paths, take" in said


def test_what_is_said_of_all_tables_is_said_once(
    run: Run, sample: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("size", sample, "--vram", "8MiB", "-c", "64,128,256") == 0
    said = capsys.readouterr().out
    assert said.count("On a GPU, with") == 3
    assert said.count("-ngl counts the output") == 1


def test_json_has_what_the_tables_have(ask: Callable[..., Any]) -> None:
    told = ask("gemma-3-4b", "-c", "4096,32k", "--parallel", "2", "--fits", "4G", "--vram", "3GB")
    assert told["schema"] == "ggufscope.size/3"
    assert [run["context"] for run in told["memory"]] == [4096, 32768]
    holdings = {part["kind"]: part for part in told["memory"][1]["cache"]}
    assert holdings["sliding window"]["cells"] == 2 * 1536
    assert holdings["full attention"]["cells"] == 32768
    assert sum(part["nbytes"] for part in holdings.values()) == told["memory"][1]["cache_nbytes"]
    assert told["memory"][1]["logits_nbytes"] == 2 * 262144 * 4
    assert [table["limit_nbytes"] for table in told["fits"]] == [4 * 2**30]
    assert [each["name"] for each in told["sharing"]] == ["MHA", "GQA", "MQA"]
    split = told["gpu"][0]["presets"][0]
    assert split["vram_nbytes"]["high"] <= 3 * 10**9
    assert ask("1.5B")["types"][0]["nbytes"] == 6_000_000_000
    sizes = {"8GB": 8 * 10**9, "8gb": 8 * 10**9, "8G": 2**33, "8GiB": 2**33, "1.5 TiB": 3 * 2**39}
    for text, nbytes in sizes.items():
        told = ask("qwen3-0.6b", "--type", "Q8_0", "--fits", text)
        assert told["fits"][0]["limit_nbytes"] == nbytes


def test_types_of_keys_and_values_go_apart(ask: Callable[..., Any]) -> None:
    def cache(*options: str) -> int:
        return int(ask("mistral-7b", "-c", "4096", *options)["memory"][0]["cache_nbytes"])

    both = cache()
    assert cache("--type-k", "q8_0", "--type-v", "q8_0") == both * 17 // 32
    assert cache("--type-k", "q8_0") == cache("--type-v", "Q8_0") == both * 49 // 64
    assert cache("--type-k", "q4_0", "--type-v", "f32") == both * 73 // 64


def test_an_importance_matrix_to_come_lets_its_presets_in(ask: Callable[..., Any]) -> None:
    without = ask("llama-3.1-8b", "--target-bpw", "2.5", code=1)
    assert without["targets"][0]["preset"] is None
    told = ask("llama-3.1-8b", "--target-bpw", "2.5", "--with-imatrix")
    assert told["targets"] == [
        {
            "target_nbytes": None,
            "target_bits_per_weight": 2.5,
            "preset": "IQ2_XXS",
            "next_larger": "IQ2_XS",
        }
    ]
    assert not any(each["needs_importance_matrix"] for each in told["presets"])


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_model_is_read_at_80_columns(
    kind: str, run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = write_kind(tmp_path / "model.gguf", kind)
    assert run("size", source, "--fits", "1GiB", "-c", "1024,2048,4096,65536") == 0
    assert run("size", source) == 0
    output = capsys.readouterr()
    assert output.err == ""
    assert max(map(len, output.out.splitlines())) <= 80
    assert "Not derivable" not in output.out


def test_what_cannot_be_told_is_said_and_the_rest_is_shown(
    run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe = KINDS["llama-gqa"]()
    recipe.architecture = "flux-capacitor"
    source = write_recipe(tmp_path / "model.gguf", recipe)
    assert run("size", source) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "Not derivable: architecture 'flux-capacitor' is not one whose cache" in said
    assert "Q4_K_M" in said
    assert run("size", source, "--fits", "8GiB") == 2
    assert capsys.readouterr().err.startswith(f"error: {source}: architecture 'flux-")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["nonsense"], "no known shape"),
        (["./nowhere.gguf"], "no such file"),
        (["0B"], "no count"),
        (["7B", "--fits", "8GiB"], "nothing of layers"),
        (["mistral-7b", "--fits", "8XB"], "no size"),
        (["mistral-7b", "--fits", "0"], "no size"),
        (["mistral-7b", "--context", "many"], "no length"),
        (["mistral-7b", "--context", "0"], "no length"),
        (["mistral-7b", "--type-k", "Q6_K"], "no cache in Q6_K"),
        (["mistral-7b", "--type-v", "q9"], "q9"),
        (
            ["mistral-7b", "--type-v", "q4_0", "--no-flash-attention"],
            "no V cache in Q4_0 without flash attention",
        ),
        (["mistral-7b", "--ram", "8GiB"], "--vram"),
        (["mistral-7b", "--type", "Q4_K_XXL"], "no preset"),
        (["mistral-7b", "--types", ","], "no type"),
        (["gpt-oss-20b", "--type", "Q1_0"], "no fallback"),
        (["deepseek-v3", "--type-k", "q8_0"], "one cache"),
    ],
)
def test_errors_are_a_line_and_a_hint(
    arguments: list[str], words: str, run: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("size", *arguments) == 2
    output = capsys.readouterr()
    assert output.out == ""
    assert output.err.startswith("error: ")
    assert words in output.err.splitlines()[0]
    assert output.err.splitlines()[1].startswith("hint: ")


@pytest.mark.parametrize("cache", [("--type-k", "q8_0"), ("--type-v", "bf16")])
def test_without_flash_attention_keys_may_be_quantized(cache: tuple[str, str], run: Run) -> None:
    words = ("mistral-7b", "--no-flash-attention", "--type", "Q4_K_M")
    assert run("size", *words, *cache) == 0


def test_a_context_beyond_what_it_was_made_for_is_warned_of(
    run: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("size", "llama-2-7b", "-c", "8192", "--type", "Q4_K_M") == 0
    assert capsys.readouterr().err == "warning: the model was made for 4,096 tokens of context\n"


def test_control_characters_of_a_name_never_reach_the_terminal(
    run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe = KINDS["llama-gqa"]()
    recipe.metadata["general.name"] = "a\x1b[31m\nb"
    assert run("size", write_recipe(tmp_path / "model.gguf", recipe)) == 0
    said = capsys.readouterr().out
    assert "\x1b" not in said
    assert "a\\x1b[31m" in said


def test_names_of_shapes_are_in_the_help_of_the_error(
    run: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("size", "gpt-6") == 2
    hint = capsys.readouterr().err
    assert known_names() in hint


def test_one_token_is_one(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("size", SAMPLE, "--batch", "1", "--type", "Q8_0") == 0
    assert "F16, 1 token computed at once, " in capsys.readouterr().out


def test_the_best_mixes_by_what_was_measured(
    run: Run, ask: Callable[..., Any], capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    with open_gguf(SAMPLE) as file:
        kept = costing(file).as_text()
    path = tmp_path / "s.json"
    path.write_text(kept)
    assert run("size", SAMPLE, "--sensitivities", path, "--type", "Q4_K_M") == 0
    out = capsys.readouterr().out
    assert all(len(line) <= 80 for line in out.splitlines())
    assert re.search(r"^size of Q4_K_M +2\.\d\d MiB +4\.\d\d +\S+ +Q4_K_M +\S+ +\d+", out, re.M)
    assert out.count("size of ") == 1

    asked = ("--target-size", "1.8MiB", "--fits", "7MiB", "--context", "128,256")
    run("size", SAMPLE, "--sensitivities", path, *asked)
    said = " ".join(capsys.readouterr().out.split())
    assert "The best mix for 1.8 MiB has 4." in said
    assert "nats; Q3_K_M, by " in said
    assert "The best mix for 7 MiB with 256 tokens of context has " in said
    told = ask(SAMPLE, "--sensitivities", path, *asked, "--target-bpw", "2", code=1)
    assert [each["context"] for each in told["mixes"]] == [None, None, 128, 256]
    assert told["mixes"][0]["mix"]["nbytes"] <= told["mixes"][0]["target_nbytes"]
    assert told["mixes"][1]["mix"] is None
    schema = json.loads((Path(app.__file__).parent.parent / "schemas/size.json").read_text())
    Draft202012Validator(schema).validate(told)

    for arguments, words in (
        (("llama-3-8b", "--sensitivities", path), "sensitivities are of a file's tensors"),
        (("7B", "--sensitivities", path), "nothing of layers"),
        ((SAMPLE, "--sensitivities", __file__), "has no sensitivities"),
    ):
        assert run("size", *arguments) == 2
        assert words in " ".join(capsys.readouterr().err.split())
