"""What all commands have in common: their groups in the help, and one spelling for one thing."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from typer.main import get_command

from ggufscope.blocks.codec import ENGINES
from ggufscope.blocks.kernels import load
from ggufscope.cli import app
from ggufscope.cli.options import split_types
from ggufscope.errors import BadUsage
from tests.program import run

COMMANDS: dict[str, Any] = vars(get_command(app.app))["commands"]
GROUPS = {
    "Look into a model": ["list", "size", "check", "diff", "inspect", "tokens"],
    "Make a model": ["quantize", "dequantize", "edit"],
    "Run a model": ["imatrix", "attention", "compare-attention", "evaluate"],
}


def test_the_help_groups_commands_by_what_people_want() -> None:
    panels = run("--help").stdout.split("╭─ ")[2:]
    found = {panel.split(" ─")[0]: re.findall(r"│ ([a-z-]+)  ", panel) for panel in panels}
    assert found == GROUPS


@pytest.mark.parametrize(
    ("command", "default"),
    [
        ("", "auto"),
        ("imatrix", "imatrix.gguf"),
        ("imatrix", "512"),
        ("quantize", "all cores"),
        ("attention", "The cat sat on the mat"),
        ("compare-attention", "Q8_0,Q4_K,Q2_K"),
    ],
)
def test_the_help_names_defaults(command: str, default: str) -> None:
    words = " ".join(re.sub("[│╭╮╰╯─]", " ", run(*command.split(), "--help").stdout).split())
    assert f"[default: {default}]" in words


def test_one_thing_is_spelt_alike_everywhere() -> None:
    spelt: dict[str, set[tuple[str, ...]]] = {}
    for command in COMMANDS.values():
        for option in command.params:
            spelt.setdefault(option.name, set()).add(tuple(option.opts))
        assert "as_json" in {option.name for option in command.params}
    assert {name: each for name, each in spelt.items() if len(each) > 1} == {}
    assert spelt["types"] == {("--type", "--types")}
    assert not {"--kv-type", "--cache-type"} & {word for each in spelt.values() for word in each}


def test_types_in_one_value_or_in_several() -> None:
    assert split_types(["Q8_0, Q4_K", "Q2_K,"]) == ["Q8_0", "Q4_K", "Q2_K"]
    assert split_types(None) == []
    with pytest.raises(BadUsage, match="names no type"):
        split_types(["Q8_0", ","])


def test_the_version_says_what_converts() -> None:
    assert run("--engine", "numpy", "--version", "-v").stdout.splitlines()[1] == (
        "engine: numpy; as asked"
    )
    said = run("--engine", "auto", "--version", "--verbose").stdout.splitlines()[1]
    kernels, why_not = load()
    assert said.startswith("engine: compiled; " if kernels else f"engine: numpy; {why_not}")


def test_an_engine_is_one_of_a_few() -> None:
    done = run("--engine", "fast", "--version")
    assert done.returncode == 2
    assert "'auto', 'numpy', 'compiled'" in done.stderr
    assert tuple(app.EngineName) == ENGINES


@pytest.mark.parametrize("type_", ["Q8_0", "Q4_K_M", "Q2_K", "IQ4_XS"])
def test_engines_write_the_same_file(type_: str, sample: Path, tmp_path: Path) -> None:
    made = []
    for engine in ("numpy", "compiled" if load()[0] else "auto"):
        target = tmp_path / f"{engine}.gguf"
        done = run("--engine", engine, "quantize", sample, target, type_)
        assert (done.returncode, done.stderr) == (0, "")
        made.append(target.read_bytes())
    assert made[0] == made[1]


@pytest.mark.parametrize(
    "words",
    [
        ["quantize", "MODEL", "--force", "TARGET", "Q8_0"],
        ["dequantize", "MODEL", "--force", "TARGET"],
        ["attention", "MODEL", "--verify"],
        ["compare-attention", "MODEL", "--type", "Q8_0", "--brief"],
    ],
    ids=lambda words: words[0],
)
def test_a_long_job_without_kernels_says_so_once(
    words: list[str],
    sample: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr("ggufscope.blocks.codec.missing_kernels", lambda: "they were not compiled")
    names = {"MODEL": str(sample), "TARGET": str(tmp_path / "out.gguf")}
    monkeypatch.setattr("sys.argv", ["ggufscope", *(names.get(word, word) for word in words)])
    for least, times in ((1, 1), (1 << 40, 0)):
        monkeypatch.setattr("ggufscope.cli.options.LONG_JOB", least)
        with pytest.raises(SystemExit) as ended:
            app.main()
        assert not ended.value.code
        said = capsys.readouterr().err
        assert said.count("warning: NumPy converts, several times slower") == times
        assert said.count("they were not compiled (install ggufscope again with a C++") == times
