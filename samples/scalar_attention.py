"""A llama model with lists and loops alone, to read: no arrays, one token at a time.

``python samples/scalar_attention.py "The cat sat on the mat"`` runs a text through the sample and
prints, for each token, what one head of it attends to. ggufscope reads the file and cuts the text
into tokens; all the sums are here. It is slow, and gives the numbers that ``ggufscope attention``
gives. For any llama with an output matrix of its own and plain RoPE, as the sample has.
"""

from __future__ import annotations

import math
import sys
from operator import mul

import ggufscope

Vector = list[float]


def dot(a: Vector, b: Vector) -> float:
    return float(sum(map(mul, a, b)))


def times(matrix: list[Vector], x: Vector) -> Vector:
    return [dot(row, x) for row in matrix]


def plus(a: Vector, b: Vector) -> Vector:
    return [x + y for x, y in zip(a, b, strict=True)]


def rms_norm(x: Vector, weight: Vector, epsilon: float) -> Vector:
    size = math.sqrt(dot(x, x) / len(x) + epsilon)
    return [number / size * w for number, w in zip(x, weight, strict=True)]


def softmax(scores: Vector) -> Vector:
    largest = max(scores)  # taken off, so that exp cannot overflow; the shares stay the same
    powers = [math.exp(score - largest) for score in scores]
    return [power / sum(powers) for power in powers]


def silu(x: float) -> float:
    return x / (1 + math.exp(-x)) if x >= 0 else x * math.exp(x) / (1 + math.exp(x))


def rotate(head: Vector, position: int, base: float) -> Vector:
    """Turn each pair of neighbours by its own angle (RoPE): slow pairs last."""
    turned = []
    for i in range(0, len(head), 2):
        angle = position * base ** (-i / len(head))
        cos, sin = math.cos(angle), math.sin(angle)
        turned += [head[i] * cos - head[i + 1] * sin, head[i] * sin + head[i + 1] * cos]
    return turned


class Model:
    """The weights as lists, and a cache that is a list."""

    def __init__(self, path: str = "samples/stories-f16.gguf") -> None:
        with ggufscope.open_gguf(path) as file:
            self.stored = {name: file.tensor(name).__array__().tolist() for name in file.tensors}
            self.tokenizer = ggufscope.read_tokenizer(file.metadata)
            about = {key.removeprefix("llama."): value for key, value in file.metadata.items()}
        self.heads = about["attention.head_count"]
        self.kv_heads = about["attention.head_count_kv"]
        self.epsilon = about["attention.layer_norm_rms_epsilon"]
        self.base = about["rope.freq_base"]
        layers = range(about["block_count"])
        # For each layer and token so far: its keys and its values, a vector for each KV head.
        self.keys: list[list[list[Vector]]] = [[] for _ in layers]
        self.values: list[list[list[Vector]]] = [[] for _ in layers]
        # For each layer and head: what the last token attended to.
        self.shares: list[list[Vector]] = [[] for _ in layers]

    def step(self, token: int) -> Vector:
        """Run one token; return a logit for each token that may come next."""
        x = self.stored["token_embd.weight"][token]
        for layer in range(len(self.keys)):
            x = plus(x, self.attention(layer, self.norm(f"blk.{layer}.attn_norm", x)))
            x = plus(x, self.feed_forward(layer, self.norm(f"blk.{layer}.ffn_norm", x)))
        return self.times("output", self.norm("output_norm", x))

    def attention(self, layer: int, x: Vector) -> Vector:
        """Put the token's keys and values into the cache; return what all heads add."""
        blk = f"blk.{layer}.attn_"
        keys, values = self.keys[layer], self.values[layer]
        position = len(keys)
        size = len(self.stored[blk + "q.weight"]) // self.heads
        q, k, v = (cut(self.times(blk + name, x), size) for name in "qkv")
        keys.append([rotate(head, position, self.base) for head in k])
        values.append(v)
        self.shares[layer] = []
        joined: Vector = []
        for head in range(self.heads):
            query = rotate(q[head], position, self.base)
            kv = head * self.kv_heads // self.heads  # GQA: neighbours read the same keys
            # The mask is that later tokens have no keys yet.
            scores = [dot(query, key[kv]) / math.sqrt(size) for key in keys]
            shares = softmax(scores)
            self.shares[layer].append(shares)
            joined += [dot(shares, [value[kv][i] for value in values]) for i in range(size)]
        return self.times(blk + "output", joined)

    def feed_forward(self, layer: int, x: Vector) -> Vector:
        """Return what the token makes of itself, without a look at others (SwiGLU)."""
        blk = f"blk.{layer}.ffn_"
        gate, up = self.times(blk + "gate", x), self.times(blk + "up", x)
        return self.times(blk + "down", [silu(g) * u for g, u in zip(gate, up, strict=True)])

    def norm(self, name: str, x: Vector) -> Vector:
        """Return x brought to a common size, times stored weights."""
        return rms_norm(x, self.stored[name + ".weight"], self.epsilon)

    def times(self, name: str, x: Vector) -> Vector:
        """Return a stored matrix times x."""
        return times(self.stored[name + ".weight"], x)


def cut(x: Vector, size: int) -> list[Vector]:
    return [x[i : i + size] for i in range(0, len(x), size)]


def main(text: str) -> None:
    layer, head = 2, 5
    model = Model()
    print(f"what layer {layer}, head {head} attends to, token by token")
    for token in model.tokenizer.encode(text):
        logits = model.step(token)
        shares = " ".join(f"{share:.4f}" for share in model.shares[layer][head])
        likeliest = model.tokenizer.piece(logits.index(max(logits)))
        print(f"{model.tokenizer.piece(token):13}  {shares}  next: {likeliest}")


if __name__ == "__main__":
    main(" ".join(sys.argv[1:]) or "The cat sat on the mat")
