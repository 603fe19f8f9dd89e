"""A text piece by piece is the text at once; and what a cache of fewer bits does."""

from __future__ import annotations

from collections import defaultdict

import numpy as np
import numpy.typing as npt
import pytest

from ggufscope.errors import NotConvertible, TypeDoesNotFit, UnknownType
from ggufscope.forward.cache import KVCache
from ggufscope.forward.trace import Trace
from ggufscope.forward.transformer import Transformer
from tests.forward.arrays import Arrays
from tests.forward.golden import golden
from tests.models.families import IDS, SMALL, WIDE

Floats = npt.NDArray[np.float32]


def model_of(name: str) -> Transformer:
    small = SMALL[name]
    return Transformer(small.metadata, Arrays(small.tensors()))


@pytest.mark.parametrize("name", SMALL)
def test_token_by_token_is_the_whole_text_at_once(name: str) -> None:
    model = model_of(name)
    whole = Trace()
    logits = model.run(IDS, trace=whole)
    cache, rows = KVCache(), []
    alone: dict[str, list[Floats]] = defaultdict(list)
    for position, token in enumerate(IDS):
        trace = Trace()
        rows.append(model.run([token], trace=trace, cache=cache)[0])
        for key, array in trace.items():
            if not key.startswith(("kq-", "kq_soft_max-", "kqv-", "ffn_moe_topk")):
                alone[key].append(array[0])
            elif key.startswith("kq_soft_max-"):
                expected = whole[key][:, position, : position + 1]
                np.testing.assert_allclose(array[:, 0], expected, atol=1e-5, err_msg=key)
    for key, arrays in alone.items():
        np.testing.assert_allclose(np.array(arrays), whole[key], atol=1e-4, err_msg=key)
    np.testing.assert_allclose(np.array(rows), logits, atol=1e-4)
    assert cache.length() == len(IDS)


@pytest.mark.parametrize("name", ["llama-gqa", "gemma2", "gpt2", "llama-yarn"])
@pytest.mark.parametrize("cut", [1, 7, 20])
def test_a_text_in_two_pieces(name: str, cut: int) -> None:
    model = model_of(name)
    cache = KVCache()
    pieces = [model.run(IDS[:cut], cache=cache), model.run(IDS[cut:], cache=cache)]
    np.testing.assert_allclose(np.concatenate(pieces), model.run(IDS), atol=1e-4)


def test_what_is_forgotten_leaves_no_trace() -> None:
    model = model_of("llama-gqa")
    cache = KVCache()
    model.run(IDS[:9], cache=cache)
    once = model.run(IDS[9:], cache=cache)
    cache.truncate(9)
    assert cache.length() == 9
    assert np.array_equal(model.run(IDS[9:], cache=cache), once)


def drawn(shape: tuple[int, ...], seed: int = 0) -> Floats:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


@pytest.mark.parametrize("type_", ["F32", "F16", "BF16"])
def test_plain_types_store_each_number_by_itself(type_: str) -> None:
    cache = KVCache(type_, type_)
    k, v = drawn((5, 2, 64)), drawn((5, 2, 64), 1)
    keys, values = cache.extend(0, k, v)
    if type_ == "F16":
        assert np.array_equal(keys, k.astype(np.float16))
    elif type_ == "BF16":
        assert np.abs(keys - k).max() <= np.abs(k).max() * 2**-8
        assert not (keys.view(np.uint32) & 0xFFFF).any()
    else:
        assert np.array_equal(keys, k)
        assert np.array_equal(values, v)
    assert np.array_equal(cache.query(k), k)
    out = drawn((5, 128))
    assert np.array_equal(cache.result(out, 64), out)


def test_heads_are_turned_where_llama_cpp_turns_them() -> None:
    """Keys by the largest Hadamard matrix that divides a head, values by one of 64."""
    cache = KVCache("Q8_0", "Q8_0")
    q, k = drawn((3, 4, 192)), drawn((3, 2, 192), 1)
    keys, _ = cache.extend(0, k, drawn((3, 2, 64)))
    np.testing.assert_allclose(  # a turn of both changes no product
        np.einsum("tgd,tgd->tg", cache.query(q)[:, :2], keys),
        np.einsum("tgd,tgd->tg", q[:, :2], k),
        atol=0.3,
    )
    spike = np.zeros((1, 1, 192), np.float32)
    spike[0, 0, 70] = 8.0
    turned = cache.query(spike)[0, 0]
    assert np.allclose(np.abs(turned[64:128]), 1.0)  # 8 / sqrt(64), over the block of 64
    assert (turned[:64] == 0).all()
    wide = np.zeros((1, 1, 256), np.float32)
    wide[0, 0, 3] = 16.0
    assert np.allclose(np.abs(cache.query(wide)), 1.0)  # one matrix of 256
    small = drawn((2, 1, 32))
    assert np.array_equal(cache.query(small), small)  # 32 is not a multiple of 64


def test_what_is_mixed_from_turned_values_is_turned_back() -> None:
    cache = KVCache("F32", "Q8_0")
    v = drawn((6, 2, 128))
    _, values = cache.extend(0, drawn((6, 2, 128), 1), v)
    assert np.abs(values - v).max() > 0.5  # they are turned in the cache
    back = cache.result(values.reshape(6, 256), 128)
    np.testing.assert_allclose(back, v.reshape(6, 256), atol=0.03)


def test_a_hot_number_is_spread_before_it_is_stored() -> None:
    k = drawn((1, 1, 64))
    k[0, 0, 5] = 100.0
    cache = KVCache("Q4_0")
    keys, _ = cache.extend(0, k, k)
    turned = np.abs(cache.query(cache.query(k)) - k).max()
    assert turned < 1e-4  # the turn is its own inverse
    error = cache.query(keys) - k
    plain_step = 100.0 / 8  # of Q4_0, had it been stored as it is
    assert np.abs(np.delete(error, 5)).max() < plain_step / 3


@pytest.mark.parametrize("type_", ["q8_0", "q4_0"])
def test_a_cache_of_fewer_bits_errs_as_that_of_llama_cpp(type_: str) -> None:
    """llama.cpp rounds the queries to Q8 beside it, so the two are near, not equal."""
    theirs = golden(f"llama-wide-k-{type_}")
    model = Transformer(WIDE.metadata, Arrays(WIDE.tensors()))
    exact, stored = Trace("kq_soft_max"), Trace("kq_soft_max")
    model.run(IDS, trace=exact)
    model.run(IDS, trace=stored, cache=KVCache(type_))
    first = "kq_soft_max-0"  # before the differences of one layer pass through the next
    error = np.abs(exact[first] - theirs[first]).mean()
    left = np.abs(stored[first] - theirs[first]).mean()
    assert left < error * (0.9 if type_ == "q8_0" else 0.3)


def test_types_that_a_cache_cannot_have() -> None:
    with pytest.raises(UnknownType, match="Q9"):
        KVCache("Q9")
    with pytest.raises(NotConvertible, match="IQ2_XS"):
        KVCache("F32", "IQ2_XS")
    with pytest.raises(TypeDoesNotFit, match=r"heads of 8 numbers.*Q8_0 blocks of 32"):
        model_of("llama-gqa").run(IDS, cache=KVCache("q8_0", "F16"))
