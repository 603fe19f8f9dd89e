"""The keystone: every stored tensor has its place, and shapes follow from them by arithmetic."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from ggufscope.container.file import open_gguf
from ggufscope.model.anatomy.build import Anatomy, anatomy_of
from ggufscope.model.anatomy.conditions import ALWAYS, has
from ggufscope.model.anatomy.rows import Kind, computed, stored
from ggufscope.model.anatomy.table import HEAD, LAYER, TAIL
from tests.models.makers import LAYERS, RECIPES, E, F, V

GOLDEN = Path(__file__).parent.parent / "golden"
NO_ATTENTION = {"mamba", "unheard-of"}
T = 24


def _anatomy(path: Path, tokens: int = T) -> Anatomy:
    with open_gguf(path) as file:
        shapes = {name: tensor.shape for name, tensor in file.tensors.items()}
        return anatomy_of(shapes, file.metadata, tokens)


def _shapes(anatomy: Anatomy, layer: int, kind: Kind | None = None) -> dict[str, tuple[int, ...]]:
    quantities = anatomy.layers[layer].quantities
    return {q.name: q.shape for q in quantities if kind is None or q.kind is kind}


@pytest.mark.parametrize("kind", RECIPES)
def test_every_stored_tensor_has_its_place_and_none_is_made_up(
    kind: str, make: Callable[[str], Path]
) -> None:
    path = make(kind)
    anatomy = _anatomy(path)
    listed = {
        f"blk.{layer.layer}.{q.name}": q.shape
        for layer in anatomy.layers
        for q in layer.quantities
        if q.kind is Kind.STORED
    }
    listed |= {q.name: q.shape for q in (*anatomy.head, *anatomy.tail) if q.kind is Kind.STORED}
    with open_gguf(path) as file:
        assert listed == {name: tensor.shape for name, tensor in file.tensors.items()}
    assert all(q.caption for q in anatomy.all_quantities())


@pytest.mark.parametrize("kind", [k for k in RECIPES if k not in {"hybrid", *NO_ATTENTION}])
def test_symbols_give_the_shapes_of_the_stored_weights(
    kind: str, make: Callable[[str], Path]
) -> None:
    anatomy = _anatomy(make(kind))
    without = {
        q.name
        for q in anatomy.all_quantities()
        if q.kind is Kind.STORED and not q.axes and not q.name.endswith(".bias")
    }
    # The table has no symbol for these: families size them differently.
    free = {"attn_q_norm.weight", "attn_k_norm.weight", "position_embd.weight"}
    assert {name for name in without if "shexp" not in name} <= free


@pytest.mark.parametrize("kind", [k for k in RECIPES if k not in NO_ATTENTION])
def test_what_is_computed_is_made_from_what_comes_before_it(
    kind: str, make: Callable[[str], Path]
) -> None:
    anatomy = _anatomy(make(kind))
    for layer in anatomy.layers:
        if layer.not_derivable:
            continue
        known = {"inpL"}
        for q in layer.quantities:
            if q.kind is not Kind.STORED:
                assert q.made_from, q.name
                assert set(q.made_from) <= known, q.name
            known.add(q.name)
        assert layer.quantities[-1].name == "l_out"


def test_every_computed_name_is_one_of_llama_cpps() -> None:
    theirs = set((GOLDEN / "graph_names.txt").read_text().split())
    activations = {"swiglu", "geglu", "gelu"}
    for row in (*HEAD, *LAYER, *TAIL):
        if row.kind is not Kind.COMPUTED:
            continue
        names = {row.name}
        if "{activation}" in row.name:
            names = {row.name.format(activation=each) for each in activations}
        if "{residual}" in row.name:
            names = {"ffn_inp", "sa_out"}
        assert names <= theirs, row.name


@pytest.mark.parametrize(("kind", "shared"), [("llama-mha", 4), ("llama-gqa", 2), ("llama-mqa", 1)])
def test_attention_by_hand(kind: str, shared: int, make: Callable[[str], Path]) -> None:
    computed = _shapes(_anatomy(make(kind)), 0)
    assert computed["Qcur"] == (T, 4, 8)
    assert computed["Kcur"] == computed["Vcur"] == computed["cache_k"] == (T, shared, 8)
    assert computed["kq"] == computed["kq_soft_max"] == (4, T, T)
    assert computed["kqv"] == (4, T, 8)
    assert computed["kqv_out"] == computed["attn_out"] == computed["l_out"] == (T, E)
    assert computed["ffn_gate"] == computed["ffn_swiglu"] == (T, F)


def test_the_cache_shrinks_with_the_heads_that_are_shared(make: Callable[[str], Path]) -> None:
    mha, gqa, mqa = (
        _anatomy(make(kind)).cache_elements() for kind in ("llama-mha", "llama-gqa", "llama-mqa")
    )
    assert mha == LAYERS * 2 * T * 4 * 8
    assert (gqa, mqa) == (mha // 2, mha // 4)


def test_ends_of_a_model(make: Callable[[str], Path]) -> None:
    for kind, head in (("llama-gqa", "output.weight"), ("llama-tied", "token_embd.weight")):
        anatomy = _anatomy(make(kind))
        logits = anatomy.tail[-1]
        assert (logits.name, logits.shape) == ("result_output", (T, V))
        assert head in logits.made_from


def test_a_window_limits_what_is_seen(make: Callable[[str], Path]) -> None:
    anatomy = _anatomy(make("gemma2"))
    assert [layer.window for layer in anatomy.layers] == [16, None, 16]
    assert [_shapes(anatomy, layer)["kq"] for layer in range(3)] == [
        (4, T, 16),
        (4, T, T),
        (4, T, 16),
    ]
    assert _shapes(anatomy, 0)["cache_k"] == (16, 2, 8)
    names = [q.name for q in anatomy.layers[0].quantities if q.kind is Kind.COMPUTED]
    assert names[-6:] == ["ffn_gate", "ffn_up", "ffn_geglu", "ffn_out", "ffn_post_norm", "l_out"]
    assert names[names.index("attn_out") :][:4] == [
        "attn_out",
        "attn_post_norm",
        "sa_out",
        "ffn_norm",
    ]


def test_fused_matrices(make: Callable[[str], Path]) -> None:
    computed = _shapes(_anatomy(make("phi3")), 0, Kind.COMPUTED)
    assert computed["wqkv"] == (T, 4 * 8 + 2 * 2 * 8)
    assert (computed["Qcur"], computed["Kcur"]) == ((T, 4, 8), (T, 2, 8))
    assert (computed["ffn_up"], computed["ffn_swiglu"]) == ((T, 2 * F), (T, F))
    assert "ffn_gate" not in computed


def test_parallel_attention_and_feed_forward(make: Callable[[str], Path]) -> None:
    layer = _anatomy(make("falcon")).layers[0]
    by_name = {q.name: q for q in layer.quantities}
    assert by_name["ffn_up"].made_from == ("attn_norm", "ffn_up.weight")
    assert by_name["l_out"].made_from == ("inpL", "attn_out", "ffn_out")
    assert "ffn_inp" not in by_name
    assert by_name["cache_k"].shape == (T, 1, 8)


def test_norms_after_instead_of_before(make: Callable[[str], Path]) -> None:
    by_name = {q.name: q for q in _anatomy(make("olmo2")).layers[0].quantities}
    assert by_name["Qcur"].made_from == ("inpL", "attn_q.weight")
    assert by_name["ffn_inp"].made_from == ("inpL", "attn_post_norm")
    assert by_name["ffn_up"].made_from == ("ffn_inp", "ffn_up.weight")
    assert by_name["l_out"].made_from == ("ffn_inp", "ffn_post_norm")


def test_positions_that_are_learned_are_not_rotated(make: Callable[[str], Path]) -> None:
    captions = {
        kind: {q.name: q.caption for q in _anatomy(make(kind)).layers[0].quantities}["Qcur"]
        for kind in ("gpt2", "llama-mha")
    }
    assert "rotated" in captions["llama-mha"]
    assert "rotated" not in captions["gpt2"]


def test_experts(make: Callable[[str], Path]) -> None:
    computed = _shapes(_anatomy(make("mixtral")), 0, Kind.COMPUTED)
    assert computed["ffn_moe_logits"] == computed["ffn_moe_probs"] == (T, 4)
    assert computed["ffn_moe_topk"] == computed["ffn_moe_weights"] == (T, 2)
    assert computed["ffn_moe_swiglu"] == (T, 2, 24)
    assert computed["ffn_moe_down"] == (T, 2, E)
    by_name = {q.name: q for q in _anatomy(make("qwen2moe")).layers[0].quantities}
    assert by_name["ffn_out"].made_from == ("ffn_moe_out", "ffn_shexp")
    assert by_name["l_out"].made_from == ("ffn_inp", "ffn_out")
    assert {q.name for q in _anatomy(make("mixtral")).layers[0].quantities}.isdisjoint({"ffn_out"})


def test_a_norm_called_post_attention_may_be_the_feed_forwards(make: Callable[[str], Path]) -> None:
    by_name = {q.name: q for q in _anatomy(make("gpt-oss")).layers[0].quantities}
    assert by_name["ffn_inp"].made_from == ("inpL", "attn_out")
    assert by_name["attn_post_norm"].made_from == ("ffn_inp", "post_attention_norm.weight")
    assert by_name["ffn_moe_logits"].made_from == ("attn_post_norm", "ffn_gate_inp.weight")


def test_latent_attention(make: Callable[[str], Path]) -> None:
    absorbed = _anatomy(make("deepseek2-mla"))
    computed = _shapes(absorbed, 0)
    assert computed["Qcur"] == (T, 4, 20)
    assert computed["Kcur"] == computed["cache_k"] == (T, 1, 20)
    assert (computed["Vcur"], computed["kqv_mla"]) == ((T, 1, 16), (4, T, 12))
    assert "cache_v" not in computed
    assert absorbed.cache_elements() == LAYERS * T * 20
    unfolded = _shapes(_anatomy(make("deepseek2-unfolded")), 0)
    assert unfolded["Qcur"] == unfolded["Kcur"] == unfolded["cache_k"] == (T, 4, 12)
    assert unfolded["Vcur"] == unfolded["cache_v"] == (T, 4, 12)


def test_layers_without_attention_say_so(make: Callable[[str], Path]) -> None:
    anatomy = _anatomy(make("hybrid"))
    assert ["ssm" in layer.not_derivable for layer in anatomy.layers] == [True, False, True]
    assert _shapes(anatomy, 1)["kq_soft_max"] == (4, T, T)
    assert set(_shapes(anatomy, 0, Kind.COMPUTED)) == set()
    assert anatomy.cache_elements() == 2 * T * 2 * 8


@pytest.mark.parametrize(
    ("kind", "reason"), [("mamba", "keeps a state"), ("unheard-of", "flux-capacitor")]
)
def test_a_graph_that_is_not_known_says_so(
    kind: str, reason: str, make: Callable[[str], Path]
) -> None:
    anatomy = _anatomy(make(kind))
    assert reason in anatomy.not_derivable
    assert all(q.kind is Kind.STORED for q in anatomy.all_quantities())


@pytest.mark.parametrize(
    ("missing", "reason"),
    [
        ("attention.head_count", "attention.head_count' is missing"),
        ("embedding_length", "embedding_length' is missing"),
        ("feed_forward_length", "feed_forward_length' is missing"),
        ("block_count", "block_count"),
    ],
)
def test_metadata_that_is_missing_is_named(
    missing: str, reason: str, make: Callable[[str], Path]
) -> None:
    with open_gguf(make("llama-gqa")) as file:
        metadata = {k: file.metadata[k] for k in file.metadata if k != f"llama.{missing}"}
        anatomy = anatomy_of({n: t.shape for n, t in file.tensors.items()}, metadata, T)
    assert reason in anatomy.not_derivable
    assert len(anatomy.layers) == LAYERS


def test_a_file_of_metadata_alone(make: Callable[[str], Path]) -> None:
    with open_gguf(make("llama-gqa")) as file:
        assert "no layer" in anatomy_of({}, file.metadata, T).not_derivable


def test_layers_that_predict_further_tokens_are_left_out(make: Callable[[str], Path]) -> None:
    with open_gguf(make("llama-gqa")) as file:
        metadata = {**file.metadata, "llama.nextn_predict_layers": 1}
        anatomy = anatomy_of({n: t.shape for n, t in file.tensors.items()}, metadata, T)
    assert [bool(layer.not_derivable) for layer in anatomy.layers] == [False, False, True]


def test_tensors_beyond_the_counted_layers_are_listed(make: Callable[[str], Path]) -> None:
    with open_gguf(make("llama-gqa")) as file:
        shapes = {name: tensor.shape for name, tensor in file.tensors.items()}
        anatomy = anatomy_of(shapes, {**file.metadata, "llama.block_count": 2}, T)
    assert [layer.layer for layer in anatomy.layers] == [0, 1, 2]
    assert "beyond the 2 layers" in anatomy.layers[2].not_derivable
    assert len(anatomy.layers[2].quantities) == 9


def test_names_that_look_alike_are_all_listed(make: Callable[[str], Path]) -> None:
    odd = ["blk.0.a", "blk.0.a.", "blk.00.a", "fooblk.0.a", "blk.0.a.weight", "blk.0..weight", ""]
    with open_gguf(make("llama-gqa")) as file:
        shapes = {name: tensor.shape for name, tensor in file.tensors.items()}
        shapes |= dict.fromkeys(odd, (7,))
        for metadata in (dict(file.metadata), {}):
            quantities = anatomy_of(shapes, metadata, T).all_quantities()
            assert sum(q.kind is Kind.STORED for q in quantities) == len(shapes)


def test_the_vision_part_of_a_model_says_what_it_is() -> None:
    anatomy = anatomy_of({"v.blk.0.attn_q.weight": (8, 8)}, {"general.architecture": "clip"}, T)
    assert anatomy.not_derivable.startswith("architecture 'clip' is the vision or audio part")
    assert [q.name for q in anatomy.head] == ["v.blk.0.attn_q.weight"]


def test_a_misspelt_row_fails_when_it_is_made() -> None:
    with pytest.raises(ValueError, match="attn_kew"):
        has("attn_q", "attn_kew")
    with pytest.raises(ValueError, match="attn_kew"):
        stored("attn_kew", "E", "A weight.")
    with pytest.raises(ValueError, match="row of Qcur"):
        computed("Qcur", "T H Z", ALWAYS, "inpL", "A symbol that is none.")
    with pytest.raises(ValueError, match="row of Qcur"):
        computed("Qcur", "T H D", ALWAYS, "{atn_input}", "A word that is none.")
