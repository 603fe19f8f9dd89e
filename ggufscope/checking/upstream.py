"""What llama.cpp says, word for word: who searches for its message finds what it means here.

The texts are those that its programs print, with ``printf``'s places in them; a test holds each to
the strings of a real build.
"""

from __future__ import annotations

import re
from typing import Final

SAID: Final = {
    # ggml/src/gguf.cpp
    "no magic": "failed to read magic",
    "magic": "invalid magic characters: '%c%c%c%c', expected 'GGUF'",
    "version 1": "GGUFv1 is no longer supported, please use a more up-to-date version",
    "version": "this GGUF file is version %u but this software only supports up to version %d",
    "byte order": "failed to load model: this GGUF file version %u is extremely large, is there a "
    "mismatch between the host and model endianness?",
    "header": "failed to read header",
    "pairs": "failed to read key-value pairs",
    "empty key": "is empty",
    "duplicate key": "duplicate key '%s' for KV pair",
    "value type": "key '%s' has invalid GGUF type %d",
    "alignment": "is not a power of 2",
    "alignment type": "key '%s' must be of type %s but is %s",
    "long name": "is too long:",
    "duplicate tensor": "duplicate tensor name '%s' for tensor",
    "dimensions": "tensor '%s' has invalid number of dimensions: %u > %u",
    "negative": "has invalid number of elements:",
    "overflow": "incorrect shape for a tensor '%s' may cause overflow errors:",
    "type": "tensor '%s' has invalid ggml type %d. should be in [0, %d)",
    "ragged": "elements per row, not a multiple of block size",
    "offset": "tensor '%s' has offset",
    "tensor info": "failed to read tensor info",
    # src/llama-model-loader
    "out of file": "tensor '%s' data is not within the file bounds, model is corrupted or "
    "incomplete",
    "split": "failed to load GGUF split from",
    "split name": "invalid split file name: %s",
    "split number": "invalid split file idx: %d (file: %s), expected %d",
    "split tensors": "corrupted model: %d tensors expected but %d found",
    "split duplicate": "invalid model: tensor '%s' is duplicated",
    "missing tensor": "tensor '%s' not found",
    "shape": "tensor '%s' has wrong shape; expected %s, got %s",
    "left over": "wrong number of tensors; expected %d, got %d",
    "data": "tensor '%s' has invalid data",
    "key": "key not found in model: %s",
    "array length": "key %s has wrong array length; expected %u, got %u",
    "key type": "key %s has wrong type %s but expected type %s",
    # src/llama-model, src/llama-vocab
    "architecture": "unknown model architecture: '",
    "n_rot": "invalid n_rot: %u, expected %u",
    "no expert": "n_expert_used_max > 0",
    "experts": "n_expert_used_max <= hparams.n_expert",
    "tokenizer": "unknown tokenizer: '%s'",
    "pre": "unknown pre-tokenizer type: '%s'",
    "no pre": "missing pre-tokenizer type, using: 'default'",
    "no tokens": "cannot find tokenizer vocab in model file",
    "no merges": "cannot find tokenizer merges in model file",
    "scores": "Index out of array bounds for scores",
    "token types": "Index out of array bounds for toktypes",
    "special": "bad special token: '%s' = %u, using default id %d",
    "two BOS": "Added a BOS token to the prompt as specified by the model but the prompt also "
    "starts with a BOS token.",
    # src/llama-adapter, common/speculative, tools/mtmd
    "lora architecture": "model arch and LoRA arch mismatch",
    "lora type": "expect adapter.type to be 'lora', but got:",
    "lora base": "' does not exist in base model (hint: maybe wrong base model?)",
    "lora shape": "' has incorrect shape (hint: maybe wrong base model?)",
    "lora half": "' is missing one component",
    "draft type": "draft model vocab type must match target model to use speculation but "
    "vocab_type_dft = %d while vocab_type_tgt = %d",
    "draft bos": "draft model bos tokens must match target model to use speculation.",
    "draft eos": "draft model eos tokens must match target model to use speculation.",
    "draft": "the target and draft vocabs are not compatible",
    "mmproj": "mismatch between text model (n_embd = %d) and mmproj (n_embd = %d)",
}
"""What it says, by what it is about."""

_PLACE: Final = re.compile(r"%[sducz]")


def said(about: str, *values: object) -> str:
    """Return what llama.cpp says, with values in the places; what is not given is left out."""
    left = [str(value) for value in values]
    return _PLACE.sub(lambda _: left.pop(0) if left else "...", SAID[about])
