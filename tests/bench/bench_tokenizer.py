"""Reading a vocabulary of 150,000 tokens: `python -m tests.bench.bench_tokenizer`.

Beside it, `tokenizers` alone reading the same vocabulary from its own JSON, which is what a
`tokenizer.json` from Hugging Face costs.
"""

from __future__ import annotations

import json
import random
import tempfile
from pathlib import Path

from tokenizers import Tokenizer

from ggufscope.container.file import open_gguf
from ggufscope.model.tokenizer.text import read_tokenizer
from ggufscope.model.tokenizer.vocabulary import BYTE_OF
from tests.bench.common import alternate, where
from tests.models import vocabularies

TOKENS = 150_000
RUNS = 5


def large_vocabulary() -> tuple[list[str], list[str]]:
    """Tokens and merges of a byte-level BPE: each token two of those before it."""
    rng = random.Random(1)
    tokens = [*BYTE_OF]
    known, merges = set(tokens), []
    while len(tokens) < TOKENS:
        left, right = rng.choice(tokens), rng.choice(tokens)
        if len(left) + len(right) <= 12 and left + right not in known:
            known.add(left + right)
            tokens.append(left + right)
            merges.append(f"{left} {right}")
    return tokens, merges


def main() -> None:
    """Print seconds for reading the vocabulary, and for tokenizing text."""
    tokens, merges = large_vocabulary()
    vocabulary = {
        "model": "gpt2",
        "pre": "qwen2",
        "tokens": tokens,
        "token_type": [vocabularies.NORMAL] * len(tokens),
        "merges": merges,
    }
    model = {
        "type": "BPE",
        "vocab": {text: id_ for id_, text in enumerate(tokens)},
        "merges": [merge.split(" ") for merge in merges],
    }
    text = " ".join(vocabularies.SENTENCES * 100)
    with tempfile.TemporaryDirectory() as directory:
        path = vocabularies.write_model(Path(directory) / "v.gguf", vocabulary)
        as_json = json.dumps({"version": "1.0", "added_tokens": [], "model": model})
        with open_gguf(path) as file:
            print(where())
            ours, theirs = alternate(
                RUNS, lambda: read_tokenizer(file.metadata), lambda: Tokenizer.from_str(as_json)
            )
            print(f"{TOKENS:,} tokens, {len(merges):,} merges (median of {RUNS})")
            print(f"read_tokenizer     {1000 * ours:8.0f} ms")
            print(f"Tokenizer.from_str {1000 * theirs:8.0f} ms")
            tokenizer = read_tokenizer(file.metadata)
            spent, _ = alternate(RUNS, lambda: tokenizer.encode(text), lambda: None)
            size = len(text.encode())
            print(f"encoding           {1000 * spent:8.0f} ms for {size:,} bytes of text")


if __name__ == "__main__":
    main()
