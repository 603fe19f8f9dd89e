"""Headers with bytes changed at random: what is accepted here, llama.cpp's parser accepts too."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from ggufscope.blocks.layouts import ForeignType
from ggufscope.container.file import GGUFFile, open_gguf
from ggufscope.container.value_types import ValueType
from ggufscope.errors import GGUFScopeError
from tests.hostile.exercise import failures
from tests.hostile.mutations import MODELS, model_of
from tests.oracles import llama_cpp_reads

_COMMANDS = [
    "list {} --metadata --json",
    "edit {} --dry-run --set general.name=str:x --special bos=a",
    "attention {} --prompt abé",
]
_WORDS = [0, 1, 2, 7, 8, 9, 12, 13, 31, 32, 63, 64, 127, 128, 255]
_LENGTHS = [0, 1, 2**16, 2**31, 2**32 - 1, 2**32, 2**62, 2**63 - 1, 2**63, 2**64 - 32, 2**64 - 1]


def changed(data: bytes, header: int, chance: random.Random) -> bytes:
    """Change some bytes of a header: one, a length, a stretch doubled, moved or left out."""
    made = bytearray(data)
    for _ in range(chance.choice([1, 1, 1, 2, 5])):
        at = chance.randrange(4, header)
        end = min(header, at + chance.choice([1, 4, 8, 12, 40]))
        match chance.randrange(6):
            case 0:
                made[at] ^= 1 << chance.randrange(8)
            case 1:
                made[at] = chance.choice(_WORDS)
            case 2:
                made[at : at + 8] = chance.choice(_LENGTHS).to_bytes(8, "little")
            case 3:
                made[at:at] = made[at:end]
            case 4:
                del made[at:end]
            case 5:
                other = chance.randrange(4, header)
                made[at:end] = made[other : other + end - at]
    return bytes(made)


def _is_beyond_llama_cpp(file: GGUFFile) -> bool:
    """Whether a file has what is read here on purpose, and not there."""
    foreign = any(isinstance(tensor.type, ForeignType) for tensor in file.tensors.values())
    values = file.metadata.typed.values()
    arrays = [value.data for value in values if value.type is ValueType.ARRAY]
    return foreign or any(array.element_type is ValueType.ARRAY for array in arrays)


def tried(seed: int, count: int, path: Path) -> tuple[int, list[str]]:
    """Try so many changed headers; how many were accepted, and what went wrong."""
    found, accepted = [], 0
    names = [*MODELS]
    whole: dict[str, tuple[bytes, int]] = {}
    for name in names:
        model_of(name).write(path)
        whole[name] = path.read_bytes(), open_gguf(path).header.data_offset
    for number in range(count):
        chance = random.Random(f"bytes {seed}/{number}")
        name = chance.choice(names)
        path.write_bytes(changed(*whole[name], chance))
        try:
            file = open_gguf(path)
        except GGUFScopeError as error:
            if not (error.hint and str(path) in error.message and "\n" not in error.message):
                found.append(f"{seed}/{number}: {error.message!r}")
            continue
        accepted += 1
        if not llama_cpp_reads(path) and not _is_beyond_llama_cpp(file):
            found.append(f"{seed}/{number}: accepted, and refused by llama.cpp")
        command = chance.choice(_COMMANDS)
        found += [f"{seed}/{number}: {words}" for words in failures(path, [command])]
    return accepted, found


@pytest.mark.parametrize("seed", range(12))
def test_changed_bytes(seed: int, tmp_path: Path) -> None:
    accepted, found = tried(seed, 150, tmp_path / "m.gguf")
    assert found == []
    assert 10 < accepted < 140


@pytest.mark.slow
def test_many_thousand_changed_bytes(tmp_path: Path) -> None:
    _, found = tried(1000, 20_000, tmp_path / "m.gguf")
    assert found == []
