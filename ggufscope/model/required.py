"""The tensors that a model cannot do without, and their shapes: whether a model is whole.

For the architectures that run here. Follows each model's ``load_arch_tensors`` in llama.cpp's
``src/models``: what is optional there (``output`` where the embedding serves as it, most biases) is
optional here. Shapes are those of the anatomy's table.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, Final

from ggufscope.container.file import GGUFFile
from ggufscope.container.values import Array
from ggufscope.errors import HyperparameterError
from ggufscope.model.anatomy.quantities import Places, Shape
from ggufscope.model.anatomy.rows import Kind, Row
from ggufscope.model.anatomy.symbols import layer_dims, measure
from ggufscope.model.anatomy.table import HEAD, LAYER, TAIL
from ggufscope.model.families import FAMILIES, window_of
from ggufscope.model.hparams import HParams, read_hparams
from ggufscope.model.keys import architecture_of

NAMED: Final = 3
"""How many flaws a message names; of the others it says how many there are."""
FACTORS: Final = frozenset({"rope_freqs", "rope_factors_long", "rope_factors_short"})
"""Stems of what converters compute: divisors of the angles that positions are rotated by."""


@dataclass(frozen=True)
class Required:
    """What one architecture needs: stems; ``a|b`` is one or the other, ``a.bias`` a bias."""

    layer: str
    """In each layer."""
    ends: str = "token_embd output_norm"
    """Outside the layers."""
    axes: Mapping[str, str] = field(default_factory=dict)
    """Shapes in the anatomy's symbols, where they are not those of its table. ``?`` is any extent,
    ``?W`` the same one everywhere in the layer, ``?C`` the context."""

    @cached_property
    def stems(self) -> frozenset[str]:
        """Every stem that a layer needs or may have."""
        return _stems(self.layer)

    @cached_property
    def ends_stems(self) -> frozenset[str]:
        """Every stem that is needed, or may be, outside the layers."""
        return _stems(self.ends) | FACTORS | {"output"}

    def may_be_biased(self, stem: str) -> bool:
        """Whether a tensor of this stem can have a bias."""
        if "norm" in stem:
            return f"{stem}.bias" in f"{self.ends} {self.layer}".split()
        return not stem.endswith(("_embd", "_exps"))


def _stems(words: str) -> frozenset[str]:
    return frozenset(words.replace("|", " ").replace(".bias", "").split())


_ATTENTION: Final = "attn_norm attn_qkv|attn_q attn_qkv|attn_k attn_qkv|attn_v attn_output"
_HEAD_NORMS: Final = "attn_q_norm attn_k_norm"
_DENSE: Final = "ffn_norm ffn_gate ffn_up ffn_down"
_EXPERTS: Final = "ffn_norm ffn_gate_inp ffn_gate_exps ffn_up_exps ffn_down_exps"
_EITHER: Final = (
    "ffn_norm ffn_gate_inp|ffn_gate ffn_gate_exps|ffn_gate ffn_up_exps|ffn_up "
    "ffn_down_exps|ffn_down"
)
_SHARED: Final = "ffn_gate_inp_shexp ffn_gate_shexp ffn_up_shexp ffn_down_shexp"
_POST_NORMS: Final = "post_attention_norm post_ffw_norm"
_GPT2: Final = ("attn_norm", "attn_qkv", "attn_output", "ffn_norm", "ffn_up", "ffn_down")

REQUIRED: Final[dict[str, Required]] = {
    "llama": Required(f"{_ATTENTION} {_EITHER}"),
    "qwen2": Required(f"{_ATTENTION} {_DENSE}"),
    "qwen3": Required(f"{_ATTENTION} {_HEAD_NORMS} {_DENSE}"),
    "qwen2moe": Required(
        f"{_ATTENTION} {_EXPERTS} {_SHARED}",
        ends="token_embd output_norm output",  # the embedding never serves as it
        axes={
            "ffn_gate_inp_shexp": "E",
            "ffn_gate_shexp": "?W E",  # no key says how wide the shared expert is
            "ffn_up_shexp": "?W E",
            "ffn_down_shexp": "E ?W",
        },
    ),
    "qwen3moe": Required(f"{_ATTENTION} {_HEAD_NORMS} {_EXPERTS}"),
    "gemma": Required(f"{_ATTENTION} {_DENSE}"),
    "gemma2": Required(f"{_ATTENTION} {_DENSE} {_POST_NORMS}"),
    "gemma3": Required(f"{_ATTENTION} {_HEAD_NORMS} {_DENSE} {_POST_NORMS}"),
    "phi3": Required(f"{_ATTENTION} ffn_norm ffn_up ffn_down", axes={"ffn_up": "F+F E"}),
    "gpt2": Required(
        " ".join(f"{stem} {stem}.bias" for stem in _GPT2),
        ends="token_embd position_embd output_norm output_norm.bias",
    ),
}
"""By GGUF name: every architecture that can be run."""


@dataclass(frozen=True, slots=True)
class Flaw:
    """A tensor that is missing, or has another shape than it must have."""

    tensor: str
    said: str
    """``is missing``, ``has shape 128×256, 256×256 is needed``."""
    missing: bool = False

    def __str__(self) -> str:
        return f"{self.tensor} {self.said}"


def flaws_of(shapes: Mapping[str, Shape], metadata: Mapping[str, Any]) -> list[Flaw]:
    """Return what a model lacks of what llama.cpp would load; nothing where that is not known.

    ``shapes``: tensor name -> NumPy shape. A file without layers is not taken for a model (it may
    be a vocabulary), nor is an adapter. What cannot be told for want of metadata is left out.
    """
    found: list[Flaw] = []
    kind = metadata.get("general.type", "model")
    if architecture_of(metadata) in REQUIRED and kind == "model" and Places(shapes).layers():
        with suppress(HyperparameterError):
            hparams = read_hparams(metadata)
            tokens = metadata.get("tokenizer.ggml.tokens")
            if isinstance(tokens, list | tuple | Array):  # goes before `vocab_size` in llama.cpp
                hparams = replace(hparams, vocab_size=len(tokens))
            for flaw in find_flaws(shapes, hparams):
                found.append(flaw)  # those before an error stay
    return found


def in_words(flaws: list[Flaw]) -> str:
    """Return the first flaws, and how many more there are."""
    more = f"; and {len(flaws) - NAMED} more" if len(flaws) > NAMED else ""
    return f"the model is not whole: {'; '.join(map(str, flaws[:NAMED]))}{more}"


def warnings_of(file: GGUFFile) -> list[str]:
    """Return what is odd about a file, and that its model is not whole where it is not."""
    flaws = flaws_of({t.name: t.shape for t in file.tensors.values()}, file.metadata)
    said = [f"{file.path}: {in_words(flaws)}. llama.cpp will not load this file"] if flaws else []
    if vision := packed_vision(file):
        said.append(f"{file.path}: {vision}")
    return [*file.warnings(), *said]


def packed_vision(file: GGUFFile) -> str:
    """Say that a model has its vision part in its own file, as Ollama's do; empty where not.

    llama.cpp has that part in a file of architecture ``clip`` (``mmproj-...``), and counts tensors.
    """
    if architecture_of(file.metadata) in (None, "clip"):
        return ""
    count = sum(name.startswith(("v.", "mm.")) for name in file.tensors)
    if not count:
        return ""
    return (
        f"{count} of its {len(file.tensors)} tensors are a vision part in the same file, as Ollama "
        "packs it. llama.cpp wants that in a file of its own, and ends with 'wrong number of "
        "tensors'"
    )


def find_flaws(shapes: Mapping[str, Shape], hparams: HParams) -> Iterator[Flaw]:
    """Yield what a model of an architecture in ``REQUIRED`` lacks.

    Raises ``HyperparameterError`` where a key is missing that says a shape.
    """
    required, family = REQUIRED[hparams.architecture], FAMILIES[hparams.architecture]
    places = Places(shapes)
    everywhere = frozenset(stem for layer in places.layers() for stem in places.stems(layer))
    layers = range(hparams.block_count)
    yield from _missing(shapes, None, required.ends, everywhere)
    for layer in layers:
        yield from _missing(shapes, layer, required.layer, everywhere)
    axes = _axes((*HEAD, *TAIL)) | {"position_embd": "?C E"}
    axes = {stem: axes[stem] for stem in axes.keys() & required.ends_stems}
    dims = layer_dims(hparams, 0, 1, None)
    yield from _misshapen(places, None, axes, dims, required, hparams)
    for stem in sorted(FACTORS & places.stems(None)):
        shape, wanted = places.shape(None, stem), ((hparams.rope_dimension_count or 0) // 2,)
        if shape is not None and shape != wanted:
            yield _flaw(f"{stem}.weight", shape, wanted)
    axes = _axes(LAYER) | dict.fromkeys(_HEAD_NORMS.split(), "D") | dict(required.axes)
    axes = {stem: axes[stem] for stem in axes.keys() & required.stems}
    for layer in layers:
        dims = layer_dims(hparams, layer, 1, window_of(family, hparams, layer))
        yield from _misshapen(places, layer, axes, dims, required, hparams)


def _missing(
    shapes: Mapping[str, Shape], layer: int | None, words: str, everywhere: frozenset[str]
) -> Iterator[Flaw]:
    said = set()
    for word in words.split():
        names = [stem if stem.endswith(".bias") else f"{stem}.weight" for stem in word.split("|")]
        if any(full_name(layer, name) in shapes for name in names):
            continue
        # Of two ways to store it, the one that other layers have.
        usual = (name for name in names if name.partition(".")[0] in everywhere)
        name = full_name(layer, next(usual, names[-1]))
        if name not in said:
            said.add(name)
            yield Flaw(name, "is missing", missing=True)


def _misshapen(
    places: Places,
    layer: int | None,
    axes: Mapping[str, str],
    dims: Mapping[str, int | None],
    required: Required,
    hparams: HParams,
) -> Iterator[Flaw]:
    architecture, context = hparams.architecture, hparams.context_length
    free = {"?C": context} if context else {}
    """What the first tensor says where no key does."""
    for stem in sorted(places.stems(layer) & axes.keys()):
        for name, role, shape in places.of_stem(layer, stem):
            wanted = axes[stem].split()
            if role.suffix == "bias" and required.may_be_biased(stem):
                wanted = wanted[:1]
            elif role.suffix != "weight":
                continue
            for axis, extent in zip(wanted, shape, strict=False):
                if axis.startswith("?") and len(axis) > 1:
                    free.setdefault(axis, extent)
            numbers = [
                free.get(axis) if axis.startswith("?") else measure(axis, dims, architecture)
                for axis in wanted
            ]
            fits = len(numbers) == len(shape) and all(
                number in (None, extent) for number, extent in zip(numbers, shape, strict=True)
            )
            if not fits:
                yield _flaw(full_name(layer, name), shape, numbers)


def _axes(rows: Iterable[Row]) -> dict[str, str]:
    """Return the symbols of each stem's shape; the table's first row of a stem is the usual one."""
    axes: dict[str, str] = {}
    for row in rows:
        if row.kind is Kind.STORED:
            axes.setdefault(row.name.removesuffix(".weight"), row.axes)
    return axes


def _flaw(tensor: str, shape: Shape, wanted: Iterable[int | None]) -> Flaw:
    has = "×".join(map(str, shape)) or "1"
    needs = "×".join("any" if number is None else str(number) for number in wanted)
    return Flaw(tensor, f"has shape {has}, {needs} is needed")


def full_name(layer: int | None, name: str) -> str:
    """Return a tensor's GGUF name."""
    return name if layer is None else f"blk.{layer}.{name}"
