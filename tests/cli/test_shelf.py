"""`ggufscope list` of a repository, a folder, several files."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import huggingface_hub
import pytest
from huggingface_hub import constants
from jsonschema import Draft202012Validator

from ggufscope.cli import app
from ggufscope.sizing import shelf
from ggufscope.sizing.here import Here
from tests.container.site import Site, serving
from tests.container.stored import hub_cache, ollama
from tests.models import makers

SCHEMA = json.loads((Path(app.__file__).parent.parent / "schemas" / "list-models.json").read_text())

Ask = Callable[..., tuple[str, str]]


@pytest.fixture
def ask(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Ask:
    """Run a command in this process, at 80 columns; return what it prints on both streams."""
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setattr(shelf, "this_machine", lambda: Here(1 << 30))

    def ask(*arguments: object, code: int = 0) -> tuple[str, str]:
        monkeypatch.setattr(sys, "argv", ["ggufscope", *map(str, arguments)])
        with pytest.raises(SystemExit) as caught:
            app.main()
        printed = capsys.readouterr()
        assert caught.value.code == code, printed.err
        if "--json" not in arguments:
            assert max(map(len, printed.out.splitlines()), default=0) <= 80
        return printed.out, printed.err

    return ask


def told(ask: Ask, *arguments: object, code: int = 0) -> Any:
    found = json.loads(ask(*arguments, "--json", code=code)[0])
    Draft202012Validator(SCHEMA).validate(found)
    return found


@pytest.fixture
def folder(tmp_path: Path, sample: Path) -> Path:
    """Two models, one of them twice, a broken one, and what is none."""
    makers.make(tmp_path / "tiny.gguf", "llama-gqa")
    (tmp_path / "sub").mkdir()
    shutil.copy(sample, tmp_path / "sub" / "stories.gguf")
    (tmp_path / "broken.gguf").write_bytes(b"GGUF\x03\x00")
    (tmp_path / "notes.txt").write_text("no model")
    (tmp_path / ".hidden").mkdir()
    shutil.copy(sample, tmp_path / ".hidden" / "hidden.gguf")
    return tmp_path


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, sample: Path) -> Iterator[Site]:
    names = ["m-F16.gguf", "m-Q8_0-00001-of-00002.gguf", "m-Q8_0-00002-of-00002.gguf"]
    names += ["mmproj-m-F16.gguf", "m-Q4_K_M-00001-of-00003.gguf", "README.md"]
    data = sample.read_bytes()
    site = Site(
        dict.fromkeys(names, data),
        repositories={"owner/m-GGUF": names, "owner/none": ["README.md"]},
    )
    with serving(site):
        monkeypatch.setattr(constants, "ENDPOINT", site.url)
        template = site.url + "/{repo_id}/resolve/{revision}/{filename}"
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
        yield site
    huggingface_hub.close_session()


def test_a_repository_is_a_table_of_its_models(ask: Ask, hub: Site, sample: Path) -> None:
    printed, said = ask("list", "owner/m-GGUF")
    assert said == ""
    assert printed.count("Q8_0 ") == 1  # shards are one
    assert "mmproj-m-F16.gguf" in printed
    assert "; weights: 3.54 M; context: 256 tokens" in " ".join(printed.split())
    assert "name one, for example: owner/m-GGUF:F16" in printed
    found = told(ask, "list", "owner/m-GGUF", "--sort", "size")
    rows = {row["name"]: row for row in found["models"]}
    assert [row["nbytes"] for row in found["models"]] == sorted(
        (row["nbytes"] for row in found["models"]), reverse=True
    )
    assert rows["owner/m-GGUF:Q8_0"]["files"] == 2
    assert rows["owner/m-GGUF:Q8_0"]["nbytes"] == 2 * sample.stat().st_size
    assert rows["owner/m-GGUF:F16"]["n_elements"] == 3_541_248
    assert rows["owner/m-GGUF:F16"]["fits"] == "fits"
    assert rows["owner/m-GGUF:Q4_K_M"]["note"] == "2 of its shards are missing"
    assert rows["hf:owner/m-GGUF/mmproj-m-F16.gguf"]["fits"] is None


def test_of_a_repository_one_header_is_read(ask: Ask, hub: Site) -> None:
    ask("list", "owner/m-GGUF")
    assert len([each for each in hub.asked if "/resolve/" in each.path]) <= 2
    assert {each.path.split("?")[0] for each in hub.asked if "/api/models" in each.path} == {
        "/api/models/owner/m-GGUF"
    }


def test_a_repository_without_models_says_so(ask: Ask, hub: Site) -> None:
    _, said = ask("list", "owner/none", code=2)
    assert "owner/none has no GGUF file\nhint: look for a repository with -GGUF" in said


@pytest.mark.parametrize(
    "arguments",
    [
        ("list", "owner/m-GGUF:F16"),
        ("size", "owner/m-GGUF:F16"),
        ("size", "hf:owner/m-GGUF/m-F16.gguf", "--fits", "1GiB"),
        ("quantize", "owner/m-GGUF:F16", "Q8_0", "--dry-run"),
        ("check", "owner/m-GGUF:F16", "--quick"),
    ],
)
def test_what_needs_a_header_needs_no_more(ask: Ask, hub: Site, arguments: tuple[str, ...]) -> None:
    printed, said = ask(*arguments)
    assert said == ""
    assert "3.54 M" in printed or "Q8_0" in printed or "39 tensors" in printed
    assert hub.sent <= 1 << 18


@pytest.mark.parametrize(
    "arguments",
    [
        ("quantize", "owner/m-GGUF:F16", "Q8_0"),
        ("attention", "owner/m-GGUF:F16"),
        ("compare-attention", "owner/m-GGUF:F16", "--types", "Q8_0"),
        ("check", "owner/m-GGUF:F16"),
        ("imatrix", "owner/m-GGUF:F16", "--ids", ",".join("1" * 1024)),
    ],
)
def test_what_needs_weights_says_how_to_have_them(
    ask: Ask,
    hub: Site,
    arguments: tuple[str, ...],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    monkeypatch.chdir(tmp_path)
    _, said = ask(*arguments, code=2)
    assert "error: hf:owner/m-GGUF/m-F16.gguf is not on this machine" in said
    assert "hint: download it: hf download owner/m-GGUF m-F16.gguf\n" in said
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


def test_a_download_is_limited_by_an_option(
    ask: Ask, hub: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GGUFSCOPE_MAX_DOWNLOAD", "1")  # put back after the test
    _, said = ask("--max-download", "1.1M", "list", hub.url + "/m-F16.gguf", code=2)
    assert "no such file (404)" in said
    hub.files["/big.gguf"] = makers.raw_gguf(
        [makers.pair("x", 9, b"\0\0\0\0" + (2_000_000).to_bytes(8, "little") + bytes(2_000_000))]
    )
    _, said = ask("--max-download", "1.1M", "list", hub.url + "/big.gguf", code=2)
    assert "1153434 may" in said


def test_a_folder_has_a_line_for_each_model(ask: Ask, folder: Path, sample: Path) -> None:
    found = told(ask, "list", folder, code=2)  # one of them cannot be read
    rows = {Path(row["name"]).name: row for row in found["models"]}
    assert set(rows) == {"tiny.gguf", "stories.gguf", "broken.gguf"}
    assert rows["stories.gguf"]["type"] == "F16"
    assert rows["stories.gguf"]["bits_per_weight"] == pytest.approx(16.0104, abs=1e-4)
    assert rows["stories.gguf"]["context_length"] == 256
    assert rows["broken.gguf"]["note"].endswith("the file ends at 6")
    assert found["nbytes"] == sum(row["nbytes"] for row in found["models"])
    printed, _ = ask("list", folder, "--filter", "*stories*")
    assert "1 model, 6.79 MiB" in printed
    assert "tiny" not in printed
    said = ask("list", folder, "--filter", "nothing", code=2)[1]
    assert said.startswith("error: no model has a name that --filter matches\nhint: of several")


@pytest.mark.parametrize("order", ["file", "name", "size", "type", "bits"])
def test_several_files_can_be_sorted(ask: Ask, folder: Path, order: str) -> None:
    files = [folder / "tiny.gguf", folder / "sub" / "stories.gguf"]
    found = told(ask, "list", *files, "--sort", order)["models"]
    assert {row["name"] for row in found} == set(map(str, files))
    if order == "file":
        assert [row["name"] for row in found] == list(map(str, files))
    if order == "size":
        assert found[0]["nbytes"] > found[1]["nbytes"]
    if order == "bits":
        assert found[0]["bits_per_weight"] >= found[1]["bits_per_weight"]


def test_what_is_for_one_model_is_refused_for_several(ask: Ask, folder: Path) -> None:
    assert "--explain is for one model" in ask("list", folder, "--explain", code=2)[1]
    assert "a model is needed" in ask("list", code=2)[1]
    assert "--local takes no model" in ask("list", folder, "--local", code=2)[1]


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sample: Path) -> Path:
    """Models of three tools: one content four times, one that is not like it, one that sees."""
    data = sample.read_bytes()
    tiny = makers.make(tmp_path / "tiny.gguf", "llama-gqa").read_bytes()
    seeing = makers.RECIPES["llama-gqa"]()
    seeing.shapes |= {"v.blk.0.attn_q.weight": (32, 32), "mm.0.weight": (32, 32)}
    packed = makers.write_recipe(tmp_path / "packed.gguf", seeing).read_bytes()
    for name in ("OLLAMA_MODELS", "LLAMA_CACHE", "XDG_CACHE_HOME", "XDG_DATA_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    models, library = tmp_path / ".ollama" / "models", "registry.ollama.ai/library"
    ollama(models, f"{library}/stories/3m", ("model", data))
    ollama(models, f"{library}/stories/again", ("model", data))
    ollama(models, f"{library}/seeing/latest", ("model", packed))
    hub_cache(tmp_path / "hub", "owner/repo", "c0ffee", "stories-F16.gguf", data)
    folder = tmp_path / ".lmstudio" / "models" / "owner" / "repo"
    folder.mkdir(parents=True)
    (folder / "stories.gguf").write_bytes(data)
    (folder / "tiny.gguf").write_bytes(tiny)
    return tmp_path


def test_what_other_tools_have_is_listed_with_its_copies(
    ask: Ask, home: Path, sample: Path
) -> None:
    printed, said = ask("list", "--local")
    assert said == ""
    assert "is the same file as" not in printed
    found = told(ask, "list", "--local")
    same = {row["name"]: (row["same_as"], row["same_by"]) for row in found["models"]}
    first = "ollama:stories:3m"
    assert same == {
        "ollama:seeing:latest": (None, None),
        first: (None, None),
        "ollama:stories:again": (first, "inode"),
        "lmstudio:owner/repo/stories.gguf": (first, "header"),
        "lmstudio:owner/repo/tiny.gguf": (None, None),
        "hf:owner/repo/stories-F16.gguf": (first, "sha256"),
    }
    nbytes = sample.stat().st_size
    assert found["nbytes_of_copies"] == nbytes  # what the hash says
    files = {row["path"]: row["nbytes"] for row in found["models"]}
    assert found["nbytes"] == sum(files.values())
    assert "ollama:stories:again: the same file as ollama:stories:3m" in " ".join(printed.split())
    named = f"stories-F16.gguf: named by the same SHA-256 as {first}: not all weights were compared"
    assert named in " ".join(printed.split())
    assert "6.79 MiB of it in files named as copies" in printed
    assert f"stories.gguf: may be a copy of {first}: not all weights" in " ".join(printed.split())


@pytest.mark.parametrize("name", ["U", "A name that is longer than the padding has room for" * 4])
def test_a_file_that_is_named_by_its_content_is_changed_by_force_alone(
    ask: Ask, home: Path, sample: Path, name: str
) -> None:
    change = ("--set", f"general.name=str:{name}")
    blobs = [path for path in home.rglob("blobs/*") if len(path.name) > 60]
    link = next(home.rglob("snapshots/*/*.gguf"))
    before = {path: path.read_bytes() for path in blobs}
    for model in ("ollama:stories:3m", "hf:owner/repo/stories-F16.gguf", link, *blobs):
        _, said = ask("edit", model, *change, code=2)
        assert "is kept under the SHA-256 of its content, which this changes" in said
        assert "hint: name a COPY, or change it with --force" in said
    assert before == {path: path.read_bytes() for path in blobs}
    ask("edit", "ollama:stories:3m", home / "copy.gguf", *change)
    ask("edit", "lmstudio:owner/repo/stories.gguf", "--remove", "general.author")
    _, said = ask("edit", link, *change, "--force")
    assert f"warning: {link} is kept under the SHA-256 of its content, which" in said
    assert link.is_symlink()
    # A name that is true no longer makes no copy.
    found = told(ask, "list", "--local")
    same = {row["name"]: row["same_by"] for row in found["models"]}
    assert same["hf:owner/repo/stories-F16.gguf"] is None
    assert same["ollama:stories:again"] == "inode"
    assert found["nbytes_of_copies"] == 0


def test_only_what_is_proven_is_a_copy(ask: Ask, tmp_path: Path, sample: Path) -> None:
    """A file that is damaged at an end is none; one that is damaged between may be one."""
    data = bytearray(sample.read_bytes())
    (tmp_path / "a.gguf").write_bytes(data)
    data[-200_000] ^= 1
    (tmp_path / "between.gguf").write_bytes(data)
    data[-9] ^= 1
    (tmp_path / "end.gguf").write_bytes(data)
    (tmp_path / "link.gguf").hardlink_to(tmp_path / "a.gguf")
    found = told(ask, "list", tmp_path)
    same = {Path(row["name"]).name: row["same_by"] for row in found["models"]}
    assert same.pop("between.gguf") == "header"
    assert same == {"a.gguf": None, "end.gguf": None, "link.gguf": "inode"}
    assert found["nbytes_of_copies"] == 0
    printed, _ = ask("list", tmp_path)
    assert "named as copies" not in printed
    said = f"between.gguf: may be a copy of {tmp_path}/a.gguf: not all weights were compared"
    assert said.replace(" ", "") in "".join(printed.split())


def test_a_vision_part_inside_a_model_is_explained(ask: Ask, home: Path) -> None:
    printed = " ".join(ask("list", "--local")[0].split())
    assert "2 of its 32 tensors are a vision part in the same file, as Ollama packs it" in printed
    said = ask("list", "ollama:seeing")[1]
    assert "'wrong number of tensors'" in said


@pytest.mark.parametrize(
    "arguments",
    [
        ("list", "ollama:stories:3m"),
        ("size", "ollama:stories:3m"),
        ("size", "hf:owner/repo/stories-F16.gguf"),
        ("quantize", "lmstudio:owner/repo/stories.gguf", "Q8_0", "--dry-run"),
        ("attention", "ollama:stories:3m", "--layer", "0", "--head", "0"),
        ("check", "ollama:stories:3m"),
        ("check", "ollama:stories:3m", "lmstudio:owner/repo/stories.gguf"),
        ("imatrix", "ollama:stories:3m", "--ids", ",".join("1" * 32), "-c", "16"),
        ("list", "lmstudio:tiny"),
        ("compare-attention", "ollama:stories:3m", "--against", "lmstudio:stories", "-q"),
    ],
)
def test_a_name_of_a_tool_serves_wherever_a_model_is_asked_for(
    ask: Ask, home: Path, arguments: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(home)
    printed, _ = ask(*arguments)
    assert printed


@pytest.mark.parametrize("command", [("check",), ("imatrix", "--ids", "1,2")])
def test_a_name_that_no_tool_has_is_an_error(
    ask: Ask, home: Path, command: tuple[str, ...]
) -> None:
    name, *options = command
    _, said = ask(name, "ollama:story:3m", *options, code=2)
    assert "ollama:story:3m: there is no such model on this machine" in said
    assert "did you mean ollama:stories:3m?" in said


def test_what_is_made_of_a_stored_model_does_not_go_into_the_store(
    ask: Ask, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = set(home.rglob("*"))
    (home / "work").mkdir()
    monkeypatch.chdir(home / "work")
    ask("quantize", "ollama:stories:3m", "Q8_0")
    ask("quantize", "hf:owner/repo/stories-F16.gguf", "Q4_0")
    made = {home / "work", home / "work/stories-3m-Q8_0.gguf", home / "work/stories-Q4_0.gguf"}
    assert set(home.rglob("*")) == before | made


def test_a_file_that_a_store_has_lost_is_said(ask: Ask, home: Path) -> None:
    for blob in (home / ".ollama" / "models" / "blobs").iterdir():
        blob.unlink()
    rows = {row["name"]: row for row in told(ask, "list", "--local")["models"]}
    assert "no such file" in rows["ollama:stories:3m"]["note"]


def test_no_tool_has_a_model(ask: Ask, home: Path) -> None:
    shutil.rmtree(home / ".ollama")
    shutil.rmtree(home / ".lmstudio")
    shutil.rmtree(home / "hub")
    assert "no tool has a model here" in ask("list", "--local", code=2)[1]
    assert told(ask, "list", "--local", code=2)["models"] == []


def test_an_empty_folder_says_so(ask: Ask, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    assert "without a GGUF file" in ask("list", tmp_path / "empty", code=2)[1]
