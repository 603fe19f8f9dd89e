"""Hugging Face's names, held to the tensor name map of the `gguf` package."""

from __future__ import annotations

import subprocess
import sys

import gguf
import pytest

from ggufscope.model.hf_names import (
    COMPUTED,
    NAMINGS,
    PERMUTED,
    SHIFTED,
    SQUEEZED,
    TRANSPOSED,
    hf_names,
    modules_by_stem,
)
from tests.models.families import SMALL


def _map(architecture: str) -> gguf.TensorNameMap:
    arch = next(a for a, name in gguf.MODEL_ARCH_NAMES.items() if name == architecture)
    return gguf.get_tensor_name_map(arch, 64)


@pytest.mark.parametrize("kind", SMALL)
def test_every_name_leads_back_to_its_tensor(kind: str) -> None:
    small = SMALL[kind]
    names = hf_names(small.architecture, small.shapes)
    assert list(names) == list(small.shapes)
    to_gguf = _map(small.architecture)
    for name, found in names.items():
        merged = (found.name or "").replace(".experts.{}.", ".experts.")
        assert to_gguf.get_name(merged, (".weight", ".bias")) == name


def test_every_architecture_that_runs_has_its_names() -> None:
    assert set(NAMINGS) == {small.architecture for small in SMALL.values()}


@pytest.mark.parametrize("architecture", NAMINGS)
def test_no_two_modules_lead_to_one_tensor(architecture: str) -> None:
    naming = NAMINGS[architecture]
    modules = [*naming.ends.split(), *naming.layers.split()]
    assert len(modules_by_stem(architecture)) == len(modules) == len(set(modules))


@pytest.mark.parametrize(
    ("architecture", "tensor", "name"),
    [
        ("llama", "blk.31.attn_q.weight", "model.layers.31.self_attn.q_proj.weight"),
        ("llama", "token_embd.weight", "model.embed_tokens.weight"),
        ("llama", "output.weight", "lm_head.weight"),
        ("llama", "blk.0.ffn_norm.weight", "model.layers.0.post_attention_layernorm.weight"),
        ("llama", "blk.3.ffn_gate_inp.weight", "model.layers.3.block_sparse_moe.gate.weight"),
        ("qwen2", "blk.0.attn_k.bias", "model.layers.0.self_attn.k_proj.bias"),
        ("gemma2", "blk.0.ffn_norm.weight", "model.layers.0.pre_feedforward_layernorm.weight"),
        ("phi3", "blk.9.ffn_up.weight", "model.layers.9.mlp.gate_up_proj.weight"),
        ("gpt2", "blk.0.attn_qkv.bias", "transformer.h.0.attn.c_attn.bias"),
        ("gpt2", "position_embd.weight", "transformer.wpe.weight"),
    ],
)
def test_names_are_those_of_published_checkpoints(
    architecture: str, tensor: str, name: str
) -> None:
    found = hf_names(architecture, {tensor: (4, 4)})[tensor]
    assert found.names == (name,)
    assert found.short == name


def test_a_stack_of_experts_has_a_name_for_each() -> None:
    tensor = "blk.2.ffn_up_exps.weight"
    mixtral = hf_names("llama", {tensor: (3, 8, 4)})[tensor]
    part = "model.layers.2.block_sparse_moe.experts"
    assert mixtral.names == tuple(f"{part}.{n}.w3.weight" for n in range(3))
    assert mixtral.short == part + ".{0..2}.w3.weight"
    qwen = hf_names("qwen3moe", {tensor: (128, 8, 4)})[tensor]
    assert qwen.names[-1] == "model.layers.2.mlp.experts.127.up_proj.weight"
    # A hostile header claims any number of experts, and a tensor of no bytes has room for them.
    assert hf_names("llama", {tensor: (2**40, 0, 0)})[tensor].names == ()


@pytest.mark.parametrize(
    ("architecture", "tensor", "note"),
    [
        ("llama", "blk.0.attn_q.weight", PERMUTED),
        ("llama", "blk.0.attn_k.bias", PERMUTED),
        ("llama", "blk.0.attn_v.weight", ""),
        ("qwen2", "blk.0.attn_q.weight", ""),
        ("qwen2moe", "blk.0.ffn_gate_inp_shexp.weight", SQUEEZED),
        ("qwen2moe", "blk.0.ffn_gate_inp.weight", ""),
        ("gemma", "output_norm.weight", SHIFTED),
        ("gemma3", "blk.0.attn_q_norm.weight", SHIFTED),
        ("gemma3", "blk.0.attn_q.weight", ""),
        ("gpt2", "blk.0.ffn_down.weight", TRANSPOSED),
        ("gpt2", "blk.0.ffn_down.bias", ""),
        ("llama", "rope_freqs.weight", COMPUTED),
    ],
)
def test_what_the_converter_changed_is_said(architecture: str, tensor: str, note: str) -> None:
    assert hf_names(architecture, {tensor: (4,)})[tensor].note == note


@pytest.mark.parametrize("architecture", ["mamba", "clip", None, ""])
def test_other_architectures_have_none_and_it_is_said(architecture: str | None) -> None:
    found = hf_names(architecture, {"blk.0.attn_q.weight": (4, 4)})["blk.0.attn_q.weight"]
    assert found.names == ()
    assert "not known here" in found.note


@pytest.mark.parametrize("tensor", ["", "blk.0.attn_q", "blk.999.attn_q.weight", "x.weight", "\n"])
def test_odd_tensors_have_none(tensor: str) -> None:
    found = hf_names("llama", {tensor: (4, 4)})[tensor]
    assert found.names == ()
    assert found.note


def test_gguf_is_imported_only_when_names_are_asked_for() -> None:
    program = (
        "import sys; from ggufscope.model.hf_names import hf_names; "
        "assert 'gguf' not in sys.modules; hf_names('llama', {}); assert 'gguf' in sys.modules"
    )
    subprocess.run([sys.executable, "-c", program], check=True)
