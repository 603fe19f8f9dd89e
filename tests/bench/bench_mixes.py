"""Mixes chosen by measurement against presets of their own size, on text not used to choose.

    python -m tests.bench.bench_mixes MODEL TEXT [MODEL TEXT ...] [--types ...] [--singles 60]

For each model: what types cost is measured once without an importance matrix and once with one that
is made on the way; then a mix of the exact size of each preset, both with the same matrix, and both
run over the other text. *ratio* is the mix's divergence over the preset's, ± one error; *foretold*
predicted over measured divergence, of the mix and of the preset. Single changes are drawn from all
there are; of these the correlation of the logarithms of predicted and measured divergence.
`train_models` makes models other than the sample.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path
from typing import Any, Final

import numpy as np

from ggufscope import GGUFFile, halves, open_gguf, read_tokenizer
from ggufscope.forward.transformer import Transformer
from ggufscope.forward.weights import PlannedWeights
from ggufscope.measure.tailor import Tailored, Wish, tailor
from ggufscope.measure.trial import divergences
from ggufscope.measure.windows import Halves
from ggufscope.recipes.request import Request, outlook
from tests.bench.common import where

PRESETS: Final = ("Q2_K", "Q3_K_M", "Q4_K_M", "Q5_K_M")


def text_of(file: GGUFFile, path: Path, choose: int, verify: int) -> Halves:
    """Cut a text: so many tokens to choose by, and others to verify with."""
    context = int(str(file.metadata["llama.context_length"]))
    encode = read_tokenizer(file.metadata).encode
    found = halves(
        path.read_text(encoding="utf-8"),
        encode,
        length=min(512, context),
        tokens=max(choose, verify),
        name=path.name,
    )
    return Halves(_first(found.chosen_by, choose), _first(found.verified_with, verify), path.name)


def _first(windows: tuple[tuple[int, ...], ...], tokens: int) -> tuple[tuple[int, ...], ...]:
    ends = np.cumsum([len(window) for window in windows])
    return windows[: max(1, int(np.searchsorted(ends, tokens, side="right")))]


def ratio_error(found: Tailored) -> float:
    """One standard error of the ratio of two means over the same tokens."""
    assert found.preset is not None
    mine, its = found.choice.divergence.each, found.preset.divergence.each
    ratio = mine.mean() / its.mean()
    return float((mine - ratio * its).std(ddof=1) / its.mean() / np.sqrt(len(mine)))


def mixes(file: GGUFFile, text: Halves, folder: Path, *, weighed: bool) -> list[float]:
    """Print a line for each preset; return the ratios."""
    known: Any = None
    imatrix: Any = None
    ratios = []
    for preset in PRESETS:
        named: Any = imatrix or ("x" if weighed else None)
        size = outlook(Request(file, [preset], imatrix=imatrix)).targets[0].nbytes
        if known is None:
            start = time.process_time()
            first = tailor(
                file, Wish(bits=5), text, make_imatrix=folder / "i.gguf" if named else None
            )
            known, imatrix = first.sensitivities, first.imatrix
            size = outlook(Request(file, [preset], imatrix=imatrix)).targets[0].nbytes
            print(f"  measured, first trial: {time.process_time() - start:.0f} s of processors")
        found = tailor(file, Wish(nbytes=size), text, imatrix=imatrix, sensitivities=known)
        against = found.preset
        assert against is not None
        assert against.name == preset
        mine, its = found.choice.divergence, against.divergence
        ratios.append(mine.nats / its.nats)
        print(
            f"  {preset:7} {found.choice.nbytes / size:.4f} of its size"
            f"   {mine.nats:.2e} ± {mine.error:.1e}   {its.nats:.2e} ± {its.error:.1e}"
            f"   ratio {ratios[-1]:.3f} ± {ratio_error(found):.3f}"
            f"   foretold {found.choice.predicted / mine.nats:.2f}"
            f" {against.predicted / its.nats:.2f}",
            flush=True,
        )
    print(f"  mean ratio {np.mean(ratios):.3f}, largest {max(ratios):.3f}")
    return ratios


def singles(file: GGUFFile, text: Halves, count: int) -> None:
    """Change one tensor at a time, and hold what was predicted to what comes of it."""
    model = Transformer.of(file)
    known = tailor(file, Wish(bits=5), text).sensitivities
    every = [(name, type_) for name, row in known.costs.items() for type_ in row]
    drawn = np.random.default_rng(1).choice(len(every), min(count, len(every)), replace=False)
    changes = [every[at] for at in sorted(drawn)]
    views = [PlannedWeights(model.weights, dict([change])) for change in changes]
    measured = np.array([each.nats for each in divergences(model, views, text.chosen_by)])
    predicted = np.array([known.costs[name][type_] for name, type_ in changes])
    logs = np.corrcoef(np.log(predicted), np.log(measured))[0, 1]
    print(
        f"  {len(changes)} single changes: log-correlation {logs:.3f}, "
        f"predicted over measured {np.median(predicted / measured):.2f} (median)",
        flush=True,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("pairs", nargs="+", type=Path, metavar="MODEL TEXT")
    parser.add_argument("--choose", type=int, default=2048, help="tokens to choose by")
    parser.add_argument("--verify", type=int, default=4096, help="tokens to verify with")
    parser.add_argument("--singles", type=int, default=60, help="single changes; 0 for none")
    given = parser.parse_args()
    print(where())
    every: dict[bool, list[float]] = {False: [], True: []}
    for path, source in zip(given.pairs[::2], given.pairs[1::2], strict=True):
        with open_gguf(path) as file, tempfile.TemporaryDirectory() as folder:
            text = text_of(file, source, given.choose, given.verify)
            chosen, verified = (
                sum(map(len, side)) for side in (text.chosen_by, text.verified_with)
            )
            print(f"{path.name}: {chosen:,} tokens to choose by, {verified:,} to verify with")
            for weighed, ratios in every.items():
                print(f" {'the same importance matrix' if weighed else 'no importance matrix'}")
                ratios += mixes(file, text, Path(folder), weighed=weighed)
            if given.singles:
                singles(file, text, given.singles)
    for weighed, ratios in every.items():
        said = "with a matrix" if weighed else "without one"
        print(f"all, {said}: mean ratio {np.mean(ratios):.3f}, largest {max(ratios):.3f}")


if __name__ == "__main__":
    main()
