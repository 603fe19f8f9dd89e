"""What a pass needs of a model's tensors, checked before any is read: names and shapes."""

from __future__ import annotations

from collections.abc import Set
from typing import Final

from ggufscope.errors import NotInModel, NotRunnable
from ggufscope.forward.weights import Weights
from ggufscope.model.anatomy.quantities import Places
from ggufscope.model.hparams import HParams
from ggufscope.model.required import REQUIRED, Required, find_flaws, full_name

_UNUSED_BY_LLAMA_CPP: Final = frozenset({"attn_rot_embd"})
_UNKNOWN: Final = "the file is of a kind that this program does not know yet"


def require_tensors(weights: Weights, hparams: HParams) -> None:
    """Raise ``NotInModel`` for a tensor that is missing, ``NotRunnable`` for one that does not fit.

    One that the family has no use for does not: a pass without it would give wrong numbers.
    """
    shapes = {name: weights.shape(name) for name in weights.names()}
    for flaw in find_flaws(shapes, hparams):
        said = f"tensor {flaw.tensor!r} {flaw.said}"
        if flaw.missing:
            raise NotInModel(
                f"{said}: the model cannot be run without it",
                hint="`ggufscope list` shows what there is; the file may be part of a model",
            )
        raise NotRunnable(
            said, hint="llama.cpp would not load it either: the file was converted wrongly"
        )
    required, places = REQUIRED[hparams.architecture], Places(shapes)
    _require_known(places, None, required.ends_stems, required, hparams)
    for layer in range(hparams.block_count):
        known = required.stems | _UNUSED_BY_LLAMA_CPP
        _require_known(places, layer, known, required, hparams)


def _require_known(
    places: Places, layer: int | None, known: Set[str], required: Required, hparams: HParams
) -> None:
    for stem in sorted(places.stems(layer)):
        if stem not in known:
            raise NotRunnable(
                f"tensor '{full_name(layer, stem)}' has no place in a model of "
                f"'{hparams.architecture}'",
                hint=_UNKNOWN,
            )
        for name, role, _ in places.of_stem(layer, stem):
            biased = role.suffix == "bias" and required.may_be_biased(stem)
            if role.suffix != "weight" and not biased and stem not in _UNUSED_BY_LLAMA_CPP:
                raise NotRunnable(
                    f"tensor '{full_name(layer, name)}' is a {role.suffix}, which a pass does not "
                    "use",
                    hint=_UNKNOWN,
                )
