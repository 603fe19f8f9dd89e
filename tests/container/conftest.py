"""Servers to read models from."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import huggingface_hub
import pytest
from huggingface_hub import constants

from ggufscope.container.remote import client
from tests.bench.common import write_large_header
from tests.container.site import Site, serving
from tests.models import makers

PATH = "/models/tiny.gguf"


@pytest.fixture
def at_once(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Have no try wait for the next, and nothing asked of the true Hub."""
    monkeypatch.setattr(client, "WAITS", (0.0, 0.0, 0.0, 0.0))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    yield
    huggingface_hub.close_session()


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    path = tmp_path_factory.mktemp("models") / "tiny.gguf"
    return makers.make(path, "llama-gqa").read_bytes()


@pytest.fixture(scope="session")
def large(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    path = tmp_path_factory.mktemp("models") / "large.gguf"
    write_large_header(path, tensors=399)
    return path.read_bytes()


@pytest.fixture
def site(tiny: bytes) -> Iterator[Site]:
    with serving(Site({PATH: tiny})) as found:
        yield found


@pytest.fixture
def hub(tiny: bytes, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Site]:
    """A stand-in for the Hub; the client is the real one."""
    names = ["tiny-F16.gguf", "sub/tiny-Q8_0.gguf", "mmproj-tiny-F16.gguf", "README.md"]
    site = Site(dict.fromkeys(names, tiny), repositories={"owner/tiny-GGUF": names})
    with serving(site):
        monkeypatch.setattr(constants, "ENDPOINT", site.url)
        template = site.url + "/{repo_id}/resolve/{revision}/{filename}"
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
        monkeypatch.setenv("HF_TOKEN", "hf_secret")
        yield site
