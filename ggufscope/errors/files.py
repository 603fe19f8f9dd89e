"""A file that cannot be read, or cannot be true."""

from __future__ import annotations

from ggufscope.errors.base import GGUFScopeError


class SourceError(GGUFScopeError):
    """The bytes cannot be had."""


class SourceNotFound(SourceError):
    """No such path."""


class NotAFile(SourceError):
    """A directory, a pipe or a device where a file is needed."""


class SourceUnreadable(SourceError):
    """The operating system refused to open or map the file."""


class SourceChanged(SourceError):
    """The file was replaced, changed, cut or removed while it was read."""


class FileClosed(SourceError):
    """A model was used after it was closed."""


class UnfinishedFile(SourceError):
    """The last tensors are all zero: room was made for the file, and not all of it came."""


class SeveralModels(SourceError):
    """One model is needed, and a name stands for several, or for none of those that are there."""


class NotHere(SourceError):
    """The weights of a model are needed of which only the header was read, from elsewhere."""


class AccessRefused(SourceError):
    """A server wants to know who asks, or does not let them in."""


class Unreachable(SourceError):
    """A server did not answer, or not now; asking again later may help."""

    def __init__(self, message: str, hint: str = "", wait: float | None = 0.0) -> None:
        super().__init__(message, hint)
        self.wait = wait
        """Seconds until it may be asked again, as it says; None where that is no use."""


class ServerLied(SourceError):
    """A server's answer contradicts the question, or itself."""


class DownloadTooLarge(SourceError):
    """More bytes would have to travel than are allowed to."""


class HalfEdited(SourceError):
    """A killed run left a header with some of the old bytes and some of the new."""


class FormatError(GGUFScopeError):
    """The file says something that cannot be true."""


class EmptyFile(FormatError):
    """Zero bytes."""


class NotGGUF(FormatError):
    """The file does not begin with the bytes ``GGUF``."""


class UnsupportedVersion(FormatError):
    """A GGUF version that llama.cpp no longer reads, or does not read yet."""


class Truncated(FormatError):
    """The file ends inside its header."""


class ImpossibleCount(FormatError):
    """More entries than the rest of the file has room for, or than any model has."""


class EmptyKey(FormatError):
    """A metadata key without a name."""


class DuplicateKey(FormatError):
    """A metadata key that comes twice."""


class UnknownValueType(FormatError):
    """A metadata type number that GGUF does not have."""


class NestedTooDeep(FormatError):
    """Arrays within arrays, deeper than ``values.MAX_NESTING``."""


class BeyondLimit(FormatError):
    """More of something than this program reads, though the file may be sound."""


class BadAlignment(FormatError):
    """``general.alignment`` is not a UINT32 or not a power of two."""


class TensorNameTooLong(FormatError):
    """A tensor name of 64 bytes or more."""


class DuplicateTensor(FormatError):
    """A tensor name that comes twice."""


class TooManyDimensions(FormatError):
    """A tensor of more than four dimensions."""


class NegativeDimension(FormatError):
    """A tensor dimension below zero."""


class ShapeOverflow(FormatError):
    """A tensor of 2**63 elements or more."""


class RaggedRow(FormatError):
    """A row length that is not a multiple of its type's block length."""


class MisplacedTensor(FormatError):
    """A tensor offset that is not the running sum of the padded sizes before it."""


class TensorOutOfFile(FormatError):
    """Tensor data that would lie beyond the end of the file."""


class ShardError(GGUFScopeError):
    """The files of one split model do not fit together."""


class ShardMissing(ShardError):
    """A shard that the others name is not there."""


class ShardMismatch(ShardError):
    """A shard that belongs elsewhere, or comes twice."""


class BadImportance(GGUFScopeError):
    """An importance matrix that contradicts itself, or a file that is none."""


class BadBase(GGUFScopeError):
    """A file of a base model's logits contradicts itself, is cut short, or is none."""
