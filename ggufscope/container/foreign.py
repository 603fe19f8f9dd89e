"""Files that are taken for a GGUF and are none: what each is, and what to do about it.

Most are what a download leaves: a pointer, a page, an archive, or the model in another format.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

HEAD: Final = 1024
"""Bytes of a file's beginning that tell what it is."""

_CONVERT: Final = "llama.cpp's convert_hf_to_gguf.py makes a GGUF of a folder that has it"
_UNPACK: Final = "unpack it, and name the .gguf file inside"
_AGAIN: Final = "download it again"

_BEGINNINGS: Final[tuple[tuple[bytes, str, str], ...]] = (
    (
        b"version https://git-lfs",
        "a Git LFS pointer that stands for the model",
        "`git lfs pull` fetches the model itself",
    ),
    *(
        (
            magic[::-1],  # a number, which lies in the file with its last byte first
            f"an old GGML file ({magic.decode()}), from before GGUF",
            "llama.cpp's convert_llama_ggml_to_gguf.py may convert it; or look for a GGUF",
        )
        for magic in (b"ggml", b"ggmf", b"ggjt", b"ggla")
    ),
    (b"\x80\x02", "a PyTorch file (a pickle)", _CONVERT),
    (b"\x80\x03", "a Python pickle", _CONVERT),
    (b"\x80\x04", "a Python pickle", _CONVERT),
    (b"PK\x03\x04", "a zip archive", _UNPACK),
    (b"\x1f\x8b", "a gzip archive", _UNPACK),
    (b"\x28\xb5\x2f\xfd", "a zstd archive", _UNPACK),
    (b"\xfd7zXZ\x00", "an xz archive", _UNPACK),
    (b"BZh", "a bzip2 archive", _UNPACK),
    (b"7z\xbc\xaf\x27\x1c", "a 7z archive", _UNPACK),
    (b"Rar!", "a rar archive", _UNPACK),
)


def foreign_format(head: bytes) -> tuple[str, str] | None:
    """Return what a file with this beginning is, and what to do; None where it is not known."""
    if head[8:10] == b'{"' and not any(head[4:8]):  # the length of the JSON that follows
        return "a safetensors file", _CONVERT
    if head[:2] == b"PK" and b"data.pkl" in head:
        return "a PyTorch file (a zip archive of pickles)", _CONVERT
    for beginning, what, hint in _BEGINNINGS:
        if head.startswith(beginning):
            return what, hint
    if head[257:262] == b"ustar":
        return "a tar archive", _UNPACK
    text = head.lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if text.startswith((b"<!doctype", b"<html", b"<?xml", b"<head", b"<!--")):
        return "a web page", "the link led to a page about the file: download the file itself"
    if text.startswith((b"{", b"[")):
        return "JSON text, no model", "read it: a download may have ended in a message"
    if len(head) >= 4 and not any(head):
        return "zeros, no model", f"the download was not finished: {_AGAIN}"
    return None


def hint_for_folder(path: Path) -> str:
    """Return which file to name instead of a folder."""
    models = sorted(path.glob("*.gguf"))
    if models:
        return f"name one of its files, such as {models[0]}"
    if any(path.glob("*.safetensors")) or any(path.glob("pytorch_model*.bin")):
        return _CONVERT
    return "name a .gguf file"
