"""What ``ggufscope attention --explain --json`` prints: ``schemas/attention-explain.json``."""

from __future__ import annotations

from typing import Any, Final

import numpy as np

from ggufscope.measure.explained import Explained
from ggufscope.model.tokenizer.places import Place
from ggufscope.report.as_json import pick
from ggufscope.report.attention.json import run_json
from ggufscope.report.subject import Subject

SCHEMA: Final = "ggufscope.attention-explain/1"
_NEXT: Final = 10


def explain_json(found: Explained, place: Place, subject: Subject) -> dict[str, Any]:
    """Return every step, no vector cut."""
    rotation = found.rotation
    return {
        "schema": SCHEMA,
        **run_json(subject),
        "token": place_json(place, subject),
        "layer": found.layer,
        "head": found.head,
        "key_head": found.key_head,
        "shared_by": [*found.sharing],
        "window": found.window,
        "rope": None if rotation is None else pick(rotation, "pairs dimensions base scale"),
        "embd": found.embd.tolist(),
        "embd_type": found.embd_type,
        "embd_scale": found.embd_scale,
        "position_embd": None if found.position_embd is None else found.position_embd.tolist(),
        "inpL": found.entering.tolist(),
        "norm": pick(found.norm, "kind centre epsilon divisor"),
        "attn_norm": found.attn_norm.tolist(),
        "q": [{"step": name, "values": step.tolist()} for name, step in found.q_steps.items()],
        "k": [{"step": name, "values": step.tolist()} for name, step in found.k_steps.items()],
        "q_scale": found.q_scale,
        "cap": found.cap,
        "scale": found.scale,
        "tokens": [
            {
                "position": n,
                "hidden": why,
                "k": found.k[n].tolist(),
                "v": found.v[n].tolist(),
                "kq": float(found.kq[n]),
                "score": float(found.scores[n]) if why is None else None,
                "exp": float(found.powers[n]),
                "running_sum": float(found.running[n]),
                "kq_soft_max": float(found.kq_soft_max[n]),
            }
            for n, why in enumerate(found.hidden)
        ],
        "kqv": found.kqv.tolist(),
        "heads": [
            {
                "head": head,
                "length": float(length),
                "share": float(share),
            }
            for head, (length, share) in enumerate(zip(found.lengths, found.shares, strict=True))
        ],
        "head_out": found.summands[found.head].tolist(),
        "attn_out": found.attn_out.tolist(),
        "added": found.added.tolist(),
        "next": {
            "logit_cap": found.logit_cap,
            "likeliest": _next_json(found, found.logits, subject),
            "raised_most": _next_json(found, found.logits_added, subject),
        },
        "gaps": {"softmax": found.softmax_gap, "kqv": found.kqv_gap, "attn_out": found.out_gap},
    }


def place_json(place: Place, subject: Subject) -> dict[str, Any]:
    """Return which token was taken, and how it was found."""
    return {
        "position": place.position,
        "id": subject.ids[place.position],
        "token": subject.tokens[place.position],
        "word": place.word,
        "pieces": [*place.pieces],
        "other_places": [[*pieces] for pieces in place.others],
    }


def _next_json(
    found: Explained, by: np.ndarray[Any, np.dtype[Any]], subject: Subject
) -> list[dict[str, Any]]:
    shares = found.probabilities
    return [
        {
            "id": int(id_),
            "token": subject.label(int(id_)),
            "probability": float(shares[id_]),
            "logit": float(found.logits[id_]),
            "added": float(found.logits_added[id_]),
        }
        for id_ in np.argsort(-by, kind="stable")[:_NEXT]
    ]
