"""Header, sizes, shards: what makes a file readable at all, and what is odd about it all the same.

Rules are ``container/``'s, which refuses what breaks one. Here each refusal becomes a finding.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from typing import Final

from ggufscope import errors
from ggufscope.blocks.layouts import REMOVED, ForeignType, is_quantized
from ggufscope.checking.findings import Finding, error, note, warning
from ggufscope.checking.upstream import said
from ggufscope.container.file import GGUFFile, oddities
from ggufscope.container.shards import COUNT_KEY, NUMBER_KEY, TENSORS_KEY
from ggufscope.errors import GGUFScopeError
from ggufscope.model.keys import architecture_of, text_of

VERSION: Final = 2
"""``general.quantization_version`` of the blocks of today, since May 2023."""

_CUT: Final = "the file ends before what its header promises: a download or a copy stopped"
_LIE: Final = "the header contradicts itself: it is damaged, or was made by a faulty program"
_NONE: Final = "this is no GGUF file that today's programs read"

# Error -> what llama.cpp says, and what it means.
_REFUSALS: Final[dict[type[GGUFScopeError], tuple[str, str]]] = {
    errors.EmptyFile: ("no magic", "nothing was downloaded or copied"),
    errors.NotGGUF: ("magic", _NONE),
    errors.UnsupportedVersion: ("version", _NONE),
    errors.Truncated: ("pairs", _CUT),
    errors.ImpossibleCount: ("header", _LIE),
    errors.EmptyKey: ("empty key", _LIE),
    errors.DuplicateKey: ("duplicate key", _LIE),
    errors.UnknownValueType: ("value type", _LIE),
    errors.NestedTooDeep: ("pairs", _LIE),
    errors.BadAlignment: ("alignment", _LIE),
    errors.TensorNameTooLong: ("long name", "llama.cpp keeps names of 63 bytes at the most"),
    errors.DuplicateTensor: ("duplicate tensor", _LIE),
    errors.TooManyDimensions: ("dimensions", _LIE),
    errors.NegativeDimension: ("negative", _LIE),
    errors.ShapeOverflow: ("overflow", _LIE),
    errors.RaggedRow: ("ragged", _LIE),
    errors.MisplacedTensor: ("offset", "tensors do not follow each other without a gap"),
    errors.TensorOutOfFile: ("out of file", _CUT),
    errors.ShardMissing: ("split", "a model over several files needs all of them"),
    errors.ShardMismatch: ("split number", "the files are not the parts of one model"),
}


def refusal(refused: GGUFScopeError) -> Finding:
    """Return the finding of a file, or shards, that cannot be read."""
    about, meaning = _REFUSALS.get(type(refused), ("", "the file cannot be read"))
    name = re.search(r"(?:tensor|key) '([^']*)'", refused.message)
    kind = "tensor" if name and name[0].startswith("tensor") else "key"
    if about == "version" and "version 1 " in refused.message:
        about = "version 1"
    if about == "pairs" and kind == "tensor":
        about = "tensor info"
    if about == "alignment" and "of type" in refused.message:
        about = "alignment type"
    if about == "split number" and "tensor" in refused.message:
        about = "split duplicate" if name else "split tensors"
    words = said(about, *([name[1]] if name else [])) if about else ""
    place = {kind: name[1]} if name else {}
    advice = refused.hint or "download it again"
    return error("structure", refused.message, meaning, advice, words, **place)


def structure_findings(file: GGUFFile) -> Iterator[Finding]:
    """Yield what is odd about the files of a model that can be read."""
    for shard in file.shards:
        for odd in oddities(shard):
            words = f"{shard.source.path.name}: {odd.words}"
            if odd.kind == "trailing":
                yield warning(
                    "structure",
                    words,
                    "llama.cpp does not look at them; something was appended to the file, or "
                    "tensors were taken off its list",
                    "ask where the file comes from; `ggufscope quantize MODEL COPY` writes it "
                    "without them",
                )
            elif odd.kind == "short":
                yield note(
                    "structure",
                    words,
                    "every weight is there; some old programs do not pad the last tensor",
                    "nothing has to be done",
                )
    yield from _foreign(file)
    yield from _byte_order(file)
    yield from _shards(file)
    yield from _version(file)


def _foreign(file: GGUFFile) -> Iterator[Finding]:
    kinds: Counter[int] = Counter()
    first: dict[int, str] = {}
    for tensor in file.tensors.values():
        if isinstance(tensor.type, ForeignType):
            kinds[tensor.type.number] += 1
            first.setdefault(tensor.type.number, tensor.name)
    for number, count in kinds.items():
        many = f"{count} tensors are" if count > 1 else "one tensor is"
        if number in REMOVED:
            type_ = f"{REMOVED[number]} (number {number}), which ggml has retired"
            meaning = "a llama.cpp of its time reads it; today's does not"
            words = said("ragged")
        else:
            type_ = f"type number {number}, which ggml does not define"
            meaning = "a fork's own type, or one newer than this program; or the header is damaged"
            words = said("type", first[number], number)
        yield error(
            "structure",
            f"{many} of {type_}, the first {first[number]!r}",
            meaning,
            "use the program that made the file, or look for the model in a type of today",
            words,
            tensor=first[number],
        )


def _byte_order(file: GGUFFile) -> Iterator[Finding]:
    if file.header.order == ">":
        yield warning(
            "structure",
            "the file is big-endian",
            "llama.cpp reads it on machines of that byte order alone (s390x)",
            "gguf-py's gguf-convert-endian turns it round; or look for the little-endian file",
            said("byte order", 0x03000000),
        )


def _shards(file: GGUFFile) -> Iterator[Finding]:
    """Yield what later shards say otherwise than the first, which speaks for the model."""
    first, *others = file.shards
    for shard in others:
        name, metadata = shard.source.path.name, shard.header.metadata
        for key in ("general.architecture", "general.name", "general.file_type"):
            here, there = metadata.get(key), first.header.metadata.get(key)
            if here is not None and here != there:
                yield error(
                    "structure",
                    f"{name} says {key} is {here!r:.40}, not {there!r:.40}",
                    "the files are not the parts of one model",
                    "download all shards again, from one place",
                    key=key,
                )
        if (shard.header.order, shard.header.version) != (first.header.order, first.header.version):
            yield warning(
                "structure",
                f"{name} has another GGUF version or byte order",
                "the files were not written by one run",
                "download all shards again, from one place",
            )
    if not others and file.metadata.get(TENSORS_KEY, 0) not in (0, len(file.tensors)):
        promised = file.metadata[TENSORS_KEY]
        yield error(
            "structure",
            f"'{TENSORS_KEY}' is {promised}: {len(file.tensors)} here",
            f"it is a part of a split model ('{COUNT_KEY}', '{NUMBER_KEY}' say which)",
            "put all parts into one folder, with the names that they had",
            said("split tensors", promised, len(file.tensors)),
            key=TENSORS_KEY,
        )


def _version(file: GGUFFile) -> Iterator[Finding]:
    said_version = file.metadata.get("general.quantization_version")
    quantized = any(is_quantized(tensor.type) for tensor in file.tensors.values())
    if quantized and isinstance(said_version, int) and said_version != VERSION:
        grade = warning if said_version > VERSION else error
        yield grade(
            "structure",
            f"'general.quantization_version' is {said_version}; today's blocks are {VERSION}",
            "the blocks of Q4_0, Q4_1, Q8_0 and others were laid out otherwise in each version; "
            "llama.cpp does not ask, and reads them as those of today",
            "quantize the original model again",
            key="general.quantization_version",
        )


def kind_of(file: GGUFFile) -> str:
    """Return what a file is: most are models."""
    type_ = text_of(file.metadata, "general.type") or ""
    architecture = architecture_of(file.metadata)
    if type_ == "adapter" or text_of(file.metadata, "adapter.type"):
        return "adapter"
    if type_ == "mmproj" or architecture == "clip":
        return "projector"
    if type_ == "imatrix" or "imatrix.datasets" in file.metadata:
        return "importance matrix"
    if architecture == "controlvector":
        return "control vector"
    if not file.tensors:
        return "vocabulary" if "tokenizer.ggml.tokens" in file.metadata else "metadata"
    return "model"
