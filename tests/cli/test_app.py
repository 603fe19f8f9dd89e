"""What all commands have in common: their groups in the help, and one spelling for one thing."""

from __future__ import annotations

import re
from typing import Any

import pytest
from typer.main import get_command

from ggufscope.cli import app
from ggufscope.cli.options import split_types
from ggufscope.errors import BadUsage
from tests.program import run

COMMANDS: dict[str, Any] = vars(get_command(app.app))["commands"]
GROUPS = {
    "Look into a model": ["list", "size"],
    "Make a model": ["quantize", "dequantize"],
    "Run a model": ["attention", "compare-attention"],
}


def test_the_help_groups_commands_by_what_people_want() -> None:
    panels = run("--help").stdout.split("╭─ ")[2:]
    found = {panel.split(" ─")[0]: re.findall(r"│ ([a-z-]+)  ", panel) for panel in panels}
    assert found == GROUPS


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
