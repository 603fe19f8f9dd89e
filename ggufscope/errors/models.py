"""A model that contradicts itself, weights that cannot be converted, questions without sense."""

from __future__ import annotations

from ggufscope.errors.base import GGUFScopeError


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
