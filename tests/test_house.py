"""The doors of the house: which floor may import what. Each rule keeps one thing possible."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Collection, Iterator, Mapping
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "ggufscope"
FILES = sorted(PACKAGE.rglob("*.py"))

# From the ground up: a file imports from floors below its own, never sideways, never upward.
FLOORS = [
    "blocks",
    "container",
    "model",
    "recipes",
    "checking",
    "sizing",
    "forward",
    "measure",
    "report",
    "cli",
]

# Each dependency has one door.
DEPENDENCIES = {
    "ctypes": ("blocks/kernels/",),
    "distributed": ("cli/cluster.py",),
    "gguf": ("model/hf_names.py",),
    "huggingface_hub": ("container/remote/client.py",),
    "rich": ("report/", "cli/"),
    "threadpoolctl": ("pool.py",),
    "tokenizers": ("model/tokenizer/encoders.py",),
    "typer": ("cli/",),
}
# What takes long to import waits for the call that needs it.
INSIDE_CALLS = {"distributed", "gguf", "huggingface_hub"}

# The one exception to "a file is described without being decoded": `numpy.asarray(tensor)`, which
# NumPy asks of the tensor itself. The codecs are imported inside that call alone (see below).
DECODES = {("container/file.py", "ggufscope.blocks.codec.dequantize")}

LOOK_AT_WEIGHTS = {"checking/payload.py", "checking/hashes.py"}
"""Of the checks, those that read tensors: `--quick` leaves them out."""


@cache
def _tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def _imports(path: Path) -> Iterator[str]:
    for node in ast.walk(_tree(path)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: imports are absolute"
            assert node.module is not None
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def _floor(name: str) -> str | None:
    parts = name.split(".")
    return parts[1] if parts[0] == "ggufscope" and len(parts) > 1 and parts[1] in FLOORS else None


def _place(path: Path) -> str:
    return path.relative_to(PACKAGE).as_posix()


def breaches(place: str, imports: list[str]) -> list[str]:
    """The rules that a file at `place` breaks by these imports."""
    own = place.split("/")[0] if "/" in place else None
    found = []
    for name in imports:
        floor = _floor(name)
        if own and floor and floor != own and FLOORS.index(floor) > FLOORS.index(own):
            found.append(f"{place} reaches up to {name}")
        if (place, name) in DECODES:
            continue
        if own == "container" and floor == "blocks" and ".layouts." not in f"{name}.":
            found.append(f"{place} decodes: {name}")
        if own in {"model", "sizing"} and floor == "blocks" and ".layouts." not in f"{name}.":
            found.append(f"{place} touches blocks: {name}")
        looks = floor == "blocks" and ".layouts." not in f"{name}."
        if own == "checking" and looks and place not in LOOK_AT_WEIGHTS:
            found.append(f"{place} looks at weights: {name}")
        # A job converts and knows no writer, apply.py hands out jobs and writes: so one place
        # rewrites models, and the rest of the recipes reads headers alone.
        decodes = floor == "blocks" and not any(f".{it}." in name for it in ("layouts", "error"))
        if own == "recipes" and decodes and place != "recipes/jobs.py":
            found.append(f"{place} converts: {name}")
        outside = own not in {None, "container"}
        # importance matrices are files of their own
        writers = {"recipes/apply.py", "recipes/imatrix_file.py"}
        if outside and "container.writer" in name and place not in writers:
            found.append(f"{place} writes: {name}")
        if outside and "container.rewriting" in name and place != "recipes/edits.py":
            found.append(f"{place} rewrites: {name}")
        top = name.split(".")[0]
        if top in DEPENDENCIES and not place.startswith(DEPENDENCIES[top]):
            found.append(f"{place} uses {top}")
    return found


def test_no_file_goes_through_a_shut_door() -> None:
    assert [each for path in FILES for each in breaches(_place(path), list(_imports(path)))] == []


@pytest.mark.parametrize(
    ("place", "name"),
    [
        ("blocks/codec.py", "ggufscope.container.file.GGUFFile"),
        ("container/file.py", "ggufscope.blocks.codec.quantize"),
        ("model/roles.py", "ggufscope.report.units.size"),
        ("model/roles.py", "ggufscope.blocks.kquants.quantize"),
        ("model/roles.py", "rich.table.Table"),
        ("model/tokenizer/text.py", "tokenizers.Tokenizer"),
        ("report/tables.py", "typer"),
        ("recipes/mixes.py", "ggufscope.container.writer.GGUFWriter"),
        ("checking/recipe.py", "ggufscope.blocks.codec.dequantize"),
        ("checking/payload.py", "ggufscope.sizing.shapes.SHAPES"),
        ("recipes/request.py", "ggufscope.container.rewriting.write_over"),
        ("forward/ops.py", "ctypes"),
        ("forward/ops.py", "threadpoolctl.threadpool_limits"),
        ("model/roles.py", "gguf.get_tensor_name_map"),
        ("container/source.py", "huggingface_hub.hf_hub_url"),
        ("container/file.py", "gguf"),
        ("recipes/elsewhere.py", "distributed.Client"),
    ],
)
def test_the_doors_are_really_shut(place: str, name: str) -> None:
    assert breaches(place, [name])


def test_the_floor_of_files_decodes_nothing_unless_asked() -> None:
    program = (
        "import sys, ggufscope.container.writer; assert 'ggufscope.blocks.codec' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", program], check=True)


def at_start(tree: ast.AST) -> Iterator[str]:
    """The packages that code imports when it is imported itself."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name.split(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield (node.module or "").split(".")[0]
        elif not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield from at_start(node)


def test_slow_imports_wait_for_the_call_that_needs_them() -> None:
    assert [path for path in FILES if not INSIDE_CALLS.isdisjoint(at_start(_tree(path)))] == []


def test_a_slow_import_at_the_start_is_seen() -> None:
    assert "gguf" in set(at_start(ast.parse("if 1:\n    from gguf import x")))
    assert "gguf" not in set(at_start(ast.parse("def f():\n    import gguf")))


def circles(graph: Mapping[str, Collection[str]]) -> list[list[str]]:
    """The groups of names that all lead to each other (Tarjan's strongly connected components)."""
    order: dict[str, int] = {}
    lowest: dict[str, int] = {}
    stack: list[str] = []
    found: list[list[str]] = []

    def visit(name: str) -> None:
        order[name] = lowest[name] = len(order)
        stack.append(name)
        for other in graph[name]:
            if other not in order:
                visit(other)
            if other in stack:
                lowest[name] = min(lowest[name], lowest[other])
        if lowest[name] == order[name]:
            at = stack.index(name)
            group = sorted(stack[at:])
            del stack[at:]
            if len(group) > 1 or name in graph[name]:
                found.append(group)

    for name in graph:
        if name not in order:
            visit(name)
    return found


def import_graph() -> dict[str, set[str]]:
    """Every module with the modules that it imports: at its start, within calls, or for types."""
    modules = {_module(path): path for path in FILES}
    graph: dict[str, set[str]] = {}
    for module, path in modules.items():
        names = {name if name in modules else name.rpartition(".")[0] for name in _imports(path)}
        graph[module] = names & modules.keys()
    return graph


def _module(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def test_no_files_import_each_other_in_a_circle() -> None:
    assert circles(import_graph()) == []


def test_a_circle_is_seen() -> None:
    graph = {"a": {"b"}, "b": {"c", "d"}, "c": {"a"}, "d": {"e"}, "e": set(), "f": {"f"}}
    assert circles(graph) == [["a", "b", "c"], ["f"]]


_ORDERED_BY_NUMPY = {"sum", "mean", "average", "dot", "matmul", "inner", "vdot", "einsum", "var"}


def sums(tree: ast.AST) -> list[str]:
    """The sums, means and matrix products of some code, whose order NumPy or BLAS chooses."""
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and node.attr in _ORDERED_BY_NUMPY:
            found.append(ast.unparse(node))
        elif isinstance(node, ast.BinOp | ast.AugAssign) and isinstance(node.op, ast.MatMult):
            found.append("@")
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("numpy"):
            found += [a.name for a in node.names if a.name in _ORDERED_BY_NUMPY]
    return found


def _sums_in(floor: str) -> list[tuple[str, str]]:
    """Where a floor has which."""
    files = [path for path in FILES if _place(path).startswith(floor)]
    return [(_place(path), each) for path in files for each in sums(_tree(path))]


def test_what_has_to_match_bit_for_bit_adds_in_an_order_of_its_own() -> None:
    assert _sums_in("blocks/") == []


def test_reports_compute_no_averages() -> None:
    found = _sums_in("report/")
    # What has no room in a picture is added up for it: columns of one matrix, not heads or layers.
    assert [each for each in found if not each[1].startswith("rows[")] == []


@pytest.mark.parametrize(
    "code",
    ["np.mean(x)", "x.sum()", "np.average(x)", "a @ b", "a @= b", "from numpy import mean"],
)
def test_sums_are_seen(code: str) -> None:
    assert sums(ast.parse(code))


def _calls(path: Path) -> Iterator[str]:
    for node in ast.walk(_tree(path)):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name | ast.Attribute):
            yield ast.unparse(node.func)
        elif isinstance(node, ast.Attribute) and node.attr == "argv":
            yield ast.unparse(node)


_COMMAND_LINE = ("cli/", "__main__.py")
_ENDS_OR_PRINTS = {"print", "exit", "quit", "sys.exit", "os._exit", "sys.argv", "input"}


def test_nothing_below_the_command_line_prints_or_exits() -> None:
    below = [path for path in FILES if not _place(path).startswith(_COMMAND_LINE)]
    assert [path for path in below if not _ENDS_OR_PRINTS.isdisjoint(_calls(path))] == []


def test_files_are_one_room() -> None:
    lines = {_place(path): len(path.read_text(encoding="utf-8").splitlines()) for path in FILES}
    assert {place: count for place, count in lines.items() if count > 450} == {}


def test_the_top_level_holds_nothing_else() -> None:
    allowed = {"ggufscope", "tests", "samples", "pyproject.toml", "README.md", "LICENSE"}
    built = {"build", "dist"}
    there = {path.name for path in ROOT.iterdir() if not path.name.startswith(".")}
    assert {name for name in there - built if not name.endswith(".egg-info")} == allowed


def test_every_package_and_module_says_what_it_is() -> None:
    for path in FILES:
        assert ast.get_docstring(_tree(path)), path


# What of Rich reads markup whatever the console says, or makes a console of its own.
_READS_MARKUP = {
    *("Panel", "Spinner", "Status", "status", "Prompt", "Confirm", "track", "from_markup", "print"),
    *("SpinnerColumn", "RenderableColumn", "get_console", "print_json", "inspect", "render"),
}
_MUST_BE_TOLD = {"Console", "TextColumn"}
"""They read markup unless ``markup=False`` is said."""


def markup_readers(tree: ast.AST) -> list[str]:
    """The calls of Rich in some code that would take text from a file for markup."""
    names = {
        alias.asname or alias.name: f"{node.module}.{alias.name}"
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and node.module
        for alias in node.names
    }
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            called = ast.unparse(node.func)
            last = called.split(".")[-1]
            of_rich = names.get(called.split(".")[0], called).startswith("rich.")
            told = any(ast.unparse(word) == "markup=False" for word in node.keywords)
            if (of_rich and last in _READS_MARKUP) or last in {"from_markup", "status"}:
                found.append(called)
            if last in _MUST_BE_TOLD and not told:
                found.append(called)
            if any(word.arg == "markup" and not told for word in node.keywords):
                found.append(called)
    return found


def test_no_text_passes_through_markup() -> None:
    assert [(path, found) for path in FILES if (found := markup_readers(_tree(path)))] == []


@pytest.mark.parametrize(
    "code",
    [
        "from rich.console import Console\nConsole(stderr=True)",
        "from rich.progress import TextColumn\nTextColumn('{task.description}')",
        "from rich.text import Text\nText.from_markup(name)",
        "from rich.panel import Panel\nPanel(name)",
        "from rich import print as show\nimport rich\nrich.print(name)",
        "console.print(name, markup=True)",
        "console.status(name)",
    ],
)
def test_what_reads_markup_is_seen(code: str) -> None:
    assert markup_readers(ast.parse(code))
