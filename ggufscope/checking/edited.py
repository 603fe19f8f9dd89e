"""What an edit of the metadata would make worse, by the rules of ``check`` for the header."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from ggufscope.checking.check import header_findings
from ggufscope.checking.findings import Finding, Grade
from ggufscope.container.file import GGUFFile
from ggufscope.container.header import Metadata
from ggufscope.errors import BadEdit
from ggufscope.recipes.changes import LEAVE_IT

_TOKENIZER: Final = "tokenizer."


def edited_findings(file: GGUFFile, after: Metadata) -> list[Finding]:
    """Return the errors and warnings that a model would have with other metadata, and has not now.

    No weight is read. Where an error that is there goes, an error that is new is a warning: the
    one may have hidden the other, and a model is mended one key after the other.
    """
    first, *others = file.shards
    planned = GGUFFile((replace(first, header=replace(first.header, metadata=after)), *others))
    # A large vocabulary takes a while, and what is the same in both says the same.
    tokenizer = _tokenizer(file.metadata) != _tokenizer(after)
    before = {_identity(each): each for each in header_findings(file, tokenizer=tokenizer)}
    found = {_identity(each): each for each in header_findings(planned, tokenizer=tokenizer)}
    mended = any(each.grade is Grade.ERROR for name, each in before.items() if name not in found)
    return [
        replace(each, grade=Grade.WARNING) if mended else each
        for name, each in found.items()
        if name not in before and each.grade is not Grade.NOTE
    ]


def require_no_worse(findings: list[Finding]) -> None:
    """Raise ``BadEdit`` for the first error."""
    for each in findings:
        if each.grade is Grade.ERROR:
            raise BadEdit(
                f"the model would not be sound: {each.what}: {each.meaning}", hint=LEAVE_IT
            )


def _identity(finding: Finding) -> tuple[str, ...]:
    """Return what makes a finding the same before and after: a wrong key may be wrong otherwise."""
    about = finding.key or finding.tensor
    return (finding.grade, finding.subject, *((about,) if about else ("", finding.what)))


def _tokenizer(metadata: Metadata) -> dict[str, int]:
    """Return the values that are the vocabulary's, by identity: an edit keeps those it leaves."""
    return {key: id(v) for key, v in metadata.typed.items() if key.startswith(_TOKENIZER)}
