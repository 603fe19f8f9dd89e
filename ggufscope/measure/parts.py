"""The parts of a matrix that have a name: heads, experts. Rows of most, columns of ``W_o``."""

from __future__ import annotations

from dataclasses import dataclass

from ggufscope.forward.block import Heads
from ggufscope.model.roles import Role


@dataclass(frozen=True, slots=True)
class Part:
    """Some rows of a matrix, or some columns."""

    name: str
    head: int | None
    start: int
    stop: int
    columns: bool = False


def parts_of(role: Role, shape: tuple[int, ...], heads: Heads | None) -> list[Part]:
    """Return the heads of an attention matrix, or the experts of a stack, if it is either."""
    if role.suffix != "weight" or len(shape) < 2:
        return []
    if len(shape) == 3:
        return _cut("expert", shape[0], shape[1], of_heads=False)
    if heads is None:
        return []
    queries = _cut("head", heads.count, heads.size)
    keys = _cut("KV head", heads.groups, heads.size)
    values = _cut("KV head", heads.groups, heads.width)
    found = {
        "attn_q": queries,
        "attn_k": keys,
        "attn_v": values,
        "attn_qkv": _joined(queries, keys, values),
        "attn_output": _cut("head", heads.count, heads.width, columns=True),
    }.get(role.stem, [])
    length = shape[1] if role.stem == "attn_output" else shape[0]
    return found if found and found[-1].stop == length else []


def _cut(
    word: str, count: int, size: int, *, columns: bool = False, of_heads: bool = True
) -> list[Part]:
    return [
        Part(f"{word} {n}", n if of_heads else None, n * size, (n + 1) * size, columns)
        for n in range(count)
    ]


def _joined(*stacked: list[Part]) -> list[Part]:
    found: list[Part] = []
    for parts in stacked:
        first = found[-1].stop if found else 0
        found += [Part(p.name, p.head, p.start + first, p.stop + first) for p in parts]
    return found
