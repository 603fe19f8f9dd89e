"""Whether another file belongs to a model: a projector, a LoRA adapter, a draft model.

Follows what llama.cpp compares when it loads both: ``tools/mtmd/mtmd.cpp``,
``src/llama-adapter.cpp`` and ``common/speculative.cpp``.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import islice
from typing import Any, Final

from ggufscope.checking.findings import Finding, error, note, warning
from ggufscope.checking.structure import kind_of
from ggufscope.checking.upstream import said
from ggufscope.container.file import GGUFFile
from ggufscope.container.values import Array
from ggufscope.errors import GGUFScopeError
from ggufscope.model.keys import architecture_of, text_of
from ggufscope.model.tokenizer.keys import KEY
from ggufscope.model.tokenizer.vocabulary import Vocabulary, read_vocabulary

_LARGEST_DIFFERENCE: Final = 128
"""Tokens that one of two vocabularies may have more (``SPEC_VOCAB_MAX_SIZE_DIFFERENCE``)."""
_FIRST_COMPARED: Final = 5
"""The token from which on texts must be the same (``SPEC_VOCAB_CHECK_START_TOKEN_ID``)."""
_BRIDGE: Final = ("mm.", "resampler.")
"""What the names of the tensors that lead to the model's embeddings begin with."""
_LORA: Final = {"lora_a": 0, "lora_b": 1}

_ANOTHER: Final = "look for the one that was made for this model: its page names the base model"


def belonging_findings(model: GGUFFile, other: GGUFFile) -> Iterator[Finding]:
    """Yield whether ``other`` belongs to ``model``, and which key or shape decides."""
    kind = kind_of(other)
    if kind == "projector":
        yield from _projector(model, other)
    elif kind == "adapter":
        yield from _adapter(model, other)
    elif kind == "model":
        yield from _draft(model, other)
    else:
        yield error(
            "with",
            f"{other.path.name} is no projector, adapter or model: it is a file of the kind {kind}",
            "there is nothing that could belong to the model",
            "name a projector (mmproj), a LoRA adapter, or a draft model",
        )


def _belongs(other: GGUFFile, as_what: str, option: str, why: str) -> Finding:
    return note(
        "with",
        f"{other.path.name} belongs to it, as {as_what}: {why}",
        "llama.cpp loads the two together",
        f"run the model with {option} {other.path.name}",
    )


def _projector(model: GGUFFile, other: GGUFFile) -> Iterator[Finding]:
    width = model.metadata.get(f"{architecture_of(model.metadata)}.embedding_length")
    keys = [f"clip.{sense}.projection_dim" for sense in ("vision", "audio")]
    found = {key: other.metadata[key] for key in keys if key in other.metadata}
    if not found or not isinstance(width, int):
        yield warning(
            "with",
            f"{other.path.name} does not say what it projects to"
            if isinstance(width, int)
            else f"{model.path.name} does not say how long its embeddings are",
            f"{' or '.join(keys)} would have to be the model's embedding_length",
            _ANOTHER,
        )
        return
    stacked = other.metadata.get("clip.vision.is_deepstack_layers")
    layers = sum(stacked) if isinstance(stacked, Array) else 0
    for key, dim in found.items():
        # Deepstack: what some layers see goes into the model's first layers beside the image.
        ends = [name for name in other.tensors if name.startswith(_BRIDGE)]
        by_shape = [name for name in ends if width in other.tensors[name].shape]
        if width in (dim, dim * (1 + layers)):
            why = f"{key} is {dim}, and the model's embeddings have {width}"
            yield _belongs(other, "a projector", "--mmproj", why)
        elif by_shape:  # old files of LLaVA have CLIP's own number there
            why = f"{by_shape[0]} leads to {width}, and the model's embeddings have as many"
            yield _belongs(other, "a projector", "--mmproj", why)
        else:
            yield error(
                "with",
                f"{other.path.name} does not belong to it: {key} is {dim}, and the model's "
                f"embeddings have {width}",
                "what the projector makes of an image or a sound has to be embeddings of the model",
                _ANOTHER,
                said("mmproj", width, dim),
                key=key,
            )


def _adapter(model: GGUFFile, other: GGUFFile) -> Iterator[Finding]:
    type_ = text_of(other.metadata, "adapter.type")
    if type_ != "lora":
        yield error(
            "with",
            f"{other.path.name} is an adapter of type {type_!r}",
            "llama.cpp knows LoRA adapters alone",
            "convert it with llama.cpp's convert_lora_to_gguf.py",
            f"{said('lora type')} {type_}",
            key="adapter.type",
        )
        return
    ours, theirs = (architecture_of(file.metadata) for file in (model, other))
    if ours != theirs:
        yield error(
            "with",
            f"{other.path.name} does not belong to it: it is for architecture {theirs!r}, and the "
            f"model is {ours!r}",
            "an adapter is added to the matrices of the model that it was trained on",
            _ANOTHER,
            said("lora architecture"),
            key="general.architecture",
        )
        return
    pairs: dict[str, list[tuple[int, ...] | None]] = {}
    for name, tensor in other.tensors.items():
        base, _, half = name.rpartition(".")
        if half in _LORA:
            pairs.setdefault(base, [None, None])[_LORA[half]] = tensor.shape
    for base, (a, b) in pairs.items():
        there = model.tensors.get(base)
        if there is None or a is None or b is None or not _fits(base, there.shape, a, b):
            yield _misfit(other, base, there.shape if there else None, a, b)
            return
    if not pairs:
        yield error(
            "with",
            f"{other.path.name} has no tensor of a LoRA adapter",
            "it would change nothing",
            _ANOTHER,
        )
        return
    why = f"all {len(pairs)} matrices that it changes are there, and fit"
    yield _belongs(other, "a LoRA adapter", "--lora", why)


def _fits(base: str, shape: tuple[int, ...], a: tuple[int, ...], b: tuple[int, ...]) -> bool:
    """Return whether the product of the two is of the shape of the matrix."""
    if min(map(len, (shape, a, b))) < 2:
        return False
    if base == "token_embd.weight":  # its rows are looked up, so the two change places
        return shape == (a[-2], b[-2])
    return a[-2] == b[-1] and shape[-2:] == (b[-2], a[-1])


def _misfit(
    other: GGUFFile,
    base: str,
    shape: tuple[int, ...] | None,
    a: tuple[int, ...] | None,
    b: tuple[int, ...] | None,
) -> Finding:
    if a is None or b is None:
        why, words = f"{base} has one half of a pair", f"LoRA tensor pair for '{base}"
        words += said("lora half")
    elif shape is None:
        why, words = f"the model has no tensor {base}", f"LoRA tensor '{base}{said('lora base')}"
    else:
        sizes = (", ".join("×".join(map(str, each)) for each in (b, a)), "×".join(map(str, shape)))
        why = f"{base} is {sizes[1]}, and the adapter's pair is {sizes[0]}"
        words = f"tensor '{base}{said('lora shape')}"
    return error(
        "with",
        f"{other.path.name} does not belong to it: {why}",
        "an adapter is added to the matrices of the model that it was trained on",
        _ANOTHER,
        words,
        tensor=base,
    )


def _draft(model: GGUFFile, other: GGUFFile) -> Iterator[Finding]:
    try:
        ours, theirs = read_vocabulary(model.metadata), read_vocabulary(other.metadata)
    except GGUFScopeError as unread:
        yield from _draft_by_lists(model.metadata, other, unread)
        return
    why, words, key = _difference(ours, theirs)
    if why:
        yield _no_draft(other, why, words, key)
    else:
        yield _belongs(other, "a draft model", "--model-draft", "the vocabularies are the same")


def _difference(ours: Vocabulary, theirs: Vocabulary) -> tuple[str, str, str]:
    """Return how two vocabularies differ, llama.cpp's words for it, and the key; or nothing."""
    if ours.model != theirs.model:
        why = f"its tokenizer is {theirs.model!r}, the model's {ours.model!r}"
        return why, said("draft type"), "model"
    for name in ("bos", "eos"):
        adds = [getattr(each, f"add_{name}") for each in (theirs, ours)]
        ids = [getattr(each, name) for each in (theirs, ours)]
        if adds[0] != adds[1]:
            why = f"it {'adds' if adds[0] else 'does not add'} {name.upper()}, unlike the model"
            return why, said(f"draft {name}"), f"add_{name}_token"
        if adds[0] and ids[0] != ids[1]:
            why = f"its {name.upper()} is token {ids[0]}, the model's {ids[1]}"
            return why, said(f"draft {name}"), f"{name}_token_id"
    return *_tokens_differ(ours.tokens, theirs.tokens), "tokens"


def _tokens_differ(ours: list[str], theirs: list[str]) -> tuple[str, str]:
    if abs(len(ours) - len(theirs)) > _LARGEST_DIFFERENCE:
        why = f"it has {len(theirs):,} tokens, the model {len(ours):,}"
        return why, said("draft")
    pairs = enumerate(zip(ours, theirs, strict=False))
    for id_, (here, there) in islice(pairs, _FIRST_COMPARED, None):
        if here != there:
            return f"its token {id_} is {there[:40]!r}, the model's {here[:40]!r}", said("draft")
    return "", ""


def _draft_by_lists(
    metadata: Mapping[str, Any], other: GGUFFile, unread: GGUFScopeError
) -> Iterator[Finding]:
    """Compare the lists of tokens alone, where a vocabulary is of a kind not read here."""
    lists = [each.get(KEY + "tokens") for each in (metadata, other.metadata)]
    if not all(isinstance(each, Array) for each in lists):
        why = "one of the two has no vocabulary"
        yield _no_draft(other, why, said("draft"), "tokens")
        return
    why, words = _tokens_differ(*(list(each) for each in lists))  # type: ignore[arg-type]  # Arrays
    if why:
        yield _no_draft(other, why, words, "tokens")
    else:
        yield note(
            "with",
            f"{other.path.name} has the tokens of the model",
            f"more was not compared: {unread.message}",
            "try it: llama.cpp says whether it can serve as a draft model",
        )


def _no_draft(other: GGUFFile, why: str, words: str, key: str) -> Finding:
    return error(
        "with",
        f"{other.path.name} cannot be its draft model: {why}",
        "a draft model proposes tokens, so both must have the same",
        "look for a smaller model of the same family; llama.cpp translates between vocabularies "
        "for none of its own accord",
        words,
        key=KEY + key,
    )
