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
    │     TargetBusy, NotResumable, OutputLost, TargetCorrupt, UnencodableValue, IncompleteTensor
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
    ├── WorkersLost           processes that did the work were ended from outside
    └── ClusterError          a cluster cannot be reached, or cannot do the work

Each error is one line of what is wrong and where, and a hint of what to do about it. Exit codes
are the business of ``ggufscope.cli`` alone.
"""

from __future__ import annotations

# All that these files define is an error, and public: a list of them would be the tree once more.
from ggufscope.errors.base import GGUFScopeError as GGUFScopeError
from ggufscope.errors.files import *  # noqa: F403  see above
from ggufscope.errors.models import *  # noqa: F403  see above
from ggufscope.errors.naming import naming as naming
from ggufscope.errors.work import *  # noqa: F403  see above
