from __future__ import annotations

import re
from pathlib import Path

import gguf
import pytest

from ggufscope.model.roles import Role, role_of

GOLDEN = Path(__file__).parent.parent / "golden"

# Names whose words say nothing more than which part of the model they belong to.
_UNREADABLE = re.compile(r"(v|a|adapter|mm)\..*|fc|d2t|markov_w\d|conf_proj|selector_\w+|hrm\.\w+")


def _names() -> list[str]:
    ours = (GOLDEN / "tensor_names.txt").read_text().split()
    theirs = list(gguf.TENSOR_NAMES.values())
    filled = {re.sub(r"%d|\{bid\}", "7", name).replace("%s", "x") for name in (*ours, *theirs)}
    return sorted(filled)


def test_every_tensor_name_of_llama_cpp_has_a_role() -> None:
    names = _names()
    assert len(names) > 600
    unread = [name for name in names if not role_of(name).label]
    assert unread == [name for name in unread if _UNREADABLE.fullmatch(name)]


def test_every_block_tensor_of_a_text_model_is_in_its_layer() -> None:
    names = [name for name in _names() if name.startswith(("blk.", "enc.blk.", "dec.blk."))]
    assert len(names) > 200
    assert {role_of(name).layer for name in names} == {7}


@pytest.mark.parametrize(
    ("name", "role"),
    [
        ("blk.7.attn_v.weight", Role("", 7, "attn_v", "weight", "attention", "W_v: values")),
        (
            "token_embd.weight",
            Role("", None, "token_embd", "weight", "embedding", "token embedding"),
        ),
        ("blk.12.attn_q.bias", Role("", 12, "attn_q", "bias", "attention", "W_q: queries, bias")),
        ("blk.0.ssm_a", Role("", 0, "ssm_a", "", "recurrent", "state space: decay")),
        (
            "v.blk.3.attn_q.weight",
            Role("v", 3, "attn_q", "weight", "attention", "vision: W_q: queries"),
        ),
        (
            "dec.blk.1.cross_attn_k.weight",
            Role("dec", 1, "cross_attn_k", "weight", "attention", "decoder: attention across: k"),
        ),
        (
            "blk.4.ffn_down.5.weight",
            Role("", 4, "ffn_down.5", "weight", "experts", "one expert's down"),
        ),
        (
            "rope_freqs.weight",
            Role("", None, "rope_freqs", "weight", "other", "RoPE frequency factors"),
        ),
        ("", Role("", None, "", "", "other", "")),
        ("my.own.thing", Role("", None, "my.own.thing", "", "other", "")),
        ("blk.99999999999.x", Role("", None, "blk.99999999999.x", "", "other", "")),
    ],
)
def test_roles(name: str, role: Role) -> None:
    assert role_of(name) == role
