"""Small vocabularies of every kind, trained here, in tiny models that llama.cpp can load.

The trainers are those of `tokenizers`; what they make is written as llama.cpp's converter would
write it. The models around them are random: nobody asks them anything but token ids.
"""

from __future__ import annotations

import functools
import json
import random
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, trainers

from tests.models import makers

Vocabulary = dict[str, Any]
"""Metadata under ``tokenizer.ggml.``, without that prefix."""

NORMAL, UNKNOWN, CONTROL, USER_DEFINED, UNUSED, BYTE = range(1, 7)

SENTENCES = [
    "The cat sat on the mat, and the dog's owner didn't say he'd leave; they're here, I've seen.",
    "In 2024 there were 1234567 people, 3.14159 pies, and 0x7f bytes at 192.168.0.1:8080.",
    "def main(argc, argv):\n\tif argc > 1:\n\t\treturn [x ** 2 for x in range(10)]\n\n\n    pass",
    "Größe, Äpfel und Überraschungen: Straße, naïve café, smörgåsbord, Señor Muñoz, œuvre.",
    "Съешь же ещё этих мягких французских булок, да выпей чаю. Нещо на Български.",
    "我想在apple工作1314151天～，你好世界！今天天气很好。これはテストです。カタカナとひらがな。",
    "안녕하세요 세계, 이것은 시험입니다. مرحبا بالعالم، هذا اختبار. שלום עולם, זה מבחן.",
    "नमस्ते दुनिया, यह एक परीक्षण है। কেমন আছেন? สวัสดีชาวโลก កាន់តែពិសេសអាចខលចេញ",
    "🚀 (normal) 😶‍🌫️ (joined) ✅ 👩‍👩‍👧‍👦 🇩🇪 e\u0301 e\u0323\u0301 ½ ² Ⅷ ٣ ৪ ǅ ʰ ª º",
    "it'S WE'LL helloWorld HTTPServer XMLHttpRequest iPhone's McDonald’s “quoted” —dash…",
    "我　好　世\u2003界，我　好　世\u2003界！　我　好　世\u2003界　。　Ａ　!　?",
    " leading,   many    spaces\t\ttabs \n \n\n newlines\r\n\r\nand trailing   ",
]
"""What vocabularies are trained on, and what they are tried on."""

ODD = [
    "",
    " ",
    "  ",
    "   ",
    "\n",
    "\n\n",
    "\n\n\n",
    "\t",
    "\r\n",
    " \n",
    "\n ",
    "a\n",
    "a \n b",
    "\u00a0x\u3000y\u2003z\u2028\u0085",
    "\u200b\u200d\ufeff\u180e",
    "\x00\x01\x1c\x7f\x80\x9f",
    "'",
    "''''''s",
    "'s't're",
    "'S 'T 'RE",
    "ſ'ſ K'K İI",
    "1 12 123 1234 12345 123456 1234567",
    "a1b22c333d4444",
    "٣٤٥٦ １２３ ½½½½ ²³",
    "!!!!!! ... ,,, $$ ++ <=> ^~ `` ||",
    "=====\n=====\n\n",
    "x" * 40,
    "a" * 13 + "aa a aaa",
    " " * 17 + "x" + " " * 9,
    "\n" * 9 + "x" + "\t" * 5,
    "▁▁ ▁a ▁",
    "\U0010ffff\U000e0001\U000f0000 \ue000 \u0378\u0380",
    "ﬀ ﬁ ｆｕｌｌ Ⅳ ㎏ ½",
    "豈更 㐀 𠀀 𪜀",
    "Ａｐｐｌｅ！？；、。「」",
    "ĠĊċ Ħ",
]

SPECIALS = [
    "<s>Hello</s>",
    "<s> Hello </s> you<unk>?",
    "  <|im_start|>  user \n<|im_end|>\n",
    "<|im_start|><|im_start|>",
    "<|im_end|>x<tool>y <tool> z",
    "<<tool>> <tool",
    "<|im_<|im_end|>end|>",
    "<<s>s>",
    "[CLS] [SEP] [MASK] [UNK] a",
    "a  <mask>  b",
    "<|endoftext|>",
    "<tool>x <tool>xx <tool",
    "<|fim_prefix|>a <fim_prefix>b <|fim_suffix|>",
    "我　好 世\u2003界　",
]


@functools.cache
def texts() -> list[str]:
    """Every text that a vocabulary is tried on, a seeded mixture of all characters among them."""
    rng = random.Random(6)
    characters = sorted(set("".join(SENTENCES + ODD)))
    words = " ".join(SENTENCES).split(" ")
    mixed = ["".join(rng.choices(characters, k=rng.randrange(1, 40))) for _ in range(30)]
    mixed += ["".join(rng.choices(" \n\t\r a1.'", k=12)) for _ in range(30)]
    mixed += [rng.choice(" \n").join(rng.choices(words, k=6)) for _ in range(30)]
    mixed += ["".join(rng.choices("aab▁ ", k=14)) for _ in range(20)]
    return SENTENCES + ODD + SPECIALS + mixed


def _specials(*more: str) -> list[str]:
    named = ["<unk>", "<s>", "</s>", "<|im_start|>", "<|im_end|>", "<tool>", "<|endoftext|>"]
    return [*named, "<tool>x", "<|fim_prefix|>", *more]


def _types(specials: list[str]) -> list[int]:
    # What its text says of a token may be other than what its type says.
    odd = {"<|endoftext|>": NORMAL, "<|fim_prefix|>": NORMAL}
    own = {"<tool>": USER_DEFINED, "<tool>x": USER_DEFINED}
    return [(odd | own).get(text, CONTROL) for text in specials]


@functools.cache
def byte_level() -> tuple[list[str], list[str]]:
    """Tokens and merges of a byte-level BPE, trained without words: merges go across anything."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    trainer = trainers.BpeTrainer(
        vocab_size=900,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(SENTENCES * 3, trainer)
    return _ordered(tokenizer), _merges(tokenizer)


def _ordered(tokenizer: Tokenizer) -> list[str]:
    vocab = tokenizer.get_vocab()
    return sorted(vocab, key=vocab.__getitem__)


def _merges(tokenizer: Tokenizer) -> list[str]:
    return [" ".join(pair) for pair in json.loads(tokenizer.to_str())["model"]["merges"]]


UNMERGED = ["ĠHTTPServer", "Ġowner", "Ġspaces", "ĠÃľberraschungen", "helloWorld"]
"""Words that are tokens, though no merges make them."""


def bpe(pre: str, **more: Any) -> Vocabulary:
    """Byte-level BPE under a name of llama.cpp's for how words are cut."""
    tokens, merges = byte_level()
    tokens = tokens + [word for word in UNMERGED if word not in tokens]
    specials = _specials("<mask>", "[MASK]")
    return {
        "model": "gpt2",
        "pre": pre,
        "tokens": tokens + specials,
        "token_type": [NORMAL] * len(tokens) + _types(specials),
        "merges": merges,
        "bos_token_id": len(tokens) + 1,
        "eos_token_id": len(tokens) + 2,
        **more,
    }


@functools.cache
def _escaped() -> Tokenizer:
    """BPE over UTF-8 with spaces as U+2581, words beginning with one."""
    tokenizer = Tokenizer(models.BPE(byte_fallback=True))
    tokenizer.normalizer = normalizers.Replace(" ", "▁")
    tokenizer.pre_tokenizer = pre_tokenizers.Split("▁", "merged_with_next")
    trainer = trainers.BpeTrainer(vocab_size=700, limit_alphabet=150, show_progress=False)
    tokenizer.train_from_iterator(SENTENCES * 3, trainer)
    return tokenizer


def _bytes() -> list[str]:
    return [f"<0x{byte:02X}>" for byte in range(256)]


def sentencepiece(**more: Any) -> Vocabulary:
    """SentencePiece's BPE: scores fall with the id, some are equal, some out of order."""
    specials, bytes_, pieces = _specials(), _bytes(), _ordered(_escaped())
    pieces += ["▁▁", "▁▁▁", "▁▁▁▁", "aa", "aaa", "aaaa"]
    pieces = list(dict.fromkeys(pieces))
    scores = [-float(n // 2 if n % 5 else n // 3) for n in range(len(pieces))]
    return {
        "model": "llama",
        "tokens": specials + bytes_ + pieces,
        "token_type": [UNKNOWN, *_types(specials)[1:]]
        + [BYTE] * len(bytes_)
        + [NORMAL] * len(pieces),
        "scores": [0.0] * (len(specials) + len(bytes_)) + scores,
        "unknown_token_id": 0,
        "bos_token_id": 1,
        "eos_token_id": 2,
        **more,
    }


def gemma4() -> Vocabulary:
    """Gemma 4's: merges over UTF-8, bytes for what has no token, newlines that are tokens."""
    specials, bytes_, pieces = _specials(), _bytes(), _ordered(_escaped())
    pieces += [text for text in ("\n", "\n\n", "\n\n\n") if text not in pieces]
    return {
        "model": "gemma4",
        "tokens": specials + bytes_ + pieces,
        "token_type": [UNKNOWN, *_types(specials)[1:]]
        + [BYTE] * len(bytes_)
        + [NORMAL] * len(pieces),
        "merges": _merges(_escaped()),
        "bos_token_id": 1,
        "eos_token_id": 2,
    }


def wordpiece(**more: Any) -> Vocabulary:
    """BERT's, the marks turned round as llama.cpp's converter turns them."""
    tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    specials = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    trainer = trainers.WordPieceTrainer(vocab_size=500, show_progress=False)
    tokenizer.train_from_iterator(SENTENCES, trainer)
    pieces = [text[2:] if text.startswith("##") else "▁" + text for text in _ordered(tokenizer)]
    pieces = list(dict.fromkeys(pieces))
    return {
        "model": "bert",
        "tokens": specials + pieces,
        "token_type": [CONTROL] * 5 + [NORMAL] * len(pieces),
        "padding_token_id": 0,
        "unknown_token_id": 1,
        "bos_token_id": 2,
        "seperator_token_id": 3,
        "mask_token_id": 4,
        **more,
    }


def unigram(**more: Any) -> Vocabulary:
    """T5's: log-probabilities as scores."""
    tokenizer = Tokenizer(models.Unigram())
    tokenizer.normalizer = normalizers.Replace(" ", "▁")
    tokenizer.pre_tokenizer = pre_tokenizers.Split("▁", "merged_with_next")
    trainer = trainers.UnigramTrainer(vocab_size=400, show_progress=False)
    tokenizer.train_from_iterator(SENTENCES * 5, trainer)
    pieces = json.loads(tokenizer.to_str())["model"]["vocab"]
    specials = ["<pad>", "</s>", "<unk>", "<tool>"]
    return {
        "model": "t5",
        "tokens": specials + [text for text, _ in pieces],
        "token_type": [CONTROL, CONTROL, UNKNOWN, USER_DEFINED] + [NORMAL] * len(pieces),
        "scores": [0.0] * 4 + [score for _, score in pieces],
        "eos_token_id": 1,
        "unknown_token_id": 2,
        "padding_token_id": 0,
        "add_space_prefix": True,
        "remove_extra_whitespaces": True,
        **more,
    }


def without(key: str, vocabulary: Vocabulary) -> Vocabulary:
    """The same without a key."""
    return {name: value for name, value in vocabulary.items() if name != key}


def holed_bpe() -> Vocabulary:
    """Byte-level BPE whose merges make what is no token, and that lacks some bytes."""
    tokens, merges = byte_level()
    lost = set(tokens[300::9]) | set("xzĠĊÐ")
    kept = [text for text in tokens if text not in lost]
    return {
        "model": "gpt2",
        "pre": "gpt-2",
        "tokens": [*kept, "<s>"],
        "token_type": [NORMAL] * len(kept) + [CONTROL],
        "merges": merges + merges[:5],
        "bos_token_id": len(kept),
        "eos_token_id": len(kept),
    }


REPLACED = {
    "\t": " ",
    "\n": " ",
    "\u00a0": " ",
    "\u200b": "",
    "ﬁ": "fi",
    "e\u0301": "é",
    "e\u0323": "ẹ",
    "e\u0323\u0301": "ẹ́",
    "½": "1/2",
    "\u3000": " ",
    "...": "…",
}
"""What the handmade table of replacements replaces."""


def charsmap(replaced: dict[str, str]) -> bytes:
    """A "precompiled charsmap": an XOR-compressed double array, then the replacements.

    Built the plain way: every node gets a block of 256 entries of its own.
    """
    nodes: dict[bytes, int] = {b"": 0}
    for text in replaced:
        raw = text.encode()
        for length in range(1, len(raw) + 1):
            nodes.setdefault(raw[:length], len(nodes))
    # Entry 0 is the root. The children of node n live at base ^ label, base = 256 * (n + 1); the
    # replacement of node n is at base itself, where the label would be 0.
    array = [0] * (256 * (len(nodes) + 2))
    strings, offsets = bytearray(), {}
    for text, replacement in replaced.items():
        offsets[text.encode()] = len(strings)
        strings += replacement.encode() + b"\0"
    array[0] = 256 << 10
    for prefix, number in nodes.items():
        if not prefix:
            continue
        place = 256 * (nodes[prefix[:-1]] + 1) ^ prefix[-1]
        base = 256 * (number + 1)
        leaf = prefix in offsets
        array[place] = (base ^ place) << 10 | (1 << 8 if leaf else 0) | prefix[-1]
        if leaf:
            array[base] = 1 << 31 | offsets[prefix]
    table = b"".join(entry.to_bytes(4, "little") for entry in array)
    return len(table).to_bytes(4, "little") + table + bytes(strings)


def write_model(path: Path, vocabulary: Vocabulary, name: str = "") -> Path:
    """Write a vocabulary with a tiny random llama model around it, by the `gguf` package."""
    recipe = makers.RECIPES["llama-mha"]()
    size = len(vocabulary["tokens"])
    recipe.hparams["vocab_size"] = size
    recipe.hparams["context_length"] = 4096
    for tensor in ("token_embd.weight", "output.weight"):
        recipe.shapes[tensor] = (size, makers.E)
    recipe.metadata |= {"general.name": name} if name else {}
    recipe.metadata |= {f"tokenizer.ggml.{key}": value for key, value in vocabulary.items()}
    return makers.write_recipe(path, recipe)
