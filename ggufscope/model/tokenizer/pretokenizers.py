r"""How byte-level BPE cuts a text into words, by the names that llama.cpp gives in GGUF files.

BPE merges within words only, and each model was trained with words cut its own way. The key
``tokenizer.ggml.pre`` names the way; what the name means is fixed in llama.cpp alone
(``llm_tokenizer_bpe`` in ``src/llama-vocab.cpp``, ``src/unicode.cpp``), and this is its table.
The patterns of a name are applied one after the other, each to the pieces that the one before
left: what matches is a piece, and what lies between two matches is a piece.

Where llama.cpp departs from what the model's maker published, llama.cpp is followed: it is what
runs the file. So ``\p{Lu}`` and its kin stand for any letter in its regex engine, and a white
space beyond ASCII matches ``\s`` alone, not a range of characters that holds it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class PreTokenizer:
    """The patterns of one name, and the flags that llama.cpp sets by the name."""

    patterns: tuple[str, ...]
    """Oniguruma regexes, applied in order."""
    ignore_merges: bool = False
    """A word that is a token is that token, whatever the merges say."""
    add_bos: bool = False
    """A text begins with BOS, where the file does not say."""
    no_bos: bool = False
    """There is no BOS, where the file does not name one."""
    byte_level: bool = True
    """Bytes are written as 256 printable characters (GPT-2); else as UTF-8, a space as U+2581."""
    whole_newlines: bool = False
    """A run of newlines that is a token is that token, whatever the merges say."""


_ENGLISH: Final = "'s|'t|'re|'ve|'m|'ll|'d"
_ENDING: Final = "'(?:[sSdDmMtT]|[rR][eE]|[vV][eE]|[lL][lL])"
_WORD: Final = r"[^\r\n\p{L}\p{N}]?\p{L}+"
_SIGNS: Final = r" ?[^\s\p{L}\p{N}]+"
_SPACES: Final = r"\s+(?!\S)|\s+"
_LINES: Final = r"\s*[\r\n]+|" + _SPACES
_NEWLINES: Final = r"[^\n]+|[\n]+"

_GPT2: Final = rf"{_ENGLISH}| ?\p{{L}}+| ?\p{{N}}+|{_SIGNS}|{_SPACES}"


def _llama3(digits: str, word: str = _WORD, signs: str = _SIGNS + r"[\r\n]*") -> str:
    """Return Llama 3's pattern and its kin: they differ in how they group digits."""
    return rf"{_ENDING}|{word}|{digits}|{signs}|{_LINES}"


_QWEN2: Final = _llama3(r"\p{N}")
_CJK: Final = "[\u4e00-\u9fa5\u3040-\u309f\u30a0-\u30ff]+"
_CJK_WIDE: Final = "[\u0800-\u9fa5\uac00-\ud7ff&&[^\\s]]+"
# An ASCII sign with the ASCII letters after it, words with their marks, signs, white space.
_DEEPSEEK3_WORDS: Final = (
    r"[!\"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+"
    r"|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+| ?[\p{P}\p{S}]+"
)
_DEEPSEEK3: Final = rf"{_DEEPSEEK3_WORDS}[\r\n]*|{_LINES}"
_NOT_UPPER, _NOT_LOWER = r"(?:(?=\p{L})[^A-Z])", r"(?:(?=\p{L})[^a-z])"


def _cased(upper: str, lower: str, ending: str) -> str:
    """Return GPT-4o's words: capitals, then small letters; ASCII alone has a case here."""
    start = r"[^\r\n\p{L}\p{N}]?"
    return f"{start}{upper}*{lower}+{ending}|{start}{upper}+{lower}*{ending}"


def _gpt4o(words: str, digits: str) -> str:
    return rf"{words}|{digits}|{_SIGNS}[\r\n/]*|{_LINES}"


_MARKED_UPPER: Final = r"(?:(?=[\p{L}\p{M}])[^a-z])"
_MARKED_LOWER: Final = r"(?:(?=[\p{L}\p{M}])[^A-Z])"
_ANY_CASE: Final = r"[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+(?:" + _ENDING + ")?"
# Groups of three digits from the right; llama.cpp leaves what stands before a number with it. A
# match can begin only behind a digit: said so, a long text without any is looked through once.
_DIGITS_FROM_RIGHT: Final = r"(?<![^\p{N}])(?>[^\p{N}]*)\p{N}{1,3}(?=(?:\p{N}{3})*(?!\p{N}))"

# The letters of scripts that know capitals, as DeepSeek LLM lists them.
_DEEPSEEK_LETTERS: Final = (
    "A-Za-z\u00b5\u00c0-\u00d6\u00d8-\u00f6\u00f8-\u01ba\u01bc-\u01bf\u01c4-\u0293"
    "\u0295-\u02af\u0370-\u0373\u0376\u0377\u037b-\u037d\u037f\u0386\u0388-\u038a\u038c"
    "\u038e-\u03a1\u03a3-\u03f5\u03f7-\u0481\u048a-\u052f\u0531-\u0556\u10a0-\u10c5"
    "\u13a0-\u13f5\u13f8-\u13fd\u1c90-\u1cba\u1cbd-\u1cbf\u1d00-\u1d2b\u1d6b-\u1d77"
    "\u1d79-\u1d9a\u1e00-\u1f15\u1f18-\u1f1d\u1f20-\u1f45\u1f48-\u1f4d\u1f50-\u1f57\u1f59"
    "\u1f5b\u1f5d\u1f5f-\u1f7d\u1f80-\u1fb4\u1fb6-\u1fbc\u1fbe\u1fc2-\u1fc4\u1fc6-\u1fcc"
    "\u1fd0-\u1fd3\u1fd6-\u1fdb\u1fe0-\u1fec\u1ff2-\u1ff4\u1ff6-\u1ffc\u2102\u2107"
    "\u210a-\u2113\u2115\u2119-\u211d\u2124\u2126\u2128\u212a-\u212d\u212f-\u2134\u2139"
    "\u213c-\u213f\u2145-\u2149\u214e\u2183\u2184\u2c00-\u2c7b\u2c7e-\u2ce4\u2ceb-\u2cee"
    "\u2cf2\u2cf3\ua640-\ua66d\ua680-\ua69b\ua722-\ua76f\ua771-\ua787\ua78b-\ua78e"
    "\uab70-\uabbf\ufb00-\ufb06\ufb13-\ufb17\uff21-\uff3a\uff41-\uff5a\U00010400-\U0001044f"
    "\U000104b0-\U000104d3\U000104d8-\U000104fb\U00010c80-\U00010cb2\U00010cc0-\U00010cf2"
    "\U000118a0-\U000118df\U0001e900-\U0001e943"
)
_HAN: Final = (
    "\u4e00-\u9fff\u3400-\u4dbf\U00020000-\U0002a6df\U0002a700-\U0002ebef\uf900-\ufaff"
    "\U0002f800-\U0002fa1f"
)
_ASIAN: Final = (
    "[\u4e00-\u9fff\u3400-\u4dbf\u8c48-\ufaff\u3040-\u309f\u30a0-\u30ff\uff65-\uff9f\u2f00-\u2fdf"
    "\u0e40-\u0e7f\u0e80-\u0eff\u1780-\u17ff\u1000-\u109f\uaa60-\uaa7f\ua9e0-\ua9ff\uac00-\ud7af"
    "\u1100-\u11ff]+"
)
_NOT_STOPS: Final = " ?[^(\\s|.,!?\u2026\u3002\uff0c\u3001\u0964\u06d4\u060c)]+"


def _way(*patterns: str, **flags: bool) -> PreTokenizer:
    return PreTokenizer(patterns, **flags)


_WAYS: Final[dict[str, PreTokenizer]] = {
    "default": _way(r"[\p{P}\$\+<=>\^~\|]+", _GPT2, r"\p{N}+", r"[0-9][0-9][0-9]"),
    "gpt-2": _way(_GPT2),
    "starcoder": _way(r"\p{N}", _GPT2),
    "falcon": _way(r"[\p{P}\$\+<=>\^~\|`]+", _GPT2, r"[0-9][0-9][0-9]"),
    "llama-bpe": _way(_llama3(r"\p{N}{1,3}"), ignore_merges=True, add_bos=True),
    "dbrx": _way(_llama3(r"\p{N}{1,3}")),
    "chatglm-bpe": _way(_llama3(r"\p{N}{1,3}"), no_bos=True),
    "glm4": _way(_llama3(r"\p{N}{1,3}"), ignore_merges=True, no_bos=True),
    "jais-2": _way(
        _llama3(r"\p{N}{1,3}").removesuffix(_SPACES)
        + "".join(rf"\s{{{n}}}(?!\S)|" for n in (512, 256, 128, 64, 32, 16, 8, 4))
        + r"\s{1,2}(?!\S)|\s{1}"
    ),
    "minicpm5": _way(r"\p{N}{1,3}", _llama3(r"\p{N}+"), ignore_merges=True),
    "qwen2": _way(_QWEN2),
    "qwen35": _way(
        _llama3(
            r"\p{N}",
            r"[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+",
            r" ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*",
        )
    ),
    "ufakzeka": _way(_QWEN2.removeprefix(_ENDING + "|")),
    "laguna": _way(_NEWLINES, _QWEN2),
    "seed-coder": _way(_llama3(r"\p{N}", signs=r" ?[^\s\p{L}\p{N}\r\n]+")),
    "bailingmoe": _way(rf"{_ENDING}|{_WORD}|\p{{N}}|{_SIGNS}[\r\n]*|\s*[\r\n]|{_SPACES}"),
    "exaone-moe": _way(
        rf"{_ENDING}|[^\r\n\p{{L}}\p{{N}}]?(?:\p{{L}}\p{{M}}*(?: \p{{L}}\p{{M}}*)*)+"
        rf"|\p{{N}}|{_SIGNS}[\r\n/]?|\s*[\r\n]|{_SPACES}"
    ),
    "deepseek-llm": _way(
        r"[\r\n]",
        rf"\s?[{_DEEPSEEK_LETTERS}]+",
        "\\s?[!-/:-~\uff01-\uff0f\uff1a-\uff5e\u2018-\u201f\u3001-\u3002]+",
        r"\s+$",
        _CJK_WIDE,
        r"\p{N}+",
    ),
    "deepseek-coder": _way(r"[\r\n]", r"\s?\p{L}+", r"\s?\p{P}+", _CJK_WIDE, r"\p{N}"),
    "deepseek-v3": _way(r"\p{N}{1,3}", _CJK, _DEEPSEEK3),
    "spark2_5": _way(r"\p{N}{1,3}", _CJK, rf"{_DEEPSEEK3_WORDS}|[\r\n]|{_SPACES}", r"\p{N}"),
    "afmoe": _way(_DIGITS_FROM_RIGHT, _ASIAN, _DEEPSEEK3),
    "youtu": _way(
        "[\uac00-\ud7a3\u3131-\u318e]+"
        "|[\uff01\u2026\u201c\u201d\u2018\u2019\u2014\uff1a\uff1b\uff0c"
        "\u3001-\u303f\ufe30-\ufe4f]+|[\u3105-\u312f]+|" + _CJK,
        _gpt4o(_ANY_CASE, r"\p{N}"),
        ignore_merges=True,
    ),
    "tiny_aya": _way(_DIGITS_FROM_RIGHT, _gpt4o(_ANY_CASE, r"\p{N}{1,3}")),
    "gpt-4o": _way(_gpt4o(_cased(_NOT_LOWER, _NOT_UPPER, f"(?:{_ENDING})?"), r"\p{N}{1,3}")),
    "tekken": _way(
        _gpt4o(_cased(_NOT_LOWER, _NOT_UPPER, ""), r"\p{N}"), ignore_merges=True, add_bos=True
    ),
    "granite-embed-multi-97m": _way(
        _gpt4o(_cased(_MARKED_UPPER, _MARKED_LOWER, f"(?:{_ENDING})?"), r"\p{N}{1,3}"),
        ignore_merges=True,
    ),
    "kimi-k2": _way(
        rf"[{_HAN}]+|[^\r\n\p{{L}}\p{{N}}]?[\p{{L}}&&[^{_HAN}]]+(?:{_ENDING})?"
        rf"|\p{{N}}{{1,3}}|{_SIGNS}[\r\n]*|{_LINES}"
    ),
    "poro-chat": _way(_NOT_STOPS),
    "viking": _way(_NOT_STOPS, r"\p{N}"),
    "superbpe": _way(r"\p{N}+", r"(?=(?:\d{3})+(?!\d))"),
    "chameleon": _way(
        "<sentinel:[0-9]+>",
        "IMGIMG[A-I]{1,4}Z",
        r"[\t\n]|    |  ",
        r"\p{N}",
        r"[\p{P}!-/:-@\[-`{-~]",
        _GPT2,
        add_bos=True,
    ),
    "gemma4": _way(_NEWLINES, byte_level=False, whole_newlines=True),
    "sarvam-moe": _way(_NEWLINES, byte_level=False),
}

# Other names of the same ways.
_ALIASES: Final[dict[str, str]] = {
    "gpt-2": "a.x-4.0 exaone4 gigachat granite-docling jais jina-de jina-es jina-v1-en "
    "jina-v2-code jina-v2-de jina-v2-es mellum modern-bert mpt olmo phi-2 roberta-bpe trillion",
    "starcoder": "codeshell command-r exaone mellum2 minerva-7b refact smollm",
    "llama-bpe": "falcon-h1 falcon3 jina-v5-nano lfm2 llama-v3 llama3 midm-2.0 pixtral",
    "dbrx": "smaug-bpe",
    "glm4": "glm5",
    "qwen2": "deepseek-r1-qwen f2llmv2 grok-2 hunyuan kormo megrez solar-open stablelm2",
    "bailingmoe": "bailingmoe2 llada-moe",
    "deepseek-v3": "hunyuan-dense hy_v4 joyai-llm",
    "gpt-4o": "kanana2 llama4 minimax-m2 talkie",
    "tiny_aya": "cohere2moe",
    "poro-chat": "bloom gpt3-finnish",
    "gemma4": "granite-embed-multi-311m",
}

PRE_TOKENIZERS: Final[dict[str, PreTokenizer]] = _WAYS | {
    name: _WAYS[way] for way, names in _ALIASES.items() for name in names.split()
}
"""Every name that llama.cpp has for a plain list of patterns, and what it means."""
