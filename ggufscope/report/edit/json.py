"""What ``ggufscope edit --json`` prints: ``schemas/edit.json``."""

from __future__ import annotations

from typing import Any, Final

from ggufscope.recipes.edits import PreparedEdit
from ggufscope.report.list.json import value_json

SCHEMA: Final = "ggufscope.edit/1"


def edit_json(prepared: PreparedEdit, *, dry_run: bool, finished: bool) -> dict[str, Any]:
    """Return what is different, and where it is, or would be, written."""
    return {
        "schema": SCHEMA,
        "dry_run": dry_run,
        "model": str(prepared.source.path),
        "finished": finished,
        "in_place": bool(prepared.rewrites) and prepared.in_place,
        "written_nbytes": prepared.written_nbytes,
        "files": [
            {"path": str(target), "nbytes": rewrite.nbytes} for rewrite, target in prepared.rewrites
        ],
        "differences": [
            {
                "key": each.key,
                "was": each.was,
                "before": value_json(each.before) if each.before else None,
                "after": value_json(each.after) if each.after else None,
            }
            for each in prepared.differences
        ],
    }
