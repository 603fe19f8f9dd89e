"""Compile the kernels: one shared object with every instruction set of the machine it is for.

It imports nothing of the package, for the build hook runs it before there is one. The compiler is
``$CXX``, or one that is there, or else clang out of the wheel ``ziglang``. What only a build needs
is imported by it: who loads the kernels asks this file for their name.
"""

from __future__ import annotations

import os
import platform
import sys
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Final
from zlib import crc32

SOURCES: Final = Path(__file__).parent
INSTRUCTION_SETS: Final[dict[str, dict[str, tuple[str, ...]]]] = {
    "x86_64": {
        "avx512": ("-mavx512f", "-mavx512bw", "-mavx512dq", "-mavx512vl"),
        "avx2": ("-mavx2", "-mfma", "-mf16c"),
        "baseline": (),
    },
    "aarch64": {"baseline": ()},
}
"""For each machine, the best first, with what the compiler is told."""

ZIG: Final = "ziglang==0.17.1"
TARGETS: Final = {
    "x86_64-linux-gnu.2.17": "manylinux_2_17_x86_64",
    "aarch64-linux-gnu.2.17": "manylinux_2_17_aarch64",
    "aarch64-macos.11.0": "macosx_11_0_arm64",
    "x86_64-macos.11.0": "macosx_11_0_x86_64",
    "x86_64-windows-gnu": "win_amd64",
}
"""What ziglang compiles for, from any machine, and the platform that such a wheel names."""

_FOR_EACH_SET: Final = ("make.cpp", "search.cpp", "read.cpp")
"""What is compiled for each instruction set: the longest first, so that no core waits for it. The
last asks of a compiler all that the others do."""
_COMPILERS: Final = ("c++", "g++", "clang++")
_LONGEST: Final = 4000
"""Characters of what one says."""

# No contraction: a multiplication and an addition are rounded one after the other, as in ggml.
FLAGS: Final = (
    *("-std=c++17", "-O3", "-g0", "-ffp-contract=off", "-fwrapv", "-fvisibility=hidden"),
    *("-fno-math-errno", "-fno-trapping-math", "-fno-exceptions", "-fno-rtti"),
    *("-Wall", "-Wextra", "-Wno-psabi", "-Wno-maybe-uninitialized", "-Wno-uninitialized"),
)


def library_name(target: str = sys.platform) -> str:
    """Return the name of the shared object for a platform, or a target of ziglang."""
    for part, suffix in (("darwin", "dylib"), ("macos", "dylib"), ("win", "dll")):
        if part in target:
            return f"engine.{suffix}"
    return "engine.so"


def digest() -> str:
    """Return what tells these sources from others."""
    found = 0
    for path in sorted([*SOURCES.glob("*.cpp"), *SOURCES.glob("*.h"), SOURCES / "build.py"]):
        found = crc32(path.read_bytes(), found)
    return f"{found:08x}"


def compiler(target: str = "") -> list[str] | None:
    """Return the command of a compiler that serves, or None: ziglang would have to be fetched."""
    import shlex

    if not target:
        if os.environ.get("CXX"):
            return shlex.split(os.environ["CXX"])
        for name in _COMPILERS:
            if _refusal(name) == "":
                return [name]
    if find_spec("ziglang") is None:
        return None
    command = [sys.executable, "-m", "ziglang", "c++", "-nostdlib++"]
    return [*command, "-target", target or native_target()]


@cache
def _refusal(name: str) -> str | None:
    """Return what a compiler says against the sources: nothing where it serves, None without one.

    One may be too old for them, or a name with none behind it. macOS has such names: they offer to
    install a compiler, and end.
    """
    import shutil
    import subprocess

    if not shutil.which(name):
        return None
    isa, flags = next(iter(_sets(native_target()).items()))
    what = f"-DISA={isa}", '-DSOURCES=""', "-fsyntax-only", str(SOURCES / _FOR_EACH_SET[-1])
    done = subprocess.run(
        [name, *FLAGS, *flags, *what], capture_output=True, text=True, check=False
    )
    return done.stderr[:_LONGEST] or "it failed" if done.returncode else ""


def _why_none() -> str:
    """Return why no compiler serves."""
    said = [f"{name}: {_refusal(name)}" for name in _COMPILERS if _refusal(name)]
    return "\n".join(
        ["no C++ compiler takes the sources", *said] if said else ["no C++ compiler found"]
    )


def _sets(target: str) -> dict[str, tuple[str, ...]]:
    return INSTRUCTION_SETS.get(target.split("-")[0], {"baseline": ()})


def native_target() -> str:
    """Return the target of ziglang that is this machine; ``native`` for one without a name here."""
    machine = {"AMD64": "x86_64", "arm64": "aarch64"}.get(platform.machine(), platform.machine())
    system = {"darwin": "macos", "win32": "windows"}.get(sys.platform, sys.platform)
    named = (target for target in TARGETS if target.startswith(f"{machine}-{system}"))
    return next(named, "native")


def build(folder: Path, target: str = "") -> Path:
    """Compile into ``folder`` and return the shared object.

    Raises ``OSError`` or ``subprocess.CalledProcessError``, whose ``stderr`` says why.
    """
    import shutil
    import tempfile
    from concurrent.futures import ThreadPoolExecutor

    command = compiler(target)
    if command is None:
        raise FileNotFoundError(_why_none())
    sets = _sets(target or native_target())
    common = [*command, *FLAGS, *([] if "windows" in target or os.name == "nt" else ["-fPIC"])]
    common += [f'-DSOURCES="{digest()}"']
    library = folder / library_name(target or sys.platform)
    with tempfile.TemporaryDirectory() as made:
        # ziglang keeps what it made of the C library, hundreds of megabytes: not beyond this build.
        caches = {f"ZIG_{which}_CACHE_DIR": str(Path(made, "zig")) for which in ("GLOBAL", "LOCAL")}
        environment = caches | dict(os.environ)

        def compile(isa: str, source: str, flags: tuple[str, ...]) -> str:
            out = str(Path(made, f"{isa}-{source}.o"))
            what = f"-DISA={isa}", "-c", str(SOURCES / source), "-o", out
            _run([*common, *flags, *what], environment)
            return out

        with ThreadPoolExecutor(os.cpu_count()) as pool:
            parts = [pool.submit(compile, "choose", "choose.cpp", ())]
            units = [(isa, source) for source in _FOR_EACH_SET for isa in sets]
            parts += [pool.submit(compile, *unit, sets[unit[0]]) for unit in units]
            objects = [part.result() for part in parts]
        linked = Path(made, library.name)
        _run([*command, "-shared", "-s", *objects, "-o", str(linked)], environment)
        shutil.copy(linked, library.with_suffix(".new"))
    library.with_suffix(".new").replace(library)  # whole, or not at all
    return library


def _run(command: list[str], environment: dict[str, str]) -> None:
    import subprocess

    subprocess.run(command, check=True, capture_output=True, text=True, env=environment)
