"""Which named quantities of a pass to keep.

The names are those of ``model/anatomy.py``, which are llama.cpp's; a kept array is found under
llama.cpp's full name: ``kq_soft_max-3`` in layer 3, ``result_output`` outside the layers.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping

from ggufscope.arrays import Array, Floats


def key_of(name: str, layer: int | None) -> str:
    """Return a quantity's full name: ``Qcur`` in layer 2 is ``Qcur-2``."""
    return name if layer is None else f"{name}-{layer}"


class Trace(Mapping[str, Array]):
    """Keeps the quantities that were asked for, by full name, in the order of the pass.

    ``keep``: names without the layer (``{"kq_soft_max", "l_out"}``), or one, or None for all;
    ``Transformer.run`` refuses one of what the model does not compute.
    ``layers``: only these layers' (what is outside the layers is kept all the same).
    ``sink(name, layer, array)``: is handed each array instead, which is then not kept here.
    ``rows(layer, first, shares)``: is handed ``kq_soft_max`` in stretches of rows (H, rows, S), in
    order, whether or not it is kept: of a long text the whole of it would fill the memory.
    ``entering(tensor, x, expert)``: is handed what a stored matrix is multiplied with, (T, in), by
    the name of its tensor; of a stack by the expert, for those that some token chose. The matrix is
    multiplied with what it returns: x, or x as other programs round it.

    Arrays are the pass's own; those handed out later are never written to. A pass with a cache
    keeps the last token's or tokens' quantities: an array of the same name replaces the one before.
    """

    def __init__(
        self,
        keep: Collection[str] | None = None,
        *,
        layers: Collection[int] | None = None,
        sink: Callable[[str, int | None, Array], None] | None = None,
        rows: Callable[[int, int, Array], None] | None = None,
        entering: Callable[[str, Floats, int | None], Floats] | None = None,
    ) -> None:
        if isinstance(keep, str):  # a name is a collection too, of its letters
            keep = (keep,)
        self.keep = None if keep is None else frozenset(keep)
        self.layers = None if layers is None else frozenset(layers)
        self._sink = sink
        self.rows = rows
        self._entering = entering
        self._arrays: dict[str, Array] = {}

    def wants(self, name: str, layer: int | None) -> bool:
        """Whether a quantity is to be kept, so that none is computed for nothing."""
        if self.layers is not None and layer is not None and layer not in self.layers:
            return False
        return self.keep is None or name in self.keep

    def put(self, name: str, layer: int | None, array: Array) -> None:
        """Keep a quantity, if it is wanted."""
        if not self.wants(name, layer):
            return
        if self._sink is not None:
            self._sink(name, layer, array)
        else:
            self._arrays[key_of(name, layer)] = array

    def enter(self, tensor: str, x: Floats, expert: int | None = None) -> Floats:
        """x (T, in) -> what a stored matrix is to be multiplied with; hand it on on the way."""
        return x if self._entering is None else self._entering(tensor, x, expert)

    def __getitem__(self, key: str) -> Array:
        return self._arrays[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self._arrays)

    def __len__(self) -> int:
        return len(self._arrays)


NOTHING = Trace(())
"""Keeps nothing."""
