"""What cannot be written, made, sized or run."""

from __future__ import annotations

from ggufscope.errors.base import GGUFScopeError


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


class NotResumable(WriteError):
    """What an ended run left of the target is of another run than the one asked for."""


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


class ClusterError(GGUFScopeError):
    """A cluster cannot be reached, or its workers cannot do what is asked of them."""
