"""What ``ggufscope size --json`` prints: ``schemas/size.json`` and ``schemas/size-count.json``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

from ggufscope.recipes.plan import Plan
from ggufscope.report.as_json import pick
from ggufscope.sizing.bare import BareSize
from ggufscope.sizing.budget import Range, RunMemory
from ggufscope.sizing.file_size import PresetSize, Target
from ggufscope.sizing.fitting import FitRow, FitTable, fit
from ggufscope.sizing.here import Here
from ggufscope.sizing.offload import SplitRow
from ggufscope.sizing.overview import Overview

if TYPE_CHECKING:
    from ggufscope.sizing.chosen import Chosen

SCHEMA: Final = "ggufscope.size/3"
COUNT_SCHEMA: Final = "ggufscope.size-count/1"


def overview_json(overview: Overview) -> dict[str, Any]:
    """Return all that is known of one model."""
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
        "refused": [pick(each, "preset why") for each in overview.sizes.refused],
        "memory": [_run(run) for run in overview.runs],
        "memory_not_derivable": overview.no_runs or None,
        "sharing": [
            {
                **pick(each, "name heads kv_heads n_elements"),
                "cache_nbytes": each.kv_nbytes,
                "own": each.own,
            }
            for each in overview.sharings
        ],
        "here": _here(overview.here) if overview.here else None,
        "fits": [_fits(table) for table in overview.fits],
        "gpu": [
            {"context": table.context, "presets": [_split(row) for row in table.rows]}
            for table in overview.splits
        ],
        "mixes": [_mix(each) for each in overview.mixes],
        "targets": [_target(aim, target) for aim, target in overview.targets],
        "nothing_fits": overview.nothing_fits,
        "warnings": overview.warnings,
    }


def bare_json(sizes: Sequence[BareSize], examples: Sequence[Plan]) -> dict[str, Any]:
    """Return the memory table of so many weights."""
    return {
        "schema": COUNT_SCHEMA,
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


def _here(here: Here) -> dict[str, Any]:
    gpus = [
        pick(gpu, "name") | {"free_nbytes": gpu.free, "nbytes": gpu.nbytes} for gpu in here.gpus
    ]
    return {"free_nbytes": here.free, "gpus": gpus, "trouble": here.trouble or None}


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


def _range(nbytes: Range) -> dict[str, Any]:
    return pick(nbytes, "low high")


def _run(run: RunMemory) -> dict[str, Any]:
    settings = run.settings
    return {
        **pick(settings, "context parallel batch"),
        "type_k": settings.layouts[0].name,
        "type_v": settings.layouts[1].name,
        "kv_unified": settings.unified,
        **pick(settings, "swa_full flash_attention"),
        "cache_nbytes": run.cache.nbytes,
        "cache": [pick(total, "kind layers cells nbytes") for total in run.cache.by_kind()],
        "logits_nbytes": run.logits,
        "compute_nbytes": _range(run.compute),
    }


def _fits(table: FitTable) -> dict[str, Any]:
    best = [table.best(column) for column in range(len(table.contexts))]
    return {
        "limit_nbytes": table.limit,
        "as_it_is": _fit_row(table.itself, table) if table.itself else None,
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
            {"context": context, "needs_nbytes": _range(need), "fits": fit(need, table.limit)}
            for context, need in zip(table.contexts, row.needs, strict=True)
        ],
    }


def _split(row: SplitRow) -> dict[str, Any]:
    return {
        "preset": row.size.preset,
        **pick(row.split, "gpu_layers layers"),
        "vram_nbytes": _range(row.split.vram),
        "ram_nbytes": _range(row.split.ram),
        "fits": row.fits,
    }


def _target(aim: float, target: Target) -> dict[str, Any]:
    return {
        "target_nbytes": aim if isinstance(aim, int) else None,
        "target_bits_per_weight": aim if isinstance(aim, float) else None,
        "preset": target.nearest.preset if target.nearest else None,
        "next_larger": target.next_larger.preset if target.next_larger else None,
    }


def _mix(each: Chosen) -> dict[str, Any]:
    """Return the best mix for one size or memory."""
    aim, mix = each.aim, each.mix
    return {
        "target_nbytes": aim.nbytes,
        "target_bits_per_weight": aim.bits,
        "limit_nbytes": aim.memory,
        "context": aim.context,
        "least_nbytes": each.least,
        "preset": each.preset.preset if each.preset else None,
        "preset_predicted": each.predicted,
        "mix": None
        if mix is None
        else {
            **pick(mix, "nbytes predicted"),
            "tensor_nbytes": mix.plan.nbytes,
            "bits_per_weight": mix.plan.bits_per_weight,
            "types": {t.name: t.target.name for t in mix.plan.tensors if t.converted},
        },
    }
