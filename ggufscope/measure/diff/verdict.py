"""In a line: what B is to A."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from statistics import median
from typing import Final

from ggufscope.measure.diff.pairs import Kind, TensorChange

RELATED: Final = 0.5
"""The cosine of two matrices from which on one was trained from the other.

Of matrices of thousands of weights that were trained apart it is within a hundredth of 0; long
further training leaves 0.9 and more."""
_FEW: Final = 0.1
"""The share of the tensors that may be otherwise, and are named as exceptions."""
_ALIKE: Final = 0.9
"""The share of all tensors that both must have, for the models to be of one build."""
_SOUND: Final = frozenset({Kind.SAME, Kind.RECODED, Kind.REQUANTIZED, Kind.RENAMED})


class Relation(StrEnum):
    """What B is to A."""

    IDENTICAL = "identical"
    """The same weights, and the same metadata."""
    SAME_WEIGHTS = "same-weights"
    """The same weights; other metadata, names, types or bytes."""
    QUANTIZED = "quantized"
    """One is the other, quantized."""
    DEQUANTIZED = "dequantized"
    """One has the weights of the other, which is quantized, rounded to a plain type."""
    SAME_MODEL = "same-model"
    """Both are quantizations of the same weights."""
    FINE_TUNE = "fine-tune"
    """The same architecture and shapes, and weights that are close."""
    RETRAINED = "retrained"
    """The same architecture and shapes, and weights that have nothing in common."""
    UNRELATED = "unrelated"
    DAMAGED = "damaged"
    """The same architecture and shapes; of many tensors one of the two has no numbers."""
    SAME_HEADERS = "same-headers"
    """The weights were not looked at; all else is the same."""
    OTHER_HEADERS = "other-headers"
    """The weights were not looked at; something else differs."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What B is to A, as a word and as a sentence."""

    relation: Relation
    words: str


def verdict_of(
    changes: Sequence[TensorChange],
    keys: int,
    recipes: tuple[str, str],
    weighed: tuple[bool, bool],
    *,
    quick: bool,
) -> Verdict:
    """Judge all tensors together; ``keys`` of the metadata differ.

    ``recipes``: what A and B were quantized to; ``weighed``: whether they say that it was by an
    importance matrix.
    """
    found = _by_numbers(changes, keys, recipes, weighed, quick=quick)
    strange = [change.agreement.strange for change in changes if change.agreement]
    counts = (("A", sum(a for a, _ in strange)), ("B", sum(b for _, b in strange)))
    said = " and ".join(f"{_tensors(n)} of {file}" for file, n in counts if n)
    if not said:
        return found
    most = max(n for _, n in counts)
    said += f" {'have' if sum(n for _, n in counts) > 1 else 'has'} weights that are no number"
    apart = found.relation in {Relation.UNRELATED, Relation.RETRAINED}
    if most > _FEW * len(changes) and not apart:
        return Verdict(Relation.DAMAGED, f"the same architecture, but {said}")
    return replace(found, words=f"{found.words}; {said}")


def _by_numbers(
    changes: Sequence[TensorChange],
    keys: int,
    recipes: tuple[str, str],
    weighed: tuple[bool, bool],
    *,
    quick: bool,
) -> Verdict:
    """Judge by the weights that are numbers in both."""
    kinds = Counter(change.kind for change in changes)
    lone = kinds[Kind.ADDED] + kinds[Kind.REMOVED]
    both = [change for change in changes if change.a is not None and change.b is not None]
    if not both and changes:
        return Verdict(Relation.UNRELATED, "unrelated: no tensor in common")
    if quick:
        return _of_headers(both, lone, keys)
    odd = [change for change in both if change.kind not in _SOUND]
    if len(odd) > _FEW * len(both) or lone > (1 - _ALIKE) * len(changes):
        related = _by_cosine(both, lone, len(changes), odd)
        if related is not None:
            return related
    but = _exceptions(odd, kinds)
    made = [change.made for change in both if change.made and change.kind is Kind.REQUANTIZED]
    if made:
        sources = {each.source for each in made}
        exact = all(each.exact for each in made)
        if len(sources) > 1 or sources == {""}:
            a, b = recipes
            which = f"both {a}" if a == b else f"{a} and {b}"
            words = f"two quantizations of the same weights: {which}"
            return Verdict(Relation.SAME_MODEL, words + but)
        if all(each.dequantized for each in made):
            words = f"B is A dequantized to {recipes[1]}"
            if sources == {"b"}:
                words = f"A is B dequantized to {recipes[0]}"
            return Verdict(Relation.DEQUANTIZED, words + but)
        said, by_importance = f"B is A quantized to {recipes[1]}", weighed[1]
        if sources == {"b"}:
            said, by_importance = f"A is B quantized to {recipes[0]}", weighed[0]
        how = ", not just as plain quantization does it"
        if exact or by_importance:
            how = "" if exact else ", with an importance matrix"
        ways = Counter(each.through for each in made if each.through)
        if ways:
            how = f", by way of {' and '.join(ways.most_common(1)[0][0])}{how}"
        return Verdict(Relation.QUANTIZED, f"{said}{how}{but}")
    if kinds[Kind.RECODED]:
        how = "in other types" if recipes[0] != recipes[1] else "in other bytes"
        return Verdict(Relation.SAME_WEIGHTS, f"the same weights, {how}{but}")
    if but:
        return Verdict(Relation.SAME_WEIGHTS, f"the same weights{but}")
    if kinds[Kind.RENAMED]:
        return Verdict(Relation.SAME_WEIGHTS, "the same weights under other names")
    if keys:
        many = "s" if keys > 1 else ""
        return Verdict(Relation.SAME_WEIGHTS, f"the same weights, other metadata: {keys} key{many}")
    return Verdict(Relation.IDENTICAL, "the same weights, the same metadata")


def _of_headers(both: Sequence[TensorChange], lone: int, keys: int) -> Verdict:
    shapes = sum(change.kind is Kind.RESHAPED for change in both)
    types = sum(_types_differ(change) for change in both)
    said = [
        f"{count} {what}"
        for count, what in (
            (lone, "tensors that one has alone"),
            (shapes, "shapes"),
            (types, "types"),
            (keys, "keys"),
        )
        if count
    ]
    unread = "(no weight was looked at)"
    if not said:
        return Verdict(Relation.SAME_HEADERS, f"the same headers {unread}")
    words = f"other headers: {', '.join(said)} {unread}"
    return Verdict(Relation.OTHER_HEADERS, words)


def _types_differ(change: TensorChange) -> bool:
    return bool(change.a and change.b and change.a.type != change.b.type)


def _by_cosine(
    both: Sequence[TensorChange], lone: int, total: int, odd: Sequence[TensorChange]
) -> Verdict | None:
    """Judge models of which much differs; None where what both have is the same."""
    compared = [change for change in both if change.agreement] or list(both)
    judged = [change for change in compared if change.is_matrix] or compared
    cosines = [change.agreement.cosine if change.agreement else 1.0 for change in judged]
    middle = median(cosines) if cosines else 0.0
    reshaped = sum(change.kind is Kind.RESHAPED for change in both)
    one_build = lone + reshaped <= (1 - _ALIKE) * total
    if not odd:
        return None
    if middle >= RELATED and (one_build or len(odd) < len(both)):
        words = f"a fine-tune of the same architecture: cosine {middle:.4f} in the middle"
        return Verdict(Relation.FINE_TUNE, words)
    if one_build:
        words = f"unrelated: the same architecture, trained apart (cosine {middle:.2f})"
        return Verdict(Relation.RETRAINED, words)
    return Verdict(Relation.UNRELATED, "unrelated: other shapes, other weights")


def _exceptions(odd: Sequence[TensorChange], kinds: Counter[Kind]) -> str:
    said = []
    if odd:
        first = odd[0].name
        said.append(f"{_tensors(len(odd))}, the first {first!r}")
    for kind, file in ((Kind.REMOVED, "A"), (Kind.ADDED, "B")):
        if kinds[kind]:
            said.append(f"{kinds[kind]} that {file} has alone")
    return f", but for {' and '.join(said)}" if said else ""


def _tensors(n: int) -> str:
    return f"{n:,} tensor{'s' if n > 1 else ''}"
