"""Make `searched.json` anew: what ggml makes of edge data in the types that search a grid.

    python -m tests.golden.make_searched --check

ggml is that of the `xllamacpp` wheel. It ends by an assertion at some rows, so each try is a child
process, and rows at which it ends are found by halves. ggml takes about twenty seconds to make its
tables: hence this file, and no call of ggml in the ordinary tests.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator

import numpy as np

from ggufscope.blocks.layouts import LAYOUTS, Layout
from tests.blocks.searched import FILE, KINDS, PLAIN, WAYS, Rows, bulk, digest, edges, inputs
from tests.golden.command import folder_of, parser, report, text_outcome
from tests.oracles import ggml, ggml_quantize


def _ends(x: Rows, layout: Layout, importance: Rows | None) -> bool:
    child = os.fork()
    if not child:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
        ggml_quantize(x, layout, importance)
        os._exit(0)
    return os.waitpid(child, 0)[1] != 0


def _refused(x: Rows, first: int, layout: Layout, importance: Rows | None) -> list[int]:
    if not _ends(x, layout, importance):
        return []
    if len(x) == 1:
        return [first]
    half = len(x) // 2
    parts = ((x[:half], first), (x[half:], first + half))
    return [row for part, start in parts for row in _refused(part, start, layout, importance)]


def _lines() -> Iterator[str]:
    for name, kind in WAYS:
        layout, importance = LAYOUTS[name], KINDS[kind]
        ggml().ggml_quantize_init(layout.number)  # before the children: each would do it
        refused = _refused(edges(), 0, layout, importance)
        made = np.delete(edges(), refused, axis=0)
        found = {"edges": digest(ggml_quantize(made, layout, importance)), "refused": refused}
        if (name, kind) in PLAIN:
            found["bulk"] = digest(ggml_quantize(bulk(), layout, importance))
        yield f"{json.dumps(f'{name} {kind}')}: {json.dumps(found)}"


def main(arguments: list[str] | None = None) -> int:
    """Quantize all, and write or compare."""
    given = parser(__doc__).parse_args(arguments)
    os.environ["GGML_NO_BACKTRACE"] = "1"
    made = ",\n".join(_lines())
    text = f'{{"inputs": {json.dumps(inputs())},\n"made": {{\n{made}\n}}}}\n'
    return report([text_outcome(FILE, text, folder_of(given))])


if __name__ == "__main__":
    sys.exit(main())
