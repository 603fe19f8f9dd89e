"""Importance matrices for the slices: as they should be, and with one thing changed.

Written by the ``gguf`` package, or byte by byte. The golden data in ``golden/imatrix`` belongs to
these very files.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gguf
import numpy as np

from tests.slices import SLICES, importance

Arrays = dict[str, np.ndarray[Any, np.dtype[np.float32]]]
COUNT = 4

TEXT: bytes = bytes(
    int(code) for code in np.random.default_rng(11).integers(ord("!"), ord("!") + 67, 200)
)
"""What the small models of ``tests/models/families.py`` are run on: 200 letters, six chunks."""


def write(path: Path, sums: Arrays, counts: Arrays, **metadata: Any) -> Path:
    """Write a matrix; a key of metadata that is None is left out."""
    pairs = {"datasets": ["made-up.txt"], "chunk_count": 2, "chunk_size": 512} | metadata
    writer = gguf.GGUFWriter(path, "")
    writer.kv_data[0].clear()
    writer.add_string("general.type", "imatrix")
    if pairs["datasets"] is not None:
        writer.add_array("imatrix.datasets", pairs["datasets"])
    for key in ("chunk_count", "chunk_size"):
        if pairs[key] is not None:
            writer.add_uint32(f"imatrix.{key}", pairs[key])
    for name in {**sums, **counts}:
        if name in sums:
            writer.add_tensor(f"{name}.in_sum2", sums[name])
        if name in counts:
            writer.add_tensor(f"{name}.counts", counts[name])
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def parts(kind: str) -> tuple[Arrays, Arrays]:
    """Return sums and counts of a sound matrix for a slice."""
    sums = importance(kind, SLICES[kind]().shapes)
    return sums, {name: np.full((len(rows), 1), COUNT, np.float32) for name, rows in sums.items()}


def legacy(path: Path, sums: Arrays, chunks: int = 2, *, tail: bytes | None = None) -> Path:
    """Write a legacy file."""
    data = struct.pack("<i", len(sums))
    for name, rows in sums.items():
        text = name.encode()
        data += struct.pack("<i", len(text)) + text + struct.pack("<ii", chunks, rows.size)
        data += rows.astype("<f4").tobytes()
    dataset = b"old.txt"
    end = struct.pack("<ii", 3, len(dataset)) + dataset if tail is None else tail
    path.write_bytes(data + end)
    return path


def _changed(change: Callable[[Arrays, Arrays], dict[str, Any] | None]) -> Callable[..., Path]:
    def make(path: Path, kind: str) -> Path:
        sums, counts = parts(kind)
        return write(path, sums, counts, **(change(sums, counts) or {}))

    return make


def _experts_never_reached(sums: Arrays, counts: Arrays) -> None:
    for name, rows in counts.items():
        if len(rows) > 1:
            rows[::3] = 0
            sums[name][::3] = 0


def _uneven_counts(sums: Arrays, counts: Arrays) -> None:
    for rows in counts.values():
        rows[:, 0] = np.arange(len(rows)) * 7 + 2.5  # lround makes it 3


def _no_layer_1(sums: Arrays, counts: Arrays) -> None:
    for name in [name for name in sums if name.startswith("blk.1.")]:
        del sums[name], counts[name]


def _embedding_too_long(sums: Arrays, counts: Arrays) -> None:
    sums["token_embd.weight"] = np.ones((1, 300), np.float32)


def _too_long(sums: Arrays, counts: Arrays) -> None:
    sums["blk.2.ffn_up.weight"] = np.ones((1, 300), np.float32)


def _not_finite(value: float) -> Callable[[Arrays, Arrays], None]:
    def change(sums: Arrays, counts: Arrays) -> None:
        sums["blk.1.attn_q.weight"][0, 5] = value

    return change


def _zeros(sums: Arrays, counts: Arrays) -> None:
    for rows in sums.values():
        rows[:] = 0


def _hot_column(sums: Arrays, counts: Arrays) -> None:
    for rows in sums.values():
        rows[:] = 1e-30
        rows[:, 7] = 1e30


def _without(suffix: str) -> Callable[[Arrays, Arrays], None]:
    def change(sums: Arrays, counts: Arrays) -> None:
        del (sums if suffix == "in_sum2" else counts)["blk.0.attn_v.weight"]

    return change


def _strangers(sums: Arrays, counts: Arrays) -> None:
    for name in list(sums):
        if "ffn" in name:
            sums[f"x{name}"], counts[f"x{name}"] = sums.pop(name), counts.pop(name)


def _legacy(kind: str, path: Path, **how: Any) -> Path:
    return legacy(path, parts(kind)[0], **how)


CHANGED: dict[str, Callable[[Path, str], Path]] = {
    "sound": _changed(lambda sums, counts: None),
    "experts never reached": _changed(_experts_never_reached),
    "uneven counts": _changed(_uneven_counts),
    "no layer 1": _changed(_no_layer_1),
    "embedding too long": _changed(_embedding_too_long),
    "too long": _changed(_too_long),
    "nan": _changed(_not_finite(float("nan"))),
    "infinity": _changed(_not_finite(float("inf"))),
    "zeros": _changed(_zeros),
    "hot column": _changed(_hot_column),
    "no sums": _changed(_without("in_sum2")),
    "no counts": _changed(_without("counts")),
    "strangers": _changed(_strangers),
    "no datasets": _changed(lambda sums, counts: {"datasets": []}),
    "two datasets": _changed(lambda sums, counts: {"datasets": ["é" * 80, "b.txt"]}),
    "no chunks": _changed(lambda sums, counts: {"chunk_count": 0}),
    "negative chunks": _changed(lambda sums, counts: {"chunk_count": 2**31 + 5}),
    "no chunk size": _changed(lambda sums, counts: {"chunk_size": None}),
    "no dataset key": _changed(lambda sums, counts: {"datasets": None}),
    "legacy": lambda path, kind: _legacy(kind, path),
    "legacy of no chunks": lambda path, kind: _legacy(kind, path, chunks=0),
    "legacy without a tail": lambda path, kind: _legacy(kind, path, tail=b""),
    "legacy with half a tail": lambda path, kind: _legacy(
        kind, path, tail=struct.pack("<ii", 9, 50)
    ),
}
"""What it is called -> how it is written for a slice."""
