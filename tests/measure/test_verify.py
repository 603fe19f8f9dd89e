"""The identities on every model: all hold, and each fails where a model breaks it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ggufscope.container.file import open_gguf
from ggufscope.forward import attention, block
from ggufscope.forward.cache import KVCache
from ggufscope.forward.transformer import Transformer
from ggufscope.measure import identities
from ggufscope.measure import verify as verifying
from ggufscope.measure.verify import Identity, loop_tokens, verify
from tests.forward.running import running
from tests.models.families import IDS, SMALL

NAMES = ["rows", "future", "shapes", "heads", "cache", "groups", "loop", "toy"]


@pytest.mark.parametrize("name", SMALL)
def test_every_identity_holds_on_every_family(name: str, tmp_path: Path) -> None:
    done: list[int] = []
    with running(tmp_path, name) as model:
        found = verify(model, IDS, done.append)
    assert [each.name for each in found] == NAMES
    assert all(each.holds for each in found), [(e.name, e.residual) for e in found]
    assert done == list(range(1, len(done) + 1))


def test_they_hold_on_the_sample_and_say_its_shapes(sample: Path) -> None:
    with open_gguf(sample) as file:
        found = {each.name: each for each in verify(Transformer.of(file), [0, 40, 69, 819])}
    assert all(each.holds for each in found.values())
    assert found["shapes"].statement == "8 heads of (4, 32), side by side: (4, 256)"
    assert found["groups"].statement == "8 heads on 2 K/V heads = MHA with these repeated"


def _twisted(change: Callable[..., Any]) -> Callable[..., Any]:
    right = attention.attend

    def attend(q: Any, k: Any, v: Any, **options: Any) -> Any:
        return change(right, q, k, v, **options)

    return attend


def _sees_the_future(right: Any, q: Any, k: Any, v: Any, **options: Any) -> Any:
    if len(q) == 1:
        return right(q, k, v, **options)
    found = right(q, k, v, **options)
    shares = np.full_like(found.kq_soft_max, 1 / len(k))
    return attention.Attended(found.out, found.kq, shares, found.kqv)


def _shares_too_small(right: Any, q: Any, k: Any, v: Any, **options: Any) -> Any:
    found = right(q, k, v, **options)
    shares = None if found.kq_soft_max is None else found.kq_soft_max * np.float32(0.999)
    return attention.Attended(found.out, found.kq, shares, found.kqv)


def _heads_on_the_wrong_keys(right: Any, q: Any, k: Any, v: Any, **options: Any) -> Any:
    turned = np.roll(k, 1, axis=1), np.roll(v, 1, axis=1)
    return right(q, *turned, **options)


def _window_off_by_one(right: Any, q: Any, k: Any, v: Any, **options: Any) -> Any:
    return right(q, k, v, **options | {"window": 4})


@pytest.mark.parametrize(
    ("change", "fails"),
    [
        (_sees_the_future, {"future"}),
        (_shares_too_small, {"rows"}),
        (_heads_on_the_wrong_keys, {"groups", "loop"}),
        (_window_off_by_one, {"groups", "loop"}),
    ],
)
def test_wrong_attention_is_found_out(
    change: Callable[..., Any], fails: set[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(block, "attend", _twisted(change))
    with running(tmp_path, "llama-gqa") as model:
        found = verify(model, IDS)
    assert {each.name for each in found if not each.holds} == fails
    assert all(each.layer is not None for each in found if not each.holds)


@pytest.mark.parametrize(
    ("function", "fails"),
    [
        ("rows_sum_to_one", "rows"),
        ("nothing_from_the_future", "future"),
        ("heads_side_by_side", "shapes"),
        ("heads_add_up", "heads"),
        ("groups_are_copies", "groups"),
    ],
)
def test_each_identity_counts_in_every_layer(
    function: str, fails: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    residuals = iter([0.0, 0.5, 0.25])  # of the three layers
    monkeypatch.setattr(identities, function, lambda *_, **__: next(residuals))
    with running(tmp_path, "phi3") as model:
        found = verify(model, IDS)
    failed = {each.name: (each.residual, each.layer) for each in found if not each.holds}
    assert failed == {fails: (0.5, 1)}


def test_a_cache_that_forgets_is_found_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    right = KVCache.extend

    def extend(self: KVCache, layer: int, k: Any, v: Any) -> Any:
        keys, values = right(self, layer, k, v)
        return (
            (keys, np.concatenate([values[:-1] * 0.5, values[-1:]]))
            if len(k) == 1
            else (keys, values)
        )

    monkeypatch.setattr(KVCache, "extend", extend)
    with running(tmp_path, "qwen2") as model:
        found = verify(model, IDS)
    assert {each.name for each in found if not each.holds} == {"cache"}


def test_a_wrong_rotation_of_later_tokens_is_found_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Token by token, every token would stand at position 0."""
    monkeypatch.setattr(block.Block, "start", property(lambda self: 0))
    with running(tmp_path, "llama-mha") as model:
        found = verify(model, IDS)
    assert {each.name for each in found if not each.holds} == {"cache"}


def test_nan_does_not_hold() -> None:
    identity = Identity("x", "x", 1.0)
    identity.take(0.5, 1)
    identity.take(float("nan"), 2)
    identity.take(0.7, 3)
    assert not identity.holds
    assert identity.layer == 2


def test_the_scalar_loop_is_cut_to_what_python_can_do() -> None:
    assert loop_tokens(6, 8, 32) == 6
    most = loop_tokens(4096, 32, 128)
    assert 1 < most < 64
    assert loop_tokens(4096, 512, 8192) == 1
    assert most * (most + 1) * 32 * 128 <= verifying.LOOP_PRODUCTS
