"""Which commands there are. One is named, so one is imported and built; the help asks for all."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cache
from importlib import import_module
from typing import Any, Final

import typer
from typer.core import TyperArgument, TyperCommand, TyperGroup

from ggufscope.errors import BadUsage

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


_MODELS: Final = {"model", "models", "a", "b", "file", "source"}
"""Arguments that name a model."""

_NO_NAME: Final = "an empty word names no file: is a variable of the shell not set?"


class _Command(TyperCommand):
    """A command that takes no empty word for a path, which would be the folder that one is in."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Read the words of a command line; raises ``BadUsage`` where a path is empty."""
        rest = super().parse_args(ctx, args)
        for parameter in self.params:
            given = ctx.params.get(parameter.name)
            words = given if isinstance(given, (list, tuple)) else [given]
            if "" not in words or ctx.resilient_parsing:  # to complete a line, it may be unfinished
                continue
            argument = isinstance(parameter, TyperArgument)
            if argument and parameter.name in _MODELS:
                raise BadUsage("no model is named", hint=_NO_NAME)
            if isinstance(parameter.type, typer.models.TyperPath) or (
                argument and parameter.nargs < 0
            ):
                name = parameter.make_metavar(ctx) if argument else max(parameter.opts, key=len)
                raise BadUsage(f"{name} is empty", hint=_NO_NAME)
        return rest


@cache
def _built(name: str) -> Any:
    """Return a command as typer runs it, where no option asks whether a file may be read.

    What opens the file says why it cannot, in one wording, and of several the others are served.
    """
    panel, file = COMMANDS[name]
    function = getattr(import_module(f"ggufscope.cli.{file}"), f"{name.replace('-', '_')}_command")
    alone = typer.Typer(add_completion=False)
    alone.command(name, cls=_Command, rich_help_panel=panel)(function)
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
