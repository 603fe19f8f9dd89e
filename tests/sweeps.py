"""The sweeps: tests of many costly cases, of which the ordinary run takes a few.

All the others have the marker `slow`, so that `pytest -m slow` and `.ci/run` run every one. The
few are spread evenly over the cases, or named, where some cases cost little or each of the named
takes a way of its own through the program. A test that is named on the command line, with or
without a case, runs in full.

Most of these run a program for every case, this one or real llama.cpp.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable

import pytest

KEPT: dict[str, dict[str, int | str]] = {
    "blocks/test_importance.py": {
        # Of each type NumPy makes some of each edge in ..._by_any_importance.
        "test_the_bytes_of_edges_are_ggmls": r"compiled-.*|numpy-(Q3_K|Q4_0|Q6_K)",
        "test_the_bytes_are_ggmls_by_any_importance": (
            r"compiled-.*|numpy-.*-(typical|zeros|one hot column|huge ratios|denormals)"
        ),
        "test_rows_of_any_length_are_ggmls": r"compiled-.*|numpy-(Q3_K|Q4_1|IQ4_NL)",
    },
    "blocks/test_searched.py": {
        # NumPy makes each of them in test_edges_are_made_so_in_numpy.
        "test_the_bytes_are_ggmls": r"(?!numpy).*|numpy-(IQ1|IQ2_S|IQ3_S).*",
    },
    "cli/test_app.py": {"test_engines_write_the_same_file": 2},
    # Two workers start anew for it; recipes/test_workers.py has it with processes of this machine.
    "cli/test_cluster.py": {"test_a_worker_that_is_killed_in_the_middle": 0},
    # test_schemas.py asks for all presets, too, of a smaller model.
    "cli/test_evaluate.py": {"test_all_presets_of_the_sample": 0},
    "cli/test_explain.py": {
        # One with and one without: GQA, biases, a table of positions, experts, a shared expert,
        # norms after a block, a window, caps of scores. Of all, test_explaining.py holds the
        # numbers to the reference.
        "test_every_printed_number_is_one_that_was_computed": r"gemma2|gpt2|llama-gqa|qwen2moe",
    },
    "cli/test_list.py": {
        "test_every_kind_fits_80_columns": 3,
        "test_memory_is_bounded_by_the_size_of_the_file": 1,
    },
    "cli/test_quantize.py": {"test_llama_quantizes_options_do_what_they_do_there": 8},
    "cli/test_questions.py": {"test_every_family_can_be_asked": 12},
    "cli/test_schemas.py": {"test_inspect": 12, "test_size_of_files": 8},
    "cli/test_size.py": {
        "test_every_kind_of_model_is_read_at_80_columns": 4,
        "test_every_preset_weighs_what_quantize_and_llama_quantize_write": 1,
    },
    "cli/test_terminal.py": {
        "test_a_listing_at_any_width": 3,
        "test_a_plan_at_any_width": 3,
        "test_sizes_at_any_width": 3,
        "test_what_runs_the_model_at_any_width": 2,
    },
    "cli/test_whole.py": {"test_quantize_refuses": 2, "test_zeros_from_one_tensor_on_are_named": 3},
    "forward/test_llama_cpp.py": {
        "test_each_next_token_is_as_likely_as_in_llama_cpp": 2,
        "test_the_sample_and_what_quantizing_makes_of_it": 1,
    },
    "hostile/test_bytes.py": {"test_changed_bytes": 1},
    "hostile/test_bounded.py": {
        "test_a_prompt_is_a_regular_file_of_some_size": 0,
        "test_many_pairs_are_no_crime": 0,
        "test_many_tensors_are_listed_and_planned": 0,
        "test_what_is_long_is_cut_before_it_is_worked_on": 1,
        "test_what_no_model_has_is_refused_at_once": 4,
    },
    "hostile/test_faults.py": {
        "test_a_disk_that_cannot_be_read": 4,
        "test_a_full_disk": 4,
        "test_ended_at_any_step": 4,
        "test_of_two_at_once_one_wins_whole": 1,
    },
    "hostile/test_fuzz.py": {
        "test_a_thousand_absurd_models": 1,
        "test_the_models_are_sound_before_they_are_spoiled": 2,
    },
    "hostile/test_lies.py": {"test_a_lie_through_every_command": 5},
    "hostile/test_targets.py": {
        "test_force_on_a_device_is_refused": 0,
        "test_the_next_run_removes_what_a_killed_one_left": 1,
        "test_what_is_read_is_never_written": 3,
        "test_what_lies_under_a_temporary_name_is_not_followed": 2,
    },
    "hostile/test_terminal.py": {
        "test_arguments_are_never_printed_raw": 3,
        "test_attention_that_is_no_number_has_a_verdict": 1,
        "test_being_told_to_end_leaves_nothing": 1,
        "test_error_lines_have_a_limit": 0,
        "test_names_are_no_markup": 1,
        "test_other_streams_that_are_closed_do_no_harm": 1,
        "test_output_that_goes_nowhere_is_a_failure": 1,
        "test_what_nobody_foresaw_is_a_defect": 1,
    },
    "hostile/test_values.py": {
        "test_bits_that_are_none": 1,
        "test_every_refusal_names_the_file": 0,
        "test_numbers_that_are_none": 4,
    },
    "hostile/test_working_folder.py": {
        "test_nothing_is_imported_by_workers_of_a_library_call": 0,
        "test_nothing_is_imported_from_it": 1,
    },
    "measure/test_diff.py": {
        "test_a_fine_tune": 1,
        # Of super-blocks, of blocks, and none at all.
        "test_quantizations_are_known_by_name": r"F32|Q3_K_S|Q5_0",
        "test_what_was_quantized_twice": 1,
    },
    # The exact one, and one of blocks.
    "measure/test_evaluate.py": {
        "test_a_divergence_is_that_of_llama_perplexity": r"Q2_K as F32|Q4_K_M",
    },
    "measure/test_explaining.py": {
        "test_every_number_is_the_pass_own_and_the_references": 9,
    },
    "measure/test_families.py": {"test_memory_and_file_agree_in_every_family": 6},
    "measure/test_gathering.py": {"test_a_matrix_is_that_of_llama_imatrix": 7},
    "measure/test_making.py": {
        "test_a_fault_is_named_with_tensor_layer_and_head": 5,
        "test_a_file_quantized_twice_is_named_with_the_type_between": 3,
        "test_an_honest_file_is_well_made_at_any_depth": r"4-Q3_K_S-spiky|16-Q4_K_M-",
    },
    # A table of errors that is measured, all presets beside: test_tailor.py holds a few to it.
    "measure/test_sensitivity.py": {"test_what_is_predicted_is_what_is_measured": 0},
    "measure/test_verify.py": {"test_every_identity_holds_on_every_family": 6},
    "model/test_tokenizer.py": {
        "test_every_kind_is_llama_cpps": 3,
        "test_every_way_to_cut_words_is_llama_cpps": 4,
    },
    "recipes/test_files.py": {
        "test_every_preset_of_every_slice": 2,
        "test_every_preset_of_every_slice_with_an_importance_matrix": 1,
    },
    # Of a stack of experts only slices are more, and test_files.py has those.
    "recipes/test_importance.py": {
        "test_what_llama_quantize_makes_of_a_matrix": r"llama-(mha|tied)",
    },
    "recipes/test_plan.py": {
        "test_every_preset_on_every_slice": 14,
        # That one has the 80 layers and the groups of 8 heads of Llama-3-70B.
        "test_every_preset_on_models_of_full_size": r"(?!Qwen2-72B).*",
        "test_every_preset_with_an_importance_matrix": 7,
    },
    "recipes/test_resume.py": {"test_a_ledger_is_what_its_whole_lines_say": 6},
    "recipes/test_workers.py": {
        "test_one_source_for_one_run": r"threads-.*|processes-replaced",
        "test_a_worker_that_is_killed_is_replaced": 1,
        "test_where_processes_are_rationed_the_others_do_it": 1,
    },
    "sizing/test_kv_cache.py": {
        "test_a_loaded_model_takes_what_is_foretold": 5,
        "test_llama_cpp_takes_every_named_shape_as_a_model": 3,
    },
    # One of each architecture, and of llama the sizes that its rules tell apart.
    "sizing/test_shapes.py": {
        "test_every_preset_is_what_llama_quantize_says": (
            r"llama-2-7b|llama-3-8b|llama-3.2-1b|smollm2-135m|mistral-7b|mixtral-8x7b|qwen2.5-0.5b"
            r"|qwen3-0.6b|qwen3-30b-a3b|gemma-2-2b|gemma-3-(270m|1b)|phi-(3-mini|4)|glm-4-9b"
            r"|gpt-oss-20b|llama-2-70b"
        ),
    },
    # It takes as long as thirty other commands; cli/test_tailor.py has smaller ones.
    "test_readme.py": {"test_commands_print_what_is_shown": r"(?!target-size:).*"},
    "test_sample.py": {
        "test_the_corpus_has_the_sentences_that_attention_is_shown_on": 0,
        "test_llama_cpp_and_pytorch_agree_on_its_loss": 0,
        "test_what_is_held_out_was_not_trained_on": 0,
    },
}
"""File -> test -> how many of its cases stay in the ordinary run, or what their names match."""


LONG = re.compile(
    r"test_many_thousand_(absurd_models|changed_bytes)|test_every_preset_runs_in_llama_cpp"
    r"|test_millions_of_blocks_are_made_as_ggml_makes_them"
    r"|test_a_bulk_of_weights_both_ways\[numpy-.*-4000000\]"
    r"|test_arm64_|test_sanitizers_find_nothing"
    r"|test_what_the_wheel_can_make_is_what_lies_here\[tests.golden.make_searched\]"
    r"|test_a_worker_killed_at_any_moment"
    r"|test_killed_at_any_moment\[SIG((HUP|TERM)-process|(HUP|INT|KILL|TERM)-group)\]"
    r"|test_ended_at_any_step\[.*-[1-9]\]"
    r"|test_an_honest_file_is_well_made_at_any_depth\[32-.*-(log-normal|spiky)\]"
)
"""Slow tests that CI has no time for: more than half of the time of all of them."""


def _case(item: pytest.Item) -> str:
    return item.nodeid.partition("[")[2].removesuffix("]")


def _staying(cases: list[str], kept: int | str) -> list[int]:
    if isinstance(kept, int):
        return [len(cases) * n // kept for n in range(kept)]
    return [number for number, case in enumerate(cases) if re.fullmatch(kept, case)]


def mark(items: Iterable[pytest.Item]) -> None:
    """Mark the cases that the ordinary run leaves out; the items are of whole files."""
    cases: dict[tuple[str, str], list[pytest.Item]] = defaultdict(list)
    for item in items:
        file, _, test = item.nodeid.removeprefix("tests/").partition("::")
        cases[file, test.partition("[")[0]].append(item)
    files = {file for file, _ in cases}
    for file, tests in KEPT.items():
        for test, kept in tests.items():
            found = cases.get((file, test), [])
            if file in files and not found:
                raise pytest.UsageError(f"tests/sweeps.py: there is no {file}::{test}")
            stay = set(_staying([_case(item) for item in found], kept))
            for number, item in enumerate(found):
                if number not in stay:
                    item.add_marker(pytest.mark.slow)
    for item in items:
        if LONG.search(item.nodeid) and item.get_closest_marker("slow"):
            item.add_marker(pytest.mark.long)
