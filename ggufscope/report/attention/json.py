"""What ``ggufscope attention --json`` prints: ``schemas/attention*.json``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from ggufscope.measure.patterns import PATTERNS, Patterns, most_attended
from ggufscope.measure.watching import Spotlight, Watched
from ggufscope.report.as_json import model_json, pick
from ggufscope.report.subject import Subject

if TYPE_CHECKING:
    from ggufscope.measure.verify import Identity

SCHEMA: Final = "ggufscope.attention/2"
VERIFY_SCHEMA: Final = "ggufscope.attention-verify/1"


def result_json(watched: Watched, spotlight: Spotlight, subject: Subject) -> dict[str, Any]:
    """Return the head that is shown, and what all heads do; ``--save`` has all the matrices."""
    return {
        "schema": SCHEMA,
        **run_json(subject),
        "layers": [
            {
                "layer": layer,
                "heads": [
                    {"head": head, **_patterns(patterns, head)}
                    for head in range(len(patterns.previous))
                ],
            }
            for layer, patterns in watched.patterns.items()
        ],
        "shown": {
            "layer": spotlight.layer,
            "head": spotlight.head,
            "kq_soft_max": spotlight.matrix.tolist(),
            "attends_most_to": [
                [{"position": position, "share": share} for position, share in best]
                for best in most_attended(spotlight.matrix, 3)
            ],
        },
        "next": [
            {"id": id_, "token": subject.label(id_), "probability": share}
            for id_, share in watched.next_tokens()
        ],
    }


def verify_json(identities: Sequence[Identity], subject: Subject) -> dict[str, Any]:
    """Return what must hold, and how far the model is from it."""
    return {
        "schema": VERIFY_SCHEMA,
        **run_json(subject),
        "holds": all(each.holds for each in identities),
        "identities": [
            pick(each, "name statement residual layer tolerance holds") for each in identities
        ],
    }


def run_json(subject: Subject) -> dict[str, Any]:
    """Return what was run: the model and the prompt."""
    return {
        "model": model_json(subject.path, subject.summary),
        "prompt": pick(subject, "text ids tokens"),
        "long_rope": subject.long_rope,
    }


def _patterns(patterns: Patterns, head: int) -> dict[str, float | None]:
    """Return what a head does; null where no token of the prompt has such a token to look at."""
    numbers = {name: float(patterns.of(name)[head]) for name in (*PATTERNS, "entropy")}
    return {name: None if np.isnan(number) else number for name, number in numbers.items()}
