"""The tokenizer's arrays, ids and merges; and the chat template beside them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gguf
import pytest

from ggufscope.checking.findings import Grade
from ggufscope.checking.template import TEMPLATE, reached_for
from ggufscope.checking.vocabulary import tokenizer_findings
from ggufscope.container.file import open_gguf
from tests.checking.models import checked, found_in, the_one, with_metadata
from tests.llama_loads import loads
from tests.models import vocabularies

KEY = "tokenizer.ggml."

LIES: list[tuple[dict[str, Any], Grade, str, str]] = [
    ({"token_type": [1] * 60}, Grade.ERROR, "60 entries for 72", "Index out of array bounds for"),
    ({"token_type": [1] * 80}, Grade.WARNING, "80 entries for 72", ""),
    ({"token_type": [9] + [1] * 71}, Grade.WARNING, "token 0 is of type 9", ""),
    (
        {"scores": [0.5] * 5},
        Grade.ERROR,
        "5 entries for 72",
        "Index out of array bounds for scores",
    ),
    (
        {"bos_token_id": 72},
        Grade.WARNING,
        "'tokenizer.ggml.bos_token_id' is 72",
        "bad special token",
    ),
    ({"tokens": ["a"] * 72}, Grade.ERROR, "token 'a' twice", ""),
    ({"pre": None}, Grade.WARNING, "pre' is missing", "missing pre-tokenizer type"),
    ({"pre": "gtp-2"}, Grade.WARNING, "'gtp-2'", "unknown pre-tokenizer type: 'gtp-2'"),
    ({"model": "wonder"}, Grade.WARNING, "'wonder'", "unknown tokenizer: 'wonder'"),
    ({"merges": None}, Grade.ERROR, "merges' is missing", "cannot find tokenizer merges"),
    ({"merges": ['! "', "! #"]}, Grade.NOTE, "1 of 2 merges make no token, the first '! #'", ""),
    ({"eos_token_id": 9}, Grade.NOTE, "EOS, token 9 '&', is of type NORMAL", ""),
    ({"bos_token_id": 5}, Grade.NOTE, "BOS, token 5 '\"', is of type NORMAL", ""),
]
"""Changed keys, how bad that is, and what is said of it."""


def spoiled(path: Path, change: dict[str, Any]) -> Path:
    return with_metadata(path, {KEY + key: value for key, value in change.items()})


@pytest.mark.parametrize(("change", "grade", "said", "upstream"), LIES)
def test_each_lie_is_named(
    change: dict[str, Any], grade: Grade, said: str, upstream: str, tmp_path: Path
) -> None:
    found = found_in(spoiled(tmp_path / "m.gguf", change))
    (finding,) = [each for each in found if each.subject == "tokenizer" and each.grade is grade]
    assert said in finding.what
    assert upstream in finding.llama_cpp


def test_llama_cpp_refuses_the_errors(tmp_path: Path) -> None:
    errors = [lie for lie in LIES if lie[3].startswith(("Index", "unknown", "cannot"))]
    paths = [spoiled(tmp_path / f"{n}.gguf", lie[0]) for n, lie in enumerate(errors)]
    sound = with_metadata(tmp_path / "m.gguf", {})
    assert loads([*paths, sound]) == [False] * len(paths) + [True]
    assert checked(sound).verdict == "sound"


@pytest.mark.parametrize("kind", ["bpe", "sentencepiece", "wordpiece", "unigram"])
def test_vocabularies_of_every_kind_are_sound(kind: str) -> None:
    make = getattr(vocabularies, kind)
    vocabulary = make("gpt-2") if kind == "bpe" else make()
    metadata = {KEY + key: value for key, value in vocabulary.items()}
    assert [each.what for each in _findings(metadata)] == []


def _findings(metadata: dict[str, Any]) -> list[Any]:
    import tempfile

    from tests.models.makers import Recipe, write_recipe

    with tempfile.TemporaryDirectory() as folder:
        path = write_recipe(Path(folder, "v.gguf"), Recipe("llama", {}, {}, metadata))
        with open_gguf(path) as file:
            return [each for each in tokenizer_findings(file.metadata) if each.grade != Grade.NOTE]


LLAMA_2 = "{{ bos_token }}{% for m in messages %}[INST] {{ m['content'] }} [/INST]{% endfor %}"


def test_the_key_is_the_one_that_converters_write() -> None:
    assert gguf.Keys.Tokenizer.CHAT_TEMPLATE == TEMPLATE
    assert gguf.Keys.Tokenizer.CHAT_TEMPLATE_N.format(name="x") == f"{TEMPLATE}.x"


def test_a_template_that_does_its_work_is_sound(tmp_path: Path) -> None:
    path = with_metadata(tmp_path / "m.gguf", {TEMPLATE: LLAMA_2})
    assert found_in(path) == []
    path = with_metadata(tmp_path / "n.gguf", {TEMPLATE: LLAMA_2, KEY + "add_bos_token": True})
    finding = the_one(path, "template")
    assert (finding.grade, finding.key) == (Grade.NOTE, KEY + "add_bos_token")
    assert "Added a BOS token to the prompt" in finding.llama_cpp


@pytest.mark.parametrize(
    ("template", "said"),
    [
        ("{{ ''.__class__.__mro__[1].__subclasses__() }}", "an object's insides"),
        ("{{ x|attr('__cla'~'ss__') }}", "attributes by a name that is computed"),
        ("{{ x['__cla' + 'ss__'] }}", "an object's insides"),
        (r"{{ x['\x5f\x5fclass\u005f\137'] }}", "an object's insides"),
        ("{{ m | map(attribute='__init__') }}", "an object's insides"),
        ("{{ '}}' ~ x.__class__ }}", "an object's insides"),
        ("{%- set a = x._private %}", "an object's insides"),
        ("{{ f.gi_frame }}", "Python's frames"),
        ("{{ cycler.next.os.popen('id').read() }}", "functions of the machine"),
        ("{{ os.environ }}", "modules"),
        ("{{ lipsum() }}", "objects of web programs"),
        ("{% include '/etc/passwd' %}", "other templates (include)"),
        ("{%- from 'x' import y %}", "other templates (from)"),
        ("{% for n in range(999999999) %}a{% endfor %}", "a loop or a text without end"),
        ("{{ 'a' * 9999999999 }}", "a loop or a text without end"),
        ("{{ x.__class__ ", "an object's insides"),
    ],
)
def test_what_a_template_has_no_business_with(template: str, said: str) -> None:
    assert said in [words for words, _ in reached_for("text {# no __x__ #}" + template)]


@pytest.mark.parametrize(
    "template",
    [
        "__class__ of text {{ x }} os.system('x') {{ y }}",
        "{# x.__class__ #}{{ m.content.split('</think>')[-1].lstrip('\\n') }}",
        "{% set ns = namespace(found=false) %}{{ messages[1:] | tojson(indent=4) }}",
        "{{ raise_exception('roles must alternate, os.path is no role') }}",
        "{% if config is defined %}{{ open_tag }}{{ m.system }}{{ 'import os' }}{% endif %}",
        "{% for i in range(1000) %}{{ i * 1024 }}{% endfor %}{{ strftime_now('%d %b %Y') }}",
    ],
)
def test_what_is_its_business(template: str) -> None:
    assert reached_for(template) == []


@pytest.mark.parametrize("part", ["{{", "{#", "{{ '\\'", "{{ ' ~ ", "{{ range(1", "{{a.  ", "__"])
def test_a_hostile_template_takes_no_time(part: str) -> None:
    reached_for(part * 40_000)


def test_in_a_file_it_is_flagged_and_never_rendered(tmp_path: Path) -> None:
    marker = tmp_path / "pwned"
    evil = f"{{{{ cycler.__init__.__globals__.os.system('touch {marker}') }}}}"
    path = with_metadata(tmp_path / "m.gguf", {TEMPLATE: "hello", TEMPLATE + ".tool_use": evil})
    found = [each for each in found_in(path) if each.subject == "template"]
    assert {(each.grade, each.key) for each in found} == {(Grade.ERROR, TEMPLATE + ".tool_use")}
    assert not marker.exists()


@pytest.mark.parametrize(
    ("template", "grade", "said"),
    [
        ("a\u202eb{{ x }}", Grade.WARNING, "not seen, U+202E, at 1"),
        ("<|im_start|>{{ x }}<|im_end|>", Grade.WARNING, "2 of 2 markers that are no token"),
        ("x" * 300_000, Grade.WARNING, "262,144 bytes or more"),
        (7, Grade.ERROR, "is no text"),
    ],
)
def test_what_else_is_odd(template: Any, grade: Grade, said: str, tmp_path: Path) -> None:
    finding = the_one(with_metadata(tmp_path / "m.gguf", {TEMPLATE: template}), "template")
    assert (finding.grade, said in finding.what) == (grade, True)
