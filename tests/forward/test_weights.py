"""Views of the weights: as stored, as a plan leaves them, one layer kept for several passes."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import gguf
import numpy as np
import numpy.typing as npt
import pytest

from ggufscope.container.file import GGUFFile, open_gguf
from ggufscope.errors import (
    NonFiniteWeight,
    NotConvertible,
    NotInModel,
    SourceChanged,
    TypeDoesNotFit,
    UnknownType,
)
from ggufscope.forward.held import LayerWeights
from ggufscope.forward.trace import Trace
from ggufscope.forward.transformer import Transformer
from ggufscope.forward.weights import PlannedWeights, StoredWeights, tile_rows
from ggufscope.recipes.apply import quantize_model
from ggufscope.recipes.plan import plan
from tests.forward.arrays import ArrayMatrix, Arrays
from tests.forward.running import opened
from tests.models.families import IDS, SMALL, Small, write

SAMPLE_IDS = list(range(5, 37))


def types_of(file: GGUFFile) -> dict[str, str]:
    return {name: tensor.type.name for name, tensor in file.tensors.items()}


@pytest.mark.parametrize("preset", ["Q8_0", "Q4_K_M", "Q2_K"])
def test_a_plan_in_memory_is_a_quantized_file_to_the_bit(
    preset: str, sample: Path, tmp_path: Path
) -> None:
    target = tmp_path / "quantized.gguf"
    quantize_model(sample, {target: preset})
    with open_gguf(sample) as file, open_gguf(target) as written:
        stored = StoredWeights(file)
        planned = PlannedWeights.of(
            stored, plan(list(file.tensors.values()), file.metadata, preset)
        )
        theirs = StoredWeights(written)
        for name in stored.names():
            assert planned.type(name) == theirs.type(name), name
            assert np.array_equal(planned.vector(name), theirs.vector(name)), name
        model = Transformer.of(file).with_weights(planned)
        trace, other = Trace(), Trace()
        model.run(SAMPLE_IDS, trace=trace)
        Transformer.of(written).run(SAMPLE_IDS, trace=other)
    assert trace.keys() == other.keys()
    assert all(np.array_equal(trace[key], other[key]) for key in trace)


@pytest.mark.parametrize("preset", ["Q8_0", "Q4_K_M", "Q2_K"])
def test_a_quantized_file_is_the_same_file_dequantized(
    preset: str, sample: Path, tmp_path: Path
) -> None:
    quantized = tmp_path / "quantized.gguf"
    quantize_model(sample, {quantized: preset})
    # Somebody else's idea of what the blocks hold.
    plain = {
        tensor.name: gguf.dequantize(tensor.data, tensor.tensor_type)
        for tensor in gguf.GGUFReader(quantized).tensors
    }
    with open_gguf(quantized) as file:
        assert len(types_of(file)) == len(plain)
        ours = Transformer.of(file)
        theirs = Transformer(file.metadata, Arrays(plain))
        assert np.array_equal(ours.run(SAMPLE_IDS), theirs.run(SAMPLE_IDS))


def test_an_unchanged_type_is_left_alone(sample: Path, tmp_path: Path) -> None:
    """A quantizer copies it: making Q2_K of what Q2_K holds would change it once more."""
    quantized = tmp_path / "quantized.gguf"
    quantize_model(sample, {quantized: "Q2_K"})
    with open_gguf(quantized) as file:
        stored = StoredWeights(file)
        planned = PlannedWeights(stored, types_of(file))
        for name in stored.names():
            assert np.array_equal(planned.vector(name), stored.vector(name))


def test_what_a_view_cannot_give_is_refused_at_once(tmp_path: Path) -> None:
    with opened(tmp_path, "llama-gqa") as file:
        stored = StoredWeights(file)
        with pytest.raises(NotInModel, match=r"no tensor 'blk\.7\.attn_q\.weight'"):
            stored.matrix("blk.7.attn_q.weight")
        name = "blk.0.attn_q.weight"
        with pytest.raises(TypeDoesNotFit, match=f"{name}.*rows of 32 .* Q4_K blocks of 256"):
            PlannedWeights(stored, {name: "Q4_K"})
        with pytest.raises(NotConvertible, match=f"{name}.*Q8_K"):
            PlannedWeights(stored, {name: "Q8_K"})
        with pytest.raises(UnknownType, match="Q9"):
            PlannedWeights(stored, {name: "Q9"})
        with pytest.raises(NotInModel, match="no tensor 'nowhere'"):
            PlannedWeights(stored, {"nowhere": "Q8_0"})


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize(
    ("name", "at", "row"),
    [("blk.1.ffn_down.weight", (30, 47), 30), ("blk.2.attn_norm.weight", (5,), 0)],
)
def test_a_number_that_is_none_is_named_with_its_row(
    bad: float, name: str, at: tuple[int, ...], row: int, tmp_path: Path
) -> None:
    tensors = SMALL["llama-gqa"].tensors()
    tensors[name][at] = bad
    with opened(tmp_path, "llama-gqa", tensors) as file:
        model = Transformer.of(file)
        with pytest.raises(
            NonFiniteWeight, match=rf"'{name}' has a NaN or an infinity in row {row}$"
        ):
            model.run(IDS)


def test_weights_so_large_that_their_sum_overflows_are_no_defect(tmp_path: Path) -> None:
    tensors = SMALL["llama-gqa"].tensors()
    tensors["blk.0.attn_k.weight"][:] = 3e38
    with opened(tmp_path, "llama-gqa", tensors) as file:
        assert StoredWeights(file).vector("blk.0.attn_k.weight").max() == np.float32(3e38)


def test_a_file_that_is_replaced_while_it_is_read_is_named(tmp_path: Path) -> None:
    path = write(tmp_path / "model.gguf", SMALL["llama-gqa"])
    copy = tmp_path / "copy.gguf"
    copy.write_bytes(path.read_bytes())
    with open_gguf(copy) as file:
        model = Transformer.of(file)
        last = max(file.tensors.values(), key=lambda tensor: tensor.offset)
        copy.unlink()  # the mapped file lives on: a mapping of a cut one would kill the process
        copy.write_bytes(path.read_bytes()[: last.offset])
        with pytest.raises(SourceChanged, match="was replaced or changed"):
            model.run(IDS)


@pytest.mark.parametrize("order", ["little", "big"])
def test_a_file_of_either_byte_order_is_read(order: str, tmp_path: Path) -> None:
    endian = getattr(gguf.GGUFEndian, order.upper())
    writer = gguf.GGUFWriter(tmp_path / "model.gguf", "llama", endianess=endian)
    weights = np.arange(64, dtype=np.float32).reshape(2, 32)
    writer.add_tensor("w", weights)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    with open_gguf(tmp_path / "model.gguf") as file:
        assert np.array_equal(StoredWeights(file).matrix("w").rows(1, 2), weights[1:])


def test_a_model_over_several_files_runs_as_one(sample: Path, tmp_path: Path) -> None:
    quantize_model(sample, {tmp_path / "split.gguf": "COPY"}, split_max_size=3_000_000)
    parts = sorted(tmp_path.glob("split-*.gguf"))
    assert len(parts) > 1
    with open_gguf(parts[0]) as split, open_gguf(sample) as whole:
        got = Transformer.of(split).run(SAMPLE_IDS)
        assert np.array_equal(got, Transformer.of(whole).run(SAMPLE_IDS))


class Counting(Arrays):
    """Counts how often each row is read."""

    def __init__(self, arrays: dict[str, npt.NDArray[np.float32]]) -> None:
        super().__init__(arrays)
        self.counts: Counter[tuple[str, int]] = Counter()

    def matrix(self, name: str) -> ArrayMatrix:
        counts = self.counts

        class Counted(ArrayMatrix):
            def rows(self, start: int, stop: int) -> npt.NDArray[np.float32]:
                counts.update((name, row) for row in range(start, stop))
                return super().rows(start, stop)

        return Counted(name, self.arrays[name])


@pytest.mark.parametrize("name", ["llama-gqa", "qwen2moe", "gemma3"])
def test_passes_side_by_side_read_each_weight_once(name: str) -> None:
    small = SMALL[name]
    arrays = small.tensors()
    matrices = [n for n, a in arrays.items() if a.ndim > 1]
    plain = Arrays(arrays)
    alone = [
        Transformer(small.metadata, PlannedWeights(plain, dict.fromkeys(matrices, type_))).run(IDS)
        for type_ in ("F32", "F16", "BF16")
    ]
    counting = Counting(arrays)
    held = LayerWeights(counting)
    models = [
        Transformer(small.metadata, PlannedWeights(held, dict.fromkeys(matrices, type_)))
        for type_ in ("F32", "F16", "BF16")
    ]
    together = lock_step(models, held)
    assert held.nbytes == 0
    for one, other in zip(alone, together, strict=True):
        assert np.array_equal(one, other)
    layers = {key: n for key, n in counting.counts.items() if key[0].startswith("blk.")}
    assert set(layers.values()) == {1}


def test_what_exceeds_the_budget_is_read_each_time() -> None:
    small = SMALL["llama-gqa"]
    counting = Counting(small.tensors())
    held = LayerWeights(counting, budget=4 * 48 * 32)  # room for one matrix of the feed-forward
    models = [Transformer(small.metadata, held) for _ in range(3)]
    results = lock_step(models, held)
    assert np.array_equal(results[0], Transformer(small.metadata, Arrays(small.tensors())).run(IDS))
    assert set(counting.counts.values()) >= {1, 3}


def lock_step(models: list[Transformer], held: LayerWeights) -> list[npt.NDArray[np.float32]]:
    states = [model.embed(IDS) for model in models]
    held.release()
    for layer in range(models[0].n_layers):
        states = [m.layer(layer, x) for m, x in zip(models, states, strict=True)]
        held.release()
    logits = [m.logits(x) for m, x in zip(models, states, strict=True)]
    held.release()
    return logits


def test_memory_is_used_again_and_stays_within_the_budget() -> None:
    arrays = {n: np.full((8, 16), i, np.float32) for i, n in enumerate("abcd")}
    arrays["wide"] = np.full((8, 40), 9, np.float32)
    held = LayerWeights(Arrays(arrays), budget=4 * 8 * 16 * 2 + 4 * 8 * 30)
    first = held.matrix("a").rows(0, 8)
    assert held.nbytes == 4 * 8 * 16
    held.release()
    assert held.nbytes == 0
    second = held.matrix("b").rows(0, 8)
    assert np.shares_memory(first, second)
    assert (second == 1).all()
    third = held.matrix("c").rows(0, 8)
    assert not np.shares_memory(second, third)
    assert (held.matrix("wide").rows(0, 8) == 9).all()  # no room beside them: read each time
    assert held.nbytes == 2 * 4 * 8 * 16
    held.release()
    assert (held.matrix("wide").rows(0, 8) == 9).all()  # what is spare makes room for it
    assert held.nbytes == 4 * 8 * 40


def test_passes_that_ask_at_the_same_time_share_each_matrix() -> None:
    rng = np.random.default_rng(3)
    shapes = [(8, 16), (16, 8), (4, 32), (8, 16), (30, 8), (16, 8), (12, 12), (8, 30)]
    arrays = {f"w{n}": rng.standard_normal(s, dtype=np.float32) for n, s in enumerate(shapes)}
    held = LayerWeights(Arrays(arrays), budget=4 * 1500)
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        for turn in range(60):
            names = list(rng.permutation([*arrays]))
            with ThreadPoolExecutor(4) as pool:
                of_each = list(pool.map(lambda n: [held.matrix(name) for name in n], [names] * 4))
            for name, matrices in zip(names, zip(*of_each, strict=True), strict=True):
                assert len(set(map(id, matrices))) == 1, (turn, name)
                assert matrices[0].shape == arrays[name].shape
                assert np.array_equal(matrices[0].rows(0, arrays[name].shape[0]), arrays[name])
            held.release()
    finally:
        sys.setswitchinterval(interval)


def test_rows_asked_for_in_overlapping_parts() -> None:
    array = np.arange(40, dtype=np.float32).reshape(10, 4)
    matrix = LayerWeights(Arrays({"w": array})).matrix("w")
    for start, stop in [(3, 5), (0, 4), (4, 10), (0, 10)]:
        assert np.array_equal(matrix.rows(start, stop), array[start:stop])


def test_what_is_kept_cannot_be_written_to() -> None:
    held = LayerWeights(Arrays({"w": np.ones((4, 8), np.float32)}))
    rows = held.matrix("w").rows(1, 3)
    with pytest.raises(ValueError, match="read-only"):
        rows[0, 0] = 2


def test_tiles_are_a_mebibyte_whatever_the_row() -> None:
    assert tile_rows(4096) == 64
    assert tile_rows(1) == 1 << 18
    assert tile_rows(1 << 20) == 1
    assert tile_rows(0) == 1 << 18


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="peak memory as Linux counts it")
def test_a_file_passes_through_memory_and_does_not_stay(tmp_path: Path) -> None:
    """A model of 192 MB of weights adds far less than that to the process."""
    path = tmp_path / "large.gguf"
    write_large(path)
    assert path.stat().st_size > 190e6
    code = (
        "import resource, sys, ggufscope\n"
        "from ggufscope.forward.transformer import Transformer\n"
        "def peak(): return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "with ggufscope.open_gguf(sys.argv[1]) as file:\n"
        "    model = Transformer.of(file)\n"
        "    before = peak()\n"
        "    model.run([1, 2, 3])\n"
        "    print((peak() - before) / 1024)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(path)], capture_output=True, text=True, check=True
    )
    assert float(done.stdout) < 40


def write_large(path: Path) -> None:
    embedding, width = 1024, 4096
    layer = {
        "attn_norm": (embedding,),
        "attn_q": (embedding, embedding),
        "attn_k": (embedding, embedding),
        "attn_v": (embedding, embedding),
        "attn_output": (embedding, embedding),
        "ffn_norm": (embedding,),
        "ffn_gate": (width, embedding),
        "ffn_up": (width, embedding),
        "ffn_down": (embedding, width),
    }
    shapes = {f"blk.{n}.{stem}.weight": shape for n in range(3) for stem, shape in layer.items()}
    shapes |= {"token_embd.weight": (64, embedding), "output_norm.weight": (embedding,)}
    small = Small(
        "llama",
        {
            "block_count": 3,
            "context_length": 16,
            "embedding_length": embedding,
            "feed_forward_length": width,
            "attention.head_count": 16,
            "attention.layer_norm_rms_epsilon": 1e-5,
            "vocab_size": 64,
        },
        shapes,
    )
    write(path, small, {name: np.full(shape, 2**-10, np.float32) for name, shape in shapes.items()})
