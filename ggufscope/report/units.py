"""Numbers and names as people read them."""

from __future__ import annotations

import math
from bisect import bisect_right
from collections import Counter
from collections.abc import Iterable, Sequence
from decimal import Decimal
from itertools import accumulate
from typing import Final

_BINARY: Final = ("B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB")
_DECIMAL: Final = ("B", "kB", "MB", "GB", "TB", "PB", "EB")


def size(nbytes: int) -> str:
    """Return bytes with three digits and a binary unit: ``12.3 MiB``; exact below a thousand."""
    return _scaled(nbytes, 1024, _BINARY)


def decimal_size(nbytes: float) -> str:
    """Return bytes with three digits and a decimal unit: ``13.2 MB``, as disks are sold."""
    return _scaled(round(nbytes), 1000, _DECIMAL)


def asked_size(nbytes: int) -> str:
    """Return a size as it was asked for: ``8 GiB``, ``5 GB (4.66 GiB)``."""
    binary, decimal = _short(size(nbytes)), _short(decimal_size(nbytes))
    written = Decimal(binary.split()[0]) * 1024 ** _BINARY.index(binary.split()[1])
    if round(written) == nbytes:
        return binary
    written = Decimal(decimal.split()[0]) * 1000 ** _DECIMAL.index(decimal.split()[1])
    return f"{decimal} ({binary})" if written == nbytes else binary


def _short(sized: str) -> str:
    number, unit = sized.split()
    return f"{number.rstrip('0').rstrip('.') if '.' in number else number} {unit}"


def count(number: int) -> str:
    """Return a count of weights with three digits: ``3.54 M``, ``7.24 B``; exact below 1000."""
    return _scaled(number, 1000, ("", "K", "M", "B", "T", "P", "E"))


def _scaled(number: int, step: int, units: Sequence[str]) -> str:
    if number < 1000:
        return f"{number} {units[0]}".rstrip()
    scaled, power = float(number), 0
    # What would round to 1000 goes to the next unit.
    while scaled >= 999.5 and power + 1 < len(units):
        scaled, power = scaled / step, power + 1
    return f"{scaled:.{decimals(scaled)}f} {units[power]}"


def decimals(number: float) -> int:
    """Return how many decimals leave three digits."""
    return 2 if number < 9.995 else 1 if number < 99.95 else 0


def bits(number: float) -> str:
    """Return bits per weight with no more decimals than they have, four at most."""
    return f"{number:.4f}".rstrip("0").rstrip(".")


def small(number: float) -> str:
    """Return a number with three digits where it is below 1000, and none that say nothing."""
    size = abs(number)
    if not number or not math.isfinite(number):
        return "0" if number == 0 else str(number)
    if size < 0.001:
        return f"{number:.1e}".replace("e-0", "e-")
    if size < 0.1:
        return f"{number:.{4 if size < 0.01 else 3}f}"
    return f"{number:.{decimals(size)}f}"


def percent(share: float) -> str:
    """Return a share in percent, with three digits at the most: ``66.6%``, ``7.40%``."""
    return f"{small(100 * share)}%" if math.isfinite(share) else str(share)


def extents(shape: Sequence[int]) -> str:
    """Return a shape: ``256×768``; a single number has no shape to show."""
    return "×".join(map(str, shape)) if shape else "1"


def spans(numbers: Sequence[int]) -> str:
    """Return ascending whole numbers as spans: ``0-3, 6, 9-11``."""
    parts: list[str] = []
    start = 0
    for end in range(1, len(numbers) + 1):
        if end == len(numbers) or numbers[end] != numbers[end - 1] + 1:
            first, last = numbers[start], numbers[end - 1]
            parts.append(str(first) if first == last else f"{first}-{last}")
            start = end
    return ", ".join(parts)


def layers(numbers: Sequence[int]) -> str:
    """Return the layers of these numbers: ``layer 3``, ``layers 0-3, 6``."""
    return f"layer{'s' if len(numbers) > 1 else ''} {spans(numbers)}"


def counted(names: Iterable[str]) -> str:
    """Return how often each name is there, the most frequent first: ``Q4_K 96, Q6_K 13``."""
    return ", ".join(f"{name} {number}" for name, number in Counter(names).most_common())


def printable(text: str, keep: str = "", most: int | None = None) -> str:
    r"""Escape what a terminal would act on, and what no encoding can write.

    Control characters, bidirectional overrides and bytes that were not UTF-8 become ``\x1b``,
    ``\u202e`` and the like; characters in ``keep`` (a newline, say) stay. Of a text that takes
    more than ``most`` characters these are left, and its length said; it is cut first, so that a
    long one costs nothing.
    """
    if most is not None and (short := _cut(text, keep, most)) is not None:
        return f"{short}... ({len(text):,} characters)"
    if text.isascii() and text.isprintable():
        return text
    return "".join(c if c in keep or c.isprintable() else _escaped(c) for c in text)


def _cut(text: str, keep: str, most: int) -> str | None:
    """Return the printable beginning of a text, or None where all of it has its place."""
    said = [printable(c, keep) for c in text[: most + 1]]
    fit = bisect_right([*accumulate(map(len, said))], most)
    return "".join(said[:fit]) if fit < len(text) else None


def _escaped(character: str) -> str:
    code = ord(character)
    if 0xDC80 <= code <= 0xDCFF:  # a byte that was not UTF-8, as surrogateescape keeps it
        return f"\\x{code - 0xDC00:02x}"
    if code < 0x100:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"
