"""Train other models than the sample, for `bench_mixes`: other sizes, head groupings and texts.

    pip install torch==2.13.0 --target FOLDER
    PYTHONPATH=FOLDER python -m tests.bench.train_models DIRECTORY [--only NAME] [--steps 700]

By the program that trains the sample. Beside NAME.gguf goes NAME.txt, on which it was not trained.
The texts of *code* and *prose* are those of the Python that runs this: functions of its standard
library, and the chapters of its language reference that `help()` shows.
"""

from __future__ import annotations

import argparse
import ast
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

SAMPLES = Path(__file__).parent.parent.parent / "samples"
HELD_OUT: Final = 20
"""Of so many documents one is held out."""
LENGTHS: Final = range(40, 4000)
"""Characters of a document that is taken."""


def functions() -> Iterator[str]:
    """Functions of the standard library, without empty lines."""
    for path in sorted(Path(ast.__file__).parent.glob("*.py")):
        text = path.read_text(encoding="utf-8", errors="replace")
        for node in ast.parse(text).body:
            if isinstance(node, ast.FunctionDef | ast.ClassDef):
                yield from _without_gaps(ast.get_source_segment(text, node) or "", node)


def _without_gaps(text: str, node: ast.FunctionDef | ast.ClassDef) -> Iterator[str]:
    if isinstance(node, ast.FunctionDef):
        yield "\n".join(line for line in text.splitlines() if line.strip())
        return
    for part in text.split("\n    def ")[1:]:
        yield "\n".join(line for line in f"    def {part}".splitlines() if line.strip())


def paragraphs() -> Iterator[str]:
    """Paragraphs of the language reference."""
    from pydoc_data.topics import topics

    for name in sorted(topics):
        for part in topics[name].split("\n\n"):
            yield " ".join(part.split())


def tales() -> Iterator[str]:
    """Stories of the sample's grammar, from a seed of their own."""
    from stories import stories  # type: ignore[import-not-found]  # lies in samples/

    yield from stories(7, 30_000)


@dataclass(frozen=True)
class Recipe:
    """One model."""

    texts: Callable[[], Iterator[str]]
    sizes: dict[str, int]


RECIPES: Final = {
    "code": Recipe(functions, {"embedding": 256, "layers": 4, "heads": 4, "kv_heads": 4}),
    "prose": Recipe(
        paragraphs,
        {"embedding": 256, "layers": 6, "heads": 8, "kv_heads": 1, "feed_forward": 1024},
    ),
    "tales": Recipe(
        tales,
        {"embedding": 512, "layers": 3, "heads": 16, "kv_heads": 4, "feed_forward": 1024},
    ),
}
CONTEXT: Final = 128


def documents(texts: Callable[[], Iterator[str]]) -> tuple[list[str], list[str]]:
    """Return those to train on, and those held out; each is there once."""
    each = [text for text in dict.fromkeys(texts()) if len(text) in LENGTHS]
    held = each[::HELD_OUT]
    return [text for number, text in enumerate(each) if number % HELD_OUT], held


def packed(tokenizer: Any, texts: list[str], end: int) -> Any:
    """Windows (N, CONTEXT): the token that begins a text, then documents, the last one cut."""
    import torch

    gap = tokenizer.encode("\n\n").ids
    windows, window = [], [end]
    for encoding in tokenizer.encode_batch(texts):
        window += [*(gap if len(window) > 1 else []), *encoding.ids]
        if len(window) >= CONTEXT:
            windows.append(window[:CONTEXT])
            window = [end]
    return torch.tensor(windows)


def make(name: str, directory: Path, steps: int) -> None:
    """Train one model and write it, and its text."""
    import torch
    import train  # type: ignore[import-not-found]  # lies in samples/
    from model import Config  # type: ignore[import-not-found]

    recipe = RECIPES[name]
    texts, held = documents(recipe.texts)
    torch.manual_seed(1)
    texts = [texts[at] for at in torch.randperm(len(texts)).tolist()]
    tokenizer = train.train_tokenizer(texts)
    end = tokenizer.token_to_id(train.END)
    config = Config(tokenizer.get_vocab_size(), context=CONTEXT, **recipe.sizes)
    windows, tested = packed(tokenizer, texts, end), packed(tokenizer, held, end)
    print(f"{name}: {len(windows)} windows of {CONTEXT} tokens, {len(held)} texts held out")
    trained = train.train(windows, tested, config, steps)
    count = sum(weight.numel() for weight in trained.parameters())
    train.export(directory / f"{name}.gguf", trained, tokenizer)
    (directory / f"{name}.txt").write_text("\n\n".join(held) + "\n", encoding="utf-8")
    print(f"{name}: {count:,} weights", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("directory", type=Path)
    parser.add_argument("--only", choices=list(RECIPES))
    parser.add_argument("--steps", type=int, default=700)
    parser.add_argument("--threads", type=int, default=1)
    given = parser.parse_args()
    sys.path.insert(0, str(SAMPLES))
    import torch

    torch.set_num_threads(given.threads)
    given.directory.mkdir(parents=True, exist_ok=True)
    for name in [given.only] if given.only else RECIPES:
        make(name, given.directory, given.steps)


if __name__ == "__main__":
    main()
