"""Each way a file can lie has an error of its own, and real llama.cpp refuses that file too."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest

from ggufscope import errors
from ggufscope.container.file import open_gguf
from ggufscope.container.walk import MAX_NESTING
from tests.models.makers import pair, raw_gguf, tensor, text
from tests.oracles import llama_cpp_reads

U32, STRING, ARRAY = 4, 8, 9
F32_ROW = bytes(4 * 32)
HUGE = 2**62


def _u32(number: int) -> bytes:
    return struct.pack("<I", number)


def _array(element_type: int, count: int, items: bytes = b"") -> bytes:
    return struct.pack("<IQ", element_type, count) + items


def _nest(depth: int) -> bytes:
    return _array(ARRAY, 1) * depth + _array(U32, 0)


LIES: dict[str, tuple[type[errors.GGUFScopeError], bytes, str]] = {
    "empty": (errors.EmptyFile, b"", "empty"),
    "another magic": (errors.NotGGUF, b"GGUX" + bytes(60), "begins with"),
    "an archive": (errors.NotGGUF, b"PK\x03\x04" + bytes(60), "a zip archive"),
    "two bytes": (errors.NotGGUF, b"GG", "begins with"),
    "only a magic": (errors.Truncated, b"GGUF", "version"),
    "version 0": (errors.UnsupportedVersion, raw_gguf(version=0), "version 0"),
    "version 1": (errors.UnsupportedVersion, raw_gguf(version=1), "version 1"),
    "version 4": (errors.UnsupportedVersion, raw_gguf(version=4), "version 4"),
    "too many tensors": (errors.ImpossibleCount, raw_gguf(n_tensors=HUGE), "tensors"),
    "too many pairs": (errors.ImpossibleCount, raw_gguf(n_pairs=HUGE), "pairs"),
    "a negative count": (errors.ImpossibleCount, raw_gguf(n_pairs=2**64 - 1), "pairs"),
    "one pair too few": (errors.Truncated, raw_gguf([pair("a", U32, _u32(1))], n_pairs=2), "key 1"),
    "no key name": (errors.EmptyKey, raw_gguf([pair("", U32, _u32(1))]), "key 0"),
    "a key twice": (errors.DuplicateKey, raw_gguf([pair("k", U32, _u32(1))] * 2), "'k'"),
    "metadata type 13": (errors.UnknownValueType, raw_gguf([pair("k", 13, _u32(1))]), "'k'"),
    "a key that ran into the rest": (
        errors.UnknownValueType,
        raw_gguf([pair("k" * 5000, 13, _u32(1))]),
        "key 0 of 1 (its name has 5,000 bytes) has metadata type 13",
    ),
    "element type 77": (
        errors.UnknownValueType,
        raw_gguf([pair("k", ARRAY, _array(77, 0))]),
        "'k'",
    ),
    "a key of 2**62 bytes": (errors.Truncated, raw_gguf([struct.pack("<Q", HUGE)]), "key 0"),
    "a string of 2**62 bytes": (
        errors.Truncated,
        raw_gguf([pair("k", STRING, struct.pack("<Q", HUGE))]),
        "'k'",
    ),
    "an array of 2**62 numbers": (
        errors.Truncated,
        raw_gguf([pair("k", ARRAY, _array(U32, HUGE))]),
        "'k'",
    ),
    "an array of 2**62 strings": (
        errors.Truncated,
        raw_gguf([pair("k", ARRAY, _array(STRING, HUGE))]),
        "'k'",
    ),
    "a long string in an array": (
        errors.Truncated,
        raw_gguf([pair("k", ARRAY, _array(STRING, 2, text("a") + struct.pack("<Q", HUGE)))]),
        "string 1 of 2",
    ),
    "arrays 1000 deep": (errors.NestedTooDeep, raw_gguf([pair("k", ARRAY, _nest(1000))]), "'k'"),
    "alignment as a string": (
        errors.BadAlignment,
        raw_gguf([pair("general.alignment", STRING, text("32"))]),
        "STRING",
    ),
    "alignment 48": (
        errors.BadAlignment,
        raw_gguf([pair("general.alignment", U32, _u32(48))]),
        "48",
    ),
    "alignment 0": (errors.BadAlignment, raw_gguf([pair("general.alignment", U32, _u32(0))]), "0"),
    "a name of 64 bytes": (
        errors.TensorNameTooLong,
        raw_gguf([], [tensor("n" * 64)], F32_ROW),
        "64 bytes",
    ),
    "a tensor twice": (
        errors.DuplicateTensor,
        raw_gguf([], [tensor("t"), tensor("t", offset=128)], F32_ROW * 2),
        "'t'",
    ),
    "five dimensions": (
        errors.TooManyDimensions,
        raw_gguf([], [tensor("t", (1,) * 5)], F32_ROW),
        "'t'",
    ),
    "2**31 dimensions": (
        errors.TooManyDimensions,
        raw_gguf([], [text("t") + _u32(2**31) + bytes(64)]),
        "'t'",
    ),
    "a negative dimension": (
        errors.NegativeDimension,
        raw_gguf([], [tensor("t", (-32,))], F32_ROW),
        "'t'",
    ),
    "dimensions that overflow": (
        errors.ShapeOverflow,
        raw_gguf([], [tensor("t", (2**40, 2**40))], F32_ROW),
        "'t'",
    ),
    "half a block": (errors.RaggedRow, raw_gguf([], [tensor("t", (48,), 2)], F32_ROW), "48"),
    "a misaligned tensor": (
        errors.MisplacedTensor,
        raw_gguf([], [tensor("a"), tensor("b", offset=130)], F32_ROW * 3),
        "alignment",
    ),
    "overlapping tensors": (
        errors.MisplacedTensor,
        raw_gguf([], [tensor("a"), tensor("b", offset=64)], F32_ROW * 3),
        "overlaps",
    ),
    "a gap between tensors": (
        errors.MisplacedTensor,
        raw_gguf([], [tensor("a"), tensor("b", offset=256)], F32_ROW * 3),
        "gap",
    ),
    "an offset of 2**63": (
        errors.MisplacedTensor,
        raw_gguf([], [tensor("a", offset=2**63)], F32_ROW),
        "'a'",
    ),
    "data cut short": (errors.TensorOutOfFile, raw_gguf([], [tensor("t")], F32_ROW[:-1]), "'t'"),
    "data missing": (errors.TensorOutOfFile, raw_gguf([], [tensor("t", (2**40,))]), "'t'"),
    "no room for the padding": (
        errors.Truncated,
        raw_gguf([], [tensor("tt", (0,))], alignment=1),
        "data section",
    ),
}

# llama.cpp opens a header alone, and looks for the data only when it loads a model.
_HEADER_IS_FINE = {"data cut short", "data missing"}


@pytest.mark.parametrize("lie", LIES)
def test_each_lie_has_its_error(lie: str, tmp_path: Path) -> None:
    kind, data, about = LIES[lie]
    path = tmp_path / "lie.gguf"
    path.write_bytes(data)
    with pytest.raises(kind) as caught:
        open_gguf(path)
    assert type(caught.value) is kind
    assert about in caught.value.message
    assert "\n" not in caught.value.message
    assert caught.value.hint


@pytest.mark.parametrize("lie", LIES)
def test_llama_cpp_refuses_it_too(lie: str, tmp_path: Path) -> None:
    path = tmp_path / "lie.gguf"
    path.write_bytes(LIES[lie][1])
    assert llama_cpp_reads(path) == (lie in _HEADER_IS_FINE)


def test_every_format_error_is_raised_by_some_lie() -> None:
    kinds = {kind for kind, _, _ in LIES.values()}
    assert kinds == set(errors.FormatError.__subclasses__()) - {errors.BeyondLimit}


ODD: dict[str, bytes] = {
    "nothing at all": raw_gguf(),
    "no tensors": raw_gguf([pair("k", U32, _u32(7))]),
    "version 2": raw_gguf([pair("k", U32, _u32(7))], version=2),
    "an empty tensor": raw_gguf([], [tensor("t", (0,))]),
    "a tensor of no dimensions": raw_gguf([], [tensor("t", ())], bytes(32)),
    "no padding at the end": raw_gguf([], [tensor("t", (3,))], bytes(12)),
    "bytes after the end": raw_gguf([], [tensor("t")], F32_ROW + bytes(64)),
    "a name of 63 bytes": raw_gguf([], [tensor("n" * 63)], F32_ROW),
    "a name that is no UTF-8": raw_gguf([], [tensor(b"\xff\xfe\x1b[31m")], F32_ROW),
    "a name of nothing": raw_gguf([], [tensor("")], F32_ROW),
    "alignment 64": raw_gguf(
        [pair("general.alignment", U32, _u32(64))], [tensor("t")], F32_ROW, alignment=64
    ),
}


@pytest.mark.parametrize("odd", ODD)
def test_what_llama_cpp_reads_is_read(odd: str, tmp_path: Path) -> None:
    path = tmp_path / "odd.gguf"
    path.write_bytes(ODD[odd])
    assert llama_cpp_reads(path)
    with open_gguf(path) as file:
        assert len(file.warnings()) == (odd in {"no padding at the end", "bytes after the end"})


def test_nested_arrays_are_read_though_llama_cpp_refuses_them(tmp_path: Path) -> None:
    path = tmp_path / "nest.gguf"
    path.write_bytes(raw_gguf([pair("k", ARRAY, _nest(MAX_NESTING - 1))]))
    assert not llama_cpp_reads(path)
    value = open_gguf(path).metadata["k"]
    for _ in range(MAX_NESTING - 1):
        (value,) = value
    assert len(value) == 0


@pytest.mark.parametrize(("number", "name"), [(4, "Q4_2"), (31, "Q4_0_4_4"), (199, "type 199")])
def test_foreign_types_are_shown_and_survived(number: int, name: str, tmp_path: Path) -> None:
    path = tmp_path / "fork.gguf"
    tensors = [tensor("a"), tensor("b", (7,), number, 128), tensor("c", offset=192)]
    path.write_bytes(raw_gguf([], tensors, F32_ROW + bytes(64) + F32_ROW))
    assert not llama_cpp_reads(path)
    with open_gguf(path) as file:
        found = file.tensors["b"]
        assert (found.type.name, found.nbytes, found.info.bits_per_weight) == (name, 64, None)
        assert file.tensors["c"].nbytes == 128
        assert name in file.warnings()[0]
        with pytest.raises(errors.UnknownType, match=name):
            found.blocks()


def test_a_foreign_type_at_the_end_has_what_is_left(tmp_path: Path) -> None:
    path = tmp_path / "fork.gguf"
    path.write_bytes(raw_gguf([], [tensor("a"), tensor("b", (7,), 200, 128)], F32_ROW + bytes(50)))
    assert open_gguf(path).tensors["b"].nbytes == 50


def test_every_truncation_of_a_small_file(tmp_path: Path) -> None:
    pairs = [
        pair("general.architecture", STRING, text("llama")),
        pair("tokens", ARRAY, _array(STRING, 3, text("a") + text("") + text("ccc"))),
        pair("nest", ARRAY, _nest(2)),
    ]
    whole = raw_gguf(pairs, [tensor("a", (32, 2), 2), tensor("b", (3,), offset=64)], bytes(96))
    path = tmp_path / "cut.gguf"
    path.write_bytes(whole)
    data_end = open_gguf(path).header.data_end
    assert data_end == len(whole) - 20  # the padding of the last tensor
    for length in range(len(whole)):
        path.write_bytes(whole[:length])
        if length >= data_end:  # nobody reads that padding
            assert open_gguf(path).warnings()
            continue
        with pytest.raises(errors.FormatError) as caught:
            open_gguf(path)
        assert caught.value.hint


@pytest.mark.slow
def test_every_truncation_of_the_samples_header(sample: Path, tmp_path: Path) -> None:
    whole = sample.read_bytes()
    path = tmp_path / "cut.gguf"
    for length in range(open_gguf(sample).header.data_offset + 1):
        path.write_bytes(whole[:length])
        with pytest.raises(errors.FormatError):
            open_gguf(path)
