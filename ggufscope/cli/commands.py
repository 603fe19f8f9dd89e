"""Which commands there are. One is named, so one is imported and built; the help asks for all."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cache
from importlib import import_module
from typing import Any, Final

import typer
from typer.core import TyperGroup

_LOOK: Final = "Look into a model"
_MAKE: Final = "Make a model"
_RUN: Final = "Run a model"

COMMANDS: Final = {
    "list": (_LOOK, "list"),
    "size": (_LOOK, "size"),
    "check": (_LOOK, "check"),
    "diff": (_LOOK, "diff"),
    "inspect": (_LOOK, "inspect"),
    "tokens": (_LOOK, "tokens"),
    "quantize": (_MAKE, "quantize"),
    "dequantize": (_MAKE, "quantize"),
    "edit": (_MAKE, "edit"),
    "imatrix": (_RUN, "imatrix"),
    "attention": (_RUN, "attention"),
    "compare-attention": (_RUN, "compare_attention"),
    "evaluate": (_RUN, "evaluate"),
}
"""Name -> its group in the help, and its file, where ``compare-attention`` is
``compare_attention_command``."""


@cache
def _built(name: str) -> Any:
    """Return a command as typer runs it, where no option asks whether a file may be read.

    What opens the file says why it cannot, in one wording, and of several the others are served.
    """
    panel, file = COMMANDS[name]
    function = getattr(import_module(f"ggufscope.cli.{file}"), f"{name.replace('-', '_')}_command")
    alone = typer.Typer(add_completion=False)
    alone.command(name, rich_help_panel=panel)(function)
    command = typer.main.get_command(alone)
    for parameter in command.params:
        if isinstance(parameter.type, typer.models.TyperPath):
            parameter.type.readable = False
    return command


class _WhenNamed(Mapping[str, Any]):
    """Every command under its name; looked up, it is built."""

    def __getitem__(self, name: str) -> Any:
        return _built(name)

    def __iter__(self) -> Iterator[str]:
        return iter(COMMANDS)

    def __len__(self) -> int:
        return len(COMMANDS)


class Commands(TyperGroup):
    """What typer looks for a command in."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        commands: Any = _WhenNamed()
        self.commands = commands
