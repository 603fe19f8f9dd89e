"""What a terminal shows: any width, any ground, as little as is wanted, and as Markdown."""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Callable
from pathlib import Path

import gguf
import pytest
from markdown_it import MarkdownIt

from ggufscope import __version__
from ggufscope.cli import app
from ggufscope.report import console
from tests import program
from tests.models.makers import Recipe, Shapes, raw_gguf, tensor, write_recipe
from tests.program import on_a_terminal
from tests.report.test_console import PALETTE
from tests.shapes import WHOLES, write_hollow

Run = Callable[..., str]

WIDTHS = (40, 50, 60, 72, 79, 80, 81, 100, 120)
LISTS = (["--stored", "--computed"], ["--explain"], ["--hf-names"], ["--sort", "size"])


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Run the program in this process; gives what it printed."""

    def run(*arguments: object, width: int = 80, code: int = 0) -> str:
        monkeypatch.setenv("COLUMNS", str(width))
        monkeypatch.setattr(sys, "argv", ["ggufscope", *map(str, arguments)])
        with pytest.raises(SystemExit) as caught:
            app.main()
        said = capsys.readouterr()
        assert int(caught.value.code or 0) == code, said.err
        return said.out if code < 2 else said.err

    return run


def _fits(printed: str, width: int) -> None:
    lines = printed.splitlines()
    assert max(map(len, lines)) <= width
    # No number is cut: `0…`, `512 …`.
    assert not [line for line in lines if re.search(r"(^|\s)[-+]?[0-9.]+ ?…", line)]


@pytest.mark.parametrize("width", WIDTHS)
def test_a_listing_at_any_width(width: int, run: Run, sample: Path) -> None:
    for options in LISTS:
        _fits(run("list", sample, *options, width=width), width)
    stored = run("list", sample, "--stored", width=width)
    for whole in ("attn_output.weight", "1024×256", "512 KiB", "66.6%"):
        assert whole in stored
    explained = run("list", sample, "--explain", "--metadata", width=width)
    assert max(map(len, explained.splitlines())) <= width
    assert "Stories" in explained
    assert "W_q, learned" in explained


@pytest.mark.parametrize("width", WIDTHS)
def test_sizes_at_any_width(width: int, run: Run) -> None:
    for asked in ([], ["--fits", "8GiB", "-c", "4k,8k,16k,32k"], ["--vram", "6GiB"]):
        printed = run("size", "llama-3.1-8b", *asked, width=width)
        _fits(printed, width)
        assert "Q4_K_M" in printed
    _fits(run("size", "7B", width=width), width)


@pytest.mark.parametrize("width", WIDTHS)
def test_a_plan_at_any_width(width: int, run: Run, sample: Path) -> None:
    printed = run("quantize", sample, "Q4_K_M", "--dry-run", width=width)
    plan = printed[: printed.index("\nfile ")]  # below it, how long the path is decides
    _fits(plan, width)
    assert "F16 > Q6_K" in plan
    assert "26.2 KiB" in plan


@pytest.mark.parametrize("width", [40, 60, 80, 120])
def test_what_runs_the_model_at_any_width(width: int, run: Run, sample: Path) -> None:
    _fits(run("compare-attention", sample, "--types", "Q8_0", width=width), width)
    assert max(map(len, run("attention", sample, width=width).splitlines())) <= width
    _fits(run("attention", sample, "--verify", width=width), width)


def test_a_plan_is_folded_over_layers_with_a_legend_of_reasons(run: Run, sample: Path) -> None:
    lines = run("quantize", sample, "Q4_K_M", "--dry-run").splitlines()
    found = [line.split() for line in lines if line.startswith("attn_v.weight")]
    assert [row[:2] for row in found] == [["attn_v.weight", "0-1"], ["attn_v.weight", "2-3"]]
    assert [row[5] for row in found] == ["Q4_K", "Q6_K"]
    assert len([line for line in lines if ".weight" in line]) == 14  # of 39 tensors
    legend = dict(line.split(" ", 1) for line in lines if re.match(r"\[\d+\] ", line))
    assert legend[found[0][-1]] == "the main type"
    assert legend[found[1][-1]] == "in the first or last eighth, or every third between"
    assert "output: its own type in Q4_K_M" in legend.values()
    rows = json.loads(run("quantize", sample, "Q4_K_M", "--dry-run", "--json"))
    rules = {each["name"]: each["rule"] for each in rows["targets"][0]["tensors"]}
    assert len(rules) == 39
    assert rules["blk.0.attn_v.weight"] == "Q4_K_M: attn_v, the main type"


def test_a_deep_plan_is_as_short(run: Run, tmp_path: Path) -> None:
    path = write_hollow(tmp_path / "deep.gguf", WHOLES["Llama-2-7B"]())
    printed = run("quantize", path, "Q4_K_M", "--dry-run")
    names = [line.split()[0] for line in printed.splitlines() if ".weight" in line]
    assert len(names) == 14  # of 291 tensors
    assert "0-3, 6, 9, 12" in printed
    _fits(printed[: printed.index("\nfile ")], 80)


def _colours(*arguments: object, no_color: str = "") -> set[str]:
    """The colours that a terminal is told to use, but for those of the bar."""
    with Path(os.devnull).open("w") as nowhere:
        code, sent = on_a_terminal(*arguments, stderr=nowhere, NO_COLOR=no_color)
    assert code in (0, 1)
    codes = {code.decode() for code in re.findall(rb"\x1b\[([0-9;]+)m", sent)}
    assert codes
    plain = re.compile(r"(?:^|;)[0-4](?=;|$)")  # bold, dim, italic, underlined
    return {plain.sub("", code).lstrip(";") for code in codes} - {""}


def test_every_colour_is_one_that_is_read_on_any_ground(sample: Path) -> None:
    allowed = {f"38;5;{getattr(console, name)[6:-1]}" for name in PALETTE}
    for arguments in (
        ("list", sample, "--stored", "--computed", "--explain"),
        ("attention", sample),
        ("attention", sample, "--verify"),
        ("compare-attention", sample, "--types", "Q2_K"),
        ("quantize", sample, "Q4_K_M", "--dry-run"),
        ("size", sample),
    ):
        assert _colours(*arguments) <= allowed, arguments
    assert _colours("list", sample, no_color="1") == set()


def test_brief_is_the_few_lines_that_matter(run: Run, sample: Path, tmp_path: Path) -> None:
    listed = run("list", sample, "--brief").splitlines()
    assert len(listed) <= 12
    assert listed[-2].split()[:2] == ["F16", "30"]
    fits = run("size", "llama-3.1-8b", "--fits", "8GiB", "--brief")
    assert len(fits.splitlines()) <= 3
    assert "8 GiB" in fits
    assert run("size", sample, "--brief").splitlines()[0].startswith("model ")
    planned = run("quantize", sample, "Q4_K_M", "--dry-run", "--brief")
    assert planned.split()[0] == "types"
    done = run("quantize", sample, tmp_path / "q.gguf", "Q4_K_M", "--brief")
    assert re.search(r"^cost +largest relative error [0-9.]+%, in \S+\.weight$", done, re.M)
    verdicts = run("compare-attention", sample, "--brief")
    assert [line.split()[0] for line in verdicts.splitlines() if line[0] != " "] == [
        *("Q8_0", "Q4_K", "Q2_K", "All")
    ]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("list", "--brief", "--json"), "--json and --brief are two forms"),
        (("list", "--markdown", "--json"), "--json and --markdown are two forms"),
        (("list", "--brief", "--stored"), "--brief leaves out what another option asks for"),
        (("list", "--markdown", "--key", "general.name"), "--markdown is no form of --key"),
        (("size", "--brief", "--json"), "--json and --brief are two forms"),
        (("quantize", "Q8_0", "--brief", "--json"), "--json and --brief are two forms"),
        (("compare-attention", "--markdown", "--json"), "--json and --markdown are two forms"),
    ],
)
def test_forms_that_exclude_each_other(
    arguments: tuple[str, ...], said: str, run: Run, sample: Path
) -> None:
    command, *options = arguments
    assert said in run(command, sample, *options, code=2).splitlines()[0]


def test_quiet_silences_warnings_and_the_bar_but_no_error(tmp_path: Path, sample: Path) -> None:
    odd = tmp_path / "odd.gguf"
    odd.write_bytes(raw_gguf([], [tensor("odd", (4,), 250, 0)], bytes(64)))
    for words, warned in (([], True), (["-q"], False), (["--quiet"], False)):
        done = program.run("list", odd, *words)
        assert done.returncode == 0
        assert done.stdout.startswith("file ")
        assert ("warning: " in done.stderr) == warned, done.stderr
    done = program.run("list", tmp_path / "none.gguf", "-q")
    assert done.returncode == 2
    assert done.stderr.startswith("error: ")
    for command in ("compare-attention", "attention"):
        assert _draws_a_bar(command, sample)
        assert not _draws_a_bar(command, sample, "-q")


def _draws_a_bar(*arguments: object) -> bool:
    """Whether anything is drawn on standard error where that is a terminal."""
    with Path(os.devnull).open("w") as nowhere:
        code, sent = on_a_terminal(*arguments, stdout=nowhere)
    assert code == 0
    return bool(sent)


@pytest.mark.parametrize(
    "arguments",
    [
        ("list", "MODEL"),
        ("list", "MODEL", "--metadata", "--explain", "--hf-names"),
        ("list", "MODEL", "--brief"),
        ("size", "MODEL", "--fits", "8GiB"),
        ("size", "llama-3.1-8b"),
        ("size", "7B"),
        ("compare-attention", "MODEL", "--types", "Q8_0"),
    ],
)
def test_markdown_has_the_tables_of_the_text(
    arguments: tuple[str, ...], run: Run, sample: Path
) -> None:
    words = [str(sample) if word == "MODEL" else word for word in arguments]
    printed = run(*words, "--markdown")
    assert "\x1b" not in printed
    last = f"ggufscope {__version__}: `ggufscope {' '.join(words)} --markdown`\n"
    assert printed.endswith(last)
    tokens = MarkdownIt("commonmark").enable("table").parse(printed)
    kinds = {token.type for token in tokens}
    assert not kinds & {"html_block", "fence", "code_block", "hr", "blockquote_open"}
    cells = [" ".join(t.content.split()) for t in tokens if t.type == "inline"]
    numbers = re.findall(r"(?<![^ ])\d[\d.,]+(?: [KMG]iB|%)(?![^ \n])", run(*words, width=200))
    for number in numbers:
        assert any(number in each for each in cells), number


def test_a_strangers_names_stay_within_their_cells(run: Run, tmp_path: Path) -> None:
    evil = "a|b`c\n# d <b> [e](https://evil.example) @f"
    shapes: Shapes = {"token_embd.weight": (40, 32), f"{evil}.weight": (64, 32)}
    recipe = Recipe("llama", {"block_count": 1}, shapes)
    path = write_recipe(tmp_path / "evil|`x.gguf", recipe)
    printed = run("list", path, "--stored", "--sort", "file", "--markdown")
    tokens = MarkdownIt("commonmark").enable("table").parse(printed)
    inner = [child.type for token in tokens for child in token.children or []]
    assert set(inner) <= {"text", "code_inline", "strong_open", "strong_close"}
    rows = [t for t in tokens if t.type == "tr_open"]
    cells = [t for t in tokens if t.type in ("td_open", "th_open")]
    assert len(cells) == 6 * len(rows) == 18
    assert gguf.GGUFReader(path).tensors[1].name == f"{evil}.weight"
