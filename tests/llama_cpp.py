"""Real llama.cpp, with a model loaded, in a process of its own.

The process is a child because llama.cpp may take its host down with it. It answers one JSON line
for each JSON line it is sent: `{"complete": {...}}`, `{"tokenize": {...}}` or
`{"detokenize": {...}}`, as llama.cpp's HTTP API has them, or with a list of such bodies. Flash
attention is off, the KV cache in float32, no weights repacked.
"""

from __future__ import annotations

import http.client
import json
import os
import sys
from pathlib import Path
from types import TracebackType
from typing import Any

from tests import warm

SECONDS = 300


class LlamaCpp:
    """A context manager that holds the child process."""

    def __init__(self, model: Path, context: int) -> None:
        self._words = ["-m", "tests.llama_cpp", str(model), str(context)]

    def __enter__(self) -> LlamaCpp:
        asked, ask = os.pipe()
        told, tell = os.pipe()
        self._questions = os.fdopen(ask, "w", encoding="utf-8")
        self._answers = os.fdopen(told, encoding="utf-8")
        streams = [asked, tell, os.open(os.devnull, os.O_WRONLY)]
        self._child = warm.start(self._words, streams, dict(os.environ), warm.ROOT)
        for descriptor in streams:
            os.close(descriptor)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._questions.close()
        with self._answers:
            self._child.wait(SECONDS)

    def _ask(self, request: dict[str, Any]) -> Any:
        self._questions.write(json.dumps(request) + "\n")
        self._questions.flush()
        line = self._answers.readline()
        assert line, "llama.cpp died"
        return json.loads(line)

    def complete(self, **request: Any) -> Any:
        """Continue a prompt: text or token ids."""
        defaults = {"temperature": 0, "cache_prompt": False}
        return self._ask({"complete": defaults | request})["choices"][0]

    def tokenize(self, text: str, **options: bool) -> list[int]:
        """Token ids of a text."""
        found: list[int] = self._ask({"tokenize": {"content": text} | options})["tokens"]
        return found

    def tokenize_all(self, texts: list[str], **options: bool) -> list[list[int]]:
        """Token ids of many texts, in one round trip."""
        answers = self._ask({"tokenize": [{"content": text} | options for text in texts]})
        return [answer["tokens"] for answer in answers]

    def detokenize(self, ids: list[int]) -> str:
        """Text of token ids."""
        found: str = self._ask({"detokenize": {"tokens": ids}})["content"]
        return found

    def losses(self, prompt: list[int], target: list[int], end: int) -> list[float]:
        """Negative log-probability, in nats, of each token of `target` after those before it.

        A grammar makes llama.cpp generate exactly the target; what it reports of a token is the
        plain softmax over all logits, before the grammar. `end` may only be the last token: it
        ends a generation, and a grammar allows it only after all else.
        """
        literal = target[:-1] if target[-1] == end else target
        assert literal
        answer = self.complete(
            prompt=prompt,
            n_predict=len(target),
            n_probs=1,
            samplers=["temperature"],
            grammar="root ::= " + " ".join(f"<[{token}]>" for token in literal),
        )
        steps = answer["logprobs"]["content"]
        assert [step["id"] for step in steps] == target
        return [-step["logprob"] for step in steps]

    def window_losses(self, window: list[int], end: int) -> list[float]:
        """The losses of all tokens of a window but the first."""
        losses: list[float] = []
        start = 1
        while start < len(window):
            stop = window.index(end, start) + 1 if end in window[start:] else len(window)
            losses += self.losses(window[:start], window[start:stop], end)
            start = stop
        return losses


def _serve(model: str, context: int) -> Any:
    import xllamacpp

    parameters = xllamacpp.CommonParams()
    parameters.model.path = model
    parameters.n_ctx = context + 16  # a full window is cut short without a margin
    parameters.n_parallel = 1
    parameters.no_extra_bufts = True
    parameters.flash_attn_type = xllamacpp.llama_flash_attn_type.LLAMA_FLASH_ATTN_TYPE_DISABLED
    parameters.cache_type_k = parameters.cache_type_v = xllamacpp.ggml_type.GGML_TYPE_F32
    parameters.warmup = False
    parameters.fit_params = False
    # Its threads wait for each other by spinning: where tests share the processors, several are
    # slower than one.
    parameters.cpuparams.n_threads = parameters.cpuparams_batch.n_threads = 1
    parameters.verbosity = 0
    return xllamacpp.Server(parameters)


def _post(connection: http.client.HTTPConnection, what: str, body: dict[str, Any]) -> Any:
    headers = {"Content-Type": "application/json"}
    connection.request("POST", f"/{what}", json.dumps(body).encode(), headers)
    return json.load(connection.getresponse())


def _main(model: str, context: int) -> None:
    # llama.cpp logs to standard output: answers go to a copy of it that only this file knows.
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    server = _serve(model, context)
    host = server.listening_address.removeprefix("http://")
    connection = http.client.HTTPConnection(host, timeout=SECONDS)
    for line in sys.stdin:
        ((what, body),) = json.loads(line).items()
        if what == "complete":
            answer = server.handle_completions(body)
        elif isinstance(body, list):
            answer = [_post(connection, what, each) for each in body]
        else:
            answer = _post(connection, what, body)
        answers.write(json.dumps(answer) + "\n")
        answers.flush()
    os._exit(0)  # nothing is left to be saved: taking the server down in order takes its time


if __name__ == "__main__":
    _main(sys.argv[1], int(sys.argv[2]))
