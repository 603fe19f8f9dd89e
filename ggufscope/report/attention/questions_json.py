"""What the questions of ``ggufscope attention`` print with ``--json``: ``schemas/attention-*``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ggufscope.arrays import Floats
from ggufscope.measure.cached import TokenByToken
from ggufscope.measure.heads import Surveyed
from ggufscope.measure.looking import Look, TwoPrompts
from ggufscope.model.tokenizer.places import Place
from ggufscope.report.as_json import pick
from ggufscope.report.attention.explain_json import place_json
from ggufscope.report.attention.json import run_json
from ggufscope.report.subject import Subject


def token_json(layers: Mapping[int, Floats], place: Place, subject: Subject) -> dict[str, Any]:
    """Return what one token looks at in each head."""
    return {
        "schema": "ggufscope.attention-token/1",
        **run_json(subject),
        "token": place_json(place, subject),
        "heads": [
            {"layer": layer, "head": head, "kq_soft_max": row.tolist()}
            for layer, rows in layers.items()
            for head, row in enumerate(rows)
        ],
    }


def to_json(
    looks: Sequence[Look], place: Place, of: Place | None, subject: Subject
) -> dict[str, Any]:
    """Return who looks at a word."""
    return {
        "schema": "ggufscope.attention-to/1",
        **run_json(subject),
        "to": place_json(place, subject),
        "token": None if of is None else place_json(of, subject),
        "looks": [pick(each, "layer head position share") for each in looks],
    }


def heads_json(layers: Sequence[Surveyed], subject: Subject, tokens: int) -> dict[str, Any]:
    """Return what W_O makes of each head, and what each looks at."""
    heads = []
    for each in layers:
        for head, share in enumerate(each.outputs.shares):
            patterns = each.patterns
            twice = each.repeated
            seen = {name: patterns.of(name)[head] for name in ("previous", "first", "itself")}
            seen |= {
                name: twice.of(name)[head] if twice else np.nan for name in ("equal", "induction")
            }
            seen["entropy"] = patterns.entropy[head]
            heads.append(
                {
                    "layer": each.layer,
                    "head": head,
                    "share": float(share),
                    "length": float(each.outputs.sizes[head]),
                    **{n: None if np.isnan(x) else float(x) for n, x in seen.items()},
                }
            )
    return {
        "schema": "ggufscope.attention-heads/1",
        **run_json(subject),
        "repeated_tokens": tokens,
        "heads": heads,
    }


def pair_json(
    met: TwoPrompts, places: tuple[Place, Place], subjects: tuple[Subject, Subject]
) -> dict[str, Any]:
    """Return the same word in two prompts."""
    one, other = subjects
    return {
        "schema": "ggufscope.attention-pair/1",
        **run_json(one),
        "other_prompt": run_json(other)["prompt"],
        "tokens": [place_json(*each) for each in zip(places, subjects, strict=True)],
        "embd_cosine": met.embedding,
        "layers": [
            {
                "layer": each.layer,
                "l_out_cosine": each.cosine,
                "heads": [
                    {
                        "head": head,
                        "difference": float(difference),
                        "kq_soft_max": [rows[head].tolist() for rows in each.rows],
                    }
                    for head, difference in enumerate(each.differences)
                ],
            }
            for each in met.layers
        ],
    }


def cached_json(found: TokenByToken, subject: Subject) -> dict[str, Any]:
    """Return what each token costs with a cache, and that the result is the same."""
    return {
        "schema": "ggufscope.attention-cached/1",
        **run_json(subject),
        **pick(found, "computed read without numbers gap same"),
        "tokens": [
            {
                "position": n,
                "read": n,
                "gap": float(gap),
                "next_cached": int(found.next_cached[n]),
                "next_whole": int(found.next_whole[n]),
            }
            for n, gap in enumerate(found.gaps)
        ],
    }
