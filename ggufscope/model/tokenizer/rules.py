"""What a file does not say of its vocabulary, and llama.cpp concludes from names.

The defaults of each tokenizer, the tokens whose text decides their type, and those that swallow
the white space around them: ``llama_vocab::impl::load`` in ``src/llama-vocab.cpp``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntEnum
from typing import Any, Final

import numpy as np

from ggufscope.errors import BadVocabulary
from ggufscope.model.keys import text_of
from ggufscope.model.tokenizer.keys import KEY, WRONG, Keys

Types = np.ndarray[tuple[int], np.dtype[np.int32]]


class TokenType(IntEnum):
    """What ``tokenizer.ggml.token_type`` says of a token."""

    NORMAL = 1
    UNKNOWN = 2
    CONTROL = 3
    USER_DEFINED = 4
    UNUSED = 5
    BYTE = 6


@dataclass(frozen=True, slots=True)
class Defaults:
    """What holds for one ``tokenizer.ggml.model`` where the file does not say."""

    bos: int | None
    eos: int | None
    unknown: int | None = None
    separator: int | None = None
    add_bos: bool = False
    add_eos: bool = False
    add_space_prefix: bool = False


DEFAULTS: Final[dict[str, Defaults]] = {
    "llama": Defaults(bos=1, eos=2, unknown=0, add_bos=True, add_space_prefix=True),
    "gpt2": Defaults(bos=11, eos=11),
    "gemma4": Defaults(bos=None, eos=None),
    "bert": Defaults(bos=101, eos=None, unknown=100, separator=102, add_bos=True),
    "t5": Defaults(bos=None, eos=1, unknown=2, add_eos=True),
}

# llama.cpp takes a token with one of these texts for a control token, whatever its type says.
_ENDS: Final = (
    "<|eot_id|> <|im_end|> <|end|> <|return|> <|call|> <|flush|> <|calls|> <end_of_turn> "
    "<|endoftext|> </s> <|eom_id|> <EOT> _<EOT> [EOT] [EOS] <|end_of_text|> <end_of_utterance> "
    "<eos> <turn|> <|tool_response> <｜end▁of▁sentence｜> [e~["
)
# The same for filling in the middle, one token of each row, unless the file names it by the key.
_FILL_IN: Final = (
    ("fim_pre", "prefix", "<|fim_prefix|> <fim-prefix> <fim_prefix> <｜fim▁begin｜> <PRE> ▁<PRE> "
     "<|code_prefix|> <|prefix|>"),
    ("fim_suf", "suffix", "<|fim_suffix|> <fim-suffix> <fim_suffix> <｜fim▁hole｜> <SUF> ▁<SUF> "
     "<|code_suffix|> <|suffix|>"),
    ("fim_mid", "middle", "<|fim_middle|> <fim-middle> <fim_middle> <｜fim▁end｜> <MID> ▁<MID> "
     "<|code_middle|> <|middle|>"),
    ("fim_pad", "", "<|fim_pad|> <fim-pad> <fim_pad> <PAD> [PAD]"),
    ("fim_rep", "", "<|fim_repo|> <|repo_name|> <fim-repo> <REPO> <reponame>"),
    ("fim_sep", "", "<|file_sep|>"),
)  # fmt: skip
# gpt-oss writes these into its answers: they are always read as tokens.
_ALWAYS: Final = "<|channel|> <|message|> <|start|> <|constrain|>"


def token_types(keys: Keys, tokens: list[str], ids: dict[str, int]) -> Types:
    """Return the type of each token as llama.cpp sees it: some texts outweigh the file.

    Raises ``BadVocabulary``.
    """
    stored = keys.whole_numbers("token_type").astype(np.int32)
    if 0 < len(stored) < len(tokens):
        raise BadVocabulary(
            f"key '{KEY}token_type' has {len(stored)} entries for {len(tokens)} tokens",
            hint=WRONG,
        )
    types = stored[: len(tokens)].copy() if len(stored) else np.ones(len(tokens), np.int32)
    for key, old_key, texts in _FILL_IN:
        named = any(f"{k}_token_id" in keys for k in (key, old_key) if k)
        there = [ids[text] for text in texts.split() if text in ids]
        types[there[: 0 if named else 1]] = TokenType.CONTROL
    types[list(_ids_of(_ENDS, ids))] = TokenType.CONTROL
    types[list(_ids_of(_ALWAYS, ids))] = TokenType.USER_DEFINED
    calls = "<|call|>" in ids or "<|calls|>" in ids
    if "<|end|>" in ids and calls and ("<|return|>" in ids or "<|flush|>" in ids):
        types[ids["<|end|>"]] = TokenType.USER_DEFINED
    if "<|tool_response>" in ids and "</s>" in ids:  # Gemma 4 writes HTML
        types[ids["</s>"]] = TokenType.NORMAL
    return types


def stripping(
    metadata: Mapping[str, Any], ids: dict[str, int], types: Types
) -> tuple[frozenset[int], frozenset[int]]:
    """Return the special tokens that swallow white space before them, and after them.

    The file does not say; llama.cpp goes by the names of models and of their tokenizers.
    """
    pre, architecture = (
        text_of(metadata, key) or "" for key in (KEY + "pre", "general.architecture")
    )
    name = (text_of(metadata, "general.name") or "").lower()
    masked = any(word in pre for word in ("jina-v2-de", "jina-v2-es", "jina-v2-code"))
    if masked or any(word in architecture for word in ("nomic-bert-moe", "jina-bert-v3")):
        return _ids_of("<mask>", ids), frozenset()
    if "phi-3" in name or "phi3" in name:
        wanted = (TokenType.USER_DEFINED, TokenType.CONTROL, TokenType.UNKNOWN)
        special = set(np.flatnonzero(np.isin(types, wanted)).tolist())
        special |= _ids_of("</s>", ids)
        return frozenset(), frozenset(special) - _ids_of("<unk> <s> <|endoftext|>", ids)
    if "modern-bert" in name:
        return _ids_of("[MASK]", ids), frozenset()
    return frozenset(), frozenset()


def _ids_of(texts: str, ids: Mapping[str, int]) -> frozenset[int]:
    return frozenset(ids[text] for text in texts.split() if text in ids)
