"""What each type of each tensor costs, as it was measured: kept as a JSON text, and read again.

``measure/sensitivity.py`` measures it. Who reads it chooses types by a header alone.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, Final, NoReturn

from ggufscope.blocks.layouts import LAYOUTS
from ggufscope.container.source import LocalFile
from ggufscope.errors import BadUsage

SCHEMA: Final = "ggufscope.sensitivity/1"
_MOST_NATS: Final = 1e30
"""That one change may cost: sums of these are finite."""
LONGEST: Final = 1 << 26
"""Bytes of such a text: for a hundred thousand tensors."""


@dataclass(frozen=True, slots=True)
class Sensitivities:
    """What was measured of one model on one text."""

    model: str
    """Of the tensors: names, shapes and types, as a digest."""
    text: str
    """Of the token ids of all windows, as a digest."""
    tokens: int
    windows: int
    draws: int
    seed: int
    importance: str
    """Of the importance matrix that errors were weighed by, as a digest; empty without one."""
    costs: Mapping[str, Mapping[str, float]]
    """Tensor -> type -> nats a token."""
    unreached: Mapping[str, int]
    """Stack of experts -> how many of them no token chose: what they cost is unknown."""

    def as_text(self) -> str:
        """Return it as a JSON text, to be kept; ``read_sensitivities`` reads that."""
        return json.dumps(to_json(self), indent=1) + "\n"

    def require_types(self, types: Mapping[str, Sequence[str]]) -> None:
        """Raise ``BadUsage`` where it does not say what one of these types costs a tensor."""
        for tensor, wanted in types.items():
            lacking = [type_ for type_ in wanted if type_ not in self.costs.get(tensor, {})]
            if lacking:
                raise BadUsage(
                    f"the sensitivities do not say what {lacking[0]} costs {tensor!r}",
                    hint="measure anew with all --types: name another file for them",
                )

    def require_model(self, model: str) -> None:
        """Raise ``BadUsage`` where it is of another model than the one of this digest."""
        if self.model != model:
            raise BadUsage(
                "the sensitivities are of another model",
                hint="measure anew: name another file for them",
            )


def model_digest(tensors: Iterable[tuple[str, str, tuple[int, ...]]]) -> str:
    """Return what tells one model from another, short of its weights: names, types, shapes."""
    digest = hashlib.sha256()
    for name, type_, shape in sorted(tensors):
        digest.update(f"{name} {type_} {shape}\n".encode("utf-8", "surrogateescape"))
    return digest.hexdigest()


def to_json(known: Sensitivities) -> dict[str, Any]:
    """Return what is kept; described by ``schemas/sensitivity.json``."""
    return {"schema": SCHEMA, **asdict(known)}


def read_sensitivities(path: str | os.PathLike[str]) -> Sensitivities:
    """Read what was kept in a file. Raises ``BadUsage``, and what opening a file raises."""
    source = LocalFile(Path(path))
    if source.size > LONGEST:
        raise BadUsage(
            f"{path} has {source.size:,} bytes, and a file of sensitivities has {LONGEST:,} at "
            "the most",
            hint="name a file that `quantize --sensitivities` wrote",
        )
    return from_json(source.read(0, source.size).decode("utf-8", "replace"), str(path))


def from_json(text: str, where: str) -> Sensitivities:
    """Read such a text; ``where`` it is from, in words. Raises ``BadUsage``."""

    def wrong(what: str) -> NoReturn:
        raise BadUsage(
            f"{where} has no sensitivities: {what}",
            hint="name a file that `quantize --sensitivities` wrote, or a new one",
        )

    try:
        read = json.loads(text)
    except (ValueError, RecursionError):
        wrong("it is not JSON")
    if not isinstance(read, dict) or read.pop("schema", None) != SCHEMA:
        wrong(f"it is not of schema {SCHEMA}")
    wanted = {field.name: field.type for field in fields(Sensitivities)}
    if read.keys() != wanted.keys():
        odd = sorted(map(repr, read.keys() ^ wanted.keys()))
        wrong(f"{odd[0]:.60} is missing or unknown")
    for name, type_ in wanted.items():
        if type_ in {"str", "int"} and type(read[name]).__name__ != type_:
            wrong(f"{name} is of another type")
    costs, unreached = read["costs"], read["unreached"]
    if not _is_table(costs, dict) or not all(_is_table(row, float, int) for row in costs.values()):
        wrong("costs are no numbers by tensor and type")
    if not _is_table(unreached, int):
        wrong("unreached is no count by tensor")
    for tensor, row in costs.items():
        for type_, cost in row.items():
            if not 0 <= cost <= _MOST_NATS:
                wrong(f"{type_!r:.20} costs {tensor!r:.60} {cost!s:.30} nats")
            if type_ not in LAYOUTS:
                wrong(f"{type_!r:.20} is no type")
            row[type_] = float(cost)
    return Sensitivities(**read)


def _is_table(value: object, *types: type) -> bool:
    return isinstance(value, dict) and all(
        isinstance(each, types) and not isinstance(each, bool) for each in value.values()
    )
