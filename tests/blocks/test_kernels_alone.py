"""The kernels as a program without Python: under sanitizers, and on a processor that is not here.

What it makes and reads is held to the NumPy engine. A tool that is missing fails the test, and says
what to install.
"""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

from ggufscope.arrays import Blocks, Floats
from ggufscope.blocks.codec import quantize
from ggufscope.blocks.kernels import GRIDS, INSTRUCTION_SETS, Kernels, build, load
from ggufscope.blocks.layouts import Layout, layout_named
from tests.blocks.test_kernels import EDGES, MADE, READ, blocks_to_read, made_by_numpy

SOURCE = Path(__file__).with_name("kernels_alone.cpp")
SANITIZERS = ("-O1", "-g", "-fsanitize=address,undefined", "-fno-sanitize-recover=all")
ARM = "aarch64-linux-musl"  # a program that needs no libraries of that machine
MAKE, READ_THEM, MULTIPLY = 1, 0, 2
TOKENS = (1, 2, 3, 5, 6, 7, 16, 19)
MULTIPLIED = ("F16", "Q8_0", "Q4_K", "Q6_K", "IQ2_S")


def compiled(folder: Path, isa: str, flags: tuple[str, ...], target: str = "") -> Path:
    command = build.compiler(target)
    assert command, (
        f"no compiler for {target}: pip install {build.ZIG}"
        if target
        else "no C++ compiler: apt-get install g++"
    )
    program = folder / f"kernels-{isa}"
    named = (f"-DISA={isa}", f"-I{build.SOURCES}", str(SOURCE), "-o", str(program))
    done = subprocess.run([*command, *build.FLAGS, *flags, *named], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return program


def job(
    what: int,
    layout: Layout,
    given: bytes,
    out: int,
    shape: tuple[int, int],
    pieces: Floats | None = None,
) -> bytes:
    grid = GRIDS[layout.name].tobytes() if layout.name in GRIDS else b""
    tokens = 0 if pieces is None else pieces.shape[1]
    numbers = [what, layout.number, len(given), out, *shape, len(grid), tokens]
    factor = b"" if pieces is None else pieces.tobytes()
    return np.array(numbers, np.int64).tobytes() + given + grid + factor


def run(command: list[str], jobs: list[bytes]) -> bytes:
    done = subprocess.run(command, input=b"".join(jobs), capture_output=True)
    assert done.returncode == 0, done.stderr.decode(errors="replace")[-4000:]
    return done.stdout


def making(command: list[str], layout: Layout) -> dict[str, Blocks]:
    """Return the blocks that the program makes of each edge."""
    jobs, counts = [], []
    for x in EDGES.values():
        count = x.size // layout.block_length
        counts.append(count)
        size = count * layout.block_bytes
        jobs.append(job(MAKE, layout, np.ascontiguousarray(x).tobytes(), size, x.shape))
    blocks = np.frombuffer(run(command, jobs), layout.dtype)
    parts = np.split(blocks, np.cumsum(counts)[:-1])
    return dict(zip(EDGES, parts, strict=True))


def reading(command: list[str], layout: Layout) -> Floats:
    blocks, expected = blocks_to_read(layout.name)
    one = job(READ_THEM, layout, blocks.tobytes(), len(expected), (1, blocks.size))
    return np.frombuffer(run(command, [one]), np.float32)


def multiplying(command: list[str], kernels: Kernels) -> list[tuple[str, int]]:
    """Return the types and tokens for which the program's products are not those of kernels."""
    rng = np.random.default_rng(8)
    differing = []
    for layout in map(layout_named, MULTIPLIED):
        # 2,304 weights in a row: two chunks, and a part of one; 37 rows: not in fours either.
        blocks = quantize(rng.standard_normal((37, 2304)).astype(np.float32), layout)
        for tokens in TOKENS:
            pieces = kernels.cut(rng.standard_normal((tokens, 2304)).astype(np.float32))
            y = np.empty((tokens, 37), np.float32)
            kernels.multiply(layout, blocks, pieces, y)
            one = job(MULTIPLY, layout, blocks.tobytes(), y.nbytes, (37, 2304), pieces)
            if run(command, [one]) != y.tobytes():
                differing.append((layout.name, tokens))
    return differing


@pytest.fixture(scope="module", params=INSTRUCTION_SETS)
def sanitized(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    isa = request.param
    if load()[0] and isa not in load()[0]:
        pytest.skip(f"this processor does not run {isa}")
    flags = build.INSTRUCTION_SETS[build.native_target().split("-")[0]][isa]
    return compiled(tmp_path_factory.mktemp("sanitized"), isa, (*SANITIZERS, *flags))


@pytest.mark.slow
def test_sanitizers_find_nothing(sanitized: Path) -> None:
    for layout in MADE:
        for edge, blocks in making([str(sanitized)], layout).items():
            expected = made_by_numpy(layout.name, edge)
            assert blocks.tobytes() == expected.tobytes(), (layout.name, edge)
    for layout in READ:
        expected_weights = blocks_to_read(layout.name)[1]
        assert reading([str(sanitized)], layout).tobytes() == expected_weights, layout.name
    kernels = load()[0][sanitized.name.removeprefix("kernels-")]
    assert multiplying([str(sanitized)], kernels) == []


@pytest.fixture(scope="module")
def arm(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """The command that runs the kernels of arm64 here."""
    emulator = shutil.which("qemu-aarch64-static") or shutil.which("qemu-aarch64")
    assert emulator, "nothing runs arm64 here: apt-get install qemu-user-static"
    program = compiled(tmp_path_factory.mktemp("arm"), "baseline", ("-static",), ARM)
    return [emulator, str(program)]


def without_signs(blocks: Blocks) -> bytes:
    """Return the bytes of blocks whose scales, where they are no numbers, have no sign.

    It is the one thing that differs. Where arithmetic has no answer, x86-64 makes a negative NaN
    and arm64 a positive one. No block with such a scale can be used.
    """
    blocks = blocks.copy()
    for name in blocks.dtype.names or ():
        if blocks.dtype[name].base == np.float16:
            field = blocks[name]
            field[np.isnan(field)] = np.nan
    return blocks.tobytes()


@pytest.mark.slow
def test_arm64_makes_the_same_blocks(arm: list[str]) -> None:
    differing = [
        (layout.name, edge)
        for layout in MADE
        for edge, blocks in making(arm, layout).items()
        if without_signs(blocks) != without_signs(made_by_numpy(layout.name, edge))
    ]
    assert differing == []


@pytest.mark.slow
def test_arm64_reads_the_same_weights(arm: list[str]) -> None:
    for layout in READ:
        expected = np.frombuffer(blocks_to_read(layout.name)[1], np.float32)
        read = reading(arm, layout)
        numbers = ~(np.isnan(read) & np.isnan(expected))
        assert np.array_equal(read[numbers].view(np.int32), expected[numbers].view(np.int32)), (
            layout.name
        )


@pytest.mark.slow
def test_arm64_multiplies_to_the_same_bits(arm: list[str]) -> None:
    """As every processor does that multiplies and adds in one."""
    assert multiplying(arm, load()[0]["avx2"]) == []
