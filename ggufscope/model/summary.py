"""A model in a few facts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from ggufscope.container.file import GGUFFile
from ggufscope.container.values import Array
from ggufscope.errors import HyperparameterError
from ggufscope.model.families import FAMILIES, window_of
from ggufscope.model.file_types import file_type_name
from ggufscope.model.hparams import HParams, read_hparams
from ggufscope.model.keys import architecture_of, text_of

TOKENIZERS: Final = {
    "gpt2": "byte-level BPE",
    "llama": "SentencePiece",
    "bert": "WordPiece",
    "t5": "Unigram",
    "rwkv": "RWKV",
    "plamo2": "PLaMo-2",
    "none": "none",
}
"""``tokenizer.ggml.model`` in words."""


@dataclass(frozen=True, slots=True)
class Summary:
    """What a model is, before any detail; None where the file does not say."""

    name: str | None
    architecture: str | None
    n_elements: int
    """Weights stored, which is what a parameter count counts."""
    tensor_bytes: int
    file_type: str | None
    """The recipe it was quantized with, by llama-quantize's name."""
    hparams: HParams | None
    attention: str | None
    """MHA, GQA, MQA or MLA, in words."""
    tokenizer: str | None
    vocab_size: int | None
    tied: bool
    """The embedding serves as output matrix too: there is no ``output.weight``."""
    windowed_layers: int

    @property
    def bits_per_weight(self) -> float:
        """Bits of storage for each weight, over all tensors."""
        return 8 * self.tensor_bytes / self.n_elements if self.n_elements else 0.0


def summarize(file: GGUFFile) -> Summary:
    """Read the facts of a model from its header."""
    metadata = file.metadata
    try:
        hparams = read_hparams(metadata)
    except HyperparameterError:
        hparams = None
    tokens = metadata.get("tokenizer.ggml.tokens")
    vocabulary = hparams.vocab_size if hparams else None
    return Summary(
        name=text_of(metadata, "general.name"),
        architecture=architecture_of(metadata),
        n_elements=sum(t.info.n_elements for t in file.tensors.values()),
        tensor_bytes=sum(t.nbytes for t in file.tensors.values()),
        file_type=file_type_name(metadata.get("general.file_type")),
        hparams=hparams,
        attention=attention_words(hparams) if hparams else None,
        tokenizer=_tokenizer(metadata),
        vocab_size=vocabulary or (len(tokens) if isinstance(tokens, Array) else None),
        tied="token_embd.weight" in file.tensors and "output.weight" not in file.tensors,
        windowed_layers=_windowed(hparams) if hparams else 0,
    )


def attention_words(hparams: HParams) -> str | None:
    """Say how query heads share key and value heads."""
    if hparams.is_mla:
        return f"MLA: keys and values of all heads in one latent of {hparams.kv_lora_rank}"
    if hparams.head_count is None or hparams.head_count_kv is None:
        return None
    pairs = sorted(
        {(hparams.head_count[il], hparams.head_count_kv[il]) for il in range(hparams.block_count)}
    )
    pairs = [(heads, shared) for heads, shared in pairs if heads and shared]
    if not pairs:
        return None
    if len(pairs) > 1:
        return f"{_span(pairs, 0)} query heads, {_span(pairs, 1)} key/value heads, by layer"
    heads, shared = pairs[0]
    if heads == shared:
        return f"MHA: {heads} heads, each with its own keys and values"
    if shared == 1:
        return f"MQA: {heads} query heads share 1 key/value head"
    return f"GQA: {heads} query heads share {shared} key/value heads, {heads / shared:g} to one"


def _span(pairs: list[tuple[int, int]], part: int) -> str:
    numbers = [pair[part] for pair in pairs]
    return f"{min(numbers)} to {max(numbers)}" if min(numbers) < max(numbers) else str(numbers[0])


def _windowed(hparams: HParams) -> int:
    family = FAMILIES.get(hparams.architecture)
    if family is None:
        return 0
    return sum(window_of(family, hparams, il) is not None for il in range(hparams.block_count))


def _tokenizer(metadata: Mapping[str, Any]) -> str | None:
    model = text_of(metadata, "tokenizer.ggml.model")
    if model is None:
        return None
    pre = text_of(metadata, "tokenizer.ggml.pre")
    words = TOKENIZERS.get(model, model)
    return f"{words} ({pre})" if pre else words
