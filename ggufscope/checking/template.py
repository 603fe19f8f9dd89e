"""Chat templates: programs in Jinja, from a stranger. They are read here, never run.

A template of a model joins the texts of a conversation. It has no use for an object's insides
(``x.__class__``), for modules, files or other templates, and where a program renders it without a
sandbox these are how it runs code. It is looked at piece by piece, as Jinja cuts it: text outside
of ``{{ }}`` and ``{% %}`` can do nothing.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any, Final

from ggufscope.checking.findings import Finding, error, note, warning
from ggufscope.checking.upstream import said
from ggufscope.container.value_types import ValueType
from ggufscope.container.values import Array
from ggufscope.model.keys import text_of
from ggufscope.model.tokenizer.keys import KEY

TEMPLATE: Final = "tokenizer.chat_template"
"""The key of a template; others have a name behind it: ``tokenizer.chat_template.tool_use``."""
LONGEST: Final = 1 << 18
"""Bytes of a template that are looked at; the longest that is known has a tenth of it."""

_OPENS: Final = re.compile(r"\{[{%#]")
_STRINGS: Final = r"""'(?:[^'\\]|\\.?)*+(?:'|\Z)|"(?:[^"\\]|\\.?)*+(?:"|\Z)"""
_STRING: Final = re.compile(_STRINGS, re.DOTALL)
_CLOSES: Final = {
    "{{": re.compile(_STRINGS + r"|(?P<end>\}\})", re.DOTALL),
    "{%": re.compile(_STRINGS + r"|(?P<end>%\})", re.DOTALL),
    "{#": re.compile(r"(?P<end>#\})"),
}
"""A string first: what closes inside of one closes nothing."""
_JOINED: Final = re.compile(r"['\"]\s*+[~+,]?\s*+['\"]")
"""Between two strings that become one."""

_FRAMES: Final = "gi_frame|gi_code|cr_frame|tb_frame|f_globals|f_builtins|f_back|func_globals|mro"
_MODULES: Final = "os|sys|subprocess|builtins|importlib|shutil|socket|pickle|ctypes"
_CALLS: Final = "eval|exec|compile|open|globals|locals|breakpoint|getattr"
# What a template has no business with -> how that looks outside of strings, and inside of one.
_REACHES: Final = tuple(
    (words, re.compile(outside), re.compile(inside))
    for words, outside, inside in (
        ("an object's insides", r"__\w+__|\.\s*_\w", r"__\w+__"),
        ("attributes by a name that is computed", r"\|\s*attr\b", "(?!)"),
        ("Python's frames", rf"\.\s*(?:{_FRAMES})\b", f"^(?:{_FRAMES})$"),
        ("modules", rf"(?<![\w.])(?:{_MODULES})\s*[.\[]", "(?!)"),
        (
            "functions of the machine",
            rf"(?<![\w.])(?:{_CALLS})\s*\(|\.\s*(?:popen|system|check_output|read_text)\s*\(",
            "(?!)",
        ),
        (
            "objects of web programs",
            r"(?<![\w.])(?:request|config|url_for|lipsum|cycler|self)\s*[.\[(]",
            "(?!)",
        ),
    )
)
_TAGS: Final = re.compile(r"^[-+\s]*(include|import|from|extends)\b")
_LONG_RANGE: Final = re.compile(r"\brange\s*\([^()]{0,100}?\d{6}|\*\*\s*\d{3}|\*\s*\d{8}")
_HIDDEN: Final = re.compile(
    "[\u200b-\u200f\u202a-\u202e\u2060-\u2064\u2066-\u2069\U000e0000-\U000e007f]"
)
_TOKEN: Final = re.compile(r"<[|｜][^<>|｜\s'\"{}]{1,40}[|｜]>")


def template_findings(metadata: Mapping[str, Any]) -> Iterator[Finding]:
    """Yield what the chat templates of a model reach for, and how they fit its vocabulary."""
    for key in metadata:
        if key != TEMPLATE and not key.startswith(TEMPLATE + "."):
            continue
        text = text_of(metadata, key, LONGEST)
        if text is None:
            yield error(
                "template",
                f"key '{key}' is no text",
                "it is the program that joins a conversation",
                "convert the original model again, or remove the key",
                key=key,
            )
            continue
        if len(text.encode("utf-8", "surrogateescape")) >= LONGEST:
            yield warning(
                "template",
                f"key '{key}' has {LONGEST:,} bytes or more",
                "no known template is as long; what is beyond was not looked at",
                f"read it: `ggufscope list MODEL --key {key}`",
                key=key,
            )
        yield from _reaches(key, text)
        yield from _strange_tokens(key, text, metadata)
    yield from _begins_twice(metadata)


def reached_for(template: str) -> list[tuple[str, str]]:
    """Return what a template reaches for that it has no business with: in words, and the code."""
    found: dict[str, str] = {}
    for opened, code in _pieces(template):
        bare = _STRING.sub("''", code)
        # Strings side by side, or added up, are one: a name in two halves is seen.
        strings = [_content(each) for each in _STRING.finditer(code)]
        strings += [_content(each) for each in _STRING.finditer(_JOINED.sub("", code))]
        for words, outside, inside in _REACHES:
            if outside.search(bare) or any(inside.search(each) for each in strings):
                found.setdefault(words, " ".join(code.split()))
        tag = _TAGS.match(code)
        if tag and opened == "{%":
            found.setdefault(f"other templates ({tag[1]})", " ".join(code.split()))
        if _LONG_RANGE.search(bare):
            found.setdefault("a loop or a text without end", " ".join(code.split()))
    return [*found.items()]


def _pieces(template: str) -> Iterator[tuple[str, str]]:
    """Yield the code of a template, each piece with what opened it; comments are left out."""
    at = 0
    while opens := _OPENS.search(template, at):
        closes = _CLOSES[opens[0]].finditer(template, opens.end())
        end = next((match for match in closes if match["end"]), None)
        at = end.end() if end else len(template)
        if opens[0] != "{#":
            yield opens[0], template[opens.end() : end.start() if end else None]


def _content(string: re.Match[str]) -> str:
    return _unescaped(string[0].strip("'\""))


def _unescaped(text: str) -> str:
    r"""Return the text with ``\x5f``, ``\u005f`` and ``\137`` as the characters that they are."""
    text = re.sub(r"\\x([0-9a-fA-F]{2})|\\u([0-9a-fA-F]{4})", _character, text)
    return re.sub(r"\\([0-7]{3})", lambda m: chr(int(m[1], 8) & 0xFF), text)


def _character(match: re.Match[str]) -> str:
    return chr(int(match[1] or match[2], 16))


def _reaches(key: str, text: str) -> Iterator[Finding]:
    for words, code in reached_for(text):
        yield error(
            "template",
            f"key '{key}' reaches for {words}: {code[:80]}",
            "joining the texts of a conversation needs none of it; a program that renders the "
            "template without a sandbox may run code of a stranger",
            f"do not render it; read it (`ggufscope list MODEL --key {key}`) and ask who made it",
            key=key,
        )
    hidden = _HIDDEN.search(text)
    if hidden:
        yield warning(
            "template",
            f"key '{key}' has a character that is not seen, U+{ord(hidden[0]):04X}, at "
            f"{hidden.start()}",
            "what a reader sees and what the model gets may differ",
            f"read it: `ggufscope list MODEL --key {key}` shows such characters",
            key=key,
        )


def _strange_tokens(key: str, text: str, metadata: Mapping[str, Any]) -> Iterator[Finding]:
    tokens = metadata.get(KEY + "tokens")
    if not isinstance(tokens, Array) or tokens.element_type is not ValueType.STRING:
        return
    named = dict.fromkeys(_TOKEN.findall(text))
    if not named:
        return
    known = named.keys() & set(tokens)
    strange = [token for token in named if token not in known]
    if strange:
        grade = note if known else warning
        yield grade(
            "template",
            f"key '{key}' writes {len(strange)} of {len(named)} markers that are no token, the "
            f"first {strange[0]!r}",
            "the model sees characters where it was taught a token"
            + ("" if known else ": it may be the template of another model"),
            "compare it with the template in the original model's tokenizer_config.json",
            key=key,
        )


def _begins_twice(metadata: Mapping[str, Any]) -> Iterator[Finding]:
    """Yield a template that writes BOS first, where the tokenizer puts it there, too."""
    text = text_of(metadata, TEMPLATE, LONGEST)
    adds, bos = metadata.get(KEY + "add_bos_token"), metadata.get(KEY + "bos_token_id")
    tokens = metadata.get(KEY + "tokens")
    if not text or adds is not True or not isinstance(tokens, Array) or not isinstance(bos, int):
        return
    spelled = tokens[bos] if 0 <= bos < len(tokens) else None
    first = next(_pieces(text), ("", ""))[1] if text.lstrip().startswith("{") else ""
    written = re.match(r"-?\s*bos_token\b", first)
    if written or (spelled and text.lstrip().startswith(spelled)):
        yield note(
            "template",
            "the template begins with BOS, and the tokenizer adds BOS too",
            "llama-server takes one of the two away; a program that renders the template and then "
            "tokenizes the text gives the model both, and answers get worse",
            "let that program add none (add_special = false)",
            said("two BOS"),
            key=KEY + "add_bos_token",
        )
