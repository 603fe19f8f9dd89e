"""What reaches the terminal and the shell: no raw byte, a line and a hint, the right exit code."""

from __future__ import annotations

import shutil
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path

import gguf
import pytest

from ggufscope.container.leftovers import leftovers
from tests.models.makers import Recipe, pair, raw_gguf, text, write_recipe
from tests.program import WORKERS, environment, on_a_terminal, refused, run, start, words_of

ESCAPES = "\x1b[2J\x1b]0;owned\x07\u202e"
FULL = Path("/dev/full")


@pytest.fixture
def model(sample: Path, tmp_path: Path) -> Path:
    return Path(shutil.copy(sample, tmp_path / "model.gguf"))


def named(path: Path, name: str) -> Path:
    """A model with a tensor of such a name, of an architecture whose tensors are not checked."""
    shapes = {"token_embd.weight": (40, 32), name: (64, 32), "output_norm.weight": (32,)}
    return write_recipe(path, Recipe("olmo", {"block_count": 1}, shapes))


SLOWLY = """
import time
from ggufscope.container.writer import GGUFWriter
mark_written = GGUFWriter.mark_written
def slowly(*words):
    mark_written(*words)
    time.sleep(0.15)
GGUFWriter.mark_written = slowly
"""
A_LITTLE = SLOWLY.replace("0.15", "0.03")


@pytest.mark.parametrize(
    "name",
    [
        "blk.0.[link=https://evil.example]x[/link].weight",
        "blk.0.[/x].weight",
        "blk.0.[blink]x",
        "blk.0.[bold red]:skull:",
    ],
)
def test_names_are_no_markup(name: str, tmp_path: Path) -> None:
    path = named(tmp_path / "m.gguf", name)
    target = tmp_path / "o.gguf"
    code, said = on_a_terminal("quantize", path, target, "Q8_0", "--pure", before=SLOWLY)
    assert code == 0, said
    assert target.is_file()
    for part in (b"\x1b]8", b"\x1b[5m", "💀".encode(), b"Traceback"):
        assert part not in said
    assert name.encode()[:12] in said  # the bar says what is under way
    for words in (["list", path], ["list", path, "--json"], ["size", path]):
        code, said = on_a_terminal(*words)
        assert code == 0, said
        assert b"\x1b]8" not in said
        assert b"Traceback" not in said


@pytest.mark.parametrize(
    "words",
    [
        ["size", "{}", "extra" + ESCAPES],
        ["list", "{}", "--no-such" + ESCAPES],
        ["list", "{}", "--sort", ESCAPES],
        ["list", "{}", "--layer", ESCAPES],
        ["list", "nowhere" + ESCAPES],
        ["no-such-command" + ESCAPES],
        ["size", "{}", "--fits", ESCAPES],
        ["size", "{}", "--type", ESCAPES],
        ["quantize", "{}", ESCAPES],
        ["quantize", "{}", "out", "Q8_0", "--tensor-type", ESCAPES],
        ["attention", "{}", "--ids", ESCAPES],
        ["attention", "{}", "--prompt-file", ESCAPES],
        ["compare-attention", "{}", "--types", ESCAPES],
        ["compare-attention", "{}", "--tolerance", ESCAPES],
    ],
    ids=lambda words: " ".join(words).replace(ESCAPES, "<escapes>"),
)
def test_arguments_are_never_printed_raw(words: list[str], model: Path) -> None:
    done = run(*(word.replace("{}", str(model)) for word in words))
    refused(done)
    assert not any(c in done.stdout + done.stderr for c in "\x1b\x07\u202e")


def test_a_file_of_a_strange_name_is_listed(model: Path, tmp_path: Path) -> None:
    strange = model.rename(tmp_path / f"a{ESCAPES}.gguf")
    for words in (["list", strange], ["size", strange], ["quantize", strange, "Q8_0", "--dry-run"]):
        done = run(*words)
        assert done.returncode == 0, done.stderr
        assert "\x1b" not in done.stdout
    refused(run("size", strange, strange), "unexpected extra argument")
    refused(run("list", tmp_path / ("n" * 300)), "File name too long")
    target = tmp_path / ("n" * 300)
    refused(run("quantize", strange, target, "Q8_0"), "File name too long")
    refused(run("attention", strange, "--prompt", "a", "--html", target), "File name too long")


@pytest.mark.parametrize(
    "words",
    [
        ["list", "{}"],
        ["list", "{}", "--json"],
        ["size", "{}"],
        ["quantize", "{}", "{}.out", "Q8_0", "--force"],
        ["attention", "{}", "--prompt", "Once upon a time"],
        ["compare-attention", "{}", "--types", "Q8_0", "--prompt", "Once"],
        ["--help"],
        ["--version"],
    ],
    ids=lambda words: " ".join(words),
)
def test_output_that_goes_nowhere_is_a_failure(words: list[str], model: Path) -> None:
    said = [word.replace("{}", str(model)) for word in words]
    with FULL.open("w") as full:
        refused(run(*said, stdout=full), "No space left")
        silent = run(*said, stdout=full, stderr=full)
        assert silent.returncode == 2
    shell = ["sh", "-c", 'exec "$@" >&-', "sh", *words_of(*said)]
    closed = subprocess.run(shell, stderr=subprocess.PIPE, env=environment(), check=False)
    assert closed.returncode == 2
    assert closed.stderr.startswith(b"error: standard output is closed\nhint: ")
    both = ["sh", "-c", 'exec "$@" >&- 2>&-', "sh", *words_of(*said)]
    assert subprocess.run(both, env=environment(), check=False).returncode == 2


@pytest.mark.parametrize("closing", ["2>&-", "<&-", "2>&- <&-"])
def test_other_streams_that_are_closed_do_no_harm(closing: str, model: Path) -> None:
    target = model.with_name("out.gguf")
    for words in (["list", model], ["quantize", model, target, "Q8_0", "--force", *WORKERS]):
        shell = ["sh", "-c", f'exec "$@" {closing}', "sh", *words_of(*words)]
        done = subprocess.run(shell, stdout=subprocess.PIPE, env=environment(), check=False)
        assert done.returncode == 0
        assert done.stdout
    # A file that is opened must not get the number of a closed stream: messages would go into it.
    assert target.read_bytes()[:4] == b"GGUF"


def test_a_reader_that_leaves_is_no_answer(model: Path) -> None:
    for words in (["list", model, "--json"], ["compare-attention", model, "--json"]):
        shell = '"$@" | head -c 10 >/dev/null; echo ${PIPESTATUS[0]}'
        done = subprocess.run(
            ["bash", "-c", shell, "bash", *words_of(*words)],
            capture_output=True,
            text=True,
            env=environment(),
            check=False,
        )
        assert done.stdout.strip() in {"0", "141"}
        assert done.stderr == ""


DEFECT = """
import ggufscope.cli.list as c
import ggufscope.container.file as f
def broken(path):
    raise {error}
f.open_gguf = broken
if hasattr(c, "open_gguf"):
    c.open_gguf = broken
"""


@pytest.mark.parametrize("error", ["KeyError('x\\x1b[2J')", "AssertionError()", "RecursionError()"])
def test_what_nobody_foresaw_is_a_defect(error: str, model: Path) -> None:
    done = run("list", model, before=DEFECT.format(error=error))
    assert done.returncode == 70
    first, second = done.stderr.splitlines()
    assert first.startswith(f"error: a defect in ggufscope: {error.partition('(')[0]}")
    assert second.startswith("hint: report it with ")
    assert "\x1b" not in done.stderr
    told = environment(GGUFSCOPE_DEBUG="1")
    debugged = run("list", model, before=DEFECT.format(error=error), env=told)
    assert debugged.returncode == 70
    assert "Traceback (most recent call last)" in debugged.stderr


def test_memory_that_runs_out_is_said(model: Path) -> None:
    done = run("list", model, before=DEFECT.format(error="MemoryError()"))
    refused(done, "not enough memory")


def test_a_lone_program_name_is_asked_for_a_command() -> None:
    done = run()
    assert done.returncode == 2
    assert "Usage" in done.stdout


@pytest.mark.parametrize("weight", [3e38, 1e30])
def test_attention_that_is_no_number_has_a_verdict(
    weight: float, make: Callable[[str], Path]
) -> None:
    path = make("llama-gqa")
    reader = gguf.GGUFReader(path, "r+")
    (query,) = (tensor for tensor in reader.tensors if tensor.name == "blk.0.attn_q.weight")
    query.data[:] = weight
    reader.data.flush()
    page = path.with_name("page.html")
    words = ["compare-attention", path, "--ids", "1,2,3", "--types", "Q8_0"]
    for more in ([], ["--json"], ["--html", page, "--force"], ["--layer", "0", "--head", "1"]):
        done = run(*words, *more)
        assert (done.returncode, done.stderr) == (1, "")  # "no", and why
        assert "NaN" in done.stdout or "nan" in done.stdout
    assert page.stat().st_size > 1000


@pytest.mark.parametrize("name", ["SIGHUP", "SIGTERM", "SIGINT"])
def test_being_told_to_end_leaves_nothing(name: str, model: Path) -> None:
    number = getattr(signal, name)
    target = model.with_name("out.gguf")
    child = start("quantize", model, target, "Q2_K", *WORKERS, before=SLOWLY)
    while not leftovers(target):
        assert child.poll() is None
    child.send_signal(number)
    _, complaint = child.communicate(timeout=60)
    assert child.returncode == 128 + number
    said = f"interrupted: the temporary file of {target} was removed\n"
    assert complaint.decode() == (said if name == "SIGINT" else "")
    assert [path.name for path in model.parent.iterdir()] == ["model.gguf"]


def test_nohup_is_respected(model: Path) -> None:
    target = model.with_name("out.gguf")
    ignoring = "import signal\nsignal.signal(signal.SIGHUP, signal.SIG_IGN)\n"
    child = start("quantize", model, target, "Q8_0", before=ignoring + A_LITTLE)
    while not leftovers(target):
        assert child.poll() is None
    child.send_signal(signal.SIGHUP)
    _, complaint = child.communicate(timeout=60)
    assert (child.returncode, complaint) == (0, b"")
    assert target.is_file()


@pytest.mark.parametrize("name", ["a" * 10_000_000, "\x1b" * 1_000_000], ids=["long", "escapes"])
def test_error_lines_have_a_limit(name: str, tmp_path: Path) -> None:
    path = tmp_path / "m.gguf"
    path.write_bytes(raw_gguf([pair("general.architecture", 8, text(name))]))
    for words in (["attention", path, "--ids", "1"], ["quantize", path, "Q8_0"]):
        done = run(*words)
        refused(done, str(path))
        assert "\x1b" not in done.stderr
