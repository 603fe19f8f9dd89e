"""What is no GGUF: files as other programs write them, each called what it is."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import pickle
import struct
import tarfile
import zipfile
from pathlib import Path

import pytest

from ggufscope.container.file import open_gguf
from ggufscope.errors import EmptyFile, NotAFile, NotGGUF
from tests.program import inside, refused

POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a21\nsize 4920739232\n"


def _zip(name: str) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr(name, b"GGUF")
    return stream.getvalue()


def _safetensors() -> bytes:
    header = b'{"w":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}'
    return struct.pack("<Q", len(header)) + header + bytes(4)


def _tar() -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as archive:
        archive.addfile(tarfile.TarInfo("model.gguf"))
    return stream.getvalue()


FOREIGN: dict[str, tuple[bytes, str, str]] = {
    "pointer": (POINTER, "a Git LFS pointer", "git lfs pull"),
    "page": (b"\n<!DOCTYPE html><html>Sign in</html>", "a web page", "the file itself"),
    "safetensors": (_safetensors(), "a safetensors file", "convert_hf_to_gguf.py"),
    "torch": (_zip("archive/data.pkl"), "a PyTorch file (a zip", "convert_hf_to_gguf.py"),
    "old torch": (
        pickle.dumps(0x1950A86A20F9469CFC6C, protocol=2),
        "a PyTorch file (a pickle",
        "convert_hf_to_gguf.py",
    ),
    "pickle": (pickle.dumps([1], protocol=4), "a Python pickle", "convert_hf_to_gguf.py"),
    "ggml": (b"lmgg" + bytes(40), "(ggml), from before GGUF", "convert_llama_ggml_to_gguf.py"),
    "ggmf": (b"fmgg" + bytes(40), "(ggmf), from before GGUF", "convert_llama_ggml_to_gguf.py"),
    "ggjt": (b"tjgg" + bytes(40), "(ggjt), from before GGUF", "convert_llama_ggml_to_gguf.py"),
    "zip": (_zip("model.gguf"), "a zip archive", "unpack it"),
    "gzip": (gzip.compress(b"GGUF"), "a gzip archive", "unpack it"),
    "xz": (lzma.compress(b"GGUF"), "an xz archive", "unpack it"),
    "bzip2": (bz2.compress(b"GGUF"), "a bzip2 archive", "unpack it"),
    "tar": (_tar(), "a tar archive", "unpack it"),
    "json": (b'{"error": "not found"}', "JSON text", "read it"),
    "zeros": (bytes(4096), "zeros, no model", "download it again"),
    "words": (b"# A model\n", 'it begins with "# A "', "name a .gguf file"),
    "one byte": (b"<", 'it begins with "<"', "name a .gguf file"),
}


@pytest.mark.parametrize("name", FOREIGN)
def test_each_is_called_what_it_is(name: str, tmp_path: Path) -> None:
    data, what, hint = FOREIGN[name]
    path = tmp_path / "model.gguf"
    path.write_bytes(data)
    with pytest.raises(NotGGUF) as caught:
        open_gguf(path)
    assert caught.value.message.startswith(f"{path}: this is not a GGUF file: ")
    assert what in caught.value.message
    assert hint in caught.value.hint


def test_nothing_at_all(tmp_path: Path) -> None:
    (tmp_path / "model.gguf").touch()
    with pytest.raises(EmptyFile, match="is empty") as caught:
        open_gguf(tmp_path / "model.gguf")
    assert caught.value.hint == "download it again"


@pytest.mark.parametrize(
    ("inside", "hint"),
    [
        ([], "name a .gguf file"),
        (["config.json", "model-00001-of-00002.safetensors"], "convert_hf_to_gguf.py"),
        (["pytorch_model.bin"], "convert_hf_to_gguf.py"),
        (["b.gguf", "a.gguf", "model.safetensors"], "such as {}/a.gguf"),
    ],
)
def test_a_folder(inside: list[str], hint: str, tmp_path: Path) -> None:
    for name in inside:
        (tmp_path / name).touch()
    with pytest.raises(NotAFile, match="is a directory") as caught:
        open_gguf(tmp_path)
    assert hint.format(tmp_path) in caught.value.hint


@pytest.mark.parametrize("command", ["list", "size", "attention", "compare-attention"])
def test_every_command_says_so(command: str, tmp_path: Path) -> None:
    path = tmp_path / "model.gguf"
    path.write_bytes(POINTER)
    refused(inside(command, path), "this is not a GGUF file: it is a Git LFS pointer")
