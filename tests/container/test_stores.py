"""The stores of other tools, laid out as their documentation and sources say (see `stores.py`)."""

from __future__ import annotations

import hashlib
import json
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import constants

from ggufscope.container.file import open_gguf
from ggufscope.container.stores import Stored, stored_models
from ggufscope.errors import SeveralModels, SourceNotFound
from tests.container.stored import hub_cache, ollama
from tests.models import makers


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty home, and no variable that leads out of it."""
    for name in ("OLLAMA_MODELS", "LLAMA_CACHE", "XDG_CACHE_HOME", "XDG_DATA_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    return tmp_path


@pytest.fixture
def model(tmp_path: Path) -> bytes:
    path = makers.make(tmp_path / "made.gguf", "llama-gqa")
    data = path.read_bytes()
    path.unlink()
    return data


def names() -> list[str]:
    return [each.name for each in stored_models() if "/usr/share/" not in str(each.path)]


def test_nothing_is_there(home: Path) -> None:
    assert names() == []


def test_ollama_has_its_own_names(home: Path, model: bytes) -> None:
    models = home / ".ollama" / "models"
    usual = "registry.ollama.ai/library"
    ollama(models, f"{usual}/llama3.2/3b", ("model", model), ("template", b"{{ .Prompt }}"))
    ollama(models, f"{usual}/llava/latest", ("model", model), ("projector", b"GGUF"))
    ollama(models, "registry.ollama.ai/someone/tuned/v1", ("model", model), ("adapter", b"GGUF"))
    ollama(models, "hf.co/owner/repo/Q4_K_M", ("model", model))
    assert sorted(names()) == [
        "ollama:hf.co/owner/repo:Q4_K_M",
        "ollama:llama3.2:3b",
        "ollama:llava:latest",
        "ollama:llava:latest/projector",
        "ollama:someone/tuned:v1",
        "ollama:someone/tuned:v1/adapter",
    ]
    digest = hashlib.sha256(model).hexdigest()
    blob = models / "blobs" / f"sha256-{digest}"
    assert Stored("ollama:llama3.2:3b", blob, digest) in stored_models()
    for word in ("ollama:llama3.2:3b", "Ollama:llama3.2:3B", "ollama:llama3.2", "ollama:llava"):
        assert open_gguf(word).path == blob
    with pytest.raises(SourceNotFound) as raised:
        open_gguf("ollama:lama3.2:3b")
    assert raised.value.hint == "did you mean ollama:llama3.2:3b?"


def test_ollama_can_be_moved(home: Path, model: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OLLAMA_MODELS", str(home / "moved"))
    ollama(home / "moved", "registry.ollama.ai/library/m/latest", ("model", model))
    ollama(home / ".ollama" / "models", "registry.ollama.ai/library/n/latest", ("model", model))
    assert names() == ["ollama:m:latest"]


@pytest.mark.parametrize(
    "manifest",
    [
        "",
        "{",
        "[]",
        "{}",
        '{"layers": 5}',
        '{"layers": [5, null, {}, {"mediaType": 1}]}',
        '{"layers": [{"mediaType": "application/vnd.ollama.image.model", "digest": "../x"}]}',
        "[" * 100_000,
        " " * (2 << 20),
    ],
)
def test_a_damaged_manifest_is_passed_over(home: Path, manifest: str) -> None:
    path = home / ".ollama/models/manifests/registry.ollama.ai/library/m/latest"
    path.parent.mkdir(parents=True)
    path.write_text(manifest)
    (path.parent / ".DS_Store").write_text("x")
    assert names() == []


def test_lm_studio_keeps_publisher_and_repository(home: Path, model: bytes) -> None:
    for root in ("first", "second"):
        folder = home / root / "models" / "publisher" / "repo-GGUF"
        folder.mkdir(parents=True)
        (folder / f"m-Q8_0-{root}.gguf").write_bytes(model)
    (home / ".lmstudio").symlink_to(home / "first")
    name = "lmstudio:publisher/repo-GGUF/m-Q8_0-first.gguf"
    assert names() == [name]
    assert open_gguf("lmstudio:publisher/repo-GGUF").path == open_gguf(name).path
    (home / ".lmstudio-home-pointer").write_text(f"{home / 'second'}\n")
    assert names() == ["lmstudio:publisher/repo-GGUF/m-Q8_0-second.gguf"]
    (home / "second" / "settings.json").write_text(
        json.dumps({"downloadsFolder": str(home / "first" / "models")})
    )
    assert names() == [name]


def test_several_of_one_name_are_asked_about(home: Path, model: bytes) -> None:
    folder = home / ".lmstudio" / "models" / "publisher" / "repo-GGUF"
    folder.mkdir(parents=True)
    for kind in ("Q4_0", "Q8_0"):
        (folder / f"m-{kind}.gguf").write_bytes(model)
    with pytest.raises(SeveralModels, match="stands for 2 models"):
        open_gguf("lmstudio:publisher/repo-GGUF")


def test_whole_words_of_a_name_will_do_where_one_has_them(home: Path, model: bytes) -> None:
    folder = home / ".lmstudio" / "models" / "publisher" / "repo-GGUF"
    folder.mkdir(parents=True)
    for name in ("m-Q4_0", "m-Q8_0", "other_q8_0", "large"):
        (folder / f"{name}.gguf").write_bytes(model)
    for word in ("large", "LARGE.gguf", "q4", "m-q4_0", "repo-gguf/large", "other"):
        assert open_gguf(f"lmstudio:{word}").path.name in {"large.gguf", "m-Q4_0.gguf"} | (
            {"other_q8_0.gguf"} if word == "other" else set()
        )
    for word in ("q8", "m", "publisher", "gguf"):
        with pytest.raises(SeveralModels):
            open_gguf(f"lmstudio:{word}")
    for word in ("arge", "larg", "lmstudio", ""):
        with pytest.raises(SourceNotFound):
            open_gguf(f"lmstudio:{word}")


def test_the_cache_of_llama_cpp_is_flat(
    home: Path, model: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    for folder in (home / ".cache" / "llama.cpp", home / "other"):
        folder.mkdir(parents=True)
        (folder / "owner_repo_m-Q8_0.gguf").write_bytes(model)
        (folder / "owner_repo_m-Q8_0.gguf.json").write_text("{}")
        (folder / "manifest=owner=repo=latest.json").write_text("{}")
    assert names() == ["llama.cpp:owner_repo_m-Q8_0.gguf"]
    monkeypatch.setenv("LLAMA_CACHE", str(home / "other"))
    hub_cache(home / "other", "owner/repo", "c0ffee", "m.gguf", model)
    assert names() == ["llama.cpp:owner_repo_m-Q8_0.gguf", "llama.cpp:owner/repo/m.gguf"]
    assert open_gguf("llama.cpp:owner/repo").path.name == "m.gguf"


def test_the_cache_of_the_hub_has_repositories(home: Path, model: bytes) -> None:
    hub_cache(home / "hub", "owner/repo", "0" * 40, "old.gguf", model)
    path = hub_cache(home / "hub", "owner/repo", "1" * 40, "sub/m-00001-of-00002.gguf", model)
    hub_cache(home / "hub", "owner/repo", "1" * 40, "sub/m-00002-of-00002.gguf", model)
    digest = hashlib.sha256(model).hexdigest()
    assert stored_models() == [
        Stored(
            f"hf:owner/repo/old.gguf@{'0' * 40}",
            home / f"hub/models--owner--repo/snapshots/{'0' * 40}/old.gguf",
            digest,
        ),
        Stored("hf:owner/repo/sub/m-00001-of-00002.gguf", path, digest),
    ]
    assert open_gguf(f"hf:owner/repo/old.gguf@{'0' * 40}").path.name == "old.gguf"


def test_jan_says_where_a_model_is(home: Path, model: bytes) -> None:
    data = home / ".local" / "share" / "Jan" / "data"
    for name, path in {
        "owner/m-Q8_0": "llamacpp/models/owner/m-Q8_0/model.gguf",
        "imported": str(home / "elsewhere.gguf"),
    }.items():
        folder = data / "llamacpp" / "models" / name
        folder.mkdir(parents=True)
        (folder / "model.yml").write_text(f"name: x\nmodel_path: '{path}'\nsize_bytes: 5\n")
        (data / path).write_bytes(model)
    (home / "jan" / "models" / "older").mkdir(parents=True)
    (home / "jan" / "models" / "older" / "m.gguf").write_bytes(model)
    assert names() == ["jan:imported", "jan:owner/m-Q8_0", "jan:older/m.gguf"]
    assert open_gguf("jan:imported").path == home / "elsewhere.gguf"
    moved = home / "moved"
    shutil.copytree(data, moved)
    (moved / "llamacpp" / "models" / "imported" / "model.yml").unlink()
    (data.parent / "settings.json").write_text(json.dumps({"data_folder": str(moved)}))
    assert names() == ["jan:owner/m-Q8_0", "jan:older/m.gguf"]


def test_gpt4all_has_one_folder_of_the_program_and_one_of_the_package(
    home: Path, model: bytes
) -> None:
    for folder in (".local/share/nomic.ai/GPT4All", ".cache/gpt4all"):
        (home / folder).mkdir(parents=True)
    (home / ".local/share/nomic.ai/GPT4All/a.gguf").write_bytes(model)
    (home / ".cache/gpt4all/b.gguf").write_bytes(model)
    (home / ".cache/gpt4all/incomplete-c.part").write_bytes(model)
    assert names() == ["gpt4all:a.gguf", "gpt4all:b.gguf"]


@pytest.mark.parametrize("settings", ["5", "[]", '{"downloadsFolder": 5}', "{"])
def test_damaged_settings_are_passed_over(home: Path, settings: str) -> None:
    (home / ".lmstudio").mkdir()
    (home / ".lmstudio" / "settings.json").write_text(settings)
    (home / ".local/share/Jan").mkdir(parents=True)
    (home / ".local/share/Jan/settings.json").write_text(settings)
    assert names() == []


def test_a_path_that_is_here_comes_first(
    home: Path, model: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(home)
    Path("ollama:m").write_bytes(model)
    assert open_gguf("ollama:m").path == Path("ollama:m")
    named: Any = open_gguf(Path("ollama:m"))
    assert named.nbytes == len(model)
