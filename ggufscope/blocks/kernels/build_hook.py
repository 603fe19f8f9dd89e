"""Compile the kernels when a wheel is built or the package is installed in place.

A build that fails, or is told ``GGUFSCOPE_KERNELS=off``, leaves a package that works in NumPy, and
says so. ``GGUFSCOPE_TARGET`` names another machine to compile for, one of ``build.TARGETS``.
"""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
import sysconfig
import tempfile
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

_HERE = Path("ggufscope", "blocks", "kernels")


class KernelsHook(BuildHookInterface[Any]):  # type: ignore[misc]  # hatchling is not installed
    """Puts the shared object beside its sources, in the wheel or in place."""

    def dependencies(self) -> list[str]:
        """Return ziglang where no compiler serves: pip fetches it for this build alone."""
        build = self._build()
        if not self._wanted() or build.compiler(self._target()) is not None:
            return []
        return [] if not self._target() and _is_nowhere(build.ZIG) else [build.ZIG]

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Compile, and name the platform that the wheel is for."""
        if not self._wanted():
            self.app.display_warning("GGUFSCOPE_KERNELS=off: the kernels are not compiled")
            return
        build = self._build()
        in_place = version == "editable"
        self._made = None if in_place else tempfile.TemporaryDirectory()
        folder = Path(self.root, _HERE) if self._made is None else Path(self._made.name)
        try:
            library = build.build(folder, self._target())
        except (OSError, subprocess.CalledProcessError) as error:
            if self._target():  # who asks for a machine's kernels has no use for a wheel without
                raise
            why = getattr(error, "stderr", None) or error
            self.app.display_warning(f"ggufscope will run in NumPy, without its kernels: {why}")
            return
        build_data["pure_python"] = False
        build_data["tag"] = f"py3-none-{self._platform(build)}"
        if not in_place:
            build_data["force_include"][str(library)] = str(_HERE / library.name)

    def finalize(self, version: str, build_data: dict[str, Any], artifact_path: str) -> None:
        """Leave nothing of the build behind."""
        made = getattr(self, "_made", None)
        if made is not None:
            made.cleanup()

    @staticmethod
    def _wanted() -> bool:
        return os.environ.get("GGUFSCOPE_KERNELS", "").lower() not in {"off", "0", "no"}

    @staticmethod
    def _target() -> str:
        return os.environ.get("GGUFSCOPE_TARGET", "")

    def _platform(self, build: Any) -> str:
        if self._target():
            return str(build.TARGETS[self._target()])
        if sys.platform == "linux" and "ziglang" in " ".join(build.compiler() or []):
            return str(build.TARGETS.get(build.native_target(), "any"))
        return sysconfig.get_platform().replace("-", "_").replace(".", "_")

    def _build(self) -> Any:
        spec = importlib.util.spec_from_file_location("build", Path(self.root, _HERE, "build.py"))
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        return module


def _is_nowhere(requirement: str) -> bool:
    """Whether pip says that it cannot find a package: asking for it would end the installation.

    Other installers have no pip where this runs: they are asked, and say themselves what is wrong.
    """
    # -I: pip keeps its own packages from what it runs to build.
    command = [sys.executable, "-I", "-m", "pip", "index", "--retries", "1"]
    command += ["versions", requirement.partition("==")[0]]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return done.returncode != 0 and "No matching distribution" in done.stderr
