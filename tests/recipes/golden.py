"""Reading `golden/quantize`: what real llama-quantize made of the slices and the whole shapes.

Types are kept short there: for each name, its layer number as `*`, the types in the order of
writing, `Q4_K*3` for three times Q4_K. What is the same for every preset stands under `always`.
"""

from __future__ import annotations

import json
import re
from collections import defaultdict
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent.parent / "golden" / "quantize"
Types = dict[str, list[str]]


@cache
def load(name: str) -> Any:
    """The golden data of a slice (`llama-mha`), of `stories`, `whole` or `options`."""
    return json.loads((HERE / f"{name}.json").read_text(encoding="utf-8"))


def stem(name: str) -> str:
    """`blk.7.attn_v.weight` -> `blk.*.attn_v.weight`."""
    return re.sub(r"blk\.\d+\.", "blk.*.", name, count=1)


def by_stem(types: Iterable[tuple[str, str]]) -> Types:
    """(name, type) in the order of writing, by stem."""
    found: Types = defaultdict(list)
    for name, type_ in types:
        found[stem(name)].append(type_)
    return dict(found)


def unfold(*short: dict[str, str]) -> Types:
    """The types of golden data, by stem."""
    return {
        name: [type_ for run in runs.split() for type_ in _repeat(run)]
        for part in short
        for name, runs in part.items()
    }


def _repeat(run: str) -> list[str]:
    type_, _, times = run.partition("*")
    return [type_] * int(times or 1)
