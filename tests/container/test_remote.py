"""Models on another machine: what travels, and what is made of a server that fails or lies."""

from __future__ import annotations

import os
import struct
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from huggingface_hub import constants

from ggufscope.container.file import open_gguf
from ggufscope.container.remote.addresses import HubAddress, WebAddress, address_of
from ggufscope.container.remote.source import LIMIT, RemoteFile
from ggufscope.errors import (
    AccessRefused,
    BadUsage,
    DownloadTooLarge,
    EmptyFile,
    NotGGUF,
    NotHere,
    ServerLied,
    SourceChanged,
    SourceError,
    SourceNotFound,
    Unreachable,
)
from tests.container.conftest import PATH
from tests.container.site import Site, serving
from tests.models import makers

pytestmark = pytest.mark.usefixtures("at_once")


@pytest.mark.parametrize(
    ("word", "meant"),
    [
        ("o/r", HubAddress("o/r")),
        ("o/r:Q4_K_M", HubAddress("o/r", tag="Q4_K_M")),
        ("o/r:Q4_K_M@v1", HubAddress("o/r", tag="Q4_K_M", revision="v1")),
        ("hf:o/r/sub/f.gguf@refs/pr/1", HubAddress("o/r", "sub/f.gguf", revision="refs/pr/1")),
        ("hf://o/r@refs/pr/1/f.gguf", HubAddress("o/r", "f.gguf", revision="refs/pr/1")),
        ("hf:o/r@v1/f.gguf", HubAddress("o/r", "f.gguf", revision="v1")),
        ("hf.co/o/r:Q8_0", HubAddress("o/r", tag="Q8_0")),
        ("https://hf.co/o/r", HubAddress("o/r")),
        ("https://huggingface.co/o/r/tree/main", HubAddress("o/r", revision="main")),
        (
            "https://huggingface.co/o/r/tree/refs%2Fpr%2F2/BF16",
            HubAddress("o/r", folder="BF16", revision="refs/pr/2"),
        ),
        (
            "https://huggingface.co/o/r/blob/main/a%20b.gguf?x=1#y",
            HubAddress("o/r", "a b.gguf", revision="main"),
        ),
        (
            "https://huggingface.co/o/r/resolve/main/f.gguf?download=true",
            HubAddress("o/r", "f.gguf", revision="main"),
        ),
        # As `Path` leaves it.
        ("https:/huggingface.co/o/r/raw/v1/f.gguf", HubAddress("o/r", "f.gguf", revision="v1")),
        ("https:/host.example/f.gguf?a=b", WebAddress("https://host.example/f.gguf?a=b")),
        ("HTTP://host.example/f.gguf", WebAddress("http://host.example/f.gguf")),
        ("o/r.gguf", None),
        ("a/b/c", None),
        ("./o/r", None),
        ("/o/r", None),
        ("model.gguf", None),
        ("o/r:a b", None),
        ("C:/models/f.gguf", None),
    ],
)
def test_a_word_is_an_address_or_a_path(word: str, meant: object) -> None:
    assert address_of(word) == meant


@pytest.mark.parametrize("word", ["https://", "hf:o", "hf:o/../r", "hf:o/r/../x", "http://[x/f"])
def test_what_says_that_it_is_elsewhere_and_cannot_be_is_refused(word: str) -> None:
    with pytest.raises(BadUsage):
        address_of(word)


def test_a_name_has_no_secret_in_it() -> None:
    assert str(WebAddress("https://me:pass@host:8/f.gguf?signature=x")) == "https://host:8/f.gguf"


def test_a_path_that_is_here_comes_first(
    tmp_path: Path, tiny: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "owner").mkdir()
    Path("owner/repo").write_bytes(tiny)
    assert open_gguf("owner/repo").nbytes == len(tiny)
    with pytest.raises(SourceNotFound, match="no such file"):
        open_gguf("owner/other")


def test_a_header_behind_a_url_is_the_header_of_the_file(
    site: Site, tiny: bytes, tmp_path: Path
) -> None:
    (tmp_path / "tiny.gguf").write_bytes(tiny)
    with open_gguf(site.url + PATH) as far, open_gguf(tmp_path / "tiny.gguf") as near:
        assert dict(far.metadata) == dict(near.metadata)
        assert [t.info for t in far.tensors.values()] == [t.info for t in near.tensors.values()]
        assert far.nbytes == near.nbytes
        assert far.warnings() == []
        assert far.path == Path("tiny.gguf")
        assert len(site.asked) == 1


def test_a_url_that_was_taken_for_a_path_is_a_url(site: Site) -> None:
    assert open_gguf(Path(site.url + PATH)).tensors


def test_of_one_tensor_that_is_asked_for_no_more_travels(tmp_path: Path, sample: Path) -> None:
    data = sample.read_bytes()
    with serving(Site({"/m.gguf": data})) as site, open_gguf(site.url + "/m.gguf") as far:
        tensor = [*far.tensors.values()][-1]
        before = site.sent
        with open_gguf(sample) as near:
            assert np.array_equal(np.asarray(tensor), np.asarray(near.tensors[tensor.name]))
        assert site.sent - before <= tensor.nbytes


def _words(count: int, shortest: int, growth: int) -> list[bytes]:
    """Strings that grow longer on the way, as those of a vocabulary do."""
    return [b"x" * (shortest + growth * n // count) for n in range(count)]


@pytest.mark.parametrize("kind", ["tokens and merges", "scores, too", "no merges"])
def test_a_large_vocabulary_comes_in_three_requests(kind: str) -> None:
    count = 150_000
    types = makers.pair("tokenizer.ggml.token_type", 9, _array(5, count, bytes(4 * count)))
    scores = makers.pair("tokenizer.ggml.scores", 9, _array(6, count, bytes(4 * count)))
    merges = _strings("tokenizer.ggml.merges", _words(count, 4, 9))
    pairs = [
        _strings("general.tags", [b"a", b"b"]),
        _strings("tokenizer.ggml.tokens", _words(count, 4, 4)),
        *([scores] if kind != "tokens and merges" else []),
        types,
        *([merges] if kind != "no merges" else []),
        makers.pair("tokenizer.ggml.bos_token_id", 4, bytes(4)),
        makers.pair("tokenizer.chat_template", 8, makers.text("{{ bos }}" * 400)),
    ]
    tensors = [makers.tensor(f"blk.{n}.attn_q.weight", (0,), 0, 0) for n in range(400)]
    header = makers.raw_gguf(pairs, tensors)
    with serving(Site({"/large.gguf": header + bytes(8_000_000)})) as site:
        with open_gguf(site.url + "/large.gguf") as far:
            assert len(far.tensors) == 400
        assert len(site.asked) <= 3
        assert site.sent <= 1.2 * len(header)


def _array(element: int, count: int, data: bytes) -> bytes:
    return struct.pack("<IQ", element, count) + data


def _strings(key: str, words: list[bytes]) -> bytes:
    return makers.pair(key, 9, _array(8, len(words), b"".join(map(makers.text, words))))


def test_the_header_of_the_benchmark_comes_in_three_requests(large: bytes) -> None:
    with serving(Site({"/large.gguf": large + bytes(8_000_000)})) as site:
        header = open_gguf(site.url + "/large.gguf").header.data_offset
        assert len(site.asked) <= 3
        assert site.sent <= 1.2 * header


def test_what_is_printed_of_a_large_vocabulary_travels_no_more(large: bytes) -> None:
    with serving(Site({"/large.gguf": large})) as site:
        program = (
            "from ggufscope.cli.app import app; "
            f"app(['list', '{site.url}/large.gguf', '--brief'], standalone_mode=False)"
        )
        environment = os.environ | {"HF_HUB_OFFLINE": "0"}
        done = subprocess.run(
            [sys.executable, "-c", program], capture_output=True, check=True, env=environment
        )
        assert b"large.gguf" in done.stdout
        assert len(site.asked) <= 3


def test_a_file_that_has_nothing_is_empty(site: Site) -> None:
    site.files["/empty.gguf"] = b""
    with pytest.raises(EmptyFile):
        open_gguf(site.url + "/empty.gguf")


def test_a_page_is_no_model(site: Site) -> None:
    site.files["/page.gguf"] = b"<!DOCTYPE html><html>log in</html>"
    with pytest.raises(NotGGUF, match="a web page"):
        open_gguf(site.url + "/page.gguf")


@pytest.mark.parametrize("ranges", [True, False])
def test_an_answer_that_breaks_off_is_gone_on_with(large: bytes, ranges: bool, site: Site) -> None:
    site.files[PATH], site.ranges = large, ranges
    site.break_after = [1000, 200_000]
    with open_gguf(site.url + PATH) as far:
        assert len(far.tensors) == 399
        if ranges:
            assert site.asked[1].range == "bytes=1000-262143"
            assert site.sent <= 1.2 * far.header.data_offset


def test_an_answer_that_always_breaks_off_ends(site: Site) -> None:
    site.break_after = [10] * 50
    with pytest.raises(Unreachable):
        open_gguf(site.url + PATH)
    assert len(site.asked) == 5


def test_a_server_without_ranges_is_read_as_far_as_needed(large: bytes, site: Site) -> None:
    site.files[PATH], site.ranges = large + bytes(40_000_000), False
    site.lie = lambda headers: None
    with open_gguf(site.url + PATH) as far:
        assert len(site.asked) == 1
        assert "sends no parts of a file" in far.warnings()[0]
    assert site.sent < len(large) + 20_000_000  # what lay in the system's buffers


@pytest.mark.parametrize("ranges", [True, False])
def test_more_than_is_allowed_does_not_travel(
    large: bytes, site: Site, monkeypatch: pytest.MonkeyPatch, ranges: bool
) -> None:
    site.files[PATH], site.ranges = large, ranges
    monkeypatch.setenv(LIMIT, "1000000")
    with pytest.raises(DownloadTooLarge, match="1000000 may") as raised:
        open_gguf(site.url + PATH)
    assert ("no parts of a file" in raised.value.message) is not ranges
    assert "--max-download" in raised.value.hint


@pytest.mark.parametrize(
    "said",
    [
        "bytes 1-262143/{}",
        "bytes 0-999999999999/{}",
        "bytes 0-99/50",
        "bytes 0-99/*",
        "bytes */{}",
        "tokens 0-99/{}",
        "",
        "bytes -5-99/{}",
    ],
)
def test_a_range_that_was_not_asked_for_is_a_lie(site: Site, said: str, tiny: bytes) -> None:
    site.lie = lambda headers: headers.update({"Content-Range": said.format(len(tiny))})
    with pytest.raises(ServerLied):
        open_gguf(site.url + PATH)


def test_a_length_that_is_too_large_is_found_out(site: Site, tiny: bytes) -> None:
    def lie(headers: dict[str, str]) -> None:
        headers["Content-Range"] = f"bytes 0-{len(tiny) - 1}/{1 << 60}"

    site.lie = lie
    with pytest.raises(SourceChanged):  # by what it says when asked for the rest
        open_gguf(site.url + PATH)


def test_an_endless_header_ends_at_the_limit(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    endless = makers.raw_gguf([makers.pair("x", 9, b"\0\0\0\0" + (1 << 40).to_bytes(8, "little"))])
    site.files[PATH] = endless + bytes(2_000_000)

    def lie(headers: dict[str, str]) -> None:
        span = headers["Content-Range"].partition("/")[0]
        headers["Content-Range"] = f"{span}/{1 << 50}"

    site.lie = lie
    monkeypatch.setenv(LIMIT, "1000000")
    with pytest.raises(DownloadTooLarge):
        open_gguf(site.url + PATH)


def test_compressed_bytes_are_refused(site: Site) -> None:
    site.lie = lambda headers: headers.update({"Content-Encoding": "gzip"})
    with pytest.raises(ServerLied, match="compressed"):
        open_gguf(site.url + PATH)


def test_redirects_without_end_end(site: Site) -> None:
    site.redirects = {"/a.gguf": "/b.gguf", "/b.gguf": "/a.gguf"}
    with pytest.raises(ServerLied, match="redirect"):
        open_gguf(site.url + "/a.gguf")


@pytest.mark.parametrize("target", ["file:///etc/passwd", "ftp://host/x", "http://[bad/"])
def test_a_redirect_out_of_the_web_is_refused(site: Site, target: str) -> None:
    site.redirects = {"/a.gguf": target}
    with pytest.raises(SourceError):
        open_gguf(site.url + "/a.gguf")


def test_a_file_that_changes_on_the_way_is_an_error(site: Site, large: bytes) -> None:
    site.files[PATH] = large
    site.lie = lambda headers: headers.update({"ETag": f'"{len(site.asked)}"'})
    with pytest.raises(SourceChanged):
        open_gguf(site.url + PATH)


@pytest.mark.parametrize(
    ("status", "headers", "error", "words"),
    [
        (401, {}, AccessRefused, "wants to know who asks"),
        (401, {"X-Error-Code": "GatedRepo"}, AccessRefused, "gated"),
        (401, {"X-Error-Code": "RepoNotFound"}, SourceNotFound, "no such repository"),
        (403, {}, AccessRefused, "does not let you"),
        (403, {"X-Error-Code": "GatedRepo"}, AccessRefused, "gated"),
        (404, {}, SourceNotFound, "no such file"),
        (404, {"X-Error-Code": "RevisionNotFound"}, SourceNotFound, "no such revision"),
        (410, {}, SourceNotFound, "no such file"),
        (418, {}, Unreachable, "418"),
        (429, {}, Unreachable, "too many requests"),
        (429, {"Retry-After": "3600"}, Unreachable, "3600 seconds"),
        (429, {"RateLimit": '"api";r=0;t=900'}, Unreachable, "900 seconds"),
        (500, {}, Unreachable, "the server failed"),
        (503, {"Retry-After": "99999999999999999999"}, Unreachable, "the server failed"),
        (304, {}, Unreachable, "304"),
    ],
)
def test_each_refusal_has_its_sentence(
    site: Site, status: int, headers: dict[str, str], error: type[SourceError], words: str
) -> None:
    site.refuse[PATH] = [(status, headers)]
    with pytest.raises(error, match=words) as raised:
        open_gguf(site.url + PATH)
    assert raised.value.hint
    again = error is Unreachable and status not in (418, 304) and not headers
    assert len(site.asked) == (5 if again else 1)


@pytest.mark.parametrize("status", [408, 429, 500, 503])
def test_a_server_that_is_busy_for_a_moment_is_asked_again(site: Site, status: int) -> None:
    site.refuse[PATH] = [(status, {}), (status, {"Retry-After": "0"}), (0, {})]
    assert open_gguf(site.url + PATH).tensors
    assert len(site.asked) == 3


def test_a_server_that_does_not_answer_in_time_is_given_up(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(constants, "HF_HUB_DOWNLOAD_TIMEOUT", 0.05)
    site.latency = 0.3
    with pytest.raises(Unreachable, match="in time"):
        open_gguf(site.url + PATH)


def test_nobody_there_is_said() -> None:
    with pytest.raises(Unreachable, match="the connection failed"):
        open_gguf("http://127.0.0.1:9/x.gguf")


def test_weights_are_not_here(site: Site) -> None:
    from ggufscope.recipes.apply import quantize_model

    with pytest.raises(NotHere, match="weights are needed") as raised:
        quantize_model(site.url + PATH, {"never.gguf": "Q8_0"})
    assert "download it" in raised.value.hint
    assert not Path("never.gguf").exists()


def test_a_local_file_loads_nothing_for_the_network(sample: Path) -> None:
    program = (
        "import sys; from ggufscope.container.file import open_gguf; "
        f"open_gguf({str(sample)!r}); "
        "assert not {'huggingface_hub', 'ggufscope.container.remote.source'} & sys.modules.keys()"
    )
    subprocess.run([sys.executable, "-c", program], check=True)


def test_it_says_what_it_is(site: Site) -> None:
    source = RemoteFile(site.url + PATH, "name", "tiny.gguf", "hint")
    assert repr(source) == "RemoteFile('name')"
    source.close()
