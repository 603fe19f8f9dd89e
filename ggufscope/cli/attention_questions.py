"""Questions of ``ggufscope attention`` about words, heads and the cache: a class for each."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from ggufscope.cli.attention_modes import Answer, Asked

if TYPE_CHECKING:
    from ggufscope.container.file import GGUFFile
    from ggufscope.forward.transformer import Transformer


@dataclass(slots=True)
class Token:
    """What one token looks at in all heads."""

    layer: int | None

    def check(self, file: GGUFFile, model: Transformer) -> None:
        """Raise ``NotInModel`` for a layer that the model does not have."""
        from ggufscope.measure.watching import require_head

        require_head(model, self.layer, None)

    def answer(self, asked: Asked) -> Answer:
        """Keep the token's row of each head."""
        from ggufscope.measure.looking import TokenRows
        from ggufscope.measure.watching import watch
        from ggufscope.report.attention.questions import token_views
        from ggufscope.report.attention.questions_json import token_json

        place, subject, rows = asked.place, asked.subject, TokenRows(asked.place.position)
        watch(asked.model, subject.ids, watchers=[rows], progress=asked.progress)
        layers = {n: each for n, each in rows.layers.items() if self.layer in (None, n)}
        return Answer(
            lambda _: token_views(layers, place, subject),
            lambda: token_json(layers, place, subject),
        )


@dataclass(slots=True)
class To:
    """Who looks at a word."""

    of_token: bool
    """Whether only one token's looks are wanted."""
    full: bool

    def check(self, file: GGUFFile, model: Transformer) -> None:
        """Every model can be asked."""

    def answer(self, asked: Asked) -> Answer:
        """Add up what each token gives to the word's pieces."""
        from ggufscope.measure.looking import TokenColumns, looks_at
        from ggufscope.measure.watching import watch
        from ggufscope.report.attention.questions import to_views
        from ggufscope.report.attention.questions_json import to_json

        subject, of = asked.subject, asked.place if self.of_token else None
        place = asked.to or asked.place
        columns = TokenColumns(place.pieces)
        watch(asked.model, subject.ids, watchers=[columns], progress=asked.progress)
        looks = looks_at(columns, place.pieces, None if of is None else of.position)
        return Answer(
            lambda _: to_views(looks, place, of, subject, full=self.full),
            lambda: to_json(looks, place, of, subject),
        )


@dataclass(slots=True)
class Heads:
    """What W_O makes of all heads, and what they look at."""

    def check(self, file: GGUFFile, model: Transformer) -> None:
        """Every model can be asked."""

    def answer(self, asked: Asked) -> Answer:
        """Run the prompt, and random tokens that come twice."""
        from ggufscope.measure.heads import repeated_tokens, survey
        from ggufscope.report.attention.questions import heads_views
        from ggufscope.report.attention.questions_json import heads_json

        subject = asked.subject
        layers = survey(asked.model, subject.ids, asked.progress)
        tokens = len(repeated_tokens(asked.model, subject.ids[0])) // 2
        return Answer(
            lambda _: heads_views(layers, subject, tokens),
            lambda: heads_json(layers, subject, tokens),
        )


@dataclass(slots=True)
class Pair:
    """The same word in two prompts."""

    full: bool

    def check(self, file: GGUFFile, model: Transformer) -> None:
        """Every model can be asked."""

    def answer(self, asked: Asked) -> Answer:
        """Run both prompts."""
        from ggufscope.measure.looking import meet
        from ggufscope.report.attention.questions import pair_views
        from ggufscope.report.attention.questions_json import pair_json

        one, (two, there) = asked.subject, asked.other or (asked.subject, asked.place)
        places = asked.place, there
        positions = asked.place.position, there.position
        met = meet(asked.model, (one.ids, two.ids), positions, asked.progress)
        return Answer(
            lambda _: pair_views(met, places, (one, two), full=self.full),
            lambda: pair_json(met, places, (one, two)),
        )


@dataclass(slots=True)
class Cached:
    """Token by token with a KV cache, and all at once."""

    def check(self, file: GGUFFile, model: Transformer) -> None:
        """Every model can be asked."""

    def answer(self, asked: Asked) -> Answer:
        """Run the prompt both ways."""
        from ggufscope.measure.cached import token_by_token
        from ggufscope.report.attention.questions import cached_views
        from ggufscope.report.attention.questions_json import cached_json

        subject, layers = asked.subject, asked.model.n_layers
        found = token_by_token(asked.model, subject.ids, asked.progress)
        return Answer(
            lambda _: cached_views(found, layers, subject),
            lambda: cached_json(found, subject),
            holds=found.same,
        )
