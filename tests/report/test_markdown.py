"""Markdown, held to a parser of CommonMark and GitHub's tables that is not ours."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st
from markdown_it import MarkdownIt
from markdown_it.token import Token
from rich.console import RenderableType
from rich.text import Text

from ggufscope import __version__
from ggufscope.report.console import facts, left, paragraph, plain_table, right, title
from ggufscope.report.markdown import escaped, report
from ggufscope.report.units import printable

# It comes with rich, which the package needs anyway.
PARSER = MarkdownIt("commonmark").enable(["table", "strikethrough"])

EVIL = [
    "a | b",
    "a \\| b",
    "`code` and ``more`` |",
    "<img src=x onerror=alert(1)>",
    "<!-- swallow",
    "[click](https://evil.example)",
    "![x](//evil.example/x.png)",
    "https://evil.example/a|b",
    "https://evil.example/`a`|`",
    "www.evil.example",
    "mail@evil.example",
    "@everybody, see #1 and GH-2",
    "line\nbreak\r\n\r\n# heading",
    "| a | b |\n|---|---|",
    "- item",
    "1. item",
    "12) item",
    "+ item",
    "---",
    "# heading #",
    "> quote",
    "    indented",
    "```\nfence",
    "~~gone~~",
    "*a* _b_ __c__ a_b_c",
    "&copy; &#64;",
    "$$x$$",
    ":tada:",
    "[^1]: note",
    "[x]: https://evil.example",
    "ends in \\",
    "$|",
    "@`",
]
texts = st.text(st.sampled_from("|`\\<>&[]()!#*_~-+.:@$/ \n1aé\u2028"), max_size=24)


def _flat(tokens: list[Token]) -> Iterator[Token]:
    for token in tokens:
        yield token
        yield from _flat(token.children or [])


def _words(token: Token) -> str:
    """The text that a reader sees of one paragraph or cell, without blanks."""
    parts = _flat(token.children or [])
    return "".join("".join(p.content for p in parts if p.type in ("text", "code_inline")).split())


def _hold(markdown: str, blocks: set[str]) -> list[str]:
    """Only these blocks are there, nothing active within them; gives the text of each."""
    tokens = PARSER.parse(markdown)
    assert {token.type.removesuffix("_open") for token in tokens if token.nesting == 1} <= blocks
    for token in _flat(tokens):
        assert token.type not in ("html_block", "html_inline", "image", "link_open", "fence", "hr")
        assert token.type not in ("s_open", "em_open", "softbreak", "hardbreak", "code_block")
        if token.type == "text":  # what GitHub acts on even where it is escaped
            assert not any(sign in token.content for sign in ("://", "www.", "@", "$"))
    return [_words(token) for token in tokens if token.type == "inline"]


def _hold_all(text: str) -> None:
    text = printable(text, "\n")  # as every view has it
    shown = "".join(text.split())
    heads = ["file", "shape"]
    table = plain_table(left("file"), right("shape"))
    table.add_row(Text(text), "12")
    table.add_row("12", Text(text, "bold"))
    blocks = {"table", "thead", "tbody", "tr", "th", "td", "strong"}
    cells = _hold("".join(report([table], "x")), blocks | {"paragraph"})
    assert cells[:-1] == [*heads, shown, "12", "12", shown]
    found = _hold(
        "".join(report([facts([("word", text)])], "x")), {"bullet_list", "list_item", "paragraph"}
    )
    assert found[0] == f"word:{''.join(printable(text).split())}"  # a fact is of one line
    for view, kind in ((paragraph(text), "paragraph"), (title(text), "heading")):
        found = _hold("".join(report([view], "x")), {kind, "paragraph"})
        assert found[:-1] in ([shown], [] if not shown else [shown])


@pytest.mark.parametrize("text", EVIL)
def test_no_word_of_a_file_breaks_out(text: str) -> None:
    _hold_all(text)


@given(texts)
def test_nothing_breaks_out(text: str) -> None:
    _hold_all(text)


def test_names_stay_as_they_are() -> None:
    for name in ("blk.0.attn_q.weight", "Q4_K_M", "1024×256", "-0.5", "+0.001", "3.54 M", "99.9%"):
        assert escaped(name) == name
    assert escaped("https://a.b/c") == "`https://a.b/c`"


def test_the_shape_of_a_report() -> None:
    table = plain_table(left("name"), right("size"))
    table.add_row(Text("layers 0-3", "bold color(30)"))
    table.add_row(Text("  attn_q.weight"), "32 MiB")
    views: list[RenderableType] = [
        facts([("model", "Stories")]),
        title("Stored"),
        table,
        "",
        paragraph("Done.", "dim"),
    ]
    assert "".join(report(views, "ggufscope list 'a`b.gguf'")) == (
        "- **model**: Stories\n\n"
        "## Stored\n\n"
        "| name | size |\n| --- | ---: |\n"
        "| **layers 0-3** |  |\n| &emsp;attn_q.weight | 32 MiB |\n\n"
        "Done.\n\n"
        f"ggufscope {__version__}: ``ggufscope list 'a`b.gguf'``\n"
    )
