"""Header + mix -> ``Plan``: type, bytes and the rule that chose it, for every tensor.

Nothing here opens a tensor. The plan is that of ``llama-quantize --dry-run``; what a real run
would refuse is in the plan too, and ``Plan.require_runnable`` raises it.
Follows ``llama_model_quantize_impl`` and ``llama_tensor_get_type`` in llama.cpp's
``llama-quant.cpp``.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from math import prod
from typing import Any, Final, NamedTuple, Protocol

from ggufscope.blocks.layouts import NOT_CONVERTIBLE, ForeignType, Layout, is_quantized
from ggufscope.errors import AlreadyQuantized, ImportanceNeeded, NotConvertible
from ggufscope.model.file_types import guessed_file_type
from ggufscope.recipes.categories import needs_importance
from ggufscope.recipes.choosing import Chooser
from ggufscope.recipes.mixes import mix_named
from ggufscope.recipes.options import DEFAULTS, PlanOptions
from ggufscope.recipes.order import pruned_names, written_order
from ggufscope.recipes.rules import Mix
from ggufscope.recipes.traits import traits_of

HOW_TO_GET_ONE: Final = (
    "`ggufscope imatrix` makes one, `quantize --imatrix` and `evaluate --imatrix` take it; "
    "or choose a larger preset"
)


class TensorLike(Protocol):
    """What a plan needs to know of a tensor; ``TensorInfo`` and ``Tensor`` are such."""

    @property
    def name(self) -> str:
        """GGUF name."""

    @property
    def shape(self) -> tuple[int, ...]:
        """NumPy shape: ``[out, in]`` for a matrix."""

    @property
    def type(self) -> Layout | ForeignType:
        """Its ggml type."""

    @property
    def nbytes(self) -> int:
        """Bytes of data."""


class PlannedTensor(NamedTuple):  # of which a plan for every preset makes many, hence no dataclass
    """What becomes of one tensor, and why."""

    name: str
    source_name: str
    """Its name in the source: another one where layers below it were pruned."""
    shape: tuple[int, ...]
    source: Layout | ForeignType
    target: Layout | ForeignType
    source_nbytes: int
    nbytes: int
    """Bytes of data, without padding."""
    rule: str
    """Why this type, in words."""
    fallback_from: Layout | None
    """The type it would have if its rows divided into blocks."""
    needs_importance: bool
    """Whether the target type makes garbage of it without an importance matrix."""

    @property
    def converted(self) -> bool:
        """Whether its type changes; if not, its bytes are copied."""
        return self.source != self.target

    @property
    def n_elements(self) -> int:
        """Number of weights."""
        return prod(self.shape)


@dataclass(frozen=True, slots=True)
class Plan:
    """A whole model, tensors in the order in which they are written."""

    preset: str
    file_type: int
    """``general.file_type`` of the result."""
    tensors: tuple[PlannedTensor, ...]
    pruned: tuple[str, ...]
    """Names of the tensors that are left out."""
    block_count: int | None
    """The number of layers that are left, where some were pruned; upstream changes no other key."""
    options: PlanOptions

    @property
    def source_nbytes(self) -> int:
        """Bytes of the tensors as they are."""
        return sum(tensor.source_nbytes for tensor in self.tensors)

    @property
    def nbytes(self) -> int:
        """Bytes of the tensors as they will be, without padding."""
        return sum(tensor.nbytes for tensor in self.tensors)

    @property
    def n_elements(self) -> int:
        """Number of weights."""
        return sum(tensor.n_elements for tensor in self.tensors)

    @property
    def bits_per_weight(self) -> float:
        """Bits of storage a weight, over all tensors; 0 where there is no weight."""
        return 8 * self.nbytes / self.n_elements if self.n_elements else 0.0

    @property
    def source_bits_per_weight(self) -> float:
        """The same for the tensors as they are."""
        return 8 * self.source_nbytes / self.n_elements if self.n_elements else 0.0

    @property
    def fallbacks(self) -> tuple[PlannedTensor, ...]:
        """The tensors whose rows did not divide into blocks of the type meant for them."""
        return tuple(tensor for tensor in self.tensors if tensor.fallback_from)

    @property
    def needs_importance(self) -> bool:
        """Whether some tensor needs an importance matrix."""
        return any(tensor.needs_importance for tensor in self.tensors)

    @property
    def requantizes(self) -> bool:
        """Whether some tensor is quantized already, and would be again."""
        return any(tensor.converted and is_quantized(tensor.source) for tensor in self.tensors)

    def require_runnable(self) -> None:
        """Raise what keeps this plan from being carried out, if anything does.

        ``ImportanceNeeded``, ``AlreadyQuantized`` or ``NotConvertible``, each naming the tensor.
        """
        for tensor in self.tensors:
            if tensor.needs_importance and not self.options.importance:
                raise ImportanceNeeded(
                    f"{self.preset} makes {tensor.name!r} {tensor.target.name}: without an "
                    "importance matrix the result would be garbage",
                    hint=HOW_TO_GET_ONE,
                )
        for tensor in self.tensors:
            if isinstance(tensor.source, ForeignType):
                raise NotConvertible(
                    f"tensor {tensor.name!r} is of {tensor.source.name}, which ggml does not have",
                    hint="llama.cpp cannot quantize this file either",
                )
            if tensor.converted:
                _require_convertible(tensor, self.options)


def _require_convertible(tensor: PlannedTensor, options: PlanOptions) -> None:
    source, target = tensor.source, tensor.target
    if is_quantized(source) and not options.allow_requantize:
        raise AlreadyQuantized(
            f"tensor {tensor.name!r} is {source.name} already: making it {target.name} would add "
            "one loss to another",
            hint="start from an F16, BF16 or F32 file, or ask for it with --allow-requantize",
        )
    if not NOT_CONVERTIBLE.isdisjoint((source.name, target.name)):
        raise NotConvertible(
            f"tensor {tensor.name!r} cannot go from {source.name} to {target.name}",
            hint="choose another type for it, or leave it as it is",
        )


def plan(
    tensors: Iterable[TensorLike],
    metadata: Mapping[str, Any],
    preset: str,
    options: PlanOptions = DEFAULTS,
) -> Plan:
    """Decide what becomes of each tensor of a model.

    ``tensors`` are in file order, shard after shard. Raises ``UnknownPreset``,
    ``HyperparameterError``, and where llama-quantize would give up: ``NoFallback``,
    ``TypeDoesNotFit``, ``HeadsUnknown``, ``LayerUnknown``.
    """
    return Planner(tensors, metadata).plan(preset, options)


class _Source(NamedTuple):
    """What is known of a tensor before any preset."""

    shape: tuple[int, ...]
    type: Layout | ForeignType
    nbytes: int
    n_elements: int


class Planner:
    """Plans of one model in several presets: what no preset changes is worked out once."""

    def __init__(self, tensors: Iterable[TensorLike], metadata: Mapping[str, Any]) -> None:
        """Take what ``plan`` takes; raises ``HyperparameterError``."""
        self._metadata = metadata
        self._traits = traits_of(metadata)
        self._sources = {t.name: _Source(t.shape, t.type, t.nbytes, prod(t.shape)) for t in tensors}
        self._in_order = written_order(self._sources)

    def plan(self, preset: str, options: PlanOptions = DEFAULTS) -> Plan:
        """Decide what becomes of each tensor; raises what ``plan`` raises."""
        mix = mix_named(preset)
        names, layers_left = pruned_names(self._in_order, options.prune_layers)
        if options.keep_split:
            names = {name: names[name] for name in self._sources if name in names}
        types = (self._sources[name].type.name for name in self._in_order)
        chooser = Chooser(mix, self._traits, options, names.values())
        return Plan(
            preset=mix.name,
            file_type=_file_type(mix, self._metadata, types),
            tensors=tuple(
                _planned(source_name, self._sources[source_name], name, chooser, mix)
                for source_name, name in names.items()
            ),
            pruned=tuple(name for name in self._in_order if name not in names),
            block_count=layers_left,
            options=options,
        )


def _planned(
    source_name: str, source: _Source, name: str, chooser: Chooser, mix: Mix
) -> PlannedTensor:
    choice = chooser.choose(name, source.shape, source.type)
    target, nbytes, needs = choice.type, source.nbytes, False
    if isinstance(target, Layout):
        if target is not source.type:
            nbytes = target.row_bytes(source.n_elements)
        needs = not choice.kept and needs_importance(name, target, mix.name)
    return PlannedTensor(
        *(name, source_name, source.shape, source.type, target, source.nbytes, nbytes),
        *(choice.rule, choice.fallback_from, needs),
    )


def _file_type(mix: Mix, metadata: Mapping[str, Any], types: Iterable[str]) -> int:
    """Return ``general.file_type``; COPY keeps the source's, or what llama.cpp takes it for."""
    said = metadata.get("general.file_type") if mix.file_type is None else mix.file_type
    if isinstance(said, int):
        return said
    counts: Counter[str] = Counter()
    commonest = "F32"
    for name in types:
        counts[name] += 1
        if counts[name] > counts[commonest]:
            commonest = name
    return guessed_file_type(commonest)
