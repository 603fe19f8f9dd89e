"""Hugging Face's names of a file's tensors: ``model.layers.0.self_attn.q_proj.weight`` and so on.

The pairs come from the tensor name map of the ``gguf`` package, which leads from the names of all
models to GGUF's: 15 of them end in ``attn_q``. ``NAMINGS`` says which of them are an architecture's
own: those of the checkpoint of its text model, as ``transformers`` writes it. What the converter
(``convert_hf_to_gguf.py``) did to a tensor on the way is said beside its name.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Final

from ggufscope.model.hparams import MAX_LAYERS
from ggufscope.model.required import FACTORS

MAX_EXPERTS: Final = 512
"""llama.cpp refuses a model of more experts than this (``LLAMA_MAX_EXPERTS``)."""

PERMUTED: Final = "rows permuted within each head: the two of a rotated pair stand side by side"
SHIFTED: Final = "the converter added 1 to each weight"
TRANSPOSED: Final = "transposed: Hugging Face stores it as (in, out)"
SQUEEZED: Final = "a vector here: Hugging Face stores it as (1, in)"
COMPUTED: Final = "in no checkpoint: the converter computes it from config.json"
UNKNOWN: Final = "no name in Hugging Face's checkpoint is known for it"


@dataclass(frozen=True, slots=True)
class HFName:
    """What a tensor is called in a Hugging Face checkpoint."""

    name: str | None
    """With ``{}`` for the number of the expert where tensors are stacked; None where unknown."""
    experts: int = 0
    """How many tensors of the checkpoint are stacked in this one; 0 where it is one tensor."""
    note: str = ""
    """What the converter did to it beside stacking, or why there is no name."""

    @property
    def names(self) -> tuple[str, ...]:
        """Every name, in the order in which they are stacked."""
        if self.name is None:
            return ()
        return tuple(self.name.format(n) for n in range(self.experts)) or (self.name,)

    @property
    def short(self) -> str:
        """All names in one, as a shell would expand it: ``mlp.experts.{0..7}.up_proj.weight``."""
        if self.name is None or self.experts < 2:
            return "".join(self.names)
        return self.name.format(f"{{0..{self.experts - 1}}}")


@dataclass(frozen=True, slots=True)
class Naming:
    """The modules of one architecture's checkpoint, and what the converter does to some of them."""

    ends: str
    """Modules outside the layers."""
    layers: str
    """Modules of a layer, each behind ``prefix``."""
    prefix: str = "model.layers.{}."
    changed: tuple[tuple[str, str], ...] = ()
    """Pairs: a regex that is searched for in the name with its suffix, and the note for it."""


_EMBEDDING: Final = "model.embed_tokens model.norm"
_ENDS: Final = f"{_EMBEDDING} lm_head"
_ATTENTION: Final = (
    "input_layernorm self_attn.q_proj self_attn.k_proj self_attn.v_proj self_attn.o_proj "
    "post_attention_layernorm "
)
_QK_NORM: Final = "self_attn.q_norm self_attn.k_norm "
_MLP: Final = "mlp.gate_proj mlp.up_proj mlp.down_proj "
# Each module of experts stands for experts.0.gate_proj, experts.1.gate_proj and so on.
_EXPERTS: Final = "mlp.gate mlp.experts.gate_proj mlp.experts.up_proj mlp.experts.down_proj "
_SHARED_EXPERT: Final = (
    "mlp.shared_expert_gate mlp.shared_expert.gate_proj mlp.shared_expert.up_proj "
    "mlp.shared_expert.down_proj "
)
_MIXTRAL: Final = (
    "block_sparse_moe.gate block_sparse_moe.experts.w1 block_sparse_moe.experts.w2 "
    "block_sparse_moe.experts.w3 "
)
_MLP_NORMS: Final = "pre_feedforward_layernorm post_feedforward_layernorm "
_SHIFTED: Final = ((r"norm\.weight$", SHIFTED),)

NAMINGS: Final[dict[str, Naming]] = {
    "llama": Naming(_ENDS, _ATTENTION + _MLP + _MIXTRAL, changed=((r"\.[qk]_proj\.", PERMUTED),)),
    "qwen2": Naming(_ENDS, _ATTENTION + _MLP),
    "qwen3": Naming(_ENDS, _ATTENTION + _QK_NORM + _MLP),
    "qwen2moe": Naming(
        _ENDS,
        _ATTENTION + _EXPERTS + _SHARED_EXPERT,
        changed=((r"shared_expert_gate\.weight$", SQUEEZED),),
    ),
    "qwen3moe": Naming(_ENDS, _ATTENTION + _QK_NORM + _EXPERTS),
    "gemma": Naming(_EMBEDDING, _ATTENTION + _MLP, changed=_SHIFTED),
    "gemma2": Naming(_EMBEDDING, _ATTENTION + _MLP + _MLP_NORMS, changed=_SHIFTED),
    "gemma3": Naming(_ENDS, _ATTENTION + _QK_NORM + _MLP + _MLP_NORMS, changed=_SHIFTED),
    "phi3": Naming(
        _ENDS,
        "input_layernorm self_attn.qkv_proj self_attn.o_proj post_attention_layernorm "
        "mlp.gate_up_proj mlp.down_proj",
    ),
    "gpt2": Naming(
        "transformer.wte transformer.wpe transformer.ln_f lm_head",
        "ln_1 attn.c_attn attn.c_proj ln_2 mlp.c_fc mlp.c_proj",
        prefix="transformer.h.{}.",
        changed=((r"\.c_(attn|proj|fc)\.weight$", TRANSPOSED),),
    ),
}
"""How the checkpoints of each architecture that runs here name their modules."""

_NAME: Final = re.compile(
    r"(?:blk\.(?P<layer>\d{1,3})\.)?(?P<stem>.+)\.(?P<suffix>weight|bias)", re.DOTALL
)


def hf_names(architecture: str | None, shapes: Mapping[str, tuple[int, ...]]) -> dict[str, HFName]:
    """Return Hugging Face's name of each tensor: GGUF name -> ``HFName``, in the same order.

    ``shapes``: tensor name -> NumPy shape. Imports ``gguf``, which takes half a second.
    """
    naming = NAMINGS.get(architecture or "")
    if architecture is None or naming is None:
        said = f"architecture '{architecture}'" if architecture else "a model of no architecture"
        unknown = HFName(None, note=f"Hugging Face's names for {said} are not known here")
        return dict.fromkeys(shapes, unknown)
    modules = modules_by_stem(architecture)
    return {name: _hf_name(name, shape, naming, modules) for name, shape in shapes.items()}


def _hf_name(
    name: str, shape: tuple[int, ...], naming: Naming, modules: Mapping[str, str]
) -> HFName:
    match = _NAME.fullmatch(name)
    if match is None:
        return HFName(None, note=UNKNOWN)
    layer, stem = match["layer"], match["stem"]
    module = modules.get(stem if layer is None else f"blk.0.{stem}")
    if module is None or int(layer or 0) >= MAX_LAYERS:
        return HFName(None, note=COMPUTED if stem in FACTORS else UNKNOWN)
    found = f"{module.replace('.0.', f'.{layer}.', 1)}.{match['suffix']}"
    note = next((note for part, note in naming.changed if re.search(part, found)), "")
    if ".experts." not in found:
        return HFName(found, note=note)
    if len(shape) != 3 or not 0 < shape[0] <= MAX_EXPERTS:
        return HFName(None, note=UNKNOWN)
    return HFName(found.replace(".experts.", ".experts.{}."), shape[0], note)


@cache
def modules_by_stem(architecture: str) -> dict[str, str]:
    """Return the module of each stem of an architecture: ``blk.0.attn_q`` -> its name in layer 0.

    The stems are those that ``gguf`` gives to the modules of ``NAMINGS``.
    """
    import gguf  # takes half a second, and most commands never ask

    naming = NAMINGS[architecture]
    arch = next(arch for arch, name in gguf.MODEL_ARCH_NAMES.items() if name == architecture)
    to_gguf = gguf.get_tensor_name_map(arch, 1)
    prefix = naming.prefix.format(0)
    modules = [*naming.ends.split(), *(prefix + module for module in naming.layers.split())]
    return {to_gguf[module]: module for module in modules}
