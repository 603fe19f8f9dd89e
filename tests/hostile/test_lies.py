"""Every lie through every command: said in a line, soon, and in little memory."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.hostile.exercise import COMMANDS, failures
from tests.hostile.lies import NAMES, REFUSED, write_lie
from tests.program import run

MEMORY = 100 << 20
"""Bytes that a command may take beyond the file and the program itself."""
SECONDS = 5
"""Of a processor, for one command."""

_ALL = """
import json, re, resource, sys, time
from pathlib import Path
from tests.hostile.exercise import COMMANDS, failures

def peak():
    return 1024 * int(re.search("VmHWM:\\\\s+([0-9]+)", Path("/proc/self/status").read_text())[1])

path, found, before = Path({path!r}), [], peak()
for command in COMMANDS:
    begun = time.process_time()
    found += failures(path, [command], refused={refused})
    seconds = time.process_time() - begun
    if seconds > {seconds}:
        found.append(f"{{command}}: {{seconds:.1f}} s")
    if peak() > before + {memory}:
        found.append(f"{{command}}: {{(peak() - before) >> 20}} MiB")
        break
print(json.dumps(found))
raise SystemExit
"""


@pytest.mark.parametrize("lie", NAMES)
def test_a_lie_through_every_command(lie: str, tmp_path: Path) -> None:
    path = write_lie(lie, tmp_path / "m.gguf")
    before = path.read_bytes()
    done = run(
        before=_ALL.format(
            path=str(path),
            refused=lie in REFUSED,
            seconds=SECONDS,
            memory=len(before) + MEMORY,
        )
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert json.loads(done.stdout) == []
    assert path.read_bytes() == before


@pytest.mark.parametrize("lie", sorted(REFUSED))
def test_no_command_takes_it_for_a_model(lie: str, tmp_path: Path) -> None:
    path = write_lie(lie, tmp_path / "m.gguf")
    assert [*failures(path, COMMANDS[:1], refused=True)] == []


def test_the_lies_are_always_the_same(tmp_path: Path) -> None:
    for lie in NAMES:
        once, again = (write_lie(lie, tmp_path / name).read_bytes() for name in ("a", "b"))
        assert once == again, lie
