"""Work and memory in proportion to what is shown, whatever a header says there is."""

from __future__ import annotations

import json
import os
import struct
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest

from ggufscope.container.file import open_gguf
from ggufscope.container.header import MAX_PAIRS
from ggufscope.container.source import LocalFile
from ggufscope.errors import BeyondLimit, FormatError, GGUFScopeError
from tests.models.families import SMALL
from tests.models.makers import Recipe, pair, raw_gguf, tensor, text, write_recipe
from tests.program import refused, run

MIB = 1 << 20
BASE = 150 * MIB
"""What Python, NumPy and Rich take, and 100 MiB."""
ARCHITECTURE = pair("general.architecture", 8, text("llama"))
U8, U32, STRING, ARRAY = 0, 4, 8, 9


def array(type_: int, count: int, data: bytes = b"") -> bytes:
    return struct.pack("<IQ", type_, count) + data


def sparse(path: Path, head: bytes, more: int) -> Path:
    """A file of a beginning and zeros that take no room on the disk."""
    with path.open("wb") as file:
        file.write(head)
        file.truncate(len(head) + more)
    return path


_TELLS_ITS_PEAK = """
import atexit, re, pathlib
def tell():
    status = pathlib.Path("/proc/self/status").read_text()
    kibibytes = int(re.search(r"VmHWM:\\s+([0-9]+)", status)[1])
    pathlib.Path({path!r}).write_text(str(1024 * kibibytes))
atexit.register(tell)
"""


def peak_of(*arguments: object) -> tuple[int, int, str]:
    """Run the program; the exit code, the most memory it had, and what it said."""
    with TemporaryDirectory() as folder:
        told = Path(folder) / "peak"  # what a parent is told counts its own memory, too
        before = _TELLS_ITS_PEAK.format(path=str(told))
        done = run(*arguments, before=before)
        return done.returncode, int(told.read_text()), done.stdout + done.stderr


LONG: dict[str, Callable[[], list[bytes]]] = {
    "an architecture of 10 MB": lambda: [
        pair("general.architecture", STRING, text("\x1b" * 10 * MIB))
    ],
    "a string of 100 MB": lambda: [ARCHITECTURE, pair("k", STRING, text("x" * 100_000_000))],
    "a name of 20 MB": lambda: [
        ARCHITECTURE,
        pair("general.name", STRING, text("\x1b" * 20 * MIB)),
    ],
    "200 MB of bytes": lambda: [
        ARCHITECTURE,
        pair("k", ARRAY, array(U8, 200 * MIB, bytes(200 * MIB))),
    ],
    "arrays of strings": lambda: [
        ARCHITECTURE,
        pair("k", ARRAY, array(ARRAY, 3, 3 * array(STRING, MIB, MIB * text("a")))),
    ],
    "2^17 arrays": lambda: [
        ARCHITECTURE,
        pair("k", ARRAY, array(ARRAY, 1 << 17, (1 << 17) * array(U32, 2, bytes(8)))),
    ],
}
COMMANDS = [
    ["list", "{}"],
    ["list", "{}", "--metadata"],
    ["list", "{}", "--json"],
    ["list", "{}", "--metadata", "--json"],
    ["size", "{}"],
    ["attention", "{}", "--ids", "1"],
]


@pytest.mark.parametrize("what", LONG)
def test_what_is_long_is_cut_before_it_is_worked_on(what: str, tmp_path: Path) -> None:
    path = tmp_path / "m.gguf"
    path.write_bytes(raw_gguf(LONG[what]()))
    for words in COMMANDS:
        code, peak, said = peak_of(*(word.replace("{}", str(path)) for word in words))
        assert code in (0, 2), said[-2000:]
        assert len(said) < MIB
        assert "Traceback" not in said
        # The header is in memory once, and what is cut of it is not.
        assert peak < path.stat().st_size + BASE, (words, peak / MIB)


BEYOND: dict[str, tuple[bytes, int]] = {
    "2^28 empty strings": (pair("k", ARRAY, array(STRING, 1 << 28)), 8 << 28),
    "a nest of 2^24": (pair("k", ARRAY, array(ARRAY, 1 << 24)), 12 << 24),
    "a string of 1 GB": (pair("k", STRING, struct.pack("<Q", 10**9)), 10**9),
    "a key of 100,000": (text("k" * 100_000) + struct.pack("<IB", 7, 1), 0),
}


@pytest.mark.parametrize("what", BEYOND)
@pytest.mark.parametrize("words", COMMANDS, ids=lambda words: " ".join(words))
def test_what_no_model_has_is_refused_at_once(words: list[str], what: str, tmp_path: Path) -> None:
    beyond, more = BEYOND[what]
    path = sparse(tmp_path / "m.gguf", raw_gguf([ARCHITECTURE, beyond]), more + 1000)
    code, peak, said = peak_of(*(word.replace("{}", str(path)) for word in words))
    assert code == 2
    assert said.startswith(f"error: {path}: ")
    assert "damaged" not in said  # it is merely more than any model has
    assert peak < BASE, peak / MIB


def test_a_limit_is_an_error_of_its_own(tmp_path: Path) -> None:
    for beyond, more in BEYOND.values():
        path = sparse(tmp_path / "m.gguf", raw_gguf([ARCHITECTURE, beyond]), more + 1000)
        with pytest.raises(BeyondLimit, match="at the most"):
            open_gguf(path)
    pairs, tensors = (
        raw_gguf([ARCHITECTURE], n_pairs=1 << 20),
        raw_gguf([ARCHITECTURE], n_tensors=1 << 20),
    )
    for head in (pairs, tensors):
        path = sparse(tmp_path / "m.gguf", head, 1 << 28)
        with pytest.raises(BeyondLimit, match="at the most"):
            open_gguf(path)


def test_many_pairs_are_no_crime(tmp_path: Path) -> None:
    path = tmp_path / "m.gguf"
    keys = [pair(f"k{n}", U32, struct.pack("<I", n)) for n in range(100_000)]
    path.write_bytes(raw_gguf([ARCHITECTURE, *keys]))
    assert MAX_PAIRS > 100_000
    assert len(open_gguf(path).metadata) == 100_001
    for words in (["list", path], ["list", path, "--metadata"]):
        done = run(*words)
        assert (done.returncode, done.stderr) == (0, "")
    listed = json.loads(run("list", path, "--metadata", "--json").stdout)
    assert len(listed["metadata"]) == 100_001


def test_many_tensors_are_listed_and_planned(tmp_path: Path) -> None:
    path = tmp_path / "m.gguf"
    lines = [tensor(f"blk.{n % 500}.x{n}.weight", offset=128 * n) for n in range(20_000)]
    counts = {"block_count": 500, "embedding_length": 32, "attention.head_count": 4}
    # Of olmo it is not known here which tensors are required; a llama like this is not quantized.
    pairs = [pair(f"olmo.{key}", U32, struct.pack("<I", n)) for key, n in counts.items()]
    architecture = pair("general.architecture", STRING, text("olmo"))
    path.write_bytes(raw_gguf([architecture, *pairs], lines, bytes(128 * 20_000)))
    for words in (["list", path], ["list", path, "--json"], ["size", path]):
        done = run(*words)
        assert done.returncode == 0, done.stderr
    assert run("quantize", path, "Q8_0", "--dry-run").returncode == 0


def test_a_header_that_is_cut_off_while_it_is_read_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Mapped, it would have been a bus error: the end of the process, without a word.
    path = tmp_path / "m.gguf"
    whole = raw_gguf([ARCHITECTURE, pair("k", STRING, text("x" * MIB))], [tensor("t")], bytes(128))
    path.write_bytes(whole)
    opened = LocalFile

    def opened_and_cut(name: Any) -> Any:
        source = opened(name)
        os.truncate(path, 1000)
        return source

    monkeypatch.setattr("ggufscope.container.file.LocalFile", opened_and_cut)
    with pytest.raises(GGUFScopeError, match=r"m\.gguf"):
        open_gguf(path)


def test_any_cut_is_said(tmp_path: Path) -> None:
    path = tmp_path / "m.gguf"
    whole = raw_gguf(
        [ARCHITECTURE, pair("k", ARRAY, array(STRING, 3, 3 * text("ab")))], [tensor("t")]
    )
    for stop in range(len(whole) - 1):
        path.write_bytes(whole[:stop])
        with pytest.raises(FormatError, match=r"m\.gguf"):
            open_gguf(path)


def test_a_prompt_is_a_regular_file_of_some_size(sample: Path, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")

    def prompt(name: str, data: bytes) -> Path:
        path = tmp_path / name
        path.write_bytes(data)
        return path

    for path, words in (
        (Path("/dev/zero"), "not a regular file"),
        (tmp_path / "pipe", "not a regular file"),
        (tmp_path, "is a directory"),
        (tmp_path / "none", "no such file"),
        (sparse(tmp_path / "huge", b"", 1 << 40), "at the most"),
        (prompt("empty", b""), "empty"),
        (prompt("bytes", b"\xff\xfe"), "not UTF-8"),
        (prompt("long", b"a " * 20_000), "more than the model's context"),
        (prompt("word", b"a" * 200_000), "more than the model's context"),
    ):
        for command in ("attention", "compare-attention"):
            if path.name in {"long", "word"} and command == "compare-attention":
                continue  # in windows
            code, peak, said = peak_of(command, sample, "--prompt-file", path)
            assert code == 2, said
            assert words in said
            assert peak < BASE, (path, peak / MIB)


def test_memory_is_foretold(tmp_path: Path) -> None:
    small = SMALL["llama-gqa"]
    hparams = small.hparams | {"context_length": 1 << 20}
    path = write_recipe(tmp_path / "m.gguf", Recipe(small.architecture, hparams, small.shapes))
    ids = ",".join(["1"] * 20_000)
    short = "import ggufscope.machine as m\nm.available_memory = lambda: 300 << 20\n"
    for words in (["attention"], ["attention", "--save", "x"], ["compare-attention"]):
        done = run(words[0], path, *words[1:], "--ids", ids, before=short, cwd=tmp_path)
        refused(done, "20,000 tokens", "GiB of memory, and 0.3 GiB are free")
    assert not (tmp_path / "x").exists()
