"""Train the sample model and write it as GGUF. Needs torch and tokenizers; development only.

    pip install torch==2.13.0 tokenizers==0.23.3
    python samples/train.py --checkpoint sample.pt

The checkpoint holds the tokenizer and the trained weights. If it exists there is no
training, and the files beside this script are written from it anew.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from model import Config, Llama
from stories import stories
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from torch import Tensor

HERE = Path(__file__).resolve().parent
END = "<|endoftext|>"
VOCABULARY = 1024
TRAIN_SEED, HELD_OUT_SEED = 1, 2
TRAIN_STORIES, HELD_OUT_STORIES, FILE_STORIES = 90_000, 1_000, 32
BATCH = 8
PEAK_RATE, WARMUP = 1.5e-3, 200


def train_tokenizer(texts: list[str]) -> Tokenizer:
    """Train a byte-level BPE as GPT-2 has it, which llama.cpp knows as "gpt-2"."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=[END],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return tokenizer


def pack(tokenizer: Tokenizer, texts: list[str], length: int) -> Tensor:
    """Windows (N, length): END, then stories with END after each, the last one cut."""
    end = tokenizer.token_to_id(END)
    windows, window = [], [end]
    for encoding in tokenizer.encode_batch(texts):
        window += [*encoding.ids, end]
        if len(window) >= length:
            windows.append(window[:length])
            window = [end]
    return torch.tensor(windows)


def losses(model: Llama, windows: Tensor) -> Tensor:
    """Windows (N, T) to the negative log-likelihood in nats of each next token (N, T - 1)."""
    rows = []
    with torch.no_grad():
        for chunk in windows.split(BATCH):
            logits = model(chunk[:, :-1])
            rows.append(F.cross_entropy(logits.transpose(1, 2), chunk[:, 1:], reduction="none"))
    return torch.cat(rows).double()


def learning_rate(step: int, steps: int) -> float:
    """Linear warm-up to the peak, then a cosine down to a fiftieth of it."""
    if step < WARMUP:
        return PEAK_RATE * (step + 1) / WARMUP
    progress = (step - WARMUP) / max(1, steps - WARMUP)
    return PEAK_RATE * (0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * progress)))


def train(windows: Tensor, held_out: Tensor, config: Config, steps: int) -> Llama:
    """Train on the windows (N, T), in a new order each time round."""
    torch.manual_seed(TRAIN_SEED)
    model = Llama(config)
    groups = [
        {"params": [w for w in model.parameters() if w.dim() == 2], "weight_decay": 0.1},
        {"params": [w for w in model.parameters() if w.dim() == 1], "weight_decay": 0.0},
    ]
    optimizer = torch.optim.AdamW(groups, betas=(0.9, 0.95))
    order = torch.randperm(len(windows))
    start = time.monotonic()
    used = 0
    for step in range(steps):
        if used + BATCH > len(order):
            order, used = torch.randperm(len(windows)), 0
        batch = windows[order[used : used + BATCH]]
        used += BATCH
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(step, steps)
        with torch.autocast("cpu", torch.bfloat16):  # half the time; weights stay in float32
            logits = model(batch[:, :-1]).float()
        loss = F.cross_entropy(logits.flatten(0, 1), batch[:, 1:].flatten())
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        if step % 100 == 0 or step == steps - 1:
            tested = losses(model, held_out[:64]).mean()
            seconds = time.monotonic() - start
            print(f"{step} train {loss:.4f} held-out {tested:.4f} {seconds:.0f} s", flush=True)
    return model


def stored(model: Llama) -> dict[str, np.ndarray[Any, Any]]:
    """Give the tensors as the file holds them: matrices F16, norms F32 as llama.cpp wants."""
    return {
        name: weight.numpy().astype(np.float16 if weight.dim() == 2 else np.float32)
        for name, weight in model.state_dict().items()
    }


def round_weights(model: Llama) -> None:
    """Give the model the weights of the file, to be computed with in float32."""
    tensors = stored(model)
    model.load_state_dict({k: torch.from_numpy(v.astype(np.float32)) for k, v in tensors.items()})


def metadata(tokenizer: Tokenizer, config: Config) -> dict[str, Any]:
    """Give what llama.cpp has to know of the model and its tokenizer, as GGUF values."""
    from ggufscope.container.values import Value, ValueType

    def number(value: int) -> Value:
        return Value.of(ValueType.UINT32, value)

    def text(value: str) -> Value:
        return Value.of(ValueType.STRING, value)

    vocabulary = tokenizer.get_vocab()
    end = vocabulary[END]
    merges = json.loads(tokenizer.to_str())["model"]["merges"]
    return {
        "general.architecture": text("llama"),
        "general.name": text("Stories"),
        "general.author": text("The ggufscope project"),
        "general.license": text("MIT"),
        "general.description": text("A small model of generated English stories"),
        "general.file_type": number(1),
        "llama.block_count": number(config.layers),
        "llama.context_length": number(config.context),
        "llama.embedding_length": number(config.embedding),
        "llama.feed_forward_length": number(config.feed_forward),
        "llama.attention.head_count": number(config.heads),
        "llama.attention.head_count_kv": number(config.kv_heads),
        "llama.attention.layer_norm_rms_epsilon": Value.of(ValueType.FLOAT32, config.epsilon),
        "llama.rope.dimension_count": number(config.head_size),
        "llama.rope.freq_base": Value.of(ValueType.FLOAT32, config.rope_base),
        "llama.vocab_size": number(config.vocabulary),
        "tokenizer.ggml.model": text("gpt2"),
        "tokenizer.ggml.pre": text("gpt-2"),
        "tokenizer.ggml.tokens": Value.array(
            ValueType.STRING, sorted(vocabulary, key=lambda token: vocabulary[token])
        ),
        # 3 is a control token, 1 a normal one.
        "tokenizer.ggml.token_type": Value.array(
            ValueType.INT32, [3 if i == end else 1 for i in range(config.vocabulary)]
        ),
        "tokenizer.ggml.merges": Value.array(ValueType.STRING, [" ".join(pair) for pair in merges]),
        "tokenizer.ggml.bos_token_id": number(end),
        "tokenizer.ggml.eos_token_id": number(end),
        "tokenizer.ggml.add_bos_token": Value.of(ValueType.BOOL, True),
    }


def export(path: Path, model: Llama, tokenizer: Tokenizer) -> None:
    """Write the model with this project's own writer."""
    from ggufscope.blocks.layouts import layout_named
    from ggufscope.container.writer import GGUFWriter, TensorSpec

    tensors = stored(model)
    specs = [
        TensorSpec(name, array.shape, layout_named("F16" if array.ndim == 2 else "F32"))
        for name, array in tensors.items()
    ]
    with GGUFWriter(path, metadata(tokenizer, model.config), specs, overwrite=True) as writer:
        for name, array in tensors.items():
            writer.write(name, array)


def unigram_entropy(train_windows: Tensor, held_out: Tensor, vocabulary: int) -> float:
    """Nats per held-out token when only the frequencies in the training text are known."""
    counts = torch.bincount(train_windows.flatten(), minlength=vocabulary).double() + 1
    return float(-(counts / counts.sum()).log()[held_out[:, 1:].flatten()].mean())


def write_held_out(texts: list[str], windows: Tensor, rows: Tensor) -> None:
    """heldout.txt, and heldout.json with the windows (N, T) and their losses (N, T - 1)."""
    (HERE / "heldout.txt").write_text("".join(text + "\n" for text in texts), encoding="utf-8")
    content = {
        "note": "mean negative log-likelihood in nats of each window's tokens but the first, each "
        "given those before it; PyTorch in float32 with the weights of stories-f16.gguf",
        "predicted": rows.numel(),
        "loss": round(float(rows.mean()), 6),
        "window_loss": [round(float(row.mean()), 6) for row in rows],
    }
    lines = ",\n".join(json.dumps(window) for window in windows.tolist())
    text = json.dumps(content, indent=1).removesuffix("\n}") + f',\n "windows": [\n{lines}\n]}}\n'
    (HERE / "heldout.json").write_text(text, encoding="utf-8")


def main() -> None:
    """Train unless there is a checkpoint, then write the files and print the losses."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--checkpoint", type=Path, default=Path("sample.pt"))
    parser.add_argument("--steps", type=int, default=4500)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--no-export", action="store_true", help="only train")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    train_texts = stories(TRAIN_SEED, TRAIN_STORIES)
    seen = set(train_texts)
    held_texts = [text for text in stories(HELD_OUT_SEED, HELD_OUT_STORIES) if text not in seen]
    if arguments.checkpoint.exists():
        state = torch.load(arguments.checkpoint, weights_only=True)
        tokenizer = Tokenizer.from_str(state["tokenizer"])
    else:
        state, tokenizer = None, train_tokenizer(train_texts)
    config = Config(tokenizer.get_vocab_size())
    windows = pack(tokenizer, train_texts, config.context)
    held_out = pack(tokenizer, held_texts, config.context)
    print(f"{len(windows)} windows, {config.vocabulary} tokens, {len(held_texts)} held out")
    if state is None:
        model = train(windows, held_out, config, arguments.steps)
        state = {"tokenizer": tokenizer.to_str(), "weights": model.state_dict()}
        torch.save(state, arguments.checkpoint)
    model = Llama(config)
    model.load_state_dict(state["weights"])
    print(f"held-out, float32 weights: {losses(model, held_out).mean():.4f}")
    round_weights(model)
    print(f"held-out, as stored: {losses(model, held_out).mean():.4f}")
    print(f"train, as stored: {losses(model, windows[: len(held_out)]).mean():.4f}")
    print(f"unigram: {unigram_entropy(windows, held_out, config.vocabulary):.4f}")
    if not arguments.no_export:
        export(HERE / "stories-f16.gguf", model, tokenizer)
        file_texts = held_texts[:FILE_STORIES]
        file_windows = pack(tokenizer, file_texts, config.context)
        write_held_out(file_texts, file_windows, losses(model, file_windows))


if __name__ == "__main__":
    main()
