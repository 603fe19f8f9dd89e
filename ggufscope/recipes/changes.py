"""Changes of metadata: read from words, held to the types that a model has, and to its vocabulary.

llama.cpp takes a value of another type than it expects for a damaged file, and a token number
outside the vocabulary for none at all. So a value keeps the type that its key has, and a special
token is named by its text.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Final

from ggufscope.container.file import GGUFFile
from ggufscope.container.header import Metadata
from ggufscope.container.value_types import CODES, ValueType
from ggufscope.container.values import Array, Value
from ggufscope.errors import (
    BadEdit,
    BadOverride,
    BadVocabulary,
    HyperparameterError,
    UnencodableValue,
    UnknownTokenizer,
)
from ggufscope.model.hparams import NEEDED, read_hparams
from ggufscope.model.keys import architecture_of
from ggufscope.model.required import Flaw, flaws_of, in_words
from ggufscope.model.tokenizer.keys import KEY as TOKENIZER
from ggufscope.model.tokenizer.text import TextTokenizer
from ggufscope.model.tokenizer.vocabulary import read_vocabulary
from ggufscope.recipes.metadata import split_override
from ggufscope.spelling import did_you_mean

CHAT_TEMPLATE: Final = "tokenizer.chat_template"

SPECIAL: Final[Mapping[str, str]] = {
    **{kind: f"{TOKENIZER}{kind}_token_id" for kind in ("bos", "eos", "eot", "eom", "mask", "cls")},
    "unk": f"{TOKENIZER}unknown_token_id",
    "sep": f"{TOKENIZER}seperator_token_id",  # as GGUF spells it
    "pad": f"{TOKENIZER}padding_token_id",
    **{
        f"fim_{part}": f"{TOKENIZER}fim_{part}_token_id"
        for part in ("pre", "suf", "mid", "pad", "rep", "sep")
    },
}
"""llama.cpp's names of special tokens, and the keys of their ids."""

LEAVE_IT: Final = "leave that as it is, or insist with --unsound"

_FLOATS: Final = {ValueType.FLOAT32, ValueType.FLOAT64}
_INTEGERS: Final = CODES.keys() - _FLOATS - {ValueType.BOOL}
_PLAIN: Final[dict[str, Callable[[str], Any]]] = {
    "int": int,
    "float": float,
    "bool": lambda text: {"true": True, "false": False}[text],
    "str": str,
}
"""The types of ``--override-kv``: a value of these gets the exact type that its key has."""
_USUAL: Final = {
    "int": ValueType.UINT32,
    "float": ValueType.FLOAT32,
    "bool": ValueType.BOOL,
    "str": ValueType.STRING,
}
"""What a new key gets, of the types above."""
_EXACT: Final = {each.name.lower(): each for each in ValueType if each is not ValueType.ARRAY}
_KINDS: Final[dict[type, str]] = {
    bool: "bool", int: "int", float: "float", str: "str", list: "array"
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class _NoItems:
    """An array without items, which would tell what they are."""

    usual: ValueType
    """Of the items, where the key is new."""


@dataclass(frozen=True, slots=True)
class Edits:
    """What is asked for. Keys are renamed first, then removed, then set."""

    set: Mapping[str, Any] = field(default_factory=dict)
    """Key -> value. An int, float, bool, str or list gets the type that the key has, a new key
    UINT32 (INT32 below zero), FLOAT32, BOOL, STRING; a ``Value`` has its own. A type is only
    changed where the key is removed as well."""
    remove: Collection[str] = ()
    """Keys, or one."""
    rename: Mapping[str, str] = field(default_factory=dict)
    """Old key -> new key, which stays in its place."""
    special: Mapping[str, str] = field(default_factory=dict)
    """Kind of special token (``SPECIAL``) -> its text in the vocabulary."""
    chat_template: str | None = None

    def __post_init__(self) -> None:
        if isinstance(self.remove, str):  # a name is a collection too, of its letters
            object.__setattr__(self, "remove", (self.remove,))

    def __bool__(self) -> bool:
        """Whether anything is asked for."""
        asked = (self.set, self.remove, self.rename, self.special)
        return any(asked) or self.chat_template is not None


def parse_settings(texts: Iterable[str]) -> dict[str, Any]:
    """Read ``KEY=TYPE:VALUE``, with the types of ``--override-kv`` and those of GGUF.

    ``TYPE[]`` is an array, written as JSON: ``int32[]:[1, 2]``; the value of one without items is
    for ``Edits.set`` alone. Raises ``BadOverride`` and ``UnencodableValue``.
    """
    hint = "write KEY=TYPE:VALUE: int, float, bool, str, or a GGUF type such as uint64, int32[]"
    found: dict[str, Any] = {}
    for text in texts:
        given, _, typed = text.partition("=")
        if given and typed and ":" not in typed:
            raise BadOverride(
                f"{text!r:.60} has no TYPE", hint=f"KEY=TYPE:VALUE: write {given}=str:{typed:.60}"
            )
        with split_override(text, hint) as (key, kind, data):
            value = _parsed(kind.lower(), data)
        if key in found:
            raise BadOverride(f"{key!r:.60} is set twice", hint="give one --set for each key")
        found[key] = value
    return found


def parse_pairs(texts: Iterable[str], option: str, form: str) -> dict[str, str]:
    """Read ``A=B``, each ``A`` once; raises ``BadEdit``."""
    found: dict[str, str] = {}
    for text in texts:
        left, _, right = text.partition("=")
        if not (left and right):
            raise BadEdit(f"{option} {text!r:.60} says nothing", hint=f"write {form}")
        if left in found:
            raise BadEdit(f"{option} names {left!r:.60} twice", hint=f"give one {option} for each")
        found[left] = right
    return found


def _parsed(kind: str, data: str) -> Any:
    """Read a value; raises ``ValueError`` or ``KeyError`` for one that is none of its type."""
    if kind in _PLAIN:
        return _PLAIN[kind](data)
    if not kind.endswith("[]"):
        return _exact(_EXACT[kind], _PLAIN[_kind_of(_EXACT[kind])](data))
    element = kind.removesuffix("[]")
    if element not in {*_EXACT, *_PLAIN}:
        raise KeyError(kind)
    items = _json(data)
    if element in _EXACT:
        return Value.array(_EXACT[element], (_exact(_EXACT[element], it).data for it in items))
    if any(_KINDS.get(type(item)) != element for item in items):
        raise KeyError(element)
    return items or _NoItems(_USUAL[element])


def _json(data: str) -> list[Any]:
    why = ""
    try:
        items = json.loads(data)
        if isinstance(items, list):
            return items
    except json.JSONDecodeError as error:
        why = f": {error.msg} at character {error.pos + 1:,}"
    except RecursionError:
        pass
    raise BadOverride(
        f"{data!r:.60} is no array in JSON{why}",
        hint="write KEY=TYPE:VALUE, an array as 'str[]:[\"a\", \"b\"]' or 'int32[]:[1, 2]'",
    )


def kept_keys(metadata: Metadata, edits: Edits) -> dict[str, str]:
    """Return the keys that are left after renaming and removing -> those that they were, in order.

    Raises ``BadEdit``.
    """
    kept = {key: key for key in metadata}
    for old, new in edits.rename.items():
        _require(kept, old)
        if new in kept:
            raise BadEdit(f"key {new!r} is there already", hint="remove it first")
        kept = {new if key == old else key: was for key, was in kept.items()}
    for key in edits.remove:
        _require(kept, key)
        del kept[key]
    return kept


def _require_set_once(edits: Edits) -> None:
    """Raise ``BadEdit`` where two options set one key."""
    others = {_special(kind): "--special" for kind in edits.special}
    if edits.chat_template is not None:
        others[CHAT_TEMPLATE] = "--chat-template"
    for key in edits.set:
        if key in others:
            raise BadEdit(
                f"--set and {others[key]} are about one key, {key!r}", hint="give one of them"
            )


def changed(metadata: Metadata, edits: Edits) -> dict[str, Value]:
    """Return the metadata as edited, keys in their places and new ones at the end.

    Raises ``BadEdit`` and ``UnencodableValue``.
    """
    _require_set_once(edits)
    written = {key: metadata.typed[was] for key, was in kept_keys(metadata, edits).items()}
    for key, data in edits.set.items():
        written[key] = _typed(key, data, written.get(key))
    if edits.chat_template is not None:
        written[CHAT_TEMPLATE] = _typed(
            CHAT_TEMPLATE, edits.chat_template, written.get(CHAT_TEMPLATE)
        )
    for kind, text in edits.special.items():
        key = _special(kind)
        written[key] = Value.of(ValueType.UINT32, _token(Metadata(written), text))
    return written


def require_possible(file: GGUFFile, after: Metadata, edits: Edits) -> None:
    """Raise ``BadEdit`` for a change of what no edit of metadata can change by itself."""
    for key in sorted(_touched(edits)):
        if key.startswith("split."):
            raise BadEdit(
                f"key {key!r} says how the model is divided into files",
                hint="`ggufscope quantize MODEL TARGET COPY` merges them, --split-max-size splits",
            )
    if architecture_of(file.metadata) and not architecture_of(after):
        raise BadEdit(
            "without 'general.architecture' nobody can load the model", hint="set another one"
        )


def require_sound(file: GGUFFile, after: Metadata, edits: Edits) -> None:
    """Raise ``BadEdit`` where llama.cpp loads a model no longer, after an edit."""
    before = file.metadata
    touched = _touched(edits) | {_special(kind) for kind in edits.special}
    for key in touched:
        if key.startswith(TOKENIZER) and key.endswith("_token_id") and key in after:
            _check_token(key, after)
    shapes = {tensor.name: tensor.shape for tensor in file.tensors.values()}
    vocabulary = any(key.startswith(TOKENIZER) for key in touched)  # a large one takes a while
    there = _complaints(before, vocabulary=vocabulary)
    found = [each for each in _complaints(after, vocabulary=vocabulary) if each not in there]
    if not found:
        lost = set(_flaws(shapes, before))
        if flaws := [flaw for flaw in _flaws(shapes, after) if flaw not in lost]:
            found.append(in_words(flaws))
    if found:
        raise BadEdit(f"llama.cpp would not load it: {found[0]}", hint=LEAVE_IT)


def _touched(edits: Edits) -> set[str]:
    return {*edits.set, *edits.remove, *edits.rename, *edits.rename.values()}


def _complaints(metadata: Metadata, *, vocabulary: bool) -> list[str]:
    """Return what is wrong with metadata by themselves."""
    architecture = architecture_of(metadata)
    needed = [f"{architecture}.{key}" for key in NEEDED]
    found = [f"key {key!r} is missing" for key in needed if key not in metadata]
    try:
        read_hparams(metadata)
    except HyperparameterError as error:
        found.append(error.message)
    if vocabulary and f"{TOKENIZER}tokens" in metadata:
        try:
            with suppress(UnknownTokenizer):  # llama.cpp may know it
                read_vocabulary(metadata)
        except BadVocabulary as error:
            found.append(error.message)
    return found


def _flaws(shapes: Mapping[str, tuple[int, ...]], metadata: Metadata) -> list[Flaw]:
    with suppress(HyperparameterError):  # which is a complaint of its own
        return flaws_of(shapes, metadata)
    return []


def _check_token(key: str, metadata: Metadata) -> None:
    value, tokens = metadata.typed[key], metadata.get(f"{TOKENIZER}tokens")
    if value.type is not ValueType.UINT32:
        raise BadEdit(f"key {key!r} would be {value.type.name}, not UINT32", hint="set it as int")
    if isinstance(tokens, Array) and value.data >= len(tokens):
        raise BadEdit(
            f"key {key!r} would be {value.data}, and the vocabulary has {len(tokens)} tokens",
            hint=f"name a token from 0 to {len(tokens) - 1}, or its text with --special",
        )


def _require(keys: Mapping[str, str], key: str) -> None:
    if key not in keys:
        raise BadEdit(
            f"there is no key {key!r}",
            hint=did_you_mean(key, keys, "`ggufscope list --metadata` shows the keys"),
        )


def _special(kind: str) -> str:
    if kind not in SPECIAL:
        raise BadEdit(
            f"{kind!r:.60} is no kind of special token",
            hint=did_you_mean(kind, SPECIAL, f"the kinds are {', '.join(SPECIAL)}"),
        )
    return SPECIAL[kind]


def _token(metadata: Metadata, text: str) -> int:
    tokens = metadata.get(f"{TOKENIZER}tokens")
    if not isinstance(tokens, Array) or tokens.element_type is not ValueType.STRING:
        raise BadEdit("the model has no vocabulary", hint="set the key of the token by its number")
    ids = [number for number, token in enumerate(tokens) if token == text]
    if not ids:
        with suppress(UnknownTokenizer, BadVocabulary):
            ids = TextTokenizer(read_vocabulary(metadata)).shown_as(text)
    if len(ids) != 1:
        found = f"is {len(ids)} tokens" if ids else "is no token"
        raise BadEdit(
            f"{text!r:.60} {found} of the vocabulary",
            hint="write it as the vocabulary does, or set the key of the token by its number",
        )
    return ids[0]


def _typed(key: str, data: Any, there: Value | None) -> Value:
    """Return a value in the type that its key has, or if it has none, in the usual one."""
    if isinstance(data, Value):
        if there is not None and _name(there) != _name(data):
            raise BadEdit(
                f"key {key!r} is of type {_name(there)}, not {_name(data)}",
                hint="set it as it is, or --remove it too to change its type",
            )
        return data
    if isinstance(data, _NoItems):
        element = data.usual
        if there is not None and there.type is ValueType.ARRAY:
            same_kind = _kind_of(there.data.element_type) == _kind_of(element)
            element = there.data.element_type if same_kind else element
        return _typed(key, Value.array(element, ()), there)
    kind = _KINDS.get(type(data))
    if kind is None:
        raise UnencodableValue(f"{data!r:.60} is no value of GGUF", hint="give a number or a text")
    if there is None:
        if isinstance(data, list):
            items = [_typed(key, item, None) for item in data]
            return _array(key, items[0].type if items else ValueType.INT32, data)
        return _exact(_usual(data), data)
    if kind != _kind_of(there.type):
        raise BadEdit(
            f"key {key!r} is of type {_name(there)}, and {data!r:.60} is {kind}",
            hint="set it as it is, or --remove it too to change its type",
        )
    if isinstance(data, list):
        return _array(key, there.data.element_type, data)
    return _exact(there.type, data)


def _array(key: str, element: ValueType, items: list[Any]) -> Value:
    if element is ValueType.ARRAY:
        raise BadEdit(f"key {key!r} is an array of arrays", hint="only plain arrays can be set")
    return Value.array(element, (_exact(element, item).data for item in items))


def _exact(type_: ValueType, data: Any) -> Value:
    """Return a value of exactly this type; raises ``UnencodableValue``."""
    kind = _KINDS.get(type(data))
    wanted = _kind_of(type_)
    if kind != wanted and not (kind == "int" and wanted == "float"):
        raise UnencodableValue(
            f"{data!r:.60} cannot be stored as {type_.name}", hint="choose a type that holds it"
        )
    if isinstance(data, str):
        try:
            data.encode()
        except UnicodeEncodeError:
            raise UnencodableValue(f"{data!r:.60} is not UTF-8", hint="convert it first") from None
    return Value.of(type_, data)


def _kind_of(type_: ValueType) -> str:
    if type_ in _INTEGERS:
        return "int"
    if type_ in _FLOATS:
        return "float"
    return {ValueType.BOOL: "bool", ValueType.STRING: "str", ValueType.ARRAY: "array"}[type_]


def _usual(data: float | str) -> ValueType:
    """Return the type that llama.cpp reads such a value in."""
    if isinstance(data, bool):
        return ValueType.BOOL
    if isinstance(data, str):
        return ValueType.STRING
    if isinstance(data, float):
        return ValueType.FLOAT32
    if data < 0:
        return ValueType.INT32 if data >= -(2**31) else ValueType.INT64
    return ValueType.UINT32 if data < 2**32 else ValueType.UINT64


def _name(value: Value) -> str:
    if value.type is ValueType.ARRAY:
        return f"{value.data.element_type.name}[]"
    return value.type.name
