"""The default tolerances, measured again: each type keeps to its own, none has far too much."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from ggufscope.container.file import open_gguf
from ggufscope.measure.candidates import of_types
from ggufscope.measure.compare import compare
from ggufscope.measure.comparison import CandidateDifference
from ggufscope.measure.tolerances import LIMITS

TYPES = [name for name in LIMITS if name != "F16"]  # the sample is F16: nothing would change


def _measured(
    sample: Path, types: list[str], prompts: int, lengths: tuple[int, ...]
) -> list[CandidateDifference]:
    windows = json.loads(sample.with_name("heldout.json").read_text())["windows"]
    with open_gguf(sample) as file:
        made = of_types(file, types)
        return [
            candidate
            for window in windows[:prompts]
            for length in lengths
            for candidate in compare(file, window[:length], made).candidates
        ]


def _check(found: list[CandidateDifference], least: float) -> None:
    for type_ in {each.name for each in found}:
        mine = [each for each in found if each.name == type_]
        for each in mine:
            assert each.verdict.matches, (type_, each.verdict.first)
        strains = [each.verdict.worst.used for each in mine if each.verdict.worst]
        assert least < max(strains) < 0.5, type_


def test_well_made_types_keep_to_their_tolerances(sample: Path) -> None:
    _check(_measured(sample, ["Q8_0", "Q6_K", "Q4_K", "Q2_K"], 1, (24,)), 0.1)


@pytest.mark.slow
def test_tolerances_are_three_times_what_the_held_out_stories_show(sample: Path) -> None:
    _check(_measured(sample, TYPES, 8, (8, 24, 64)), 0.25)
