"""Six small models with absurd metadata, vocabularies and tensor tables, through every command.

Each case is known by its seed and its number: ``cases(seed, count)`` makes it again.
"""

from __future__ import annotations

import random
from multiprocessing import get_context
from pathlib import Path

import pytest

from tests.hostile.exercise import COMMANDS, failures
from tests.hostile.mutations import MODELS, cases, model_of

SEEDS = [101, 102]
"""Of the slow cases: one for each process."""
EACH = 12_500


def tried(seed: int, count: int, commands: int, path: Path) -> list[str]:
    """Try so many cases, each with some commands; what went wrong."""
    found = []
    for name, model in cases(seed, count):
        chosen = random.Random(name).sample(COMMANDS, commands)
        wrong = list(failures(model.write(path), chosen))
        found += [f"case {name}: {words}" for words in wrong]
    return found


@pytest.mark.parametrize("name", MODELS)
def test_the_models_are_sound_before_they_are_spoiled(name: str, tmp_path: Path) -> None:
    path = model_of(name).write(tmp_path / "m.gguf")
    assert [*failures(path)] == []


@pytest.mark.parametrize("seed", range(1, 11))
def test_a_thousand_absurd_models(seed: int, tmp_path: Path) -> None:
    assert tried(seed, 100, 1, tmp_path / "m.gguf") == []


@pytest.mark.slow
def test_many_thousand_absurd_models(tmp_path: Path) -> None:
    jobs = [(seed, EACH, 1, tmp_path / f"{seed}.gguf") for seed in SEEDS]
    with get_context("spawn").Pool(len(jobs)) as pool:
        found = pool.starmap(tried, jobs)
    assert [words for part in found for words in part] == []


def test_a_failure_would_be_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = model_of("llama").write(tmp_path / "m.gguf")
    monkeypatch.setattr("ggufscope.container.header.read_header", lambda *_: 1 / 0)
    monkeypatch.setattr("ggufscope.container.file.read_header", lambda *_: 1 / 0)
    (wrong,) = failures(path, ["list {}"])
    assert "ZeroDivisionError" in wrong
