"""Which errors are of a file, and how they get its name."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from ggufscope.errors.base import GGUFScopeError
from ggufscope.errors.files import SourceError
from ggufscope.errors.models import BadPattern, BadUsage, UnknownType
from ggufscope.errors.work import (
    BadOverride,
    BadTypeRule,
    ClusterError,
    TooFewTokens,
    UnknownPreset,
    UnknownShape,
    WorkersLost,
    WriteError,
)

_OF_THE_ASKER = (
    *(SourceError, UnknownType, BadUsage, BadPattern, WriteError, UnknownPreset),
    *(BadTypeRule, BadOverride, UnknownShape, TooFewTokens, WorkersLost, ClusterError),
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
