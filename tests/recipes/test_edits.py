"""Other metadata, the same tensors: held to the `gguf` package, which makes such files, too."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest

from ggufscope import Edits, Value, ValueType, edit_model, errors, open_gguf, prepare_edit
from ggufscope.container import copying
from ggufscope.container.journal import Change
from ggufscope.container.shards import shard_name
from ggufscope.recipes.apply import quantize_model
from ggufscope.recipes.changes import SPECIAL
from tests.models.families import SMALL, write
from tests.models.makers import Recipe, write_recipe
from tests.oracles import llama_cpp_reads


@pytest.fixture
def model(sample: Path, tmp_path: Path) -> Path:
    return Path(shutil.copy(sample, tmp_path / "model.gguf"))


def read(path: Path) -> tuple[dict[str, Any], dict[str, tuple[Any, bytes]]]:
    """What the `gguf` package finds in a file: values by key, types and bytes by tensor."""
    reader = gguf.GGUFReader(path)
    for tensor in reader.tensors:
        assert tensor.data_offset % reader.alignment == 0
    return (
        {
            key: (field.types, field.contents())
            for key, field in reader.fields.items()
            if not key.startswith("GGUF.")
        },
        {each.name: (each.tensor_type, each.data.tobytes()) for each in reader.tensors},
    )


STRING = [gguf.GGUFValueType.STRING]
UINT32 = [gguf.GGUFValueType.UINT32]
LONGER = "A name that is longer than the padding behind the header of this file has room for"


@pytest.mark.parametrize("name", ["Tories2", "T", LONGER])
@pytest.mark.parametrize("to", ["copy", "itself"])
def test_a_key_is_set_and_nothing_else_changes(
    name: str, to: str, model: Path, tmp_path: Path
) -> None:
    pairs, tensors = read(model)
    inode = model.stat().st_ino
    target = tmp_path / "copy.gguf" if to == "copy" else model
    before = model.read_bytes()
    done = edit_model(model, Edits(set={"general.name": name}), target if to == "copy" else None)
    found, same = read(target)
    assert found == pairs | {"general.name": (STRING, name)}
    assert [*found] == [*pairs]
    assert same == tensors
    assert llama_cpp_reads(target)
    assert (target.stat().st_ino == inode) == done.in_place == (to == "itself" and name != LONGER)
    if to == "copy":
        assert model.read_bytes() == before
    assert {path.name for path in tmp_path.iterdir()} == {"model.gguf", target.name}


def test_every_way_to_change_a_key(model: Path) -> None:
    pairs, tensors = read(model)
    token = open_gguf(model).metadata["tokenizer.ggml.tokens"][7]
    edit_model(
        model,
        Edits(
            rename={"general.name": "general.basename"},
            remove=("llama.context_length",),
            set={
                "llama.context_length": Value.of(ValueType.UINT64, 99),
                "general.tags": ["a", "bé"],
                "general.minus": -1,
                "general.real": 0.5,
                "general.flag": True,
            },
            special={"eot": token},
            chat_template="{{ x }}\n",
        ),
    )
    found, same = read(model)
    assert same == tensors
    (name,) = [pairs.pop("general.name")]
    assert [*found].index("general.basename") == [*read(model)[0]].index("general.basename")
    pairs.pop("llama.context_length")
    kinds = gguf.GGUFValueType
    assert found == pairs | {
        "general.basename": name,
        "llama.context_length": ([kinds.UINT64], 99),
        "general.tags": ([kinds.ARRAY, kinds.STRING], ["a", "bé"]),
        "general.minus": ([kinds.INT32], -1),
        "general.real": ([kinds.FLOAT32], 0.5),
        "general.flag": ([kinds.BOOL], True),
        "tokenizer.ggml.eot_token_id": (UINT32, 7),
        "tokenizer.chat_template": (STRING, "{{ x }}\n"),
    }


def test_the_copy_is_what_gguf_new_metadata_makes(model: Path, tmp_path: Path) -> None:
    theirs, ours = tmp_path / "theirs.gguf", tmp_path / "ours.gguf"
    subprocess.run(
        [
            *(sys.executable, "-m", "gguf.scripts.gguf_new_metadata", model, theirs),
            *("--general-name", LONGER, "--special-token-by-id", "padding", "3"),
            *("--chat-template", "{{ bos_token }}", "--remove-metadata", "llama.rope.freq_base"),
            "--force",
        ],
        check=True,
        capture_output=True,
    )
    edits = Edits(
        set={"general.name": LONGER, SPECIAL["pad"]: 3},
        remove=("llama.rope.freq_base",),
        chat_template="{{ bos_token }}",
    )
    edit_model(model, edits, ours)
    assert read(ours) == read(theirs)


def test_a_value_of_the_same_length_is_what_gguf_set_metadata_makes(
    model: Path, tmp_path: Path
) -> None:
    theirs = Path(shutil.copy(model, tmp_path / "theirs.gguf"))
    subprocess.run(
        [
            *(sys.executable, "-m", "gguf.scripts.gguf_set_metadata", theirs),
            *("llama.context_length", "1024", "--force"),
        ],
        check=True,
        capture_output=True,
    )
    done = edit_model(model, Edits(set={"llama.context_length": 1024}))
    assert done.in_place
    assert done.written_nbytes <= 4
    assert model.read_bytes() == theirs.read_bytes()


@pytest.mark.parametrize("endianess", [gguf.GGUFEndian.LITTLE, gguf.GGUFEndian.BIG])
@pytest.mark.parametrize("alignment", [32, 128])
def test_byte_order_alignment_and_odd_values_are_kept(
    alignment: int, endianess: gguf.GGUFEndian, tmp_path: Path
) -> None:
    recipe = Recipe(
        "any",
        {"a": float("nan"), "b": [0.0, float("inf")], "c": "x", "d": ["", "é"]},
        {"one.weight": (3, 32), "two.weight": (5,)},
    )
    path = tmp_path / "m.gguf"
    writer = gguf.GGUFWriter(path, "any", endianess=endianess)
    writer.add_custom_alignment(alignment)
    for key, value in recipe.hparams.items():
        (writer.add_array if isinstance(value, list) else writer.add_float32)(
            f"any.{key}", value
        ) if not isinstance(value, str) else writer.add_string(f"any.{key}", value)
    for name, shape in recipe.shapes.items():
        writer.add_tensor(name, np.arange(np.prod(shape), dtype=np.float32).reshape(shape))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    before = open_gguf(path)
    weights = {name: bytes(tensor.data()) for name, tensor in before.tensors.items()}
    typed = {key: (v.type, bytes(v.raw)) for key, v in before.metadata.typed.items()}
    for copy, text in ((tmp_path / "a.gguf", "y"), (tmp_path / "b.gguf", "y" * 1000)):
        edit_model(path, Edits(set={"any.c": text}), copy)
        after = open_gguf(copy)
        assert (after.header.order, after.header.alignment) == (before.header.order, alignment)
        assert {name: bytes(tensor.data()) for name, tensor in after.tensors.items()} == weights
        found = {key: (v.type, bytes(v.raw)) for key, v in after.metadata.typed.items()}
        assert found.keys() == typed.keys()
        assert {key for key in typed if found[key] != typed[key]} == {"any.c"}
        assert after.metadata["any.c"] == text
        assert (
            after.shards[0].source.size
            == after.header.data_end + -after.header.data_end % alignment
        )


def test_a_split_model_is_changed_in_its_first_file(sample: Path, tmp_path: Path) -> None:
    (made,) = quantize_model(sample, {tmp_path / "m.gguf": "COPY"}, split_max_size=2_000_000)
    before = [path.read_bytes() for path in made.paths]
    edit_model(made.paths[1], Edits(set={"general.name": LONGER}))
    assert open_gguf(made.paths[2]).metadata["general.name"] == LONGER
    assert [path.read_bytes() for path in made.paths[1:]] == before[1:]
    edit_model(made.paths[1], Edits(remove=("general.name",)), tmp_path / "new.gguf")
    count = len(before)
    copies = [tmp_path / shard_name("new.gguf", number, count) for number in range(count)]
    assert [path.read_bytes() for path in copies[1:]] == before[1:]
    assert "general.name" not in open_gguf(copies[0]).metadata
    assert open_gguf(copies[0]).tensors.keys() == open_gguf(sample).tensors.keys()
    assert len([*tmp_path.iterdir()]) == 2 * count


REFUSED: Mapping[str, tuple[Edits, str]] = {
    "another type": (Edits(set={"general.name": 3}), "is of type STRING, and 3 is int"),
    "an exact type": (
        Edits(set={"llama.context_length": Value.of(ValueType.UINT64, 1)}),
        "is of type UINT32, not UINT64",
    ),
    "too large": (Edits(set={"llama.context_length": 2**32}), "cannot be stored as UINT32"),
    "below zero": (Edits(set={"llama.context_length": -1}), "cannot be stored as UINT32"),
    "no value": (Edits(set={"general.name": None}), "no value of GGUF"),
    "not UTF-8": (Edits(set={"general.name": "\udcff"}), "not UTF-8"),
    "no such key": (Edits(remove=("general.nam",)), "there is no key 'general.nam'"),
    "renamed to one that is there": (
        Edits(rename={"general.name": "general.architecture"}),
        "is there already",
    ),
    "no name": (Edits(set={"": 1}), "has no name"),
    "a long name": (Edits(set={"k" * 65536: 1}), "at the most"),
    "a key that is set twice": (
        Edits(set={SPECIAL["eos"]: 5}, special={"eos": "</s>"}),
        "--set and --special are about one key, 'tokenizer.ggml.eos_token_id'",
    ),
    "a template that is set twice": (
        Edits(set={"tokenizer.chat_template": "a"}, chat_template="b"),
        "--set and --chat-template are about one key",
    ),
    "no such piece": (Edits(special={"bos": "<nothing>"}), "is no token of the vocabulary"),
    "no such kind": (Edits(special={"boz": "<s>"}), "no kind of special token"),
    "an id out of range": (Edits(set={SPECIAL["bos"]: 1024}), "the vocabulary has 1024 tokens"),
    "an id of another type": (
        Edits(remove=(SPECIAL["bos"],), set={SPECIAL["bos"]: Value.of(ValueType.INT32, 1)}),
        "would be INT32, not UINT32",
    ),
    "a flag that is a number": (
        Edits(set={"tokenizer.ggml.add_eos_token": 1}),
        "is 1, not true or false",
    ),
    "more layers than there are": (
        Edits(set={"llama.block_count": 5}),
        "the model is not whole: blk.4.attn_norm.weight is missing",
    ),
    "no heads": (Edits(remove=("llama.attention.head_count",)), "llama.cpp would not load it"),
    "a shorter vocabulary": (Edits(set={"tokenizer.ggml.tokens": ["a"]}), "1×256 is needed"),
    "no architecture": (Edits(remove=("general.architecture",)), "nobody can load"),
    "another alignment": (Edits(set={"general.alignment": 64}), "moves every tensor"),
    "an alignment that is none": (Edits(set={"general.alignment": 33}), "not a power of two"),
    "keys of a split": (Edits(set={"split.count": 2}), "divided into files"),
}


@pytest.mark.parametrize("why", REFUSED)
def test_what_would_spoil_the_model_is_refused(why: str, model: Path, tmp_path: Path) -> None:
    before = model.read_bytes()
    edits, said = REFUSED[why]
    for copy in (None, tmp_path / "copy.gguf"):
        with pytest.raises(errors.GGUFScopeError) as caught:
            edit_model(model, edits, copy)
        assert said in caught.value.message
        assert caught.value.hint
    assert model.read_bytes() == before
    assert [*tmp_path.iterdir()] == [model]


def test_what_was_wrong_before_may_stay_wrong_and_may_be_mended(tmp_path: Path) -> None:
    small = SMALL["llama-gqa"]
    tensors = {name: x for name, x in small.tensors().items() if not name.startswith("blk.2.")}
    path = write(tmp_path / "m.gguf", small, tensors)
    edit_model(path, Edits(set={"general.name": "without its last layer"}))
    with pytest.raises(errors.BadEdit, match=r"blk\.3\.attn_norm\.weight is missing"):
        edit_model(path, Edits(set={"llama.block_count": 4}))
    edit_model(path, Edits(set={"llama.block_count": 2}))
    with pytest.raises(errors.BadEdit, match=r"blk\.2\.attn_norm\.weight is missing"):
        edit_model(path, Edits(set={"llama.block_count": 3}))
    with pytest.raises(errors.BadEdit, match=r"attn_k\.weight has shape"):
        edit_model(path, Edits(remove=("llama.attention.head_count_kv",)))


def test_nothing_different_is_nothing_written(model: Path, tmp_path: Path) -> None:
    def written() -> tuple[int, ...]:  # not when it was read, which changes as it is read
        status = model.stat()
        return status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns

    before = written()
    name = open_gguf(model).metadata["general.name"]
    done = edit_model(model, Edits(set={"general.name": name}))
    assert (done.differences, done.rewrites, done.written_nbytes) == ((), (), 0)
    assert written() == before
    copy = tmp_path / "copy.gguf"
    edit_model(model, Edits(), copy)
    assert copy.read_bytes() == model.read_bytes()


NAME, AUTHOR = "general.name", "general.author"


@pytest.mark.parametrize(
    ("edits", "told"),
    [
        (Edits(rename={NAME: "x.y"}, remove=("x.y",)), [(NAME, NAME, "Stories", None)]),
        (Edits(rename={NAME: "x.y", "x.y": "z.y"}), [("z.y", NAME, "Stories", "Stories")]),
        (Edits(rename={NAME: "x.y", "x.y": NAME}), []),
        (
            Edits(rename={NAME: "x.y"}, remove=("x.y",), set={"x.y": 5}),
            [("x.y", "x.y", None, 5), (NAME, NAME, "Stories", None)],
        ),
        (
            Edits(rename={NAME: "x.y"}, set={NAME: "T", "x.y": "U"}),
            [("x.y", NAME, "Stories", "U"), (NAME, NAME, "Stories", "T")],
        ),
        (
            Edits(rename={NAME: "x.y", AUTHOR: NAME}, remove=("x.y",)),
            [(NAME, AUTHOR, *["The ggufscope project"] * 2), (NAME, NAME, "Stories", None)],
        ),
    ],
)
def test_keys_are_renamed_then_removed_then_set_and_that_is_what_is_told(
    edits: Edits, told: list[tuple[str, str, Any, Any]], model: Path, tmp_path: Path
) -> None:
    before = dict(open_gguf(model).metadata)
    assert [
        (each.key, each.was, each.before and each.before.data, each.after and each.after.data)
        for each in prepare_edit(model, edits).differences
    ] == told
    edit_model(model, edits, tmp_path / "copy.gguf")
    edit_model(model, edits)
    after = {key: value for key, _, _, value in told if value is not None}
    wanted = {
        key: value for key, value in before.items() if key not in {was for _, was, *_ in told}
    }
    for path in (model, tmp_path / "copy.gguf"):
        assert dict(open_gguf(path).metadata) == wanted | after


@pytest.mark.parametrize(
    ("name", "words", "insisting", "theirs"),
    [
        ("T", "and all of them change", "change all with --force", "T"),
        (LONGER, "and the others keep the old file", "part it from them with --force", "Stories"),
    ],
)
def test_other_names_of_the_file_are_asked_about(
    name: str, words: str, insisting: str, theirs: str, model: Path, tmp_path: Path
) -> None:
    other = tmp_path / "other.gguf"
    other.hardlink_to(model)
    edits = Edits(set={"general.name": name})
    with pytest.raises(errors.BadEdit, match=f"one file under 2 names, {words}") as caught:
        edit_model(model, edits)
    assert insisting in caught.value.hint
    assert open_gguf(model).metadata["general.name"] == "Stories"
    assert [words in said for said in edit_model(model, edits, overwrite=True).warnings] == [True]
    assert open_gguf(model).metadata["general.name"] == name
    assert open_gguf(other).metadata["general.name"] == theirs
    assert prepare_edit(other, edits, tmp_path / "copy.gguf").warnings == ()


def test_a_link_stays_one(model: Path, tmp_path: Path) -> None:
    (tmp_path / "far").mkdir()
    link = tmp_path / "far" / "link.gguf"
    link.symlink_to(model)
    for name in ("T", LONGER):
        edit_model(link, Edits(set={"general.name": name}))
        assert link.is_symlink()
        assert open_gguf(model).metadata["general.name"] == name
    assert [path.name for path in link.parent.iterdir()] == ["link.gguf"]


def test_a_copy_is_never_the_source(model: Path) -> None:
    with pytest.raises(errors.TargetIsSource):
        edit_model(model, Edits(remove=("general.name",)), model, overwrite=True)


def test_room_is_looked_at_first(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ggufscope.recipes.files.free_bytes", lambda _: 1000)
    edits = Edits(set={"general.name": LONGER})
    for copy in (None, tmp_path / "copy.gguf"):
        with pytest.raises(errors.NoRoom, match="1,000 bytes free"):
            prepare_edit(model, edits, copy)
    edit_model(model, Edits(set={"general.name": "T"}))  # in place nothing more is needed


@pytest.mark.parametrize("how", ["absent", "refused", "short", "page"])
def test_data_is_copied_whatever_the_system_can(
    how: str, sample: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = getattr(os, "copy_file_range", None)
    if how == "absent":
        monkeypatch.delattr(os, "copy_file_range", raising=False)
    elif how == "refused":

        def refuse(*_: int) -> int:
            raise OSError(18, "another file system")

        monkeypatch.setattr(os, "copy_file_range", refuse, raising=False)
    elif real is not None:
        left = [3]

        def less(read: int, write: int, count: int, start: int, at: int) -> int:
            left[0] -= 1
            most = 0 if left[0] < 0 and how == "short" else 100_000 if how == "short" else 4096
            return int(real(read, write, min(count, most), start, at)) if most else 0

        monkeypatch.setattr(os, "copy_file_range", less)
        monkeypatch.setattr(copying, "_PIECE", 1 << 20)
    seen: list[tuple[int, int]] = []
    copy = tmp_path / "copy.gguf"
    for name in ("T", LONGER):
        edit_model(
            sample,
            Edits(set={"general.name": name}),
            copy,
            overwrite=True,
            progress=lambda done, total: seen.append((done, total)),
        )
        assert read(copy)[1] == read(sample)[1]
        assert seen[-1][0] == seen[-1][1]


def test_a_change_is_told_by_sectors() -> None:
    old, new = bytes(2000), bytes([1]) * 2000
    change = Change(100, old, new)
    assert Change.decode(change.encode()) == change
    assert Change.decode(change.encode()[:-1]) is None
    assert Change.decode(b"") is None
    assert not change.is_torn(old)
    assert not change.is_torn(new)
    assert change.is_torn(new[:412] + old[412:])  # the first sector ends at byte 512 of the file
    assert change.is_torn(old[:412] + new[412:924] + old[924:])
    assert change.is_torn(new[:400] + old[400:])  # cut off within a sector
    assert change.is_torn(old[:400] + new[400:])  # while it was taken back
    assert not change.is_torn(new[:100] + old[100:200] + new[200:300] + old[300:])
    assert not change.is_torn(b"another file" + old[12:])
    assert not change.is_torn(new[:412])


def test_a_recipe_without_tensors_is_edited(tmp_path: Path) -> None:
    path = write_recipe(tmp_path / "m.gguf", Recipe("any", {"a": 1}, {}))
    edit_model(path, Edits(set={"any.a": 2, "any.b": "x"}))
    assert dict(open_gguf(path).metadata)["any.b"] == "x"
    assert llama_cpp_reads(path)
