"""Sensitivities as a JSON text: kept, and read again for every other size."""

from __future__ import annotations

import json
import math
from dataclasses import asdict, fields
from typing import Any, Final, NoReturn

from ggufscope.errors import BadUsage
from ggufscope.measure.sensitivity import Sensitivities

SCHEMA: Final = "ggufscope.sensitivity/1"
LONGEST: Final = 1 << 26
"""Bytes of such a text: for a hundred thousand tensors."""


def to_json(known: Sensitivities) -> dict[str, Any]:
    """Return what is kept; described by ``schemas/sensitivity.json``."""
    return {"schema": SCHEMA, **asdict(known)}


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
            if not (math.isfinite(cost) and cost >= 0):
                wrong(f"{type_!r:.20} costs {tensor!r:.60} {cost} nats")
    return Sensitivities(**read)


def _is_table(value: object, *types: type) -> bool:
    return isinstance(value, dict) and all(
        isinstance(each, types) and not isinstance(each, bool) for each in value.values()
    )
