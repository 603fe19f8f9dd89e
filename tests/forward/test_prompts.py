"""What is no prompt gets an error of its own, from every door."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ggufscope.container.file import open_gguf
from ggufscope.errors import EmptyPrompt, TextNotIds
from ggufscope.forward.transformer import Transformer
from ggufscope.measure.compare import compare
from ggufscope.measure.verify import verify
from ggufscope.measure.watching import watch
from ggufscope.model.tokenizer.text import read_tokenizer
from tests.forward.running import opened, running
from tests.models.families import IDS


def _run(file: Any, ids: Any) -> object:
    return Transformer.of(file).run(ids)


def _compare(file: Any, ids: Any) -> object:
    return compare(file, ids, ["Q8_0"])


def _watch(file: Any, ids: Any) -> object:
    return watch(Transformer.of(file), ids)


def _verify(file: Any, ids: Any) -> object:
    return verify(Transformer.of(file), ids)


DOORS = [_run, _compare, _watch, _verify]


@pytest.mark.parametrize("door", DOORS)
def test_a_text_is_no_list_of_ids(door: Any, sample: Path) -> None:
    with open_gguf(sample) as file:
        with pytest.raises(TextNotIds, match="'The cat'") as caught:
            door(file, "The cat")
        assert "read_tokenizer(file.metadata).encode(text)" in caught.value.hint
        assert read_tokenizer(file.metadata).encode("The cat")  # the hint does what it says


@pytest.mark.parametrize("door", DOORS)
@pytest.mark.parametrize("ids", [[], (), np.array([], np.int32)], ids=["list", "tuple", "array"])
def test_an_empty_prompt_is_said_to_be_empty(door: Any, ids: Any, sample: Path) -> None:
    with open_gguf(sample) as file, pytest.raises(EmptyPrompt, match="nothing to run"):
        door(file, ids)


def test_a_context_can_be_set_for_a_file(tmp_path: Path) -> None:
    """LongRoPE has other factors for contexts beyond the original one."""
    with running(tmp_path, "phi3-long") as model, opened(tmp_path, "phi3-long") as file:
        original = model.hparams.rope_scaling_original_context_length
        assert original
        short, long = (
            Transformer.of(file, context=n).run(IDS[:16]) for n in (original, original + 1)
        )
        assert not np.array_equal(short, long)
