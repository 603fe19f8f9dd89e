"""One token's attention in numbers: the pass's own, and those of the float64 reference."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from ggufscope.arrays import Doubles
from ggufscope.errors import NotInModel
from ggufscope.forward.trace import Trace
from ggufscope.forward.transformer import Transformer
from ggufscope.measure.explaining import explain
from ggufscope.measure.outputs import output_shares
from tests.forward.reference import Reference
from tests.forward.running import running
from tests.models.families import IDS, SMALL


def _places(model: Transformer) -> list[tuple[int, int, int]]:
    """The first token, one in the middle and the last; the first and last layer and head."""
    last = model.n_layers - 1
    heads = model.block(last).heads.count
    return [(0, 0, 0), (len(IDS) // 2, last, heads - 1), (len(IDS) - 1, 0, heads - 1)]


@pytest.mark.parametrize("name", SMALL)
def test_every_number_is_the_pass_own_and_the_references(name: str, tmp_path: Path) -> None:
    small = SMALL[name]
    taps, reference = Trace(), Reference(small).run(IDS)
    with running(tmp_path, name) as model:
        model.run(IDS, trace=taps)
        places = _places(model)
        found = [explain(model, IDS, *place) for place in places]
    for (t, layer, head), each in zip(places, found, strict=True):
        group = each.key_head
        # The pass: to the bit. (The last token's logits are computed alone here.)
        exact = {
            "embd": each.embd,
            f"attn_norm-{layer}": each.attn_norm,
            f"attn_out-{layer}": each.attn_out,
        }
        for key, vector in exact.items():
            assert vector.tobytes() == taps[key][t].tobytes(), key
        for key, row in (("kq", each.kq), ("kq_soft_max", each.kq_soft_max), ("kqv", each.kqv)):
            assert row.tobytes() == taps[f"{key}-{layer}"][head, t].tobytes(), key
        assert each.k.tobytes() == taps[f"Kcur-{layer}"][:, group].tobytes()
        assert each.v.tobytes() == taps[f"Vcur-{layer}"][:, group].tobytes()
        np.testing.assert_allclose(each.logits, taps["result_output"][t], atol=1e-4)
        # The reference: independent formulas, in float64.
        near = {
            "embd": (each.embd, reference["embd"][t]),
            "inpL": (each.entering, reference[f"inpL-{layer}"][t]),
            "attn_norm": (each.attn_norm, reference[f"attn_norm-{layer}"][t]),
            "k": (each.k, reference[f"Kcur-{layer}"][:, group]),
            "v": (each.v, reference[f"Vcur-{layer}"][:, group]),
            "share": (each.kq_soft_max, reference[f"kq_soft_max-{layer}"][head, t]),
            "kqv": (each.kqv, reference[f"kqv-{layer}"][head, t]),
            "attn_out": (each.attn_out, reference[f"attn_out-{layer}"][t]),
            "logits": (each.logits, reference["result_output"][t]),
        }
        for what, (ours, theirs) in near.items():
            np.testing.assert_allclose(ours, theirs, atol=2e-4, err_msg=what)
        given = reference[f"scores-{layer}"][head, t]
        assert [why is None for why in each.hidden] == np.isfinite(given).tolist()
        seen = np.isfinite(given)
        np.testing.assert_allclose(each.scores[seen], given[seen], atol=2e-4)
        query = reference[f"Qcur-{layer}"][t, head] * (each.q_scale or 1)
        np.testing.assert_allclose([*each.q_steps.values()][-1], query, atol=2e-4)
        assert max(each.softmax_gap, each.kqv_gap, each.out_gap) < 1e-5


@pytest.mark.parametrize("name", ["llama-gqa", "gemma2", "qwen3", "gpt2"])
def test_heads_add_up_and_logits_are_a_sum(name: str, tmp_path: Path) -> None:
    trace = Trace()
    with running(tmp_path, name) as model:
        model.run(IDS, trace=trace)
        t, layer = len(IDS) - 1, model.n_layers - 1
        each = explain(model, IDS, t, layer, 1)
        weights, norm = model.weights, model.graph.norm
        out = weights.matrix("output.weight" if "output.weight" in weights else "token_embd.weight")
        matrix, scale = out.rows(0, out.shape[0]), weights.vector("output_norm.weight")
    if not each.out_bias:
        assert each.shares.sum() == pytest.approx(1, abs=1e-5)
    # Without the head's part, and with the divisor of the norm as it was, logits are these less.
    x = trace[f"l_out-{layer}"][t].astype(np.float64)
    centred = x - x.mean() * (norm == "layer")
    divisor = np.sqrt(np.mean(centred * centred) + 1e-5)

    def logits(x: Doubles) -> Doubles:
        found: Doubles = ((x - x.mean() * (norm == "layer")) / divisor * scale) @ matrix.T
        return found

    less = logits(x) - logits(x - each.added)
    np.testing.assert_allclose(each.logits_added, less, atol=1e-5)
    if each.post_norm:  # a sum of parts is normed part by part
        shared = each.added / np.where(each.summands[1] == 0, 1, each.summands[1])
        np.testing.assert_allclose(
            each.summands.sum(axis=0) * shared, trace[f"attn_post_norm-{layer}"][t], atol=1e-5
        )


def test_what_a_family_does_otherwise_is_in_it(tmp_path: Path) -> None:
    found = {}
    for name in ("llama-mqa", "llama-gqa", "gemma2", "gemma3", "phi3", "qwen3", "gpt2"):
        with running(tmp_path, name) as model:
            found[name] = explain(model, IDS, 20, 0, 3)
    assert [*found["qwen3"].q_steps] == ["projected", "normed", "rotated"]
    assert [*found["gpt2"].q_steps] == ["projected"]
    assert [*found["gemma2"].q_steps] == ["projected", "rotated", "scaled"]
    assert [*found["phi3"].q_steps] == ["projected", "rotated", "scaled"]
    assert (found["gemma2"].cap, found["gemma2"].window) == (3.0, 6)
    assert found["gemma2"].hidden.count("window") == 15
    assert found["gemma3"].embd_scale == pytest.approx(32**0.5)
    assert found["gpt2"].position_embd is not None
    assert found["gpt2"].norm.kind == "layer"
    assert (found["llama-mqa"].key_head, [*found["llama-mqa"].sharing]) == (0, [0, 1, 2, 3])
    assert (found["llama-gqa"].key_head, [*found["llama-gqa"].sharing]) == (0, [0, 1, 2, 3])


def test_shares_over_a_prompt_are_means_of_a_tokens(tmp_path: Path) -> None:
    trace = Trace({"kqv_out", "attn_out"}, layers=[1])
    with running(tmp_path, "llama-gqa") as model:
        model.run(IDS, trace=trace)
        w_o = model.weights.matrix("blk.1.attn_output.weight")
        found = output_shares(trace["kqv_out-1"], trace["attn_out-1"], w_o, 8)
        each = [explain(model, IDS, t, 1, 0) for t in range(len(IDS))]
    np.testing.assert_allclose(found.shares, np.mean([e.shares for e in each], axis=0), atol=1e-5)
    lengths = [np.sqrt((e.summands**2).sum(1)) / np.linalg.norm(e.attn_out) for e in each]
    np.testing.assert_allclose(found.sizes, np.mean(lengths, axis=0), atol=1e-5)
    assert found.shares.sum() == pytest.approx(1, abs=1e-5)


def test_of_an_output_of_zeros_no_head_has_a_share(tmp_path: Path) -> None:
    zeros = np.zeros((3, 32), np.float32)
    with running(tmp_path, "llama-gqa") as model:
        w_o = model.weights.matrix("blk.1.attn_output.weight")
        found = output_shares(np.zeros((3, w_o.shape[1]), np.float32), zeros, w_o, 8)
    assert np.isnan(found.shares).all()
    assert np.isnan(found.sizes).all()


@pytest.mark.parametrize(
    ("place", "says"),
    [((21, 0, 0), "no token 21"), ((0, 3, 0), "no layer 3"), ((0, 0, 8), "no head 8")],
)
def test_what_is_not_there_is_said(place: tuple[int, int, int], says: str, tmp_path: Path) -> None:
    with running(tmp_path, "llama-gqa") as model, pytest.raises(NotInModel, match=says):
        explain(model, IDS, *place)
