"""`ggufscope evaluate`, run as people run it."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest

from tests import matrices
from tests.cli.conftest import Run
from tests.golden.command import SAMPLE
from tests.models.families import SMALL, write

GOLDEN = Path(__file__).parent.parent / "golden" / "perplexity"
HELDOUT = SAMPLE.parent / "heldout.txt"


@pytest.fixture
def model(tmp_path: Path) -> Path:
    (tmp_path / "text.txt").write_bytes(matrices.TEXT + b"\n")
    return write(tmp_path / "m.gguf", SMALL["mixtral"])


def test_a_perplexity_alone(run: Run, model: Path) -> None:
    code, out, err = run("evaluate", model, "--text", "text.txt", "-c", "32")
    assert (code, err) == (0, "")
    assert out.splitlines() == [
        "model       m.gguf: no name, 42.1 K weights",
        "text        text.txt: 6 chunks of 32 tokens, 90 scored",
        "perplexity  218.57 ±34.09",
    ]


def test_candidates_beside_the_model(run: Run, model: Path) -> None:
    assert run("quantize", model, "Q4_0")[0] == 0
    words = ("evaluate", model, "-f", "text.txt", "-c", "32", "--chunks", "3", "--types", "Q8_0")
    code, out, err = run(*words, "--recipe", "Q4_1", "--against", "m-Q4_0.gguf")
    assert (code, err) == (0, "")
    for said in ("3 chunks of 32 tokens, 45 scored", "KL divergence", "same top", "Q8_0", "Q4_1"):
        assert said in out
    for heading in ("does not exceed", "its change in points", "beside the reference's"):
        assert heading in out
    assert "m-Q4_0.gguf" in out


def test_markdown(run: Run, model: Path) -> None:
    arguments = ("evaluate", model, "-f", "text.txt", "-c", "32", "--types", "Q8_0", "--markdown")
    code, out, _ = run(*arguments)
    assert code == 0
    assert re.search(r"^\| Q8_0 \|", out, re.MULTILINE)


class _Page(HTMLParser):
    """Counts elements, and fails at whatever is fetched from elsewhere."""

    def __init__(self) -> None:
        super().__init__()
        self.found: dict[str, int] = {}
        self.open: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found[tag] = self.found.get(tag, 0) + 1
        for name, value in attrs:
            assert name not in ("src", "onclick")
            assert name != "href" or value == "data:,"
        if tag not in ("meta", "link", "line", "circle", "polyline"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag not in ("line", "circle", "polyline"):
            assert self.open.pop() == tag

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found[tag] = self.found.get(tag, 0) + 1


def test_all_presets_of_the_sample(run: Run) -> None:
    words = ("evaluate", SAMPLE, "-f", HELDOUT, "--chunks", "1", "--all-presets")
    code, out, err = run(*words, "--html", "page.html")
    assert (code, err) == (0, "")
    lines = out.splitlines()
    flat = " ".join(out.split())
    assert "1 chunk of 256 tokens, 127 scored" in flat  # as many as the sample was made for
    rows = [line for line in lines if re.match(r"[a-z] [A-Z]", line)]
    sizes = [float(row.split()[2]) for row in rows]
    assert sizes == sorted(sizes, reverse=True)
    assert {"Q8_0", "Q6_K", "Q4_K_M", "Q2_K", "IQ4_XS"} < {row.split()[1] for row in rows}
    picture = out[out.index("Divergence in nats") :]
    assert all(re.search(rf"[┤│].*{row[0]}", picture) for row in rows)
    assert "needs an importance matrix: --imatrix" in flat
    assert "F16: changes nothing" in flat
    page = _Page()
    page.feed(Path("page.html").read_text(encoding="utf-8"))
    assert not page.open
    assert page.found["circle"] == len(rows)
    assert page.found["table"] == 4


def test_a_page_cannot_be_written_into_by_a_stranger(run: Run, model: Path) -> None:
    bad = Path("<img src=x>\x1b[31m.gguf")
    bad.write_bytes(model.read_bytes())
    words = ("evaluate", model, "-f", "text.txt", "-c", "32", "--against", bad, "--types", "Q8_0")
    code, out, err = run(*words, "--html", "page.html")
    assert code == 0
    page = Path("page.html").read_text(encoding="utf-8")
    assert "\x1b" not in out + err + page
    assert "<img" not in page


def test_an_importance_matrix_counts(run: Run, model: Path) -> None:
    run("imatrix", model, "--text", "text.txt", "-c", "32")
    words = ("evaluate", model, "-f", "text.txt", "-c", "32", "--types", "Q4_0", "--json")
    plain = json.loads(run(*words)[1])
    weighed = json.loads(run(*words, "--imatrix", "imatrix.gguf")[1])
    make = ("quantize", model, "Q4_0", "--pure", "--imatrix", "imatrix.gguf")
    assert run(*make)[0] == 0
    stored = json.loads(run(*words[:-3], "--against", "m-Q4_0.gguf", "--json")[1])
    value = [each["candidates"][0]["kl_divergence"]["value"] for each in (plain, weighed, stored)]
    assert value[0] != value[1]
    assert value[1] == pytest.approx(value[2], rel=1e-6)
    assert weighed["importance_matrix"] == "imatrix.gguf"


def test_a_type_that_needs_a_matrix_names_the_option_that_takes_it(run: Run) -> None:
    words = ("evaluate", SAMPLE, "-f", HELDOUT)
    for asked in (("--types", "IQ1_S"), ("--recipe", "IQ2_XXS")):
        code, _, err = run(*words, *asked)
        assert (code, "`evaluate --imatrix` take it" in err) == (2, True)


def test_base_files(run: Run, model: Path) -> None:
    words = ("evaluate", model, "-f", "text.txt", "-c", "32")
    code, out, _ = run(*words, "--save-base", "base")
    assert (code, out.splitlines()[-1]) == (0, "saved       base")
    code, _, err = run(*words, "--save-base", "base")
    assert (code, "exists" in err) == (2, True)
    code, _, err = run(*words, "--save-base", model, "--force")
    assert (code, "a file that is read" in err) == (2, True)
    code, out, err = run("evaluate", model, "--base", "base", "--types", "Q8_0", "--json")
    told = json.loads(out)
    assert (code, err, told["base"]) == (0, "", "base")
    assert [each["name"] for each in told["candidates"]] == ["m.gguf", "Q8_0"]
    assert told["candidates"][0]["same_top"]["value"] == 1
    assert told["reference"]["nbytes"] is None
    _, out, _ = run("evaluate", model, "--base", "base", "--types", "Q8_0")
    assert "its own perplexity comes out lower than that of the run" in " ".join(out.split())
    other = write(model.parent / "o.gguf", SMALL["llama-gqa"])
    code, out, _ = run("evaluate", other, "--base", GOLDEN / "llama-gqa.logits", "--chunks", "2")
    assert code == 0
    assert "2 chunks of 32 tokens" in " ".join(out.split())


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "there is no text to run"),
        (["--text", "short.txt"], "two chunks of"),
        (["--text", "none.txt"], "no such file"),
        (["--text", "text.txt", "--base", "m.gguf"], "--text stands beside --base"),
        (["--base", "m.gguf"], "is no file of logits"),
        (["--base", "none"], "no such file"),
        (["--text", "text.txt", "--all-presets", "--types", "Q8_0"], "stands beside"),
        (["--text", "text.txt", "--imatrix", "text.txt"], "nothing is quantized"),
        (["--text", "text.txt", "--types", "Q9_9"], "Q9_9"),
        (["--text", "text.txt", "-c", "32", "--types", "Q8_0,Q8_0"], "named twice"),
        (["--text", "text.txt", "--json", "--markdown"], "two forms of one result"),
        (["--text", "text.txt", "-c", "32", "--recipe", "Q9_K_M"], "Q9_K_M"),
    ],
)
def test_what_makes_no_sense_is_said(
    arguments: list[str], said: str, run: Run, model: Path
) -> None:
    Path("short.txt").write_text("!!!", encoding="utf-8")
    code, out, err = run("evaluate", model, *arguments)
    assert (code, out) == (2, "")
    assert said in err
    assert "hint: " in err
