"""A file through every command: the very calls of the command line, in this process."""

from __future__ import annotations

import io
import json
import re
import warnings
from collections.abc import Iterator
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path

import typer.main

from ggufscope.cli.app import app
from ggufscope.errors import GGUFScopeError

_RAW = re.compile("[\\x00-\\x08\\x0b-\\x1f\\x7f\\x80-\\x9f\u202a-\u202e\u2066-\u2069]")
"""What a terminal would act on."""
_RUN = typer.main.get_command(app)

COMMANDS = [
    "list {}",
    "list {} --stored --computed --metadata --explain --sort name --tokens 3",
    "list {} --json",
    "list {} --layer 1 --filter attn",
    "check {}",
    "check {} --json",
    "check {} --quick --with {}",
    "inspect {} blk.0.attn_q.weight --block 0 --rows 0:1",
    "inspect {} token_embd.weight --json",
    "diff {} {}",
    "diff {} {} --quick --all --json",
    "size {} --type Q8_0 --type Q4_K_M --type IQ4_XS",
    "size {} --fits 1G --vram 1M --type Q2_K --type Q4_0 --context 300 --json",
    "quantize {} {}.out Q4_K_M --dry-run",
    "quantize {} {}.out Q4_0 --force --threads 1 --json",
    "edit {} {}.out --set general.name=str:x --remove general.file_type --force --json",
    "edit {} --dry-run --set llama.context_length=int:7 --special bos=a",
    "attention {} --prompt abé --layer 1",
    "attention {} --ids 0,5,1,5 --json",
    "compare-attention {} --types Q8_0 --ids 1,3,2",
    f"evaluate {{}} --types Q8_0 --ids {','.join('0153' * 8)} -c 16 --json",
]


def failures(path: Path, commands: list[str] = COMMANDS, *, refused: bool = False) -> Iterator[str]:
    """Run every command on a file; say what went otherwise than it may.

    ``refused``: each command has to fail.

    A command may succeed, answer no (1), or fail by an error of ours with a message and a hint; of
    a file that is unreadable `check` says so as its answer (2).
    Nothing else: no other exception, no warning of Python's or NumPy's, no raw control character.
    """
    for command in commands:
        words = [word.replace("{}", str(path)) for word in command.split()]
        out, err = io.StringIO(), io.StringIO()
        try:
            with redirect_stdout(out), redirect_stderr(err), warnings.catch_warnings():
                warnings.simplefilter("error")
                code = _RUN(words, standalone_mode=False)
            unreadable = code == 2 and words[0] == "check"
            if not unreadable and (code not in (None, 0, 1) or refused):
                yield f"{command}: code {code}"
        except GGUFScopeError as error:
            if not error.message or "\n" in error.message:
                yield f"{command}: an error without a line: {error.message!r}"
            if str(path) not in error.message:
                yield f"{command}: an error that does not name the file: {error.message[:200]!r}"
        except Exception as error:
            yield f"{command}: {type(error).__name__}: {error}"
        printed = out.getvalue() + err.getvalue()
        if _RAW.search(printed):
            yield f"{command}: a raw control character"
        if "--json" in words and out.getvalue():
            try:
                json.loads(out.getvalue())
            except ValueError as error:
                yield f"{command}: no JSON: {error}"
