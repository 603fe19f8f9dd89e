"""The names of ``general.file_type``: the recipe that a file was quantized with.

Follows the enum ``llama_ftype`` in llama.cpp's ``llama.h``; each name is the one that
``llama-quantize`` takes for it. Numbers that are missing were retired.
"""

from __future__ import annotations

from typing import Final

# fmt: off
FILE_TYPES: Final[dict[int, str]] = {
    0: "F32", 1: "F16", 2: "Q4_0", 3: "Q4_1", 7: "Q8_0", 8: "Q5_0", 9: "Q5_1", 10: "Q2_K",
    11: "Q3_K_S", 12: "Q3_K_M", 13: "Q3_K_L", 14: "Q4_K_S", 15: "Q4_K_M", 16: "Q5_K_S",
    17: "Q5_K_M", 18: "Q6_K", 19: "IQ2_XXS", 20: "IQ2_XS", 21: "Q2_K_S", 22: "IQ3_XS",
    23: "IQ3_XXS", 24: "IQ1_S", 25: "IQ4_NL", 26: "IQ3_S", 27: "IQ3_M", 28: "IQ2_S", 29: "IQ2_M",
    30: "IQ4_XS", 31: "IQ1_M", 32: "BF16", 36: "TQ1_0", 37: "TQ2_0", 38: "MXFP4_MOE", 39: "NVFP4",
    40: "Q1_0", 41: "Q2_0",
}
# fmt: on

GUESSED: Final = 1024
"""llama.cpp adds this flag to a file type that it guessed from the tensors."""


def file_type_name(number: object) -> str | None:
    """Return the recipe of a ``general.file_type``; None where the file does not say."""
    if not isinstance(number, int):
        return None
    return FILE_TYPES.get(number & ~GUESSED, f"file type {number}")


def guessed_file_type(commonest: str) -> int:
    """Return the number that llama.cpp takes a silent file for, by its commonest tensor type.

    Follows the loader in ``llama-model-loader.cpp``: a K-quant is taken for its medium mix, and
    what it has no guess for (``MXFP4``, ``IQ4_XS``) for F32.
    """
    name = f"{commonest}_M" if commonest in ("Q3_K", "Q4_K", "Q5_K") else commonest
    numbers = {file_type: number for number, file_type in FILE_TYPES.items()}
    return GUESSED | (0 if name == "IQ4_XS" else numbers.get(name, 0))
