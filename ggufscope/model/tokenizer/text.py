"""Text to token ids and back, with the vocabulary of a GGUF file.

Ids equal those of llama.cpp's ``llama_tokenize``: special tokens are found in the text first, what
is left between them goes through the encoder of the vocabulary (``encoders.py``), and the tokens
that begin and end a text are put around it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import cached_property
from typing import TYPE_CHECKING, Any, Final, Self

from ggufscope.errors import BadVocabulary, NoSuchToken, UnreadableText
from ggufscope.model.tokenizer.keys import USE_IDS
from ggufscope.model.tokenizer.rules import TokenType
from ggufscope.model.tokenizer.special_tokens import split_at_special
from ggufscope.model.tokenizer.vocabulary import (
    BYTE_OF,
    SPACE,
    Vocabulary,
    is_unicode,
    read_vocabulary,
)

if TYPE_CHECKING:
    from ggufscope.model.tokenizer.encoders import Encode


class TextTokenizer:
    """Text to token ids and back. Only what encodes waits for the encoder, which takes longest."""

    def __init__(self, vocabulary: Vocabulary) -> None:
        self.vocabulary: Final = vocabulary

    @cached_property
    def _encode(self) -> Encode:
        from ggufscope.model.tokenizer.encoders import ENCODERS

        return ENCODERS[self.vocabulary.model](self.vocabulary)

    def require_encoder(self) -> Self:
        """Return the same, ready to encode; raises ``BadVocabulary`` where that cannot be."""
        _ = self._encode
        return self

    @property
    def vocab_size(self) -> int:
        """How many tokens there are."""
        return len(self.vocabulary.tokens)

    def encode(
        self, text: str, *, add_special: bool = True, parse_special: bool = True
    ) -> list[int]:
        """Return the ids of a text, as ``llama_tokenize`` of llama.cpp does.

        ``add_special`` puts BOS before and EOS behind, where the model wants them;
        ``parse_special`` reads the text of a control token (``<|im_end|>``) as that token, not
        as characters. Raises ``UnreadableText``.
        """
        if not is_unicode(text):
            raise UnreadableText(
                "the text is not Unicode: it has a surrogate without its other half",
                hint="write the text as UTF-8",
            )
        vocabulary = self.vocabulary
        parts = split_at_special(text, vocabulary, vocabulary.special(control=parse_special))
        ids: list[int] = []
        for part in parts:
            ids += [part] if isinstance(part, int) else self._encode(part)
        return self._framed(ids) if add_special else ids

    def _framed(self, ids: list[int]) -> list[int]:
        """Put the tokens around a text that its model wants there."""
        vocabulary = self.vocabulary
        if vocabulary.model == "bert":
            return [*self._need("bos"), *ids, *self._need("separator")]
        before = self._need("bos") if vocabulary.add_bos else []
        return [*before, *ids, *(self._need("eos") if vocabulary.add_eos else [])]

    def _need(self, name: str) -> list[int]:
        id_ = getattr(self.vocabulary, name)
        if id_ is None:
            raise BadVocabulary(
                f"a text of this model has a {name} token, and the vocabulary does not say which",
                hint=USE_IDS,
            )
        return [id_]

    def token_bytes(self, id_: int) -> bytes:
        """Return the text of one token, control tokens by their names; raises ``NoSuchToken``."""
        vocabulary = self.vocabulary
        if not 0 <= id_ < self.vocab_size:
            raise NoSuchToken(
                f"there is no token {id_}: the vocabulary has {self.vocab_size}",
                hint=f"token numbers go from 0 to {self.vocab_size - 1}",
            )
        text, type_ = vocabulary.tokens[id_], vocabulary.types[id_]
        if type_ == TokenType.BYTE and len(text) == len("<0x00>"):
            return bytes.fromhex(text[3:5])
        if type_ in {TokenType.CONTROL, TokenType.UNKNOWN, TokenType.USER_DEFINED}:
            return text.encode("utf-8", "surrogateescape")
        if vocabulary.model == "gpt2" and vocabulary.pre.byte_level:
            bytes_ = (
                bytes([BYTE_OF[character]])
                if character in BYTE_OF
                else character.encode("utf-8", "surrogateescape")
                for character in text
            )
            return b"".join(bytes_)
        return text.replace(SPACE, " ").encode("utf-8", "surrogateescape")

    def decode(self, ids: Iterable[int]) -> str:
        """Return the text of ids, control tokens by their names; U+FFFD for what is not UTF-8."""
        return b"".join(map(self.token_bytes, ids)).decode("utf-8", "replace")

    def text(self, id_: int) -> str:
        """Return the text of one token; a byte that is no character by itself as ``<0xE2>``."""
        text = self.token_bytes(id_).decode("utf-8", "surrogateescape")
        return "".join(
            f"<0x{ord(character) - 0xDC00:02X}>" if "\udc80" <= character <= "\udcff" else character
            for character in text
        )

    def piece(self, id_: int) -> str:
        r"""Return a printable label of one token: a space is U+2581, a newline ``\n``."""
        text = self.text(id_).replace(" ", SPACE)
        return "".join(
            character if character.isprintable() else character.encode("unicode_escape").decode()
            for character in text
        )

    def shown_as(self, label: str) -> list[int]:
        """Return the tokens that have this label, which takes a while: all labels are made."""
        return [id_ for id_ in range(self.vocab_size) if self.piece(id_) == label]


def read_tokenizer(metadata: Mapping[str, Any]) -> TextTokenizer:
    """Make the tokenizer of a model from its metadata.

    Raises ``UnknownTokenizer`` (its hint says what to do instead) or ``BadVocabulary``.
    """
    return TextTokenizer(read_vocabulary(metadata)).require_encoder()
