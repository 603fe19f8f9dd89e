"""The tensors that the architecture needs: all there, of the shapes that the metadata says."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from ggufscope.checking.findings import Finding, error, note, warning
from ggufscope.checking.upstream import said
from ggufscope.container.file import GGUFFile
from ggufscope.model.keys import architecture_of
from ggufscope.model.required import REQUIRED, Required, flaws_of
from ggufscope.model.required_keys import KNOWN
from ggufscope.model.roles import role_of

_TOWERS: Final = frozenset({"v", "mm", "a"})
"""Encoders of images and of sound, and what leads from them to the model."""
# Tensors that an architecture loads where they are there, beside those of model/required.py.
_OPTIONAL: Final = {
    "llama": frozenset({"ffn_gate_shexp", "ffn_up_shexp", "ffn_down_shexp"}),
    "qwen3": frozenset({"cls.output"}),
    "gemma3": frozenset({"dense_2", "dense_3"}),
}
_SUFFIXES: Final = frozenset({"weight", "bias", "scale", "input_scale"})
_AGAIN: Final = "download the model again, or convert the original anew"


def tensor_findings(file: GGUFFile) -> Iterator[Finding]:
    """Yield tensors that are missing, misshapen, or that llama.cpp would have left over."""
    shapes = {tensor.name: tensor.shape for tensor in file.tensors.values()}
    for flaw in flaws_of(shapes, file.metadata):
        about = ("missing tensor", flaw.tensor) if flaw.missing else ("shape", flaw.tensor)
        yield error(
            "tensors",
            str(flaw),
            "the architecture and the metadata ask for it: llama.cpp will not load the file",
            _AGAIN,
            said(*about),
            tensor=flaw.tensor,
        )
    architecture = architecture_of(file.metadata)
    if architecture == "clip":
        return
    parts = [name for name in file.tensors if role_of(name).tower in _TOWERS]
    if parts:
        yield error(
            "tensors",
            f"{len(parts)} tensors are of an encoder of images or sound, the first {parts[0]!r}",
            "Ollama keeps such an encoder in the file of the model, and its own engine reads it; "
            "llama.cpp wants it in a file of its own (mmproj), and refuses what is left over",
            "run it with Ollama; or download the GGUF and its mmproj made for llama.cpp",
            said("left over", len(shapes), len(shapes) - len(parts)),
            tensor=parts[0],
        )
    required = REQUIRED.get(architecture or "")
    if required is None:
        if architecture in KNOWN:
            yield note(
                "tensors",
                f"which tensors architecture {architecture!r} needs was not looked at",
                f"that is known here of {len(REQUIRED)} architectures; of this one the metadata, "
                "the layers and the weights were checked",
                "whether a tensor is missing or has another shape, llama.cpp says when it loads "
                "the file",
            )
        return
    optional = _OPTIONAL.get(architecture or "", frozenset())
    strange = [
        name
        for name in file.tensors
        if name not in parts and role_of(name).stem not in optional and _is_strange(name, required)
    ]
    if strange:
        yield warning(
            "tensors",
            f"{len(strange)} tensors are none that architecture {architecture!r} has, the first "
            f"{strange[0]!r}",
            "llama.cpp refuses a file with tensors that it does not load",
            "ask where the file comes from: it may be for another program, or a newer llama.cpp",
            said("left over", len(shapes), len(shapes) - len(strange)),
            tensor=strange[0],
        )
    if not any(role_of(name).layer is not None for name in file.tensors) and file.tensors:
        yield note(
            "tensors",
            "there is no layer in the file",
            "it is a part of a model, and no program runs it",
            "name the file, or the first shard, of the whole model",
        )


def _is_strange(name: str, required: Required) -> bool:
    role = role_of(name)
    stems = required.ends_stems if role.layer is None else required.stems
    return bool(role.tower) or role.stem not in stems or role.suffix not in _SUFFIXES
