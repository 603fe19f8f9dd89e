"""What this machine has free for a model: its memory, and that of its NVIDIA GPUs."""

from __future__ import annotations

import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from ggufscope.errors import NotDerivable
from ggufscope.machine import available_memory

_SMI: Final = "nvidia-smi"
_PATIENCE: Final = 10.0
"""Seconds that nvidia-smi has; a driver that hangs keeps it for ever."""
_MIB: Final = 1 << 20


@dataclass(frozen=True, slots=True)
class GPU:
    """One GPU; sizes in bytes."""

    name: str
    free: int
    nbytes: int


@dataclass(frozen=True, slots=True)
class Here:
    """A machine as it is now."""

    free: int
    """Bytes of memory that a process could still take, limits of a container counted."""
    gpus: tuple[GPU, ...] = ()
    trouble: str = ""
    """Why GPUs could not be counted; empty where they were, or where there is no nvidia-smi."""

    @property
    def gpu(self) -> GPU | None:
        """The GPU with the most free memory."""
        return max(self.gpus, key=lambda gpu: gpu.free, default=None)

    def warnings(self) -> tuple[str, ...]:
        """Return what is to be said of the GPUs that are not counted."""
        if self.trouble:
            return (f"{self.trouble}: no GPU is counted",)
        if len(self.gpus) > 1:
            return (f"of {len(self.gpus)} GPUs only the one with the most free memory is counted",)
        return ()


def this_machine() -> Here:
    """Return what this machine has free. Raises ``NotDerivable`` where it cannot be told."""
    free = available_memory()
    if free is None:
        raise NotDerivable("this system does not say how much memory is free", hint="name a size")
    program = shutil.which(_SMI)
    if program is None or not Path(program).is_absolute():
        return Here(free)  # one in the working folder came with a model, maybe
    try:
        return Here(free, _gpus(program))
    except subprocess.TimeoutExpired:
        return Here(free, trouble=f"{_SMI} did not answer in {_PATIENCE:g} seconds")
    except subprocess.CalledProcessError as error:
        said = (error.stdout or error.stderr or "").strip().partition("\n")[0]
        return Here(free, trouble=f"{_SMI} failed: {said or f'exit code {error.returncode}'}")
    except (OSError, ValueError) as error:
        return Here(free, trouble=f"{_SMI} cannot be used: {error}")


def _gpus(program: str) -> tuple[GPU, ...]:
    done = subprocess.run(
        [program, "--query-gpu=name,memory.free,memory.total", "--format=csv,noheader,nounits"],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        check=True,
        timeout=_PATIENCE,
        encoding="utf-8",
        errors="replace",
    )
    rows = (line.rsplit(",", 2) for line in done.stdout.splitlines() if line.strip())
    return tuple(
        GPU(name.strip(), int(free) * _MIB, int(whole) * _MIB) for name, free, whole in rows
    )
