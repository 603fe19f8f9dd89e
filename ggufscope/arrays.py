"""Names for the arrays that floors pass to each other, by what their elements are.

The shape is not part of a name: the first line of a docstring says it.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]
Doubles = npt.NDArray[np.float64]
Halves = npt.NDArray[np.float16]
Reals = npt.NDArray[np.floating[Any]]
"""Floats of any width: weights, rows of a map, logits, whatever a function reads as it comes."""

Ints = npt.NDArray[np.int32]
Integers = npt.NDArray[np.integer[Any]]
"""Integers of any width."""
Places = npt.NDArray[np.intp]
"""What indexes another array."""
Grid = npt.NDArray[np.int8]
"""(entries, k): a codebook of an I-quant."""
Words16 = npt.NDArray[np.uint16]
Words32 = npt.NDArray[np.uint32]
Bytes = npt.NDArray[np.integer[Any]]
"""uint8 wherever it is written; to the type checker a byte and a number make some integer."""

Mask = npt.NDArray[np.bool_]
Blocks = npt.NDArray[Any]
"""Of a layout's dtype."""
Array = npt.NDArray[Any]
