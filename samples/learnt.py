"""What the sample model has learnt, in numbers: `python samples/learnt.py` prints them.

Each question is put to the model as stories that it was not trained on, or as sentences of the
grammar, and counted. The figures of `README.md` are these.
"""

from __future__ import annotations

import random
import re
from itertools import permutations
from pathlib import Path

import numpy as np
import numpy.typing as npt
from stories import (
    ACTS,
    ARRIVALS,
    BANKS,
    DRAWS,
    PLOTS,
    RANKS,
    SYLLABLES,
    fill,
    named,
    plural,
    properties,
    stories,
    titled,
)

import ggufscope

MODEL = Path(__file__).with_name("stories-f16.gguf")
Counted = tuple[int, int]
"""How many were right, of how many."""


class Asked:
    """The model, and what it holds likely."""

    def __init__(self) -> None:
        self.file = ggufscope.open_gguf(MODEL)
        self.tokenizer = ggufscope.read_tokenizer(self.file.metadata)
        self.model = ggufscope.Transformer.of(self.file)

    def logprobs(self, text: str) -> tuple[list[int], npt.NDArray[np.float64]]:
        """The ids of a text (T), and the log-probability of each next token (T, vocabulary)."""
        ids = self.tokenizer.encode(text)
        logits = self.model.run(ids).astype(np.float64)
        top = logits.max(axis=1, keepdims=True)
        return ids, logits - top - np.log(np.exp(logits - top).sum(axis=1, keepdims=True))

    def follows(self, text: str, words: list[str]) -> list[float]:
        """The log-probability that each of some words, of one token each, comes next."""
        _, found = self.logprobs(text)
        return [found[-1, self.tokenizer.encode(" " + word)[-1]] for word in words]

    def said(self, text: str, more: str) -> float:
        """The log-probability that a text goes on so."""
        before = len(self.tokenizer.encode(text))
        ids, found = self.logprobs(text + more)
        return float(sum(found[t - 1, ids[t]] for t in range(before, len(ids))))

    def goes_on(self, text: str, count: int) -> str:
        """What it says next, always taking the likeliest token."""
        ids = self.tokenizer.encode(text)
        for _ in range(count):
            ids.append(int(self.model.run(ids)[-1].argmax()))
        return str(self.tokenizer.decode(ids[-count:]))


def number(asked: Asked, rng: random.Random) -> Counted:
    """Whether it says "was" or "were" after a subject with a clause between."""
    right = 0
    for n in range(900):
        beast = rng.choice(list(ACTS))
        subject = plural(beast) if n % 2 else beast
        others = rng.sample([name for name in ACTS if name != beast], 2)
        slots = named(rng) | {"other": others[0], "others": plural(others[1])}
        was, were = asked.follows(fill(rng, f"the {subject} <rel>", slots), ["was", "were"])
        right += (were > was) == bool(n % 2)
    return right, 900


def verbs(asked: Asked, rng: random.Random) -> Counted:
    """The verb that fits the animal, of all verbs that fit some, with a clause between."""
    words = sorted({act[0].split()[0] for acts in ACTS.values() for act in acts})
    right = 0
    for _ in range(430):
        beast = rng.choice(list(ACTS))
        others = rng.sample([name for name in ACTS if name != beast], 2)
        slots = named(rng) | {"other": others[0], "others": plural(others[1])}
        found = asked.follows(fill(rng, f"the {beast} <rel>", slots), words)
        right += words[int(np.argmax(found))] in {act[0].split()[0] for act in ACTS[beast]}
    return right, 430


def who(asked: Asked, rng: random.Random) -> Counted:
    """Who found the ring, asked after it was told."""
    right = 0
    for _ in range(100):
        slots = named(rng) | properties(rng)
        told = fill(rng, rng.choice(PLOTS[0][0]), slots)
        question = fill(rng, '"Who found the {noun1}?" asked {n3}.', slots)
        answer = fill(rng, '"{n1}', slots)
        right += ('"' + asked.goes_on(f'{told} {question} "', 6)).startswith(answer)
    return right, 100


def recurring(asked: Asked, of_songs: bool) -> tuple[Counted, Counted]:
    """The first token, and the others, where a song or a saying comes a second time."""
    first, others = [0, 0], [0, 0]
    for text in stories(2, 1000):
        for found in re.finditer(r'"([^"]+)[,.]"', text):
            said, start = found[1], found.start(1)
            song = all(word.lower() in SYLLABLES for word in said.split())
            if song != of_songs or said not in text[:start] or len(said.split()) < 4:
                continue
            begin = len(asked.tokenizer.encode(text[:start]))
            end = len(asked.tokenizer.encode(text[: found.end(1)]))
            ids, likely = asked.logprobs(text[: found.end(1)])
            guessed = likely.argmax(axis=1)
            for t in range(begin, end):
                counted = first if t == begin else others
                counted[0] += int(guessed[t - 1] == ids[t])
                counted[1] += 1
    return (first[0], first[1]), (others[0], others[1])


def deeds(asked: Asked) -> Counted:
    """What he does and what she does, of two persons who met: of all deeds one that fits."""
    right = count = 0
    every = [(rank, deed) for rank, deeds in RANKS.items() for deed in deeds]
    for one, other in permutations(RANKS, 2):
        for sex in (0, 1):  # of the first
            text = f"The {one[sex]} met the {other[1 - sex]} near the house."
            for of, rank in ((sex, one), (1 - sex, other)):
                begin, his = f"{text} {('He', 'She')[of]}", ("his", "her")[of]
                likely = [asked.said(begin, " " + deed.format(his=his)) for _, deed in every]
                right += every[int(np.argmax(likely))][0] == rank
                count += 1
    return right, count


def banks(asked: Asked, rng: random.Random) -> Counted:
    """What the bank was: green by the river, open with money."""
    shore, counter = (sorted(set(DRAWS[name])) for name in ("shore", "counter"))
    right = count = 0
    for by_money, (before, _) in enumerate(BANKS):
        for told in before:
            for arrival in ARRIVALS:
                slots = titled(rng) | properties(rng)
                text = f"{fill(rng, told, slots)} {fill(rng, arrival, slots)} The bank was"
                wet, rich = (np.exp(asked.follows(text, words)).sum() for words in (shore, counter))
                right += (rich > wet) == bool(by_money)
                count += 1
    return right, count


def sums(asked: Asked) -> tuple[Counted, str]:
    """Whether queen is nearest to king - man + woman, of words not asked for; and all its like."""
    table = np.asarray(asked.file.tensor("token_embd.weight"), np.float64)
    table /= np.linalg.norm(table, axis=1, keepdims=True)
    ids = {word: asked.tokenizer.encode(" " + word)[-1] for rank in RANKS for word in rank}
    wrong, count = [], 0
    for one, other in permutations(RANKS, 2):
        for sex in (0, 1):
            words = one[sex], other[sex], other[1 - sex]
            king, man, woman = (table[ids[word]] for word in words)
            likeness = table @ (king - man + woman)
            likeness[[ids[word] for word in words]] = -np.inf
            count += 1
            if likeness.argmax() != ids[one[1 - sex]]:
                wrong.append("{}-{}+{}".format(*words))
    return (count - len(wrong), count), ", ".join(wrong)


def main() -> None:
    """Ask all of it."""
    asked, rng = Asked(), random.Random(3)
    for name, found in (
        ("was or were", number(asked, rng)),
        ("the verb of the animal", verbs(asked, rng)),
        ("who found it", who(asked, rng)),
        ("songs: first token, others", recurring(asked, of_songs=True)),
        ("sayings: first token, others", recurring(asked, of_songs=False)),
        ("what he does and what she does", deeds(asked)),
        ("the bank was", banks(asked, rng)),
        ("king - man + woman, and wrong", sums(asked)),
    ):
        print(f"{name}: {found}", flush=True)


if __name__ == "__main__":
    main()
