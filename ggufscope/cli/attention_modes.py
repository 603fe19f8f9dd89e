"""What ``ggufscope attention`` can be asked: a class for each question, from checks to answer."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Protocol

from ggufscope.errors import BadUsage, NotInModel
from ggufscope.spelling import did_you_mean

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

    from ggufscope.arrays import Array
    from ggufscope.container.file import GGUFFile
    from ggufscope.forward.transformer import Transformer
    from ggufscope.measure.watching import Spotlight
    from ggufscope.model.tokenizer.places import Place
    from ggufscope.report.subject import Subject

SAVED: Final = ("kq_soft_max", "result_output")
"""What ``--save`` writes where ``--keep`` does not say."""
ALL: Final = "all"


@dataclass(frozen=True, slots=True)
class Answer:
    """What is printed: views for a console, or data for ``--json``."""

    views: Callable[[Console], Iterable[RenderableType]]
    data: Callable[[], dict[str, Any]]
    holds: bool = True
    """False where the answer to a question is no."""
    files: Sequence[tuple[str, Path]] = ()
    """What was written, and where."""


@dataclass(frozen=True, slots=True)
class Asked:
    """What a question is about."""

    model: Transformer
    subject: Subject
    place: Place
    """The token that was named, or the last one."""
    to: Place | None
    """The word of ``--to``."""
    other: tuple[Subject, Place] | None
    """The prompt of ``--compare-prompt``, and where the token stands in it."""
    progress: Callable[[int], object]
    """Is told how many steps of ``n_layers + 1`` are done."""


class Mode(Protocol):
    """One kind of question."""

    def check(self, file: GGUFFile, model: Transformer) -> None:
        """Raise, before any long work, where it cannot be asked of this model."""

    def answer(self, asked: Asked) -> Answer:
        """Run the prompt."""


@dataclass(slots=True)
class Verify:
    """Whether what must hold holds."""

    def check(self, file: GGUFFile, model: Transformer) -> None:
        """Every model can be asked."""

    def answer(self, asked: Asked) -> Answer:
        """Hold every identity against the model."""
        from ggufscope.measure.verify import verify
        from ggufscope.report.attention.json import verify_json
        from ggufscope.report.attention.text import head_views, verify_views

        subject = asked.subject
        findings = verify(asked.model, subject.ids, asked.progress)
        return Answer(
            lambda _: [*head_views(subject), *verify_views(findings)],
            lambda: verify_json(findings, subject),
            holds=all(each.holds for each in findings),
        )


@dataclass(slots=True)
class Explain:
    """What one head does for one token, in numbers."""

    layer: int
    head: int
    full: bool

    def check(self, file: GGUFFile, model: Transformer) -> None:
        """Raise ``NotInModel`` for a layer or a head that the model does not have."""
        from ggufscope.measure.watching import require_head

        require_head(model, self.layer, self.head)

    def answer(self, asked: Asked) -> Answer:
        """Follow the token through the layers."""
        from ggufscope.measure.explaining import explain
        from ggufscope.report.attention.explain import explain_views
        from ggufscope.report.attention.explain_json import explain_json

        place, subject = asked.place, asked.subject
        found = explain(
            *(asked.model, subject.ids, place.position, self.layer, self.head),
            progress=asked.progress,
        )
        return Answer(
            lambda _: explain_views(found, place, subject, full=self.full),
            lambda: explain_json(found, place, subject),
        )


@dataclass(slots=True)
class Show:
    """What all heads do; the picture of one; a page and arrays where they are wanted."""

    layer: int | None
    head: int | None
    html: Path | None
    save: Path | None
    keep: Sequence[str]
    overwrite: bool
    most: int | None
    """Of a longer prompt only the last tokens are shown."""
    _spotlight: Spotlight | None = field(default=None, init=False)

    def check(self, file: GGUFFile, model: Transformer) -> None:
        """Raise ``NotInModel`` for a layer, a head or a quantity that the model does not have."""
        from ggufscope.measure.watching import Spotlight

        self._spotlight = Spotlight(model, self.layer, self.head, most=self.most)
        if self.save is not None:
            self.keep = _quantities(file, self.keep)

    def answer(self, asked: Asked) -> Answer:
        """Run the prompt, and write what is wanted."""
        from ggufscope.measure.maps import tokens_shown
        from ggufscope.measure.watching import LastMaps, watch

        model, subject, spotlight = asked.model, asked.subject, self._spotlight
        assert spotlight is not None
        heads = sum(model.block(layer).heads.count for layer in range(model.n_layers))
        maps = LastMaps(tokens_shown(len(subject.ids), heads, 1))
        with ExitStack() as stack:
            watched = watch(
                model,
                subject.ids,
                watchers=[spotlight, maps] if self.html else [spotlight],
                keep=self.keep if self.save else (),
                sink=self._sink(stack, subject),
                progress=asked.progress,
            )
        if self.html is not None:
            from ggufscope.cli.pages import write_page
            from ggufscope.report.attention.page import attention_page

            page = attention_page(watched, spotlight, subject, maps.maps)
            write_page(self.html, page, overwrite=self.overwrite)

        def views(console: Console) -> Iterable[RenderableType]:
            from ggufscope.report.attention import text as report
            from ggufscope.report.heatmap import map_width, shades_for

            width, shades = map_width(console), shades_for(console)
            yield from report.head_views(subject)
            yield from report.views(watched, spotlight, subject, width=width, shades=shades)

        def data() -> dict[str, Any]:
            from ggufscope.report.attention.json import result_json

            return result_json(watched, spotlight, subject)

        files = [
            (what, path) for what, path in (("page", self.html), ("arrays", self.save)) if path
        ]
        return Answer(views, data, files=files)

    def _sink(
        self, stack: ExitStack, subject: Subject
    ) -> Callable[[str, int | None, Array], None] | None:
        """Return what writes each array as it is computed."""
        if self.save is None:
            return None
        import numpy as np

        from ggufscope.forward.trace import key_of
        from ggufscope.report.saving import ArraysFile

        arrays = stack.enter_context(ArraysFile(self.save, overwrite=self.overwrite))
        arrays.add("ids", np.array(subject.ids, np.int32))
        return lambda name, layer, array: arrays.add(key_of(name, layer), array)


def _quantities(file: GGUFFile, names: Sequence[str]) -> list[str]:
    """Return the quantities of ``--keep``; raises ``NotInModel`` for one that is not computed."""
    from ggufscope.model.anatomy.build import anatomy_of

    shapes = {name: tensor.shape for name, tensor in file.tensors.items()}
    computed = anatomy_of(shapes, file.metadata, 1).computed_names()
    for name in names:
        if name not in (*computed, ALL):
            raise NotInModel(
                f"--keep {name}: the model computes no such quantity",
                hint=did_you_mean(name, computed, "`ggufscope list` names what is computed"),
            )
    return computed if ALL in names else list(names or SAVED)


def split_names(values: Iterable[str] | None) -> list[str]:
    """Return the names of ``--keep A,B`` and of a repeated ``--keep``, in order."""
    names = [name.strip() for value in values or () for name in value.split(",")]
    if not all(names):
        raise BadUsage("--keep has an empty name", hint="write, say, --keep Qcur,Kcur")
    return names
