"""What ``ggufscope size --json`` gives."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from ggufscope.recipes.plan import Plan
from ggufscope.sizing.bare import BareSize
from ggufscope.sizing.budget import Range, RunMemory
from ggufscope.sizing.file_size import PresetSize, Target
from ggufscope.sizing.fitting import FitRow, FitTable, fit
from ggufscope.sizing.offload import SplitRow
from ggufscope.sizing.overview import Overview

SCHEMA: Final = "ggufscope.size/1"
"""Changes with the meaning of a field; fields may be added without notice."""


def overview_json(overview: Overview) -> dict[str, Any]:
    """Give all that is known of one model."""
    hparams = overview.hparams
    return {
        "schema": SCHEMA,
        "model": {
            "name": overview.name,
            "architecture": hparams.architecture if hparams else None,
            "n_elements": overview.n_elements,
            "block_count": hparams.block_count if hparams else None,
            "context_length": hparams.context_length if hparams else None,
            "assumes": overview.assumes or None,
            "as_it_is": _preset(overview.as_it_is) if overview.as_it_is else None,
        },
        "presets": [_preset(each) for each in overview.sizes.sizes],
        "refused": [{"preset": r.preset, "why": r.why} for r in overview.sizes.refused],
        "memory": [_run(run) for run in overview.runs],
        "memory_not_derivable": overview.no_runs or None,
        "sharing": [
            {
                "name": each.name,
                "heads": each.heads,
                "kv_heads": each.kv_heads,
                "n_elements": each.n_elements,
                "cache_nbytes": each.kv_nbytes,
                "own": each.own,
            }
            for each in overview.sharings
        ],
        "fits": [_fits(table) for table in overview.fits],
        "gpu": [
            {"context": context, "presets": [_split(row) for row in rows]}
            for context, rows in overview.splits
        ],
        "targets": [_target(aim, target) for aim, target in overview.targets],
        "nothing_fits": overview.nothing_fits,
    }


def bare_json(sizes: Sequence[BareSize], examples: Sequence[Plan]) -> dict[str, Any]:
    """Give the memory table of so many weights."""
    return {
        "schema": SCHEMA,
        "n_elements": sizes[0].n_elements,
        "types": [
            {
                "type": each.type.name,
                "bits_per_weight": each.type.bits_per_weight,
                "nbytes": each.nbytes,
                "documented_gb": each.documented,
            }
            for each in sizes
        ],
        "presets_of_llama_2_7b": {plan.preset: plan.bits_per_weight for plan in examples},
    }


def _preset(each: PresetSize) -> dict[str, Any]:
    return {
        "preset": each.preset,
        "file_nbytes": each.file_nbytes,
        "tensor_nbytes": each.nbytes,
        "bits_per_weight": each.bits_per_weight,
        "fallbacks": each.fallbacks,
        "needs_importance_matrix": each.needs_importance,
        "quantizes_twice": each.quantizes_twice,
        "set_aside": each.set_aside or None,
    }


def _range(nbytes: Range) -> dict[str, int]:
    return {"low": nbytes.low, "high": nbytes.high}


def _run(run: RunMemory) -> dict[str, Any]:
    settings = run.settings
    return {
        "context": settings.context,
        "parallel": settings.parallel,
        "batch": settings.batch,
        "type_k": settings.type_k.name,
        "type_v": settings.type_v.name,
        "kv_unified": settings.unified,
        "swa_full": settings.swa_full,
        "flash_attention": settings.flash_attention,
        "cache_nbytes": run.cache.nbytes,
        "cache": [
            {
                "holding": str(total.holding),
                "layers": list(total.layers),
                "cells": total.cells,
                "nbytes": total.nbytes,
            }
            for total in run.cache.by_holding()
        ],
        "logits_nbytes": run.logits,
        "compute_nbytes_estimate": _range(run.compute),
    }


def _fits(table: FitTable) -> dict[str, Any]:
    best = [table.best(column) for column in range(len(table.contexts))]
    return {
        "as_it_is": _fit_row(table.itself, table) if table.itself else None,
        "limit": table.limit,
        "best": [
            {"context": context, "preset": row.size.preset if row else None}
            for context, row in zip(table.contexts, best, strict=True)
        ],
        "presets": [_fit_row(row, table) for row in table.rows],
    }


def _fit_row(row: FitRow, table: FitTable) -> dict[str, Any]:
    return {
        "preset": row.size.preset,
        "longest_context": row.longest,
        "contexts": [
            {"context": context, "needs": _range(need), "fits": str(fit(need, table.limit))}
            for context, need in zip(table.contexts, row.needs, strict=True)
        ],
    }


def _split(row: SplitRow) -> dict[str, Any]:
    return {
        "preset": row.size.preset,
        "gpu_layers": row.split.gpu_layers,
        "layers": row.split.layers,
        "vram": _range(row.split.vram),
        "ram": _range(row.split.ram),
        "fits": str(row.fits),
    }


def _target(aim: float, target: Target) -> dict[str, Any]:
    return {
        "nbytes" if isinstance(aim, int) else "bits_per_weight": aim,
        "preset": target.nearest.preset if target.nearest else None,
        "next_larger": target.next_larger.preset if target.next_larger else None,
    }
