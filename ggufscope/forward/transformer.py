"""A model that runs: token ids -> vectors -> layer by layer -> logits.

One layer's weights are in use at a time. The steps can be taken one by one, so that several views
of the weights (as stored, as some plan leaves them) go through the layers side by side.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, Final

import numpy as np

from ggufscope.arrays import Floats
from ggufscope.container.file import GGUFFile
from ggufscope.errors import NotInModel
from ggufscope.forward import ops
from ggufscope.forward.block import Block, Heads
from ggufscope.forward.cache import KVCache
from ggufscope.forward.checks import graph_of, require_ids, require_numbers
from ggufscope.forward.rope import Rotation
from ggufscope.forward.tensors import require_tensors
from ggufscope.forward.trace import NOTHING, Trace
from ggufscope.forward.weights import Matrix, StoredWeights, Weights
from ggufscope.model.anatomy.build import anatomy_of
from ggufscope.model.anatomy.symbols import layer_dims
from ggufscope.model.families import FAMILIES, window_of
from ggufscope.model.hparams import read_hparams
from ggufscope.pool import one_pass
from ggufscope.spelling import did_you_mean

_POSITIONS: Final = "position_embd.weight"
"""A vector is added for each position where there is this; it is required, or has no place."""


class Transformer:
    """A model, and a view of its weights.

    Raises, before it reads any weight, ``HyperparameterError``, ``NotRunnable`` where the
    architecture has no forward pass here or a tensor no place in it, and ``NotInModel`` where a
    tensor is missing.
    """

    def __init__(
        self, metadata: Mapping[str, Any], weights: Weights, *, context: int | None = None
    ) -> None:
        """Take a model's metadata and a view of its weights.

        ``context``: for how many tokens the model is set up, by default all that it was trained
        for, as llama.cpp does. No text may be longer; and LongRoPE has other factors for contexts
        beyond the original one.
        """
        self._metadata, self.hparams = metadata, read_hparams(metadata)
        self.graph = graph_of(self.hparams.architecture)
        require_numbers(self.hparams, self.graph)
        require_tensors(weights, self.hparams)
        self.weights = weights
        self.family = FAMILIES[self.hparams.architecture]
        self._context = context
        self._factors = self._rope_factors()

    @classmethod
    def of(cls, file: GGUFFile, *, context: int | None = None) -> Transformer:
        """Return the model of a file, with the weights as they are stored."""
        return cls(file.metadata, StoredWeights(file), context=context)

    @property
    def n_layers(self) -> int:
        """How many layers there are."""
        return self.hparams.block_count

    @property
    def n_vocab(self) -> int:
        """How many entries the vocabulary has: as many as there are vectors for them."""
        return self.weights.shape("token_embd.weight")[0]

    @property
    def n_context(self) -> int | None:
        """How many tokens a text may have; None where the file does not say."""
        if _POSITIONS in self.weights:
            trained = self.weights.shape(_POSITIONS)[0]
            return min(self._context or trained, trained)
        return self._context or self.hparams.context_length

    @property
    def norm_epsilon(self) -> float:
        """What its norms add to the mean of squares."""
        hparams, rms = self.hparams, self.graph.norm == "rms"
        return (hparams.layer_norm_rms_epsilon if rms else hparams.layer_norm_epsilon) or 0.0

    @property
    def long_rope(self) -> str | None:
        """Which of LongRoPE's factors it runs with, ``"long"`` or ``"short"``; None without it."""
        original = self.hparams.rope_scaling_original_context_length or 0
        which = "long" if (self.n_context or 0) > original else "short"
        return which if f"rope_factors_{which}.weight" in self.weights else None

    def with_weights(self, weights: Weights) -> Transformer:
        """Return the same model with another view of its weights."""
        other = Transformer.__new__(Transformer)
        other.__dict__.update(self.__dict__)
        other.weights = weights
        return other

    def require_runnable(self, ids: Sequence[int], cache: KVCache | None = None) -> None:
        """Raise ``TextNotIds``, ``EmptyPrompt``, ``TokenUnknown`` or ``TooManyTokens``."""
        past = cache.length() if cache is not None else 0
        require_ids(ids, past, self.n_vocab, self.n_context)

    def run(
        self,
        ids: Sequence[int],
        *,
        trace: Trace = NOTHING,
        cache: KVCache | None = None,
        progress: Callable[[int], object] | None = None,
    ) -> Floats:
        """ids (T,) -> logits (T, V), row t those of the token after token t.

        With a cache, the tokens continue those that it holds, and join them. ``progress`` is told
        how many steps of ``n_layers + 1`` are done: each layer is one, the output is the last.
        Raises what ``require_runnable`` does, ``NotInModel`` for a trace of what is not computed,
        and ``NonFiniteWeight`` naming tensor and row.
        """
        self._require_computed(trace.keep or ())
        with one_pass():
            x = self.embed(ids, trace=trace, cache=cache)
            for layer in range(self.n_layers):
                x = self.layer(layer, x, trace=trace, cache=cache)
                if progress is not None:
                    progress(layer + 1)
            logits = self.logits(x, trace=trace)
        if progress is not None:
            progress(self.n_layers + 1)
        return logits

    def _require_computed(self, names: Collection[str]) -> None:
        """Raise ``NotInModel`` for the name of a quantity that no layer has."""
        if not names:
            return
        shapes = {name: self.weights.shape(name) for name in self.weights.names()}
        computed = anatomy_of(shapes, self._metadata, 1).computed_names()
        for name in names:
            if name not in computed:
                raise NotInModel(
                    f"the model computes no quantity {name!r}",
                    hint=did_you_mean(name, computed, "`ggufscope list` names what is computed"),
                )

    def embed(
        self, ids: Sequence[int], *, trace: Trace = NOTHING, cache: KVCache | None = None
    ) -> Floats:
        """ids (T,) -> x (T, E), what enters the first layer. Checks the ids first."""
        self.require_runnable(ids, cache)
        matrix = self.weights.matrix("token_embd.weight")
        x = np.concatenate([matrix.rows(token, token + 1) for token in map(int, ids)])
        trace.put("embd", None, x)
        if self.graph.scaled_embedding:
            x = x * np.float32(np.sqrt(np.float32(x.shape[1])))
        if _POSITIONS in self.weights:
            start = cache.length() if cache is not None else 0
            x = x + self.weights.matrix(_POSITIONS).rows(start, start + len(ids))
        return x

    def layer(
        self, layer: int, x: Floats, *, trace: Trace = NOTHING, cache: KVCache | None = None
    ) -> Floats:
        """x (T, E) as it enters a layer -> as it leaves it; what was handed in stays."""
        with np.errstate(all="ignore"):
            return self.graph.layer(self.block(layer, trace=trace, cache=cache), x)

    def logits(self, x: Floats, *, trace: Trace = NOTHING) -> Floats:
        """x (T, E) as it leaves the last layer -> logits (T, V)."""
        with np.errstate(all="ignore"):  # numbers overflow as they do in C
            x = self.normed(x)
            trace.put("result_norm", None, x)
            logits = self.projected(x, trace=trace)
            trace.put("result_output", None, logits)
            return logits

    def normed(self, x: Floats) -> Floats:
        """x (T, E) as it leaves the last layer -> ``result_norm`` (T, E)."""
        scale = self.weights.vector("output_norm.weight")
        if self.graph.norm == "rms":
            return ops.rms_norm(x, scale, self.norm_epsilon)
        return ops.layer_norm(x, scale, self._bias("output_norm"), self.norm_epsilon)

    def projected(self, x: Floats, *, trace: Trace = NOTHING) -> Floats:
        """``result_norm`` (T, E) -> logits (T, V)."""
        matrix = self.output_matrix()
        x = trace.enter(matrix.name, x)
        logits = ops.linear(x, matrix, self._bias("output"))
        return ops.soft_cap(logits, self.graph.logit_cap(self.hparams))

    def output_matrix(self) -> Matrix:
        """Return the matrix of the logits: that of the embeddings where there is no other."""
        tied = "output.weight" not in self.weights
        return self.weights.matrix("token_embd.weight" if tied else "output.weight")

    def block(self, layer: int, *, trace: Trace = NOTHING, cache: KVCache | None = None) -> Block:
        """Return one layer of one pass."""
        window = window_of(self.family, self.hparams, layer)
        dims = layer_dims(self.hparams, layer, 1, window)
        heads = Heads(*(dims[symbol] or 0 for symbol in "HKDM"))
        return Block(
            layer=layer,
            weights=self.weights,
            hparams=self.hparams,
            heads=heads,
            window=window,
            rotation=self._rotation(windowed=window is not None),
            cache=cache,
            trace=trace,
            activation=self.family.activation,
        )

    def _bias(self, stem: str) -> Floats | None:
        name = f"{stem}.bias"
        return self.weights.vector(name) if name in self.weights else None

    def _rotation(self, *, windowed: bool) -> Rotation | None:
        """Follows ``llama_model_base::load_hparams`` and ``llama_context``'s constructor."""
        hparams, graph = self.hparams, self.graph
        if self.family.rope == "none" or not hparams.rope_dimension_count:
            return None
        base = hparams.rope_freq_base or 10000.0
        scale = 1.0 / (hparams.rope_scaling_factor or 1.0)
        if hparams.rope_scaling_type == "none":
            scale = 1.0
        if windowed:
            base = hparams.rope_freq_base_swa or graph.window_base or base
            scale = scale if graph.window_stretched else 1.0
        yarn = hparams.rope_scaling_type == "yarn"
        return Rotation(
            pairs=self.family.rope,
            dimensions=hparams.rope_dimension_count or 0,
            base=base,
            scale=scale,
            factors=self._factors,
            yarn_context=hparams.rope_scaling_original_context_length if yarn else None,
            magnitude=hparams.rope_scaling_attn_factor or 1.0,
        )

    def _rope_factors(self) -> Floats | None:
        """Return the divisors of the angles: llama 3's, LongRoPE's for this context, or None."""
        for stem in ("rope_freqs", f"rope_factors_{self.long_rope}"):
            if f"{stem}.weight" in self.weights:
                return self.weights.vector(f"{stem}.weight")
        return None
