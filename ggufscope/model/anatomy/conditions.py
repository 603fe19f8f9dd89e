"""What is true of one layer, and so which rows of the table apply to it."""

from __future__ import annotations

from collections.abc import Mapping

from ggufscope.model.anatomy.quantities import Shape
from ggufscope.model.families import Family
from ggufscope.model.hparams import HParams
from ggufscope.model.roles import role_of


class Facts:
    """What is true of one layer: the words that a row's ``needs`` asks for.

    Beside the stems of its tensors: ``attends``; ``latent`` where keys and values are squeezed,
    ``mla`` where they stay so in the cache; ``cached`` where it has keys of its own; ``parallel``
    where attention and feed-forward read the same input; ``post_attn`` where the norm called
    post_attention is one, and not another name of the one before the feed-forward; ``fused_up``
    where one matrix holds gate and features.
    """

    def __init__(
        self,
        stems: frozenset[str],
        hparams: HParams,
        up: Shape | None,
        dims: Mapping[str, int | None],
    ) -> None:
        flags = {
            "latent": "attn_kv_a_mqa" in stems,
            "mla": hparams.is_mla and "attn_k_b" in stems,
            "attends": not stems.isdisjoint({"attn_q", "attn_qkv", "attn_kv_a_mqa"}),
            "cached": not stems.isdisjoint({"attn_k", "attn_qkv", "attn_kv_a_mqa"}),
            "parallel": hparams.parallel_residual
            or stems.isdisjoint({"ffn_norm", "post_attention_norm", "attn_output_norm"}),
            "post_attn": "post_attention_norm" in stems
            and ("ffn_norm" in stems or "attn_norm" not in stems),
            "fused_up": "ffn_gate" not in stems
            and up is not None
            and up[:1] == (2 * (dims["F"] or 0),),
        }
        self.stems = stems
        self.words = stems | {word for word, holds in flags.items() if holds}

    def meets(self, needs: str) -> bool:
        """Whether all that a row needs is true of the layer."""
        return all(
            word[1:] not in self.words if word.startswith("!") else word in self.words
            for word in needs.split()
        )

    def not_derivable(self, hparams: HParams, layer: int) -> str:
        """Say why what this layer computes cannot be told; empty where it can."""
        if layer >= hparams.block_count - hparams.nextn_predict_layers:
            return "predicts further tokens, and is left out of an ordinary pass"
        if not self.stems:
            return "has no tensors in this file"
        states = sorted(s for s in self.stems if role_of(f"blk.0.{s}").group == "recurrent")
        if states and "attends" in self.words:
            return f"has a state beside attention ({states[0]})"
        if states:
            return f"keeps a state instead of attention ({states[0]})"
        if "attends" not in self.words:
            return "has no attention"
        return ""


def words_of(facts: Facts, family: Family, *, positions: bool) -> dict[str, str]:
    """Give what a family and a layer put into the ``{word}`` places of the table.

    ``positions`` says that positions are learned, so that nothing is rotated.
    """
    words = facts.words
    parallel = "parallel" in words
    residual = "inpL" if parallel else family.residual
    attended = "attn_out"
    if "post_attn" in words:
        attended = "attn_post_norm"
    elif "attn_output_norm" in words:
        attended = "attn_out_norm"
    attn_input = "attn_norm" if "attn_norm" in words else "inpL"
    ffn_input = attn_input if parallel else residual
    if "ffn_norm" in words:
        ffn_input = "ffn_norm"
    elif "post_attention_norm" in words and "post_attn" not in words:
        ffn_input = "attn_post_norm"
    ffn_output = []
    if "ffn_down" in words or "ffn_down_shexp" in words:
        ffn_output.append("ffn_out")
    if "ffn_down_exps" in words and "ffn_down_shexp" not in words:
        ffn_output.append("ffn_moe_out")
    added = ["ffn_post_norm"] if "post_ffw_norm" in words else ffn_output
    return {
        "residual": residual,
        "before_ffn": residual,
        "attn_input": attn_input,
        "attended": attended,
        "ffn_input": ffn_input,
        "ffn_output": " ".join(ffn_output),
        "summands": " ".join([residual, *([attended] if parallel else []), *added]),
        "activation": family.activation,
        "rotated": "" if positions or family.rope == "none" else ", rotated by its position",
    }
