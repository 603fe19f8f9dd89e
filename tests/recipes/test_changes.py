"""What is asked for in words, `key=type:value`: the value that it becomes, or why there is none."""

from __future__ import annotations

import pytest

from ggufscope import Edits, Value, ValueType, errors
from ggufscope.container.header import Metadata
from ggufscope.recipes.changes import changed, parse_settings


@pytest.mark.parametrize("kind", ["uint8", "int8", "uint16", "int64", "uint64", "float64", "bool"])
def test_every_type_is_read_from_words(kind: str) -> None:
    text = "true" if kind == "bool" else "100"
    (value,) = parse_settings([f"k={kind}:{text}"]).values()
    written = changed(Metadata({}), Edits(set={"k": value}))["k"]
    assert (written.type.name.lower(), written.data) == (kind, True if kind == "bool" else 100)


@pytest.mark.parametrize(
    ("kind", "type_"),
    [
        *(("int", "UINT32"), ("float", "FLOAT32"), ("bool", "BOOL"), ("str", "STRING")),
        *((each.name.lower(), each.name) for each in ValueType if each is not ValueType.ARRAY),
    ],
)
def test_an_array_without_items_is_of_the_type_that_was_named(kind: str, type_: str) -> None:
    edits = Edits(set=parse_settings([f"k={kind}[]:[]"]))
    assert changed(Metadata({}), edits)["k"] == Value.array(ValueType[type_], ())


def test_an_array_without_items_keeps_the_type_that_its_key_has() -> None:
    there = Metadata({"k": Value.array(ValueType.UINT16, [1, 2])})
    emptied = changed(there, Edits(set=parse_settings(["k=int[]:[]"])))["k"]
    assert emptied == Value.array(ValueType.UINT16, ())
    for words in ("k=str[]:[]", "k=uint8[]:[]"):
        with pytest.raises(errors.BadEdit, match=r"is of type UINT16\[\]"):
            changed(there, Edits(set=parse_settings([words])))
    with pytest.raises(errors.BadEdit, match=r"is of type UINT32, not STRING\[\]"):
        changed(
            Metadata({"k": Value.of(ValueType.UINT32, 1)}),
            Edits(set=parse_settings(["k=str[]:[]"])),
        )


@pytest.mark.parametrize(
    "words",
    [
        *("k", "k=int", "k=int:", "k=int:x", "k=bool:yes", "k=u9:1", "k=float:one", "=", "k=:1"),
        *("=int:2", "=str:", "k=array[]:[]"),
        *("k=int[]:1,2", "k=int[]:[1.5]", "k=str[]:{}", "k=array:[1]", "k=int[]:" + "[" * 100_000),
    ],
)
def test_words_that_set_nothing(words: str) -> None:
    with pytest.raises(errors.BadOverride) as caught:
        parse_settings([words])
    assert len(caught.value.message) < 100
    assert "KEY=TYPE:VALUE" in caught.value.hint


def test_numbers_that_do_not_fit_their_type() -> None:
    for words in ("k=uint8:256", "k=int8:-129", "k=float32:1e39", "k=uint32[]:[-1]"):
        with pytest.raises(errors.UnencodableValue):
            parse_settings([words])
