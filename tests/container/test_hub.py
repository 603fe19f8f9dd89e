"""Models on the Hub: the real client, and a stand-in for its server."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from huggingface_hub import constants

from ggufscope.container.file import open_gguf
from ggufscope.container.remote.addresses import WebAddress
from ggufscope.errors import (
    ServerLied,
    SeveralModels,
    SourceNotFound,
    Unreachable,
)
from tests.container.site import Site, serving

pytestmark = pytest.mark.usefixtures("at_once")


def test_the_hub_is_asked_with_the_token_and_no_other_host(hub: Site, large: bytes) -> None:
    with serving(Site({"/signed": large})) as other:
        hub.redirects["/owner/tiny-GGUF/resolve/main/tiny-F16.gguf"] = other.url + "/signed"
        with open_gguf("hf:owner/tiny-GGUF/tiny-F16.gguf") as file:
            assert len(file.tensors) == 399
        assert {each.token for each in hub.asked} == {"Bearer hf_secret"}
        assert {each.token for each in other.asked} == {None}
        assert len(hub.asked) == 1  # what it led to is asked from then on
        assert len(other.asked) <= 3
        asked = WebAddress(other.url + "/signed").url
        open_gguf(asked)
        assert {each.token for each in other.asked} == {None}


def test_a_link_that_is_too_old_is_asked_for_anew(hub: Site, large: bytes) -> None:
    with serving(Site({"/signed": large})) as other:
        hub.redirects["/owner/tiny-GGUF/resolve/main/tiny-F16.gguf"] = other.url + "/signed"
        other.refuse["/signed"] = [(0, {}), (403, {}), (0, {})]
        assert len(open_gguf("hf:owner/tiny-GGUF/tiny-F16.gguf").tensors) == 399
        assert len(hub.asked) == 2


@pytest.mark.parametrize(
    ("word", "file"),
    [
        ("owner/tiny-GGUF:Q8_0", "sub/tiny-Q8_0.gguf"),
        ("owner/tiny-GGUF:f16", "tiny-F16.gguf"),
        ("hf:owner/tiny-GGUF/sub/tiny-Q8_0.gguf", "sub/tiny-Q8_0.gguf"),
        ("hf:owner/tiny-GGUF/mmproj-tiny-F16.gguf", "mmproj-tiny-F16.gguf"),
        ("{}/owner/tiny-GGUF/blob/main/tiny-F16.gguf", "tiny-F16.gguf"),
        ("{}/owner/tiny-GGUF/tree/main/sub", "sub/tiny-Q8_0.gguf"),
    ],
)
def test_a_model_of_the_hub_is_found(
    hub: Site, word: str, file: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_ENDPOINT", hub.url)
    with open_gguf(word.format(hub.url)) as found:
        assert found.path.name == Path(file).name
    assert hub.asked[-1].path.endswith(f"/{file}")
    listed = [each for each in hub.asked if "/api/" in each.path]
    assert bool(listed) is ("GGUF:" in word or "tree" in word)
    if listed:  # the commit is pinned
        assert hub.asked[-1].path.startswith("/owner/tiny-GGUF/resolve/c0ffee/")


def test_several_models_are_named(hub: Site) -> None:
    with pytest.raises(SeveralModels, match="stands for 2 models") as raised:
        open_gguf("owner/tiny-GGUF")
    assert "F16, Q8_0" in raised.value.hint or "Q8_0, F16" in raised.value.hint
    with pytest.raises(SeveralModels, match="no model of type Q8_1") as raised:
        open_gguf("owner/tiny-GGUF:Q8_1")
    assert "Q8_0" in raised.value.hint


def test_a_repository_without_models_says_so(hub: Site) -> None:
    hub.repositories["owner/empty"] = ["README.md"]
    with pytest.raises(SourceNotFound, match="no GGUF file"):
        open_gguf("owner/empty")


def test_a_misspelt_repository_is_offered_what_is_there(hub: Site) -> None:
    with pytest.raises(SourceNotFound, match="no such repository") as raised:
        open_gguf("owner/tyni-GGUF:Q8_0")
    assert raised.value.hint == "did you mean owner/tiny-GGUF?"
    with pytest.raises(SourceNotFound) as raised:
        open_gguf("ower/tiny-GGUF:Q8_0")
    assert raised.value.hint == "did you mean owner/tiny-GGUF?"


def test_what_is_in_the_cache_is_opened_from_there(hub: Site, tiny: bytes, tmp_path: Path) -> None:
    snapshot = tmp_path / "cache" / "models--owner--tiny-GGUF" / "snapshots" / "c0ffee"
    snapshot.mkdir(parents=True)
    (snapshot / "tiny-F16.gguf").write_bytes(tiny)
    reference = snapshot.parent.parent / "refs" / "main"
    reference.parent.mkdir()
    reference.write_text("c0ffee")
    for word in ("owner/tiny-GGUF:F16", "hf:owner/tiny-GGUF/tiny-F16.gguf"):
        assert open_gguf(word).path == snapshot / "tiny-F16.gguf"
    assert hub.asked == []
    assert open_gguf("owner/tiny-GGUF:Q8_0").path == Path("tiny-Q8_0.gguf")


def test_offline_nothing_is_asked(hub: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    for word in ("owner/tiny-GGUF:F16", "hf:owner/tiny-GGUF/tiny-F16.gguf", hub.url + "/x.gguf"):
        with pytest.raises(Unreachable, match="HF_HUB_OFFLINE"):
            open_gguf(word)
    assert hub.asked == []


def test_a_hub_that_talks_nonsense_is_found_out(hub: Site) -> None:
    hub.files["/api/models/owner/tiny-GGUF"] = b""
    hub.redirects["/api/models/owner/tiny-GGUF"] = "/nonsense"
    hub.files["/nonsense"] = b"[1, 2]"
    with pytest.raises(ServerLied):
        open_gguf("owner/tiny-GGUF")


def test_any_shard_stands_for_all(hub: Site, tmp_path: Path, sample: Path) -> None:
    from ggufscope.recipes.apply import quantize_model

    (result,) = quantize_model(sample, {tmp_path / "s-Q8_0.gguf": "Q8_0"}, split_max_size=300_000)
    names = [path.name for path in result.paths]
    assert len(names) > 2
    hub.repositories["owner/split"] = names
    hub.files |= {path.name: path.read_bytes() for path in result.paths}
    for word in ("owner/split:Q8_0", f"hf:owner/split/{names[1]}", "owner/split"):
        with open_gguf(word) as far, open_gguf(result.paths[0]) as near:
            assert list(far.tensors) == list(near.tensors)
            assert far.nbytes == near.nbytes
    with serving(Site({f"/x/{name}": hub.files[name] for name in names})) as site:
        assert len(open_gguf(f"{site.url}/x/{names[-1]}").shards) == len(names)
        del site.files[f"/x/{names[0]}"]
        with pytest.raises(SourceNotFound, match=names[0]):
            open_gguf(f"{site.url}/x/{names[-1]}")


def test_the_client_reads_its_own_environment(hub: Site, tmp_path: Path) -> None:
    environment = {
        "HF_ENDPOINT": hub.url,
        "HF_TOKEN": "hf_other",
        "HF_HOME": str(tmp_path),
        "PATH": "",
    }
    done = subprocess.run(
        [sys.executable, "-m", "ggufscope", "list", "owner/tiny-GGUF:Q8_0", "--brief"],
        capture_output=True,
        text=True,
        env=environment,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert "tiny-Q8_0.gguf" in done.stdout
    # What else the client asks for by itself is its own business.
    tokens = {each.token for each in hub.asked if "tiny" in each.path}
    assert tokens == {"Bearer hf_other"}
