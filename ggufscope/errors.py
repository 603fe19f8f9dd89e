"""Every error that ggufscope raises on purpose, as one tree; each class says what it stands for.

::

    GGUFScopeError
    ├── SourceError           the bytes cannot be had
    │     SourceNotFound, NotAFile, SourceUnreadable, SourceChanged, FileClosed, UnfinishedFile,
    │     SeveralModels, NotHere, AccessRefused, Unreachable, ServerLied, DownloadTooLarge,
    │     HalfEdited
    ├── FormatError           the file says something that cannot be true
    │     EmptyFile, NotGGUF, UnsupportedVersion, Truncated, ImpossibleCount, EmptyKey,
    │     DuplicateKey, UnknownValueType, NestedTooDeep, BeyondLimit, BadAlignment,
    │     TensorNameTooLong, DuplicateTensor, TooManyDimensions, NegativeDimension, ShapeOverflow,
    │     RaggedRow, MisplacedTensor, TensorOutOfFile
    ├── ShardError            the files of one model do not fit together
    │     ShardMissing, ShardMismatch
    ├── BadImportance         an importance matrix that cannot be one
    ├── BadBase               a file of logits, to hold a model to, that cannot be one
    ├── HyperparameterError   metadata that contradicts itself, or is of the wrong type
    ├── TokenizerError        text cannot become tokens
    │     UnknownTokenizer, BadVocabulary, UnreadableText, NoSuchToken
    ├── UnknownType           a type name that ggml does not have
    ├── CodecError            weights or blocks that cannot be converted
    │     IndivisibleRow, UnmakeableType, UnmakeableBlock, NonFiniteWeight, MismatchedArray
    ├── NotInModel            a key, tensor or layer was asked for that the model has not
    ├── DifferentModels       two files to be compared are not the same model
    ├── BadUsage              options that contradict each other, or make no sense
    ├── BadPattern            a filter that is not a valid regex
    ├── WriteError            a file cannot be written as asked
    │     TargetExists, TargetIsSource, TargetTwice, TargetNotAFile, NoRoom, TargetUnwritable,
    │     TargetBusy, OutputLost, TargetCorrupt, UnencodableValue, IncompleteTensor
    ├── RecipeError           a model cannot be quantized as asked
    │     UnknownPreset, BadTypeRule, BadOverride, BadEdit, BadPruning, NoFallback, TypeDoesNotFit,
    │     HeadsUnknown, LayerUnknown, ImportanceNeeded, ImportanceMismatch, AlreadyQuantized,
    │     NotConvertible, NotWhole
    ├── SizingError           what it weighs cannot be told
    │     UnknownShape, NotDerivable, CacheTypeDoesNotFit
    ├── RunError              a model, or a text, cannot be run
    │     NotRunnable, TextNotIds, EmptyPrompt, TokenUnknown, TooManyTokens, TooFewTokens,
    │     NonFiniteActivation
    ├── TooMuchMemory         more than this machine has left
    └── WorkersLost           processes that did the work were ended from outside

Each error is one line of what is wrong and where, and a hint of what to do about it. Exit codes
are the business of ``ggufscope.cli`` alone.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Self


class GGUFScopeError(Exception):
    """What is wrong, in one line (``message``), and what to do about it (``hint``)."""

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def about(self, what: object) -> Self:
        """Put the name of a file before the message, unless the message has it already."""
        if str(what) not in self.message:
            self.message = f"{what}: {self.message}"
            self.args = (self.message,)
        return self


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


class HyperparameterError(GGUFScopeError):
    """Model metadata that contradicts itself, is absurd, or is of the wrong type."""


class TokenizerError(GGUFScopeError):
    """Text cannot become tokens, or tokens text."""


class UnknownTokenizer(TokenizerError):
    """A kind of vocabulary that is not read here, or a file that has none."""


class BadVocabulary(TokenizerError):
    """A vocabulary that contradicts itself, or is of the wrong type."""


class UnreadableText(TokenizerError):
    """Text that is not Unicode: it came from bytes that are not UTF-8."""


class NoSuchToken(TokenizerError):
    """A token number that the vocabulary does not have."""


class UnknownType(GGUFScopeError):
    """A type name that ggml does not have."""


class CodecError(GGUFScopeError):
    """Weights or blocks that cannot be converted."""


class IndivisibleRow(CodecError):
    """An array whose rows are not a whole number of blocks; in a file it is a ``RaggedRow``."""


class UnmakeableType(CodecError):
    """A type that can be dequantized, but not quantized to."""


class UnmakeableBlock(CodecError):
    """Weights that the search of a type finds nothing for: ggml ends there."""

    row: int = 0
    """In the array that was to be quantized."""


class NonFiniteWeight(CodecError):
    """A NaN or an infinity among the weights to quantize."""


class MismatchedArray(CodecError):
    """Blocks, type, shape or output that do not fit together, or are of the wrong kind."""


class NotInModel(GGUFScopeError):
    """A key, tensor or layer was asked for that the model does not have."""


class DifferentModels(GGUFScopeError):
    """Two files to be compared that are not the same model: shapes, vocabulary or architecture."""


class BadUsage(GGUFScopeError):
    """Options that contradict each other, or make no sense."""


class BadPattern(GGUFScopeError):
    """A filter that is not a valid regular expression."""


class WriteError(GGUFScopeError):
    """A file cannot be written as asked."""


class TargetExists(WriteError):
    """The target exists and overwriting was not asked for."""


class TargetIsSource(WriteError):
    """The target is the source itself, by whatever path or link."""


class TargetTwice(WriteError):
    """Two targets of one run are one file."""


class TargetNotAFile(WriteError):
    """The target is a directory, a pipe or a device."""


class NoRoom(WriteError):
    """The disk is too full for the target."""


class TargetUnwritable(WriteError):
    """The operating system refused to write the target."""


class TargetBusy(WriteError):
    """Another process is writing the target."""


class OutputLost(WriteError):
    """Standard output is closed, or cannot take what is printed."""


class TargetCorrupt(WriteError):
    """The target reads back otherwise than it was written."""


class UnencodableValue(WriteError):
    """A value that its metadata type cannot hold."""


class IncompleteTensor(WriteError):
    """A tensor was handed more or fewer bytes than its shape and type need."""


class RecipeError(GGUFScopeError):
    """A model cannot be quantized as asked."""


class UnknownPreset(RecipeError):
    """A preset that llama-quantize does not have."""


class BadTypeRule(RecipeError):
    """A type given by hand that is not ``NAME=TYPE``, or whose name is not a valid regex."""


class BadOverride(RecipeError):
    """Metadata given by hand that is not ``KEY=TYPE:VALUE``."""


class BadEdit(RecipeError):
    """A change of the metadata that makes no sense, or that would spoil the model."""


class BadPruning(RecipeError):
    """Layers to leave out that are not whole numbers, or whose going makes two of one name."""


class NoFallback(RecipeError):
    """Rows that do not divide into blocks, and no type to take their type's place."""


class TypeDoesNotFit(RecipeError):
    """A type given by hand for rows that do not divide into its blocks."""


class HeadsUnknown(RecipeError):
    """A recipe that goes by the number of heads, for a model that has none."""


class LayerUnknown(RecipeError):
    """A tensor of a model of experts whose name gives no layer of the model."""


class ImportanceNeeded(RecipeError):
    """Without an importance matrix this recipe makes garbage."""


class ImportanceMismatch(RecipeError):
    """An importance matrix made for a model of other shapes."""


class AlreadyQuantized(RecipeError):
    """A tensor is quantized already, and quantizing it again was not asked for."""


class NotConvertible(RecipeError):
    """A tensor's type cannot be decoded, or the type it is to become cannot be made."""


class NotWhole(RecipeError):
    """A tensor that the architecture needs is missing, or has another shape than it needs."""


class SizingError(GGUFScopeError):
    """What a model weighs cannot be told."""


class UnknownShape(SizingError):
    """A name that is neither a known shape nor a parameter count nor a file."""


class NotDerivable(SizingError):
    """The metadata does not say enough, or this program does not know the architecture's rules."""


class CacheTypeDoesNotFit(SizingError):
    """A type for keys or values with which llama.cpp refuses to make the context."""


class RunError(GGUFScopeError):
    """A model, or a text, cannot be run."""


class NotRunnable(RunError):
    """An architecture without a forward pass here, or a tensor that has no place in it."""


class TextNotIds(RunError):
    """A text where its token ids are needed."""


class EmptyPrompt(RunError):
    """A prompt without tokens."""


class TokenUnknown(RunError):
    """A token id outside the vocabulary."""


class TooManyTokens(RunError):
    """A text longer than the model's context."""


class TooFewTokens(RunError):
    """A text too short to be cut into chunks."""


class NonFiniteActivation(RunError):
    """Numbers within a pass that are too large for float32, or no numbers."""


class TooMuchMemory(GGUFScopeError):
    """More memory would be needed than this machine has left."""


class WorkersLost(GGUFScopeError):
    """Processes that did the work were ended from outside, again and again."""


_OF_THE_ASKER = (
    *(SourceError, UnknownType, BadUsage, BadPattern, WriteError, UnknownPreset),
    *(BadTypeRule, BadOverride, UnknownShape, TooFewTokens, WorkersLost),
)
"""Errors that are about what was asked for, or that name their file anyway."""


@contextmanager
def naming(what: object) -> Iterator[None]:
    """Name a file in every error about a model that is raised inside."""
    try:
        yield
    except GGUFScopeError as error:
        if not isinstance(error, _OF_THE_ASKER):
            error.about(what)
        raise
