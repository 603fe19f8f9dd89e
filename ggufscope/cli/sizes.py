"""Sizes on the command line: ``8GiB``, ``500M``, ``1.5GB``. One rule for every option."""

from __future__ import annotations

import re
from decimal import Decimal
from typing import Final

from ggufscope.errors import BadUsage

MOST: Final = 1 << 63
MOST_BITS: Final = 64
_LEAST_WITHOUT_UNIT: Final = 1 << 20
_SIZE: Final = re.compile(r"([0-9]{1,20}(?:\.[0-9]{1,20})?) ?(?:([KMGT])(B|IB)?|(B?))", re.ASCII)


def parse_size(text: str, option: str, of: str) -> int:
    """Read a size: ``8GiB`` and ``8G`` are binary, as llama.cpp's tools have it, ``8GB`` decimal.

    ``of``: what the option sizes, in words. A small number without a unit is asked about: 8 bytes
    are never meant. Raises ``BadUsage``.
    """
    match = _SIZE.fullmatch(text.strip().upper())
    nbytes = 0
    if match is not None:
        number, prefix, ending, _ = match.groups()
        power = "KMGT".index(prefix) + 1 if prefix else 0
        scale = (1000 if ending == "B" else 1024) ** power
        nbytes = round(Decimal(number) * scale)
        if not match[2] and not match[4] and 0 < nbytes < _LEAST_WITHOUT_UNIT:
            raise BadUsage(
                f"{option} {text!r} has no unit, and {of} of {nbytes} bytes is hardly meant",
                hint=f"write {text}GiB, {text}GB (decimal) or {text}B",
            )
    if not 0 < nbytes < MOST:
        raise BadUsage(
            f"{option} {text!r:.60} is no size of {of}", hint="write 8GiB, 500MB (decimal) or bytes"
        )
    return nbytes


def parse_size_if(text: str | None, option: str, of: str) -> int | None:
    """Read the size of an option that may have been left out."""
    return None if text is None else parse_size(text, option, of)


def check_bits(bits: float | None) -> float | None:
    """Return the bits per weight of ``--target-bpw``. Raises ``BadUsage`` for none that can be."""
    if bits is not None and not 0 < bits <= MOST_BITS:
        raise BadUsage(
            f"--target-bpw {bits:g} is no number of bits", hint=f"more than 0, {MOST_BITS} at most"
        )
    return bits
