from __future__ import annotations

import gc
import os
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import hypothesis
import pytest
import typer.main

from ggufscope.machine import processors
from tests import sweeps
from tests.blocks.comparison import TALLY
from tests.models import makers

# No test asks anything of the network: a name that looks remote ends with a sentence.
os.environ["HF_HUB_OFFLINE"] = "1"

# NumPy's threads go on looking for work for 30 ms, on a processor that another test could have. In
# the processes that are started from here they sleep at once.
os.environ.setdefault("OPENBLAS_THREAD_TIMEOUT", "4")

# A slow machine is no defect: examples are counted, not timed. CI draws as many as hypothesis does
# where nothing is said.
hypothesis.settings.register_profile("few", deadline=None, max_examples=40)
hypothesis.settings.register_profile("many", deadline=None, max_examples=100)
hypothesis.settings.load_profile("few")

# The commands are the same in each test; to build them anew takes a fifth of a short one.
typer.main.get_command = cache(typer.main.get_command)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers(config: pytest.Config) -> int | None:
    """Run files and tests that are named one by one in this process: it is quicker for those.

    The ordinary run has one process more than there are processors: a test that waits for a program
    leaves its processor to another.
    """
    if all(".py" in word for word in config.args):
        return 0
    return processors() + 1 if "not slow" in config.option.markexpr else None


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if not any("::" in word for word in config.args):
        sweeps.mark(items)


def pytest_collection_finish() -> None:
    """Have the search for garbage pass over what is collected: hundreds of thousands that stay."""
    gc.freeze()


@pytest.fixture
def make(tmp_path: Path) -> Callable[[str], Path]:
    """Make the model of a kind of `makers.RECIPES`; gives its path."""
    return lambda kind: makers.make(tmp_path / f"{kind}.gguf", kind)


@pytest.fixture(scope="session")
def sample() -> Path:
    """The trained model that the project ships."""
    path = Path(__file__).parent.parent / "samples" / "stories-f16.gguf"
    assert path.is_file(), "samples/stories-f16.gguf is missing: it is part of the repository"
    return path


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    """Take over what another process counted."""
    TALLY.add(getattr(node, "workeroutput", {}).get("tally", []))


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Hand over what this process counted."""
    if hasattr(session.config, "workeroutput"):
        session.config.workeroutput["tally"] = TALLY.rows()


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print how much was held to real ggml."""
    if TALLY.counts:
        terminalreporter.section("compared bit by bit with real ggml")
        for line in TALLY.lines():
            terminalreporter.line(line)
