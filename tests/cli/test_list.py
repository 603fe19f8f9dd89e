"""`ggufscope list`, run as people run it."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ggufscope.cli import app
from ggufscope.sizing.names import shape_named
from tests.cli.conftest import Run
from tests.container.test_header import LIES
from tests.models.makers import LAYERS, RECIPES, pair, raw_gguf, tensor, text
from tests.program import inside, on_a_terminal


def _run(*arguments: str | Path, **more: str) -> subprocess.CompletedProcess[str]:
    inherited = {k: v for k, v in os.environ.items() if k not in {"COLUMNS", "NO_COLOR"}}
    return inside("list", *arguments, env=inherited | more)


def _list(*arguments: str | Path, **environment: str) -> str:
    done = _run(*arguments, **environment)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def _json(*arguments: str | Path) -> Any:
    return json.loads(_list(*arguments, "--json"))


def test_stored_and_computed_are_kept_apart(make: Callable[[str], Path]) -> None:
    output = _list(make("llama-gqa"))
    stored, computed = output.split("Computed at run time")
    assert "attn_q.weight" in stored
    assert "kq_soft_max" not in stored
    assert "kq_soft_max" in computed
    assert "GQA: 4 query heads share 2 key/value heads, 2 to one" in stored
    assert "KV cache" in computed


@pytest.mark.parametrize("name", ["llama3-8b", "qwen3-0.6b", "deepseek-v3", "gpt-oss-20b"])
def test_a_known_shape_is_listed_without_a_file(name: str) -> None:
    shape = shape_named(name)
    output = _list(name, COLUMNS="80")
    assert output.startswith("file       known shape, no file: ")
    assert f"model      {shape.name}, architecture {shape.architecture}" in output
    assert f"{len(shape.tensors)} tensors" in output
    assert "kq_soft_max" in output.split("Computed at run time")[1]
    assert max(map(len, output.splitlines())) <= 80
    assert " ".join(shape.assumes.split()) in " ".join(output.split())
    told = _json(name, "--layer", "0")
    assert told["file"]["paths"] == told["warnings"] == []
    assert {tensor["path"] for tensor in told["stored"]["tensors"]} == {None}
    assert told["metadata"]["general.architecture"]["value"] == shape.architecture


def test_a_name_that_is_none_is_asked_about() -> None:
    for name, words in (
        ("llama-8b", "hint: did you mean llama-3-8b or llama-3.1-8b?"),
        ("7B", "error: 7B says how many weights"),
        ("gone.gguf", "error: gone.gguf: no such file"),
    ):
        done = _run(name)
        assert (done.returncode, done.stdout) == (2, "")
        assert words in done.stderr


@pytest.mark.parametrize("kind", RECIPES)
def test_every_kind_fits_80_columns(kind: str, make: Callable[[str], Path]) -> None:
    output = _list(make(kind), "--stored", "--computed", "--metadata", "--explain", COLUMNS="80")
    assert max(map(len, output.splitlines())) <= 80
    assert "…" not in output.split("Computed at run time")[1].split("A layer in order")[0]


def test_a_pipe_is_not_folded_and_has_no_colours(make: Callable[[str], Path]) -> None:
    output = _list(make("deepseek2-mla"))
    assert "\x1b" not in output
    assert "attn_norm attn_q_a.weight attn_q_b.weight\n" in output
    assert not re.search(r" $", output, re.MULTILINE)


def test_a_terminal_gets_colours_unless_it_wants_none(make: Callable[[str], Path]) -> None:
    path = make("llama-gqa")
    code, said = on_a_terminal("list", path, NO_COLOR="")
    assert code == 0
    assert b"\x1b[" in said
    code, said = on_a_terminal("list", path, NO_COLOR="1")
    assert code == 0
    plain = said.decode()
    assert not re.search(r"\x1b\[[0-9;]*3[0-7]", plain)
    assert max(map(len, re.sub(r"\x1b\[[0-9;]*m", "", plain).splitlines())) <= 80


def test_the_reader_of_a_pipe_may_leave(make: Callable[[str], Path]) -> None:
    path = make("llama-gqa")
    done = subprocess.run(
        f"'{sys.executable}' -m ggufscope list '{path}' | head -1",
        shell=True,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.startswith("file ")
    assert "Traceback" not in done.stderr


def test_a_reader_that_left_is_told_apart_from_an_answer(make: Callable[[str], Path]) -> None:
    command = [sys.executable, "-m", "ggufscope", "list", str(make("llama-gqa")), "--json"]
    child = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert child.stdout is not None
    child.stdout.close()
    _, said = child.communicate()
    assert (child.returncode, said) == (141, b"")


def test_layers_that_are_alike_share_a_line(make: Callable[[str], Path]) -> None:
    output = _list(make("llama-gqa"), "--stored")
    assert len(re.findall("attn_q.weight", output)) == 1
    assert f"layers 0-{LAYERS - 1}" in output
    lines = _list(make("llama-gqa"), "--stored", "--sort", "name").splitlines()
    names = [line.split()[0] for line in lines if ".weight" in line]
    assert names == sorted(names)
    assert len(names) == 9 * LAYERS + 3


def test_one_layer(make: Callable[[str], Path]) -> None:
    found = _json(make("llama-gqa"), "--layer", "1")
    assert {t["layer"] for t in found["stored"]["tensors"]} == {1}
    assert [layer["layer"] for layer in found["computed"]["layers"]] == [1]
    assert found["computed"]["before_layers"] == []
    path = make("llama-gqa")
    done = _run(path, "--layer", "3")
    assert done.returncode == 2
    said = f"error: {path}: there is no layer 3: the model has layers 0 to 2\nhint: "
    assert done.stderr.startswith(said)


@pytest.mark.parametrize(
    ("pattern", "count"),
    [
        ("attn_q", LAYERS),
        ("*attn_q*", LAYERS),
        ("attn_q*", 0),
        ("blk.[01].*norm.weight", 4),
        (r"/^blk\.\d+\.attn_[qk]\./", 2 * LAYERS),
    ],
)
def test_filters(pattern: str, count: int, make: Callable[[str], Path]) -> None:
    found = _json(make("llama-gqa"), "--filter", pattern)
    assert len(found["stored"]["tensors"]) == count


def test_a_filter_finds_computed_quantities_too(make: Callable[[str], Path]) -> None:
    found = _json(make("llama-gqa"), "--filter", "kq_soft_max-2")
    assert [layer["layer"] for layer in found["computed"]["layers"]] == [2]


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--computed", "--sort", "bits"], "--sort is about stored tensors"),
        (["--metadata", "--sort", "name"], "--sort is about stored tensors"),
        (["--stored", "--tokens", "99"], "--tokens is about what is computed"),
        (["--hf-names", "--tokens", "99"], "--tokens is about what is computed"),
        (["--brief", "--tokens", "99"], "--brief leaves out"),
        (["--stored", "--explain"], "--explain the whole layer"),
    ],
)
def test_an_option_that_would_do_nothing_is_refused(
    options: list[str], says: str, run: Run, sample: Path
) -> None:
    code, out, err = run("list", sample, *options)
    assert (code, out) == (2, "")
    assert says in err
    assert "hint: " in err


def test_a_newline_in_the_name_of_a_file_is_escaped(run: Run, sample: Path, tmp_path: Path) -> None:
    model = Path("a\nb.gguf")  # in the folder where it runs
    (tmp_path / model).symlink_to(sample)
    commands = (
        *(["list"], ["list", "--brief"], ["check", "--quick"], ["check", "--quick", "--brief"]),
        *(["attention", "--ids", "1,2"], ["edit", "--dry-run", "--set", "general.name=str:T"]),
    )
    for command, *options in commands:
        _, out, err = run(command, model, *options)
        assert "b.gguf" in out
        assert not any(line.lstrip().startswith("b.gguf") for line in (out + err).splitlines())
    assert "a\\x0ab.gguf" in run("diff", model, sample)[1]
    target = Path("q\nq.gguf")
    assert "q\\x0aq.gguf" in run("quantize", model, target, "Q8_0")[1]


def test_a_filter_that_is_no_regex(make: Callable[[str], Path]) -> None:
    done = _run(make("llama-gqa"), "--filter", "/(/")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("error: the regex /(/ is not valid")


@pytest.mark.parametrize("order", ["size", "type", "file"])
def test_orders(order: str, make: Callable[[str], Path]) -> None:
    tensors = _json(make("mixtral"), "--sort", order)["stored"]["tensors"]
    keys: dict[str, Callable[[Any], Any]] = {
        "size": lambda t: -t["nbytes"],
        "type": lambda t: t["type"],
        "file": lambda t: t["offset"],
    }
    assert tensors == sorted(tensors, key=keys[order])


def test_tokens_set_the_shapes(make: Callable[[str], Path]) -> None:
    computed = _json(make("llama-gqa"), "--tokens", "5")["computed"]
    shapes = {q["name"]: q["shape"] for q in computed["layers"][0]["quantities"]}
    assert shapes["kq_soft_max"] == [4, 5, 5]
    assert computed["kv_cache"]["nbytes_f16"] == 2 * LAYERS * 2 * 5 * 2 * 8
    assert _run(make("llama-gqa"), "--tokens", "0").returncode == 2


def test_json_is_complete_and_adds_up(make: Callable[[str], Path]) -> None:
    path = make("qwen2moe")
    found = _json(path)
    assert found["schema"] == "ggufscope.list/2"
    tensors = found["stored"]["tensors"]
    assert len(tensors) == len(RECIPES["qwen2moe"]().shapes)
    for totals in ("by_type", "by_role"):
        assert sum(t["nbytes"] for t in found["stored"][totals]) == sum(
            t["nbytes"] for t in tensors
        )
    assert found["model"]["n_elements"] == sum(t["n_elements"] for t in tensors)
    assert found["file"]["nbytes"] == path.stat().st_size
    assert found["metadata"]["qwen2moe.block_count"] == {"type": "UINT32", "value": LAYERS}


def test_metadata_and_single_keys(tmp_path: Path) -> None:
    items = b"".join(text(f"tok {n}") for n in range(20))
    array = (8).to_bytes(4, "little") + (20).to_bytes(8, "little") + items
    path = tmp_path / "keys.gguf"
    nan = b"\x00\x00\xc0\x7f"
    pairs = [
        pair("long", 8, text("x" * 500)),
        pair("tokens", 9, array),
        pair("template", 8, text("line\n\tline\x1b[31m")),
        pair("odd", 6, nan),
    ]
    path.write_bytes(raw_gguf(pairs))
    table = _list(path, "--metadata")
    assert "500 bytes" in table
    assert '"tok 7", ... 12 more' in table
    assert _list(path, "--key", "tokens").splitlines() == [f"tok {n}" for n in range(20)]
    assert _list(path, "--key", "long") == "x" * 500 + "\n"
    assert _list(path, "--key", "template") == "line\n\tline\\x1b[31m\n"
    assert _json(path, "--key", "tokens") == {
        "schema": "ggufscope.list-key/1",
        "key": "tokens",
        "type": "ARRAY",
        "element_type": "STRING",
        "value": [f"tok {n}" for n in range(20)],
    }
    assert _json(path, "--key", "template")["value"] == "line\n\tline\x1b[31m"
    assert _json(path, "--key", "odd")["value"] == "nan"
    assert _json(path)["metadata"]["odd"]["value"] == "nan"
    done = _run(path, "--key", "nothing")
    assert done.returncode == 2
    assert "hint: `--metadata` shows all of them" in done.stderr


def test_explain_tells_what_each_is_for(make: Callable[[str], Path]) -> None:
    output = _list(make("llama-gqa"), "--explain")
    assert re.search(r"attn_q\.weight +stored +W_q, learned", output)
    assert re.search(r"kq_soft_max +computed +The attention weights", output)
    assert re.search(r"cache_k +cached ", output)


def test_names_of_hugging_face_fit_80_columns(make: Callable[[str], Path]) -> None:
    output = _list(make("mixtral"), "--hf-names", COLUMNS="80")
    assert max(map(len, output.splitlines())) <= 80
    assert re.search(
        r"^attn_q\.weight +model\.layers\.N\.self_attn\.q_proj\.weight \[1\]$", output, re.M
    )
    assert "w1.weight" in output
    assert "[1] rows permuted" in output
    assert "\nblk.1.attn_v.weight  " in _list(make("mixtral"), "--hf-names", "--layer", "1")
    said = _list(make("hybrid"), "--hf-names")
    assert said.endswith("Hugging Face's names for architecture 'jamba' are not known here.\n")


def test_a_listing_waits_for_no_package_of_names(make: Callable[[str], Path]) -> None:
    code = "import sys, ggufscope.cli.app as app\ntry: app.main()\nexcept SystemExit: pass\n"
    code += "sys.stderr.write(str('gguf' in sys.modules))"
    for options, imported in (([], "False"), (["--hf-names"], "True")):
        words = [sys.executable, "-c", code, "list", str(make("llama-gqa")), *options]
        done = subprocess.run(words, capture_output=True, text=True, check=True)
        assert done.stderr == imported


def test_layers_that_cannot_be_derived_say_why(make: Callable[[str], Path]) -> None:
    assert "not derivable: keeps a state instead of attention" in _list(make("hybrid"))
    output = _list(make("unheard-of"))
    assert "Not derivable: architecture 'flux-capacitor' is not one" in output
    assert "attn_q.weight" in output


def test_control_characters_never_reach_the_terminal(tmp_path: Path) -> None:
    evil = "\x1b[2J\x07\u202e"
    pairs = [
        pair("general.name", 8, text(evil)),
        pair("general.architecture", 8, text("llama" + evil)),
        pair(evil, 8, text(evil)),
    ]
    tensors = [tensor(evil), tensor(b"\xff\x1b]0;", (4,), 250, 128)]
    path = tmp_path / "\x1b[31mevil.gguf"
    path.write_bytes(raw_gguf(pairs, tensors, bytes(256)))
    for options in (
        [],
        ["--metadata", "--explain"],
        ["--sort", "size"],
        ["--key", evil],
        ["--json"],
    ):
        done = _run(path, *options)
        assert done.returncode == 0
        assert not set("\x1b\x07\u202e") & set(done.stdout + done.stderr)
    assert "number 250" in done.stderr
    done = _run(tmp_path / "\x1b[31mmissing")
    assert (
        done.stderr == f"error: {tmp_path}/\\x1b[31mmissing: no such file\nhint: check the path\n"
    )


@pytest.mark.parametrize("lie", LIES)
def test_a_bad_file_is_one_line_a_hint_and_exit_code_2(
    lie: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "lie.gguf"
    path.write_bytes(LIES[lie][1])
    monkeypatch.setattr(sys, "argv", ["ggufscope", "list", str(path)])
    with pytest.raises(SystemExit) as caught:
        app.main()
    assert caught.value.code == 2
    output = capsys.readouterr()
    assert output.out == ""
    assert re.fullmatch(r"error: [^\n]+\nhint: [^\n]+\n", output.err)


def _peak_bytes(path: Path) -> int:
    """Peak resident size of listing a file, in a process of its own."""
    code = """
import re, sys
import ggufscope.cli.app as app
sys.argv = ["ggufscope", "list", sys.argv[1]]
try:
    app.main()
except SystemExit:
    pass
status = open("/proc/self/status").read()
sys.stderr.write("peak " + re.search(r"VmHWM:\\s+(\\d+) kB", status)[1])
"""
    done = subprocess.run(
        [sys.executable, "-c", code, path], capture_output=True, text=True, check=True
    )
    return int(done.stderr.rpartition("peak ")[2]) * 1024


def _many_pairs() -> bytes:
    return raw_gguf([pair(f"{n}", 0, b"\0") for n in range(65_000)])


def _many_tensors() -> bytes:
    lines = [tensor(f"t{n}", (0,)) for n in range(65_000)]
    return raw_gguf([], lines)


def _many_arrays() -> bytes:
    inner = (0).to_bytes(4, "little") + (0).to_bytes(8, "little")
    count = 200_000
    array = (9).to_bytes(4, "little") + count.to_bytes(8, "little") + inner * count
    return raw_gguf([pair("k", 9, array)])


@pytest.mark.parametrize("build", [_many_pairs, _many_tensors, _many_arrays])
def test_memory_is_bounded_by_the_size_of_the_file(
    build: Callable[[], bytes], tmp_path: Path, make: Callable[[str], Path]
) -> None:
    path = tmp_path / "hostile.gguf"
    path.write_bytes(build())
    bound = _peak_bytes(make("llama-gqa")) + path.stat().st_size + 100 * 2**20
    assert _peak_bytes(path) < bound


def test_a_recipe_that_is_not_said_is_recognized(sample: Path, tmp_path: Path) -> None:
    made, silent = tmp_path / "made.gguf", tmp_path / "silent.gguf"
    inside("quantize", sample, made, "Q4_K_M")
    inside("edit", made, silent, "--remove", "general.file_type")
    assert "stored as  Q4_K_M by its types, 4.9187 bits per weight" in _list(silent, "--brief")
    assert _json(silent)["model"]["file_type"] is None  # which is what the file says
    assert "Q4_K_M" in _list(silent, sample)


def test_a_line_is_never_broken_in_a_pipe() -> None:
    printed = inside("size", "llama-3.1-8b", "--target-size", "4GiB", env={}).stdout
    (below,) = [line for line in printed.splitlines() if line.startswith("Bytes of the tensors")]
    assert len(below) > 400
    assert below.endswith("--dry-run gives each tensor's type, and why.")
