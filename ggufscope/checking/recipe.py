"""What the file says it was quantized to, against the types that its tensors have.

The types that a recipe gives are ``recipes/``'s, which are llama-quantize's of today.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from ggufscope.blocks.layouts import Layout
from ggufscope.checking.findings import Finding, note, warning
from ggufscope.container.file import GGUFFile
from ggufscope.model.keys import architecture_of
from ggufscope.recipes.categories import why_kept
from ggufscope.recipes.fit import Fit, declared_of


def recipe_findings(file: GGUFFile, fits: list[Fit]) -> Iterator[Finding]:
    """Yield a ``general.file_type`` that the types of the tensors are not."""
    declared = declared_of(file.metadata)
    if declared is None or not fits:
        return
    key = "general.file_type"
    fit = next((fit for fit in fits if fit.preset == declared), None)
    if fit is None:
        yield note(
            "recipe",
            f"'{key}' is {file.metadata.get(key)}, a recipe that this program does not know",
            "it was retired, or is newer than this program; llama.cpp goes by each tensor's type",
            "nothing has to be done",
            key=key,
        )
        return
    if fit.exact:
        return
    best = fits[0]
    n, first = len(fit.others), fit.others[0]
    by = f"the first {first!r} ({file.tensors[first].type.name})"
    if fit.close and not best.exact:
        what = f"called {declared}, is {declared} but for {n} of {fit.matrices} matrices, {by}"
    else:
        really = f"it is {best.preset}" if best.exact else "it is a mixture of its own"
        what = f"called {declared}; {n} of {fit.matrices} matrices have other types, {by}: {really}"
    off = round(100 * abs(fit.size - 1))
    differs = f"{off} % {'more' if fit.size > 1 else 'less'} than" if off else "as many bytes as"
    size = f"its matrices take {differs} those of {declared}"
    if best.exact or fit.misleading:
        yield warning(
            "recipe",
            what,
            f"the name tells the wrong size and quality: {size}; llama.cpp goes by each tensor's "
            "type",
            "--recipe-out FILE writes down the types that it has",
            key=key,
        )
    else:
        yield note(
            "recipe",
            what,
            "types were chosen tensor by tensor, as `quantize --target-size` does it, or by "
            f"another program, or another llama-quantize: {size}",
            "nothing has to be done; --recipe-out FILE writes down the types that it has",
            key=key,
        )


def type_rules(file: GGUFFile) -> str:
    """Return the types of a model's matrices as a ``--tensor-type-file``: a rule for each.

    Quantizing the unquantized model by these rules, with any preset, gives these types again.
    """
    architecture = architecture_of(file.metadata) or ""
    lines = []
    for tensor in file.tensors.values():
        kept = why_kept(tensor.name, tensor.shape, architecture)
        if isinstance(tensor.type, Layout) and not kept:
            # Patterns are read in lower case, and end at a blank: what else is there is any letter.
            name = re.sub(r"[^a-z0-9_.]", "?", tensor.name)
            pattern = re.escape(name).replace(r"\?", ".")
            lines.append(f"^{pattern}$={tensor.type.name.lower()}\n")
    return "".join(lines)
