"""What this machine has: an nvidia-smi that answers, fails, hangs, or speaks of other things."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from ggufscope.errors import NotDerivable
from ggufscope.sizing import here
from ggufscope.sizing.here import GPU, Here, this_machine

MIB = 1 << 20


@pytest.fixture
def smi(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Put an nvidia-smi first on the path; what it does is written by the test."""
    program = tmp_path / "nvidia-smi"
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    monkeypatch.setattr(here, "available_memory", lambda: 8 * MIB)
    return program


def _does(program: Path, script: str) -> None:
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)


def test_gpus_are_read(smi: Path) -> None:
    _does(smi, 'echo "$@" >&2; echo "NVIDIA H100, 80 GB, 81000, 81559"; echo "RTX 4090, 24, 25"')
    found = this_machine()
    card = GPU("NVIDIA H100, 80 GB", 81000 * MIB, 81559 * MIB)
    assert found == Here(8 * MIB, (card, GPU("RTX 4090", 24 * MIB, 25 * MIB)))
    assert found.gpu == card
    assert found.warnings() == ("of 2 GPUs only the one with the most free memory is counted",)


@pytest.mark.parametrize(
    ("script", "trouble"),
    [
        ("echo 'NVIDIA-SMI has failed: no driver'; exit 9", "failed: NVIDIA-SMI has failed: no d"),
        ("echo broken >&2; exit 6", "failed: broken"),
        ("exit 3", "failed: exit code 3"),
        ("exec sleep 60", "did not answer in 0.2 seconds"),
        ("echo 'GPU, [N/A], [N/A]'", "cannot be used: "),
        ("echo nonsense", "cannot be used: "),
    ],
)
def test_a_failure_is_said_and_not_fatal(
    script: str, trouble: str, smi: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(here, "_PATIENCE", 0.2)
    _does(smi, script)
    found = this_machine()
    assert (found.free, found.gpus) == (8 * MIB, ())
    assert found.trouble.startswith(f"nvidia-smi {trouble}")
    assert found.warnings() == (f"{found.trouble}: no GPU is counted",)


def test_what_cannot_be_run_is_said(smi: Path) -> None:
    _does(smi, "")
    smi.write_bytes(b"\x7fELF, but no program")
    assert "cannot be used" in this_machine().trouble


@pytest.mark.parametrize("place", [".", ""])
def test_a_program_in_the_working_folder_is_not_run(
    place: str, smi: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _does(smi, "echo run > ran; echo 'a GPU, 1, 2'")
    monkeypatch.chdir(smi.parent)
    monkeypatch.setenv("PATH", f"{place}{os.pathsep}/bin")
    assert this_machine() == Here(8 * MIB)
    assert not Path("ran").exists()


def test_without_nvidia_smi_there_is_nothing_to_say(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    found = this_machine()
    assert (found.gpus, found.gpu, found.warnings()) == ((), None, ())
    assert found.free > 0


def test_a_system_that_does_not_say_is_asked_no_further(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(here, "available_memory", lambda: None)
    with pytest.raises(NotDerivable, match="how much memory is free"):
        this_machine()
