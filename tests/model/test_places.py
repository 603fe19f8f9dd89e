"""Where a word stands among tokens."""

from __future__ import annotations

import pytest

from ggufscope.errors import BadUsage
from ggufscope.model.tokenizer.places import find_word, place_of

PIECES = [b"<s>", b"The", b" cat", b" sat", b" at", b" the", b" pa", b"rk", b".", b" The"]
LABELS = [piece.decode() for piece in PIECES]


@pytest.mark.parametrize(
    ("word", "found"),
    [
        ("cat", [range(2, 3)]),
        (" cat", [range(2, 3)]),
        ("at", [range(4, 5)]),  # neither in cat nor in sat
        ("park", [range(6, 8)]),
        ("rk", [range(7, 8)]),  # a whole token
        ("par", []),
        ("the park", [range(5, 8)]),
        (".", [range(8, 9)]),
        ("The", [range(1, 2), range(9, 10)]),
        ("<s>", [range(1)]),
        ("dog", []),
    ],
)
def test_words_are_found_as_people_read_them(word: str, found: list[range]) -> None:
    assert find_word(PIECES, word) == found


def test_texts_without_spaces_and_broken_characters() -> None:
    cat = "黑猫".encode()
    assert find_word([cat[:3], cat[3:], "坐".encode()], "猫") == [range(1, 2)]
    rocket = "🚀".encode()
    assert find_word([b"a", rocket[:1], rocket[1:], b" b"], "🚀") == [range(1, 3)]
    assert find_word([b"1", b"5", b"9"], "5") == [range(1, 2)]
    assert find_word([b"\xff", b"a"], "a") == [range(1, 2)]


def test_which_token_is_taken() -> None:
    assert place_of(PIECES, LABELS, None, None).position == 9
    assert place_of(PIECES, LABELS, None, 3).position == 3
    park = place_of(PIECES, LABELS, "park", None)
    assert (park.position, park.pieces, park.others) == (7, range(6, 8), ())
    assert place_of(PIECES, LABELS, "park", 6).position == 6
    the = place_of(PIECES, LABELS, "The", None)
    assert (the.position, the.others) == (9, (range(1, 2),))
    assert place_of(PIECES, LABELS, "The", 1).others == (range(9, 10),)


def test_a_word_may_be_written_as_it_is_shown() -> None:
    pieces = [b"<s>", b"The", b" cat", b"\n", b"\xe2", b" cat"]
    labels = ["<s>", "The", "\u2581cat", "\\n", "<0xE2>", "\u2581cat"]
    cat = place_of(pieces, labels, "\u2581cat", None)
    assert (cat.position, cat.others) == (5, (range(2, 3),))
    assert place_of(pieces, labels, "The\u2581cat", None).pieces == range(1, 3)
    assert place_of(pieces, labels, "\\n", None).position == 3
    assert place_of(pieces, labels, "<0xE2>", None).position == 4


@pytest.mark.parametrize(
    ("word", "position", "says"),
    [
        ("dog", None, "the prompt has no 'dog'"),
        ("", None, "is empty"),
        ("The", 2, "token 2 is  cat, not 'The'"),
        (None, 10, "tokens 0 to 9"),
        (None, -1, "there is no token -1"),
    ],
)
def test_what_is_not_there_is_said(word: str | None, position: int | None, says: str) -> None:
    with pytest.raises(BadUsage) as caught:
        place_of(PIECES, LABELS, word, position)
    assert says in caught.value.message
    assert caught.value.hint
