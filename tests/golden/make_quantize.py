"""Make `quantize/*.json` anew: what real llama-quantize writes, chooses and refuses.

    python -m tests.golden.make_quantize --llama-bin llama.cpp/build/bin --check
    python -m tests.golden.make_quantize --check

Without the programs of a llama.cpp build, `--check` holds the tensors alone: the digest of each
one in each type, made with the quantizers of the `xllamacpp` wheel.
"""

from __future__ import annotations

import json
import shutil
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from math import prod
from pathlib import Path
from typing import Any

from ggufscope.blocks.layouts import layout_named
from ggufscope.sizing.shapes import SHAPES
from tests.golden.command import SAMPLE, Outcome, folder_of, parser, report, text_outcome
from tests.golden.llama_quantize import LlamaQuantize, Run, fold, settle_always, sha256
from tests.golden.tensor_digests import check_tensors
from tests.recipes.golden import load
from tests.shapes import WHOLES, Whole, write_hollow
from tests.slices import SLICES, importance, write_importance, write_slice

DIGESTS_WITH_IMPORTANCE = ("llama-mha", "mixtral")


def of_model(program: LlamaQuantize, models: Path, name: str) -> str:
    """Quantize a slice, or `stories`, in every preset, without and with importance matrix."""
    path = models / f"{name}.gguf"
    if name == "stories":
        shutil.copyfile(SAMPLE, path)
    else:
        write_slice(path, name)
    source = path.read_bytes()
    made: dict[str, Any] = {"source": {"sha256": sha256(source), "nbytes": len(source)}}
    plain, folded, digests = _every_preset(program, name)
    if name in SLICES:
        matrix = write_importance(models / f"{name}.imatrix", name)
        made["importance"] = {"sha256": sha256(matrix.read_bytes())}
    written = list(digests)
    made |= {"written": written, "always": settle_always(folded), "presets": plain}
    if name in SLICES:
        weighed, types, weighed_digests = _every_preset(
            program, name, ["--imatrix", f"{name}.imatrix"]
        )
        for preset, entry in weighed.items():
            if preset not in types:
                continue
            for stem_ in made["always"]:
                del types[preset][stem_]
            if types[preset] == folded.get(preset):
                del entry["types"]
        made["with importance"] = weighed
    made["digests"] = digests
    if name in DIGESTS_WITH_IMPORTANCE:
        made["digests with importance"] = {
            tensor: weighed_digests[tensor]
            for tensor in written
            if tensor in importance(name, SLICES[name]().shapes)
        }
    lines = [f' "{key}": {_laid_out(key, value)}' for key, value in made.items()]
    return "{\n" + ",\n".join(lines) + "\n}\n"


def _every_preset(
    program: LlamaQuantize, name: str, arguments: Sequence[str] = ()
) -> tuple[dict[str, Any], dict[str, dict[str, str]], dict[str, dict[str, str]]]:
    """Return each preset's entry and folded types, and for each tensor type -> digest."""
    entries: dict[str, Any] = {}
    folded: dict[str, dict[str, str]] = {}
    digests: dict[str, dict[str, str]] = {}
    for preset in program.presets():
        run = program.run(name, preset, arguments)
        entries[preset], types = _entry(run)
        if run.refused:
            dry = program.run(name, preset, [*arguments, "--dry-run"])
            types = None if dry.refused else fold(dry.listed())
            if dry.refused:  # where both are, the choice of types fails, before any tensor is made
                entries[preset]["refused"] = dry.refused
        else:
            for (tensor, type_), digest in run.tensors().items():
                known = digests.setdefault(tensor, {}).setdefault(type_, digest)
                assert known == digest, f"{preset}: {tensor} as {type_}"
        if types is not None:
            folded[preset] = entries[preset]["types"] = types
    return entries, folded, digests


def _entry(run: Run) -> tuple[dict[str, Any], dict[str, str] | None]:
    if run.refused:
        return {"refused": run.refused}, None
    data = [file.read_bytes() for file in run.files]
    digests = [sha256(each) for each in data]
    entry: dict[str, Any] = {"sha256": digests if len(data) > 1 else digests[0]}
    if len(data) == 1:
        entry["nbytes"] = len(data[0])
    return entry, fold(run.tensors())


def _laid_out(key: str, value: Any) -> str:
    """One line a preset, or a tensor; all else in one line."""
    if key in ("source", "importance", "written", "always"):
        return json.dumps(value)
    return "{\n" + ",\n".join(f'  "{k}": {json.dumps(v)}' for k, v in value.items()) + "\n }"


def of_options(program: LlamaQuantize, models: Path) -> str:
    """Answer the questions of `options.json` anew: model, preset and arguments of each line."""
    lines = []
    for asked in load("options"):
        case = {key: asked[key] for key in ("model", "preset", "arguments")}
        name, _, before = case["model"].partition("@")
        split = "--keep-split" in case["arguments"]
        write_slice(models / f"{name}.gguf", name, **({"split_max_tensors": 80} if split else {}))
        if split:
            name = next(models.glob(f"{name}-00001-of-*.gguf")).stem
        if before:
            (file,) = program.run(name, before).files
            name = file.rename(models / "before.gguf").stem
        run = program.run(name, case["preset"], case["arguments"])
        entry, types = _entry(run)
        lines.append(json.dumps(case | entry | ({} if types is None else {"types": types})))
    return "[\n" + ",\n".join(lines) + "\n]\n"


def of_wholes(program: LlamaQuantize, models: Path) -> str:
    """Dry runs on models of full size, of which only the header is there."""
    parts = []
    for name, whole in WHOLES.items():
        runs = dict(_dry_runs(program, models, whole()))
        folded = {preset: fold(run.listed()) for preset, run in runs.items()}
        lines = [f'  "always": {json.dumps(settle_always(folded))}']
        for preset, run in runs.items():
            entry = {"quant size": run.quant_size, "types": folded[preset]}
            lines.append(f'  "{preset}": {json.dumps(entry)}')
        parts.append(f' "{name}": {{\n' + ",\n".join(lines) + "\n }")
    return "{\n" + ",\n".join(parts) + "\n}\n"


def of_shapes(program: LlamaQuantize, models: Path) -> str:
    """Dry runs on the named shapes of this project; what `transformers` said of them stays."""
    parts = []
    for name, shape in SHAPES.items():
        known = {key: value for key, value in load("shapes")[name].items() if key != "presets"}
        lines = [f'  "{key}": {json.dumps(value)}' for key, value in known.items()]
        prefix = f"{shape.architecture}."
        hparams = {
            key.removeprefix(prefix): value
            for key, value in shape.metadata.items()
            if key.startswith(prefix)
        }
        # llama.cpp loads nothing without them; no type depends on them
        hparams |= {f"attention.layer_norm_{kind}epsilon": 1e-5 for kind in ("", "rms_")}
        tensors = {tensor.name: tensor.shape for tensor in shape.tensors}
        runs = _dry_runs(program, models, Whole(shape.architecture, hparams, tensors))
        entries = ",\n".join(
            f'   "{preset}": {json.dumps(_summed(run, tensors))}' for preset, run in runs
        )
        parts.append(
            f' "{name}": {{\n' + ",\n".join([*lines, f'  "presets": {{\n{entries}\n  }}']) + "\n }"
        )
    return "{\n" + ",\n".join(parts) + "\n}\n"


def _summed(run: Run, shapes: dict[str, tuple[int, ...]]) -> dict[str, Any]:
    """Add up the sizes of the types that a dry run printed, with the `gguf` package's table."""
    if run.refused:
        return {"refused": run.refused}
    types = run.listed()
    nbytes = sum(layout_named(type_).row_bytes(prod(shapes[name])) for name, type_ in types)
    assert run.quant_size.startswith(f"{nbytes / 2**20:.2f} MiB ")
    listed = "".join(f"{name} {type_}\n" for name, type_ in types)
    return {
        "nbytes": nbytes,
        "quant size": run.quant_size,
        "types": dict(Counter(type_ for _, type_ in types)),
        "digest": sha256(listed.encode())[:16],
    }


def _dry_runs(program: LlamaQuantize, models: Path, whole: Whole) -> Iterator[tuple[str, Run]]:
    path = write_hollow(models / "hollow.gguf", whole)
    for preset in program.presets():
        yield preset, program.run(path.stem, preset, ["--dry-run"])


OTHERS = {"options": of_options, "whole": of_wholes, "shapes": of_shapes}


def _make(programs: Path, folder: Path | None, only: list[str] | None) -> Iterator[Outcome]:
    def made(name: str, make: Callable[..., str], *more: str) -> Outcome:
        with tempfile.TemporaryDirectory() as models:
            text = make(LlamaQuantize(programs, Path(models)), Path(models), *more)
        return text_outcome(f"quantize/{name}.json", text, folder)

    if folder:
        (folder / "quantize").mkdir(exist_ok=True)
    for name in only or [*SLICES, "stories", *OTHERS]:
        if name in OTHERS:
            yield made(name, OTHERS[name])
        else:
            yield made(name, of_model, name)


def main(arguments: list[str] | None = None) -> int:
    """Make the files with llama-quantize, or check the tensors with the wheel."""
    options = parser(__doc__)
    options.add_argument("--llama-bin", type=Path, help="the folder with llama-quantize")
    options.add_argument("--only", nargs="+", metavar="NAME", help="these files, not all of them")
    given = options.parse_args(arguments)
    if given.llama_bin:
        return report(_make(given.llama_bin, folder_of(given), given.only))
    if given.folder:
        options.error("to write files, name the programs: --llama-bin FOLDER")
    return report(check_tensors(given.only or [*SLICES, "stories"], SAMPLE))


if __name__ == "__main__":
    sys.exit(main())
