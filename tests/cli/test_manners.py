"""Errors as people meet them, replayed at 80 columns: what is wrong, and what to do about it."""

from __future__ import annotations

import json
import re
import struct
from pathlib import Path

import pytest

from ggufscope import __version__
from tests.models.families import SMALL, write
from tests.program import environment, inside, on_a_terminal, refused, run


def test_a_short_option_for_the_version() -> None:
    assert inside("-V").stdout == inside("--version").stdout == f"ggufscope {__version__}\n"


def test_a_filter_that_matches_nothing_is_an_error(sample: Path) -> None:
    done = inside("list", sample, "--filter", "atn_q")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith(f"error: {sample}: no name matches 'atn_q'\nhint: ")
    done = inside("list", sample, "--filter", "atn_q", "--json")
    assert done.returncode == 2
    assert '"tensors": []' in done.stdout
    assert inside("list", sample, "--filter", "kq_soft_max", "--stored").returncode == 2
    assert inside("list", sample, "--filter", "kq_soft_max").returncode == 0


@pytest.mark.parametrize("command", ["attention", "check", "diff", "tokens"])
def test_a_known_shape_where_a_file_is_needed(command: str, sample: Path) -> None:
    done = inside(command, "llama-3.1-8b", *([sample] if command == "diff" else []))
    assert done.returncode == 2
    assert done.stderr == (
        "error: llama-3.1-8b: no such file\n"
        "hint: llama-3.1-8b is a known shape without weights: list and size take it\n"
    )


@pytest.mark.parametrize(
    "words",
    [
        *(["check", ""], ["check", "MODEL", ""], ["list", ""], ["list", "MODEL", ""], ["size", ""]),
        *(["edit", "", "--remove", "x"], ["tokens", ""], ["attention", ""], ["evaluate", ""]),
        *(["inspect", "", "x"], ["diff", "", "MODEL"], ["diff", "MODEL", ""], ["imatrix", ""]),
        *(["quantize", "", "Q8_0"], ["dequantize", "", "x.gguf"], ["compare-attention", ""]),
    ],
)
def test_an_empty_word_is_not_the_current_folder(words: list[str], sample: Path) -> None:
    done = inside(*(sample if word == "MODEL" else word for word in words))
    assert done.stdout == ""
    refused(done, "no model is named")


@pytest.mark.parametrize(
    ("words", "empty"),
    [
        (["edit", "MODEL", "", "--remove", "general.name"], "COPY"),
        (["edit", "MODEL", "--chat-template", ""], "--chat-template"),
        (["dequantize", "MODEL", ""], "TARGET"),
        (["quantize", "MODEL", "", "Q8_0"], "[TARGET] TYPE"),
        (["quantize", "MODEL", "Q8_0", "-o", ""], "--output-dir"),
        (["compare-attention", "MODEL", "--against", ""], "--against"),
    ],
)
def test_no_other_file_is_named_by_an_empty_word(
    words: list[str],
    empty: str,
    sample: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    done = inside(*(sample if word == "MODEL" else word for word in words))
    assert done.stdout == ""
    refused(done, empty)
    assert "is empty" in done.stderr
    assert "a variable of the shell" in done.stderr


def test_an_empty_text_is_one(sample: Path) -> None:
    assert inside("tokens", sample, "").returncode == 0


def test_a_tensor_type_that_names_no_tensor_is_warned_of(sample: Path) -> None:
    rules = ("--tensor-type", "fnn_down=q6_k", "--tensor-type", "attn_v=q6_k")
    done = inside("quantize", sample, "Q4_K_M", *rules, "--dry-run")
    assert done.returncode == 0
    said = "warning: no tensor has a name that --tensor-type 'fnn_down' is found in\n"
    assert done.stderr == said


@pytest.mark.parametrize(
    ("words", "meant"),
    [
        (["quantize", "MODEL", "q4km"], "Q4_K_M"),
        (["quantize", "MODEL", "Q4_KM"], "Q4_K_M"),
        (["quantize", "MODEL", "Q8_0", "--tensor-type", "ffn=q4k"], "Q4_K"),
        (["quantize", "MODEL", "Q8_0", "--output-tensor-type", "q6"], "Q6_K"),
        (["quantize", "MODEL", "Q8_0", "--dryrun"], "--dry-run"),
        (
            ["quantize", "MODEL", "Q8_0", "--tensr-type", "a=b"],
            "--tensor-type or --tensor-type-file",
        ),
        (["size", "MODEL", "--type-k", "q8"], "Q8_0"),
        (["size", "MODEL", "--types", "q4km"], "Q4_K_M"),
        (["size", "lama-3.1-8b"], "llama-3.1-8b"),
        (["list", "MODEL", "--key", "llama.attention.headcount"], "llama.attention.head_count"),
        (["list", "MODEL", "--metdata"], "--metadata"),
        (["compare", "MODEL"], "compare-attention"),
        (["compare-attention", "MODEL", "--recipe", "q4km"], "Q4_K_M"),
        (["compare-attention", "MODEL", "--types", "q4k"], "Q4_K"),
    ],
)
def test_what_is_misspelt_is_offered_rightly(words: list[str], meant: str, sample: Path) -> None:
    done = inside(*(sample if word == "MODEL" else word for word in words))
    refused(done)
    assert done.stderr.splitlines()[1] == f"hint: did you mean {meant}?"


@pytest.mark.parametrize(
    ("words", "made"),
    [
        (["quantize", "MODEL", "new/deep/out.gguf", "Q8_0"], "new/deep/out.gguf"),
        (["quantize", "MODEL", "--types", "Q8_0,Q4_0", "-o", "new"], "new/stories-Q4_0.gguf"),
        (["attention", "MODEL", "--html", "new/page.html"], "new/page.html"),
        (["attention", "MODEL", "--save", "new/all.npz"], "new/all.npz"),
    ],
)
def test_a_missing_folder_is_made(
    words: list[str], made: str, sample: Path, tmp_path: Path
) -> None:
    done = run(*(sample if word == "MODEL" else word for word in words), cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert (tmp_path / made).is_file()


def test_a_run_that_fails_leaves_no_folder(sample: Path, tmp_path: Path) -> None:
    there = tmp_path / "there"
    there.mkdir()
    target = there / "new" / "deep" / "out.gguf"
    refused(inside("quantize", sample, target, "IQ2_XS"), "without an importance matrix")
    assert inside("quantize", sample, target, "Q8_0", "--dry-run").returncode == 0
    damaged = tmp_path / "nan.gguf"
    damaged.write_bytes(sample.read_bytes()[:-2] + b"\x00\x7e")  # the last weight is no number
    refused(inside("quantize", damaged, target, "Q4_K_M"))
    refused(inside("quantize", damaged, "--types", "Q8_0,Q4_K_M", "-o", target.parent))
    assert list(there.iterdir()) == []
    (there / "new").write_text("a file")
    refused(inside("quantize", sample, target, "Q8_0"), "cannot be written")


def test_a_download_that_ended_early_is_damage_and_no_limit_of_ours(
    sample: Path, tmp_path: Path
) -> None:
    whole, path = sample.read_bytes(), tmp_path / "part.gguf"
    for nbytes in (10, 100, 5000, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:nbytes])
        done = inside("size", path)
        refused(done)
        assert "this program reads" not in done.stderr
        assert "download" in done.stderr.splitlines()[1]
    for at in (8, 16):  # the number of tensors, and of metadata pairs
        path.write_bytes(whole[:at] + struct.pack("<Q", 10**9) + whole[at + 8 :])
        done = inside("list", path)
        refused(done, "claims 1,000,000,000")
        assert "hint: the file is cut short or damaged: download it again" in done.stderr


ESCAPE = re.compile(rb"\x1b\[[0-9;?]*[a-zA-Z]")


@pytest.mark.parametrize(
    ("words", "kind"),
    [
        (["size", "no-such-model"], b"\x1b[1;38;5;160merror:\x1b[0m "),  # a hint of many words
        (["list", "MODEL", "--no-such-option-at-all" * 5], b"\x1b[1;38;5;160merror:\x1b[0m "),
        (["quantize", "MODEL", "no-such-preset"], b"\x1b[1;38;5;160merror:\x1b[0m "),
        (["attention", "no such file " * 20], b"\x1b[1;38;5;160merror:\x1b[0m "),
        (
            ["quantize", "MODEL", "Q8_0", "--dry-run", "--tensor-type", f"{'x ' * 30}=q8_0"],
            b"\x1b[1;38;5;130mwarning:\x1b[0m ",
        ),
    ],
)
def test_on_a_terminal_errors_are_wrapped_and_coloured(
    words: list[str], kind: bytes, sample: Path
) -> None:
    arguments = [sample if word == "MODEL" else word for word in words]
    _, said = on_a_terminal(*arguments)
    assert kind in said
    lines = ESCAPE.sub(b"", said).decode().splitlines()
    assert max(map(len, lines)) <= 80
    assert not any(line.endswith(" ") for line in lines[:2])
    _, plain = on_a_terminal(*arguments, NO_COLOR="1")
    assert not re.search(rb"\x1b\[[0-9;]*3[0-9]", plain)
    in_a_pipe = inside(*arguments).stderr
    assert max(map(len, in_a_pipe.splitlines())) > 80
    assert "\x1b" not in in_a_pipe


@pytest.mark.parametrize(
    ("words", "phases"),
    [
        (["quantize", "MODEL", "out.gguf", "Q4_K_M"], ["quantizing"]),
        (["attention", "MODEL"], ["running"]),
        (["attention", "MODEL", "--verify"], ["running"]),
        (["compare-attention", "MODEL", "--types", "Q8_0"], ["comparing"]),
        (["imatrix", "MODEL", "--text", "TEXT", "-c", "256", "-o", "out.gguf"], ["gathering"]),
    ],
)
def test_one_bar_from_start_to_end_and_the_time_it_took(
    words: list[str], phases: list[str], sample: Path, tmp_path: Path
) -> None:
    text = sample.with_name("heldout.txt")
    places = {"MODEL": sample, "TEXT": text, "out.gguf": tmp_path / "out.gguf"}
    code, said = on_a_terminal(*(places.get(word, word) for word in words))
    assert code == 0
    shown = ESCAPE.sub(b"", said).decode()
    bar, done, result = shown.partition("stories-f16.gguf: done in ")
    assert done
    percents = list(map(int, re.findall(r"(\d+)%", bar)))
    assert percents == sorted(percents)
    assert percents[-1] == 100
    for phase in phases:
        assert re.search(phase + r", [\d.]+ ([KM]iB|layers)/s, [-\w .,]+\r", bar)
    assert re.match(r"[\d.]+ s\r?\n", result)
    assert "done in" not in result
    if words[0] == "imatrix":
        assert re.search(r"chunk \d of 8, PPL [\d.]+", bar)


def test_a_context_chooses_the_factors_of_longrope(tmp_path: Path) -> None:
    path = write(tmp_path / "phi3-long.gguf", SMALL["phi3-long"])
    ids = ("--ids", "1,5,9,2")
    shown = {}
    for context, which, than in (("17", "long", "more"), ("16", "short", "no more")):
        words = ("attention", path, *ids, "--context", context)
        shown[which] = inside(*words).stdout
        assert f"LongRoPE's {which} factors, for {than} than 16 tokens" in shown[which]
        assert json.loads(inside(*words, "--json").stdout)["long_rope"] == which
        compared = inside("compare-attention", path, *ids, "--context", context, "--types", "Q8_0")
        assert f"LongRoPE's {which} factors" in compared.stdout
    assert "LongRoPE's long factors" in inside("attention", path, *ids).stdout
    rows = {which: text.split("rope ")[1].splitlines()[1:] for which, text in shown.items()}
    assert rows["long"] != rows["short"]
    refused(inside("attention", path, *ids, "--context", "3"), "more than the model's context of 3")


@pytest.mark.parametrize(
    ("words", "offered"),
    [
        ("quantize m.gguf q4_k", ["q4_k_s", "q4_k_m"]),
        ("quantize m.gguf --types Q8_0,q6", ["Q8_0,q6_k"]),
        ("quantize m.gguf --output-tensor-type q8", ["q8_0"]),
        ("compare-attention m.gguf --recipe Q5_K", ["Q5_K_S", "Q5_K_M"]),
        ("compare-attention m.gguf --types I8", [""]),
        ("size m.gguf --type-k IQ", ["IQ4_NL"]),
        ("size mixtral", ["mixtral-8x7b"]),
        ("comp", ["compare-attention"]),
        ("list m.gguf --so", ["--sort"]),
    ],
)
def test_the_tab_key_offers_what_fits(words: str, offered: list[str]) -> None:
    line = f"ggufscope {words}"
    asked = {"_GGUFSCOPE_COMPLETE": "complete_bash", "COMP_WORDS": line}
    done = run(env=environment(**asked, COMP_CWORD=str(line.count(" "))), before=NAMED)
    assert done.stdout.rstrip("\n").split("\n") == offered
    assert done.stderr == ""


NAMED = "import sys\nsys.argv[0] = 'ggufscope'"
