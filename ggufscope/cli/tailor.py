"""``ggufscope quantize --target-size`` and the like: a mix of types chosen by measurement."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from ggufscope.cli.options import warn
from ggufscope.cli.prompts import tokenizer_of
from ggufscope.cli.sizes import check_bits, parse_size_if
from ggufscope.cli.texts import LONGEST_TEXT, name_of_text, read_text
from ggufscope.errors import BadUsage, TargetTwice, naming

if TYPE_CHECKING:
    from ggufscope.container.file import GGUFFile
    from ggufscope.measure.tailor import Tailored, Wish
    from ggufscope.measure.windows import Halves
    from ggufscope.recipes.request import Request

WINDOW: Final = 512
TOKENS: Final = 2048
DEFAULT_TEXT: Final = "text.txt"
"""The text that ships."""


@dataclass(frozen=True, slots=True)
class Aim:
    """What the options of a target say."""

    size: str | None
    bits: float | None
    kl: float | None
    text: Path | None
    sensitivities: Path | None
    tokens: int | None
    types: tuple[str, ...]
    floor: str | None
    recipe: Path | None
    imatrix: Path | None
    """What is made on the way."""
    html: Path | None
    explain: bool

    @property
    def given(self) -> bool:
        """Whether there is a target at all. Raises ``BadUsage`` for options that need one."""
        if any(each is not None for each in (self.size, self.bits, self.kl)):
            return True
        for name, value in (
            *(("--text", self.text), ("--sensitivities", self.sensitivities)),
            *(("--tokens", self.tokens), ("--floor", self.floor)),
            *(("--write-types", self.recipe), ("--make-imatrix", self.imatrix)),
            *(("--html", self.html), ("--explain", self.explain or None)),
        ):
            if value is not None:
                raise BadUsage(
                    f"{name} is about a mix that is chosen by measurement",
                    hint="say how large: --target-size, --target-bpw or --target-kl",
                )
        return False


def tailor_request(
    request: Request, aim: Aim, words: Sequence[str], *, force: bool, resume: bool = False
) -> tuple[Request, Tailored]:
    """Return the request with what was chosen in place of a type, and how it was chosen.

    ``resume``: the same line ran before, so what it made on the way may be there already.
    """
    from ggufscope.container.file import open_gguf
    from ggufscope.container.target import check_target
    from ggufscope.measure.tailor import tailor
    from ggufscope.recipes.files import default_target
    from ggufscope.recipes.imatrix_file import write_imatrix
    from ggufscope.recipes.request import imatrix_of
    from ggufscope.recipes.sensitivities import read_sensitivities
    from ggufscope.recipes.tailoring import rules_text
    from ggufscope.report.progress import CommandBar
    from ggufscope.report.saving import write_text

    wish = _wish(request, aim)
    target = _target(words, request)
    assert isinstance(request.source, Path)
    file = open_gguf(request.source)
    with naming(file.path):
        sources = [shard.source.path for shard in file.shards]
        read = [aim.text, request.imatrix]
        known = None
        if aim.sensitivities is not None and os.path.lexists(aim.sensitivities):
            known = read_sensitivities(aim.sensitivities)
            read.append(aim.sensitivities)
            if resume and aim.imatrix is not None and os.path.lexists(aim.imatrix):
                request, aim = replace(request, imatrix=aim.imatrix), replace(aim, imatrix=None)
        sources += [path for path in read if isinstance(path, Path)]
        outputs = [aim.recipe, aim.imatrix, aim.html, None if known else aim.sensitivities]
        _require_apart([*outputs, target])
        if request.split_max_size is None and not resume:
            outputs.append(target)
        for path in filter(None, outputs):  # measuring takes long: what cannot be is said before
            there = resume and path in {aim.recipe, aim.html} and os.path.lexists(path)
            check_target(path, overwrite=force or there, sources=sources)
        if aim.imatrix is not None and (known is not None or request.imatrix is not None):
            other = "--imatrix" if known is None else f"{aim.sensitivities}, which exists"
            raise BadUsage(
                f"--make-imatrix stands beside {other}",
                hint="use what was made before: --imatrix FILE, with the sensitivities",
            )
        imatrix = imatrix_of(request)
        text = _halves(file, aim)
        with CommandBar(file.path.name) as bar:
            phases: dict[str, Any] = {}

            def progress(words: str, done: int, total: int) -> None:
                share = 0.6 if words == "measuring" else 0.4
                if words not in phases:
                    phases[words] = bar.phase(words, share, unit="layers")
                phases[words](done, total)

            found = tailor(
                file,
                wish,
                text,
                imatrix=imatrix,
                make_imatrix=aim.imatrix,
                sensitivities=known,
                progress=progress,
            )
        file.require_unchanged()
    if aim.imatrix is not None and found.imatrix is not None:
        write_imatrix(found.imatrix, aim.imatrix, overwrite=force)
    if aim.sensitivities is not None and known is None:
        write_text(aim.sensitivities, found.sensitivities.as_text(), overwrite=force)
    if aim.recipe is not None:
        _write(aim.recipe, rules_text(found.rules), force=force, resume=resume)
    if aim.html is not None:
        from ggufscope.report.quantize.page import tailored_page

        page = tailored_page(file.path.name, found)
        _write(aim.html, page, force=force, resume=resume)
    for stack, count in found.sensitivities.unreached.items():
        warn(f"{stack}: {count} experts were chosen by no token of the text: their cost is unknown")
    if aim.text is None and known is None:
        warn("the types were chosen by the text that ships: give --text with some of your own")
    plan = found.best.plan
    if target is None:
        bits = f"{plan.bits_per_weight:.2f}bpw"
        target = default_target(file.path, bits, request.directory)
    made = replace(
        request,
        source=file,
        targets={target: plan},
        imatrix=found.imatrix,
        include_weights=(),
        exclude_weights=(),
    )
    return made, found


def _write(path: Path, text: str, *, force: bool, resume: bool) -> None:
    """Write a text; one that the same line wrote before is left as it is."""
    from ggufscope.report.saving import write_text

    if not (resume and path.is_file() and path.read_bytes() == text.encode()):
        write_text(path, text, overwrite=force)


def _require_apart(paths: Sequence[Path | None]) -> None:
    """Raise ``TargetTwice`` where one file is to be two things."""
    given = [path for path in paths if path is not None]
    places = [path.resolve() for path in given]
    for path, place in zip(given, places, strict=True):
        if places.count(place) > 1:
            raise TargetTwice(f"{path} would be written twice", hint="name different files")


def _wish(request: Request, aim: Aim) -> Wish:
    from ggufscope.measure.tailor import Wish
    from ggufscope.recipes.tailoring import USUAL_TYPES

    if sum(each is not None for each in (aim.size, aim.bits, aim.kl)) > 1:
        raise BadUsage(
            "--target-size, --target-bpw and --target-kl contradict each other",
            hint="give one of them",
        )
    bits = check_bits(aim.bits)
    if aim.kl is not None and not aim.kl > 0:
        raise BadUsage(
            f"--target-kl {aim.kl:g} is no divergence", hint="a number of nats, such as 0.01"
        )
    if request.options.pure:
        raise BadUsage("--pure leaves no types to choose", hint="leave it out")
    return Wish(
        nbytes=parse_size_if(aim.size, "--target-size", "a file"),
        bits=bits,
        kl=aim.kl,
        types=aim.types or USUAL_TYPES,
        floor=aim.floor,
        options=request.options,
        overrides=request.overrides,
        split_max_size=request.split_max_size,
    )


def _target(words: Sequence[str], request: Request) -> Path | None:
    """Read ``[TARGET]``: the type is what is looked for."""
    from ggufscope.recipes.mixes import ALIASES, MIXES

    odd = next((word for word in words if word.upper() in {*MIXES, *ALIASES}), None)
    if odd or len(words) > 1:
        raise BadUsage(
            f"{odd or words[1]!r} stands beside a target that types are chosen for",
            hint="ggufscope quantize SOURCE [TARGET] --target-size 4GiB; --types limits the choice",
        )
    if words and request.directory is not None:
        raise BadUsage(
            "a target cannot be used together with --output-dir", hint="give one of the two"
        )
    return Path(words[0]) if words else None


def _halves(file: GGUFFile, aim: Aim) -> Halves:
    from ggufscope.measure.windows import halves
    from ggufscope.model.hparams import read_hparams

    tokenizer = tokenizer_of(file.metadata, needed=True)
    assert tokenizer is not None  # it was needed
    name = DEFAULT_TEXT if aim.text is None else name_of_text(aim.text)
    if aim.text is None:
        from importlib import resources

        said = resources.files("ggufscope.measure").joinpath(DEFAULT_TEXT).read_text("utf-8")
    else:
        said = read_text(aim.text, LONGEST_TEXT, "a text to choose by")
    return halves(
        said,
        tokenizer.encode,
        length=min(WINDOW, read_hparams(file.metadata).context_length or WINDOW),
        tokens=aim.tokens or TOKENS,
        name=name,
    )
