"""The transformer baseline with the inputs and outputs that our network has, to be trained.

Slots of a block and levels of the codes are embedded as in `fv_jax/models/retnet.py`, so that
retention against softmax attention is all that differs (and a wider gated linear unit, which
makes the sizes equal, see `experiments/baselines/attention.py`). Positions turn by the angles that
the config names: "geometric", as transformers have them, or "even", as our network has.
"""

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float, Int

from experiments.baselines import autoregressive
from experiments.baselines.attention import Cache, Transformer
from fv_jax.config.model import Options, RetNetConfig
from fv_jax.generation.engine import Engine
from fv_jax.generation.window_size import StepTime
from fv_jax.models.retnet import RetNet, rope_tables
from fv_jax.sequence.packing import unpack
from fv_jax.sequence.vocab import FREE, Vocab


class EmbeddedTransformer(Transformer):
    """`Transformer` with slot and level embeddings; `frame_loss` reads it like a `RetNet`."""

    def __init__(self, config: RetNetConfig, vocabulary: int, codes: int, *, rngs: nnx.Rngs):
        super().__init__(config, vocabulary, codes, rngs=rngs)
        self.codes = codes
        table = lambda rows: jax.random.normal(rngs.params(), (rows, config.width))
        self.embedding[...] += table(1) * config.width**-0.5  # shared by all rows, as in RetNet
        if config.slots:
            self.slot_embedding = nnx.Param(jnp.zeros((config.slots, config.width)))
        if config.code_levels:
            by_level = lambda: nnx.Param(table(sum(config.code_levels)) * config.width**-0.5)
            self.level_embedding, self.level_head = by_level(), by_level()

    tables = RetNet.tables

    def init_state(self, batch: int, length: int = 0) -> Cache:
        """An empty cache."""
        return super().init_state(batch, length)

    def chunkwise(self, tokens: Int[Array, "B T"], state: Cache, remat: str = "none"):
        """Hidden vectors of whole sequences; `state` and `remat` are not used."""
        del state, remat
        return self.parallel(tokens, self.stacked()), None

    def parallel(self, tokens: Int[Array, "B T"], blocks: Any) -> Float[Array, "B T D"]:
        """As of `Transformer`."""
        start = jnp.zeros((1,), jnp.int32)
        x = self.tables().embed(tokens, jnp.broadcast_to(jnp.arange(tokens.shape[1]), tokens.shape))
        turns = self._turns(start, x)
        x, _ = jax.lax.scan(
            lambda x, block: (block(x, None, start, turns)[0], None), x, blocks,
            unroll=self.config.layers,
        )  # fmt: skip
        return self.norm(x)

    def read(self, tokens: Int[Array, "B T"], cache: Cache) -> tuple[Float[Array, "B T D"], Cache]:
        """As of `Transformer`."""
        places = cache.position[:, None] + jnp.arange(tokens.shape[1])
        places = jnp.broadcast_to(places, tokens.shape)
        x, layers = self.tables().embed(tokens, places), []
        turns = self._turns(cache.position, x)
        for block, keys_values in zip(self.blocks, cache.layers):
            x, keys_values = block(x, keys_values, cache.position, turns)
            layers.append(keys_values)
        return self.norm(x), Cache(tuple(layers), cache.position + tokens.shape[1])

    def logits(self, hidden: Float[Array, "*b D"]) -> Float[Array, "*b V"]:
        """Scores of the frame codes."""
        return self.tables().logits(hidden)

    def _turns(self, position, x):
        places = position[:, None] + jnp.arange(x.shape[1])
        cos, sin = rope_tables(self.config, places, x.dtype)
        return jnp.stack([cos, sin], -1).reshape(*places.shape, 1, self.config.key_dim)


def folded(params: Any, config: RetNetConfig, vocabulary: int, codes: int) -> tuple[Any, Any]:
    """(weights, graph) with the levels added up once: a decoding step then reads no more."""
    make = lambda config: EmbeddedTransformer(config, vocabulary, codes, rngs=nnx.Rngs(0))
    tables = nnx.merge(nnx.graphdef(nnx.eval_shape(lambda: make(config))), params).tables()
    plain = dataclasses.replace(config, code_levels=())
    kept = {k: v for k, v in params.items() if k not in ("level_embedding", "level_head")}
    kept |= {"embedding": tables.embedding, "head": tables.head}
    return kept, nnx.graphdef(nnx.eval_shape(lambda: make(plain)))


class TransformerEngine(Engine):
    """An `Engine` that samples token by token with a KV cache, without guidance."""

    def __init__(self, model: Any, params: Any, config: RetNetConfig):
        self.model, self._step_time = model, StepTime(0.0, 1.0)  # a token at a time
        sequence = model.config.sequence
        self._params, self._graph = folded(
            params, config, Vocab(sequence).size, sequence.frame_codes
        )

    def start(self, sampler, keys):
        """The rows' keys: there is no other state between calls."""
        if sampler.guidance != 1:
            raise ValueError(f"the transformer has no guidance, got {sampler.guidance}")
        fold = functools.partial(functools.reduce, jax.random.fold_in)
        return jnp.stack([fold(rest, jax.random.key(s)) for s, *rest in keys])

    def decode(self, state, sampler, stats, *, tokens, **more):
        """As `Engine.decode`, from the beginning of a sequence; it has no use for `more`."""
        known = int((tokens == FREE).any(axis=0).argmax()) // sampler.sequence.stride
        with stats("sample"):
            whole = autoregressive.cached(
                self._params, jnp.asarray(tokens), state, graph=self._graph,
                sequence=sampler.sequence, policy=sampler.policy, known_frames=known,
            )  # fmt: skip
            codes = unpack(jax.device_get(whole), sampler.sequence)[2]
        stats.count(sampled=int((tokens == FREE).sum()))
        return codes, state


OPTIONS = Options(guidance=1.0, inherit=0.0)
"""How all variants are sampled: as trained, with nothing copied."""
