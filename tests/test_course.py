"""The learner's course: chapters that lead on to each other, and no number that is not shown.

`test_readme.py` runs what the chapters show, and compares it with what is printed now. Here the
text between is held to what is shown: a number that it names stands in a block of its chapter.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.documents import COURSE, GUIDE

_BLOCK = re.compile(r"^```\w+\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_NUMBER = re.compile(r"(?<![\w.])(?:\d[\d,]*\d|\d)(?:\.\d+)?(?:e-?\d+)?(?!\w)|\bL\d+ H\d+")


def text_of(document: Path) -> str:
    """Return what is written between the blocks, without the heading and where links lead."""
    text = _BLOCK.sub("", document.read_text(encoding="utf-8"))
    return re.sub(r"\]\([^)]*\)", "]", text.partition("\n")[2])


def shown_in(document: Path) -> str:
    """Return all blocks: commands, what they print, and Python."""
    return "\n".join(_BLOCK.findall(document.read_text(encoding="utf-8")))


def title_of(chapter: Path) -> str:
    """Return its heading without the number, in small letters."""
    heading = chapter.read_text(encoding="utf-8").partition("\n")[0]
    return heading.split(". ", 1)[1].lower()


def numbers_of(text: str) -> list[str]:
    """Return the numbers of a text as they are written; and heads as L2 H5; 4 in Q4_K is none."""
    return _NUMBER.findall(text.replace("×", " "))


@pytest.mark.parametrize("chapter", COURSE, ids=lambda chapter: chapter.stem)
def test_every_number_of_the_text_is_one_that_is_shown(chapter: Path) -> None:
    shown = set(numbers_of(shown_in(chapter)))
    named = numbers_of(text_of(chapter))
    assert [number for number in named if number not in shown] == []


def test_all_of_the_course_names_numbers() -> None:
    assert all(numbers_of(text_of(chapter)) for chapter in COURSE)
    assert sum(len(numbers_of(text_of(chapter))) for chapter in COURSE) > 80


def test_a_number_is_found_as_it_is_written() -> None:
    text = "Q4_K has 4.52 bits of 16, 1,024 tokens (99%), 9.8e-4 nats, 1/8, -0.5; F16, W_2."
    assert numbers_of(text) == ["4.52", "16", "1,024", "99", "9.8e-4", "1", "8", "0.5"]
    assert numbers_of("7×256 of L2 H5, and 3.") == ["7", "256", "L2 H5", "3"]


def test_the_chapters_lead_on_to_each_other() -> None:
    contents = next(path for path in GUIDE if path.name == "README.md").read_text("utf-8")
    listed = re.findall(r"\]\((learn-[\w-]+\.md)\)", contents)
    assert listed == [chapter.name for chapter in COURSE]
    for number, (chapter, after) in enumerate(zip(COURSE, [*COURSE[1:], None], strict=True), 1):
        text = chapter.read_text(encoding="utf-8")
        assert text.startswith(f"# {number}. ")
        assert after is None or f"\nnext: [{title_of(after)}]({after.name})\n" in text.lower()


@pytest.mark.parametrize("chapter", COURSE, ids=lambda chapter: chapter.stem)
def test_a_chapter_is_short_and_says_one_thing(chapter: Path) -> None:
    text = chapter.read_text(encoding="utf-8")
    assert len(text.splitlines()) <= 90
    assert "$ ggufscope " in shown_in(chapter)
    assert text.count("**What introductions get wrong.**") == 1
    assert text.count("**The one thing to understand.**") == 1
