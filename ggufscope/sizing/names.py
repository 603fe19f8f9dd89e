"""What a user calls a model -> the known shape that is meant.

``Llama3-8B``, ``Qwen2.5 7B`` and ``meta-llama/Llama-3.1-8B-Instruct`` are read word by word: words
that change no tensor are dropped, and a part of a name will do where one shape alone has it.
"""

from __future__ import annotations

import re
from typing import Final

from ggufscope.errors import UnknownShape
from ggufscope.sizing.model_shape import ModelShape
from ggufscope.sizing.shapes import SHAPES
from ggufscope.spelling import closest, question

_WORD: Final = re.compile(r"a\d+b|v\d[\d.]*|[a-z]+|\d+x\d+b|\d[\d.]*[bmk]?")
_TRAINING: Final = ("base", "chat", "hf", "instruct", "it", "meta", "pt")
_FORMATS: Final = ("bf16", "f16", "gguf")
_VERSIONS: Final = ("v0.1", "v0.2", "v1.0", "4k", "0414", "2407", "2501", "2503", "2506")
_NO_MATTER: Final = frozenset((*_TRAINING, *_FORMATS, *_VERSIONS))
"""Words of a name that change no tensor of these models."""
_ALSO: Final = {
    "deepseek-r1-distill-llama": "llama-3.1",
    "deepseek-r1": "deepseek-v3",
    "mistral-small-3.1-24b": "mistral-small-24b",
    "mistral-small-3.2-24b": "mistral-small-24b",
    "qwen2.5-coder": "qwen2.5",
}
"""Models of another name that have the same tensors; the rest of the name stays."""
_SIZE: Final = re.compile(r"-(?=\d[\dx.]*[bm])")
_ALIKE: Final = 0.6
"""How alike names are that are offered: a wrong version is no slip of the hand, and meant well."""


def shape_named(name: str) -> ModelShape:
    """Return the shape that is meant. Raises ``UnknownShape``, with the names that are near."""
    found = shapes_like(name)
    if len(found) == 1:
        return found[0]
    said = "could be several known shapes" if found else "is no file, no count and no known shape"
    bare = "-".join(word for word in _plain(name).split("-") if word not in _NO_MATTER)
    otherwise = f"give a GGUF file, a count such as 7B, or one of {known_names()}"
    near = [shape.name for shape in found] or closest(bare, SHAPES, _ALIKE)
    raise UnknownShape(f"{name!r:.80} {said}", hint=question(near) or otherwise)


def shapes_like(name: str) -> list[ModelShape]:
    """Return the shape of this name, or else all whose names have every word of it."""
    asked = _words(_plain(name))
    words = {shape: _words(shape) for shape in SHAPES}
    same = [SHAPES[shape] for shape, own in words.items() if own == asked]
    return same or [SHAPES[shape] for shape, own in words.items() if asked and asked <= own]


def known_names() -> str:
    """Return every name in a line: ``llama-2-7b/13b/70b``."""
    families: dict[str, list[str]] = {}
    for name in SHAPES:
        family, *sizes = _SIZE.split(name, maxsplit=1)
        families.setdefault(family, []).extend(sizes)
    parts = (
        f"{family}-{'/'.join(sizes)}" if sizes else family for family, sizes in families.items()
    )
    return ", ".join(parts)


def _plain(name: str) -> str:
    """Return a name without its owner, and as the shape with the same tensors is called."""
    plain = re.sub(r"[\s_-]+", "-", name.strip().lower().rpartition("/")[2])
    for other, known in _ALSO.items():
        if plain == other or plain.startswith(f"{other}-"):
            return known + plain[len(other) :]
    return plain


def _words(name: str) -> frozenset[str]:
    return frozenset(_WORD.findall(name)) - _NO_MATTER
