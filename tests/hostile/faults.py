"""What commands that write are put through: ended at a step, a full disk, a disk that cannot read.

A run is ended at a step of the container's code, which is counted: so it is ended within a change
in place as often as anywhere, and the same number is the same moment. What is written in place goes
a sector at a time here, so that a moment can lie within it.
"""

from __future__ import annotations

import hashlib
import random
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from ggufscope.measure.calibrating import is_checkpoint
from tests.documents import SAMPLE
from tests.program import run

HELD_OUT: Final = SAMPLE.parent / "heldout.txt"
LONGER: Final = "name=str:" + "a longer name " * 20
SHORT: Final = "name=str:Talez"


@dataclass(frozen=True)
class Writer:
    """A command that writes one file."""

    words: Callable[[Path, Path], list[object]]
    """Of a source and a target."""
    changes_its_source: bool = False
    keeps: bool = False
    """What is done is kept for another run, beside the target and under names that begin so."""
    under_way: Callable[[Path], bool] = lambda path: False
    """Whether what lies there, neither old nor whole, is what a run goes on from."""

    def left(self, folder: Path) -> set[str]:
        """The names in a folder, but for what it may keep there."""
        return {it.name for it in folder.iterdir() if not (self.keeps and it.name[0] == ".")}

    def files(self, sample: Path, folder: Path) -> tuple[Path, Path]:
        """A source and a target in a folder, there before: whole files both."""
        source = Path(shutil.copy(sample, folder / "model.gguf"))
        if self.changes_its_source:
            return source, source
        target = folder / "out.gguf"
        target.write_bytes(b"GGUF, the old file")
        return source, target


WRITERS: Final[dict[str, Writer]] = {
    "quantize": Writer(
        lambda source, target: [*("quantize", source, target, "Q4_0", "--force", "--threads", "1")]
    ),
    "quantize to be resumed": Writer(
        lambda source, target: [
            *("quantize", source, target, "Q4_0", "--force", "--threads", "1", "--resume")
        ],
        keeps=True,
    ),
    "imatrix": Writer(
        lambda source, target: [
            *("imatrix", source, "--text", HELD_OUT, "-c", "32", "--chunks", "3"),
            *("-o", target, "--force"),
        ],
        under_way=is_checkpoint,
    ),
    "edit in place": Writer(
        lambda source, _: ["edit", source, "--set", f"general.{SHORT}"], changes_its_source=True
    ),
    "edit anew": Writer(
        lambda source, _: ["edit", source, "--set", f"general.{LONGER}"], changes_its_source=True
    ),
    "edit a copy": Writer(
        lambda source, target: [*("edit", source, target, "--set", f"general.{LONGER}", "--force")]
    ),
}
"""Every command that writes GGUF: a line is what a new one needs to be put through all this."""

_STEPS: Final = """
import atexit, os, pathlib, sys, threading
import ggufscope.container.copying, ggufscope.container.journal, ggufscope.container.partial
import ggufscope.container.rewriting, ggufscope.recipes.apply, ggufscope.recipes.edits
import ggufscope.cli.edit, ggufscope.cli.quantize

def by_sectors(file, offset, data):
    file.seek(offset)
    rest = memoryview(data)
    while rest:
        size = 512 if len(data) < 1 << 20 else len(data)
        rest = rest[file.write(rest[:size]):]

ggufscope.container.rewriting.write_at = ggufscope.container.journal.write_at = by_sectors
step, last = 0, {last}

def trace(frame, event, argument):
    code = frame.f_code
    if code is by_sectors.__code__ or os.sep + "container" + os.sep in code.co_filename:
        return steps

def steps(frame, event, argument):
    global step
    step += 1
    if step == last:
        os.kill(os.getpid(), {number})
    return steps

def told():
    sys.settrace(None)
    threading.settrace(None)
    path = {told!r}
    if path:
        pathlib.Path(path).write_text(str(step))

atexit.register(told)
sys.settrace(trace)
threading.settrace(trace)
"""


def steps_of(words: list[object], note: Path) -> int:
    """How many steps a run takes that nobody ends."""
    done = run(*words, before=_STEPS.format(last=0, number=0, told=str(note)))
    assert done.returncode == 0, done.stderr
    return int(note.read_text())


def ended(words: list[object], number: int, step: int) -> tuple[int, str]:
    """Run a command that is sent a signal at a step; its exit code, and what it complained of."""
    done = run(*words, before=_STEPS.format(last=step, number=number, told=""))
    return done.returncode, done.stderr


def moments(seed: str, steps: int, count: int) -> list[int]:
    """Steps to end a run at, some of them past its end."""
    chance = random.Random(seed)
    return [chance.randint(1, steps + steps // 50) for _ in range(count)]


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
