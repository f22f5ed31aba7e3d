"""RetNet (arXiv:2307.08621 as the paper's section 3.1 sets it): one set of weights,
three forms.

    x = embed(tokens) (+ embed(position in the block))
    x = x + Retention(RMSNorm(x))      }  `layers` times, scanned over stacked parameters
    x = x + GLU(RMSNorm(x))            }
    hidden = RMSNorm(x);  logits(hidden) = hidden W_head, over the frame codes only

Shapes: B rows, T tokens, D width, H heads, K/E key/value channels per head, N layers.
"""

import dataclasses
import functools
import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx, struct
from jax.core import Tracer
from jaxtyping import Array, Float, Int

from fv_jax.config import RetNetConfig
from fv_jax.models.layers import Dense, GatedLinearUnit, RMSNorm, matmul, rms_normalise
from fv_jax.ops import decay, retention
from fv_jax.ops.rotation import MAX_POSITION, angles, even_angles, rotate

# A field of a pytree: an array, or whatever JAX puts in its place (shapes, shardings, tracers).
Leaf = Any


@struct.dataclass
class RetNetState:
    """All that the network remembers of the tokens so far: its size does not depend on how many.

    Attributes:
        retention: R of every layer and head, unnormalised, [N, B, H, K, E] float32 (float64 in
            tests).
        position: tokens consumed so far, which is the next token's global position, [B] int32.
    """

    retention: Leaf
    position: Leaf


class MultiScaleRetention(nnx.Module):
    """W_o( silu(W_g x) * headnorm(retention(x)) ), with q, k, v and g from one matmul."""

    def __init__(self, config: RetNetConfig, *, rngs: nnx.Rngs):
        self.config = config
        d, values, dtype = config.width, config.value_width, config.matmul_dtype
        # torchscale's gain for q, k, v, g is 2^-2.5; the head norm makes the scale of v moot.
        self.qkvg = Dense(d, 2 * d + 2 * values, dtype=dtype, gain=2**-0.5, rngs=rngs)
        self.out = Dense(values, d, dtype=dtype, gain=0.5, rngs=rngs)

    @property
    def log_decay(self) -> tuple[float, ...]:
        """log gamma of each head."""
        return log_decays(self.config)

    def qkvg_heads(self, x: Float[Array, "B T D"], position: Int[Array, "B T"]):
        """Rotated q and k, v (all [B, T, H, *]) and the gate [B, T, V]."""
        c = self.config
        edges = [c.width, 2 * c.width, 2 * c.width + c.value_width]
        q, k, v, g = jnp.split(self.qkvg(x), edges, axis=-1)
        heads = lambda y: y.reshape(*y.shape[:2], c.heads, -1)
        theta = (even_angles if c.angles == "even" else angles)(c.key_dim)
        q = rotate(heads(q), position, theta)
        k = rotate(heads(k) * c.key_dim**-0.5, position, theta)
        return self._cast(q), self._cast(k), self._cast(heads(v)), g

    def gated(self, y: Float[Array, "B T H E"], g: Float[Array, "B T V"]) -> Array:
        """Head norm (no weight), gate and output projection."""
        y = rms_normalise(y).reshape(g.shape).astype(g.dtype)
        return self.out(jax.nn.silu(g) * y)

    def _cast(self, x: Array) -> Array:
        return x.astype(jnp.bfloat16) if self.config.matmul_dtype == "bfloat16" else x


class Block(nnx.Module):
    """Pre-norm residual block."""

    def __init__(self, config: RetNetConfig, *, rngs: nnx.Rngs):
        self.retention_norm = RMSNorm(config.width)
        self.retention = MultiScaleRetention(config, rngs=rngs)
        self.glu_norm = RMSNorm(config.width)
        self.glu = GatedLinearUnit(
            config.width, config.hidden, dtype=config.matmul_dtype, rngs=rngs
        )

    def __call__(
        self, x: Float[Array, "B T D"], position: Int[Array, "B T"], retain: Callable
    ) -> tuple[Float[Array, "B T D"], Any]:
        """`retain(q, k, v, log_decay) -> (y, anything)` is the form of retention to use."""
        q, k, v, g = self.retention.qkvg_heads(self.retention_norm(x), position)
        y, carried = retain(q, k, v, self.retention.log_decay)
        x = x + self.retention.gated(y, g)
        return x + self.glu(self.glu_norm(x)), carried


class RetNet(nnx.Module):
    """The network: `parallel`, `chunkwise` and `step` on the same parameters."""

    def __init__(self, config: RetNetConfig, vocabulary: int, codes: int, *, rngs: nnx.Rngs):
        """`vocabulary` ids are read; the last `codes` of them are predicted.

        Raises:
            ValueError: `config.code_levels` do not make `codes` codes.
        """
        if config.code_levels and math.prod(config.code_levels) != codes:
            raise ValueError(
                f"code_levels {config.code_levels} make {math.prod(config.code_levels)} codes, "
                f"the network has {codes}"
            )
        self.config = config
        # All rows share a random vector. Without it no score can depend on the distance alone
        # (there are no biases), and "the same patch, one frame ago" is not found for thousands
        # of steps: copying a block of 77 random ids takes 200 steps with it, over 300 without.
        rows = jax.random.normal(rngs.params(), (vocabulary, config.width))
        shared = jax.random.normal(rngs.params(), (1, config.width))
        self.embedding = nnx.Param((rows + shared) * config.width**-0.5)
        if config.slots:
            self.slot_embedding = nnx.Param(jnp.zeros((config.slots, config.width)))
        if config.code_levels:
            shape = (sum(config.code_levels), config.width)
            scale = config.width**-0.5
            self.level_embedding = nnx.Param(jax.random.normal(rngs.params(), shape) * scale)
            self.level_head = nnx.Param(jax.random.normal(rngs.params(), shape) * scale)
        self.codes = codes
        keys = jax.random.split(rngs.params(), config.layers)
        self.blocks = jax.vmap(lambda key: Block(config, rngs=nnx.Rngs(key)))(keys)
        self.norm = RMSNorm(config.width)
        self.head = nnx.Param(
            jax.random.normal(rngs.params(), (config.width, codes)) * config.width**-0.5
        )

    def init_state(self, batch: int) -> RetNetState:
        """The state before any token."""
        c = self.config
        dtype = jnp.promote_types(self.embedding[...].dtype, jnp.float32)
        state = retention.init_state(batch, c.heads, c.key_dim, c.value_dim, dtype)
        stacked = jnp.broadcast_to(state, (c.layers, *state.shape))
        return RetNetState(stacked, jnp.zeros((batch,), jnp.int32))

    def parallel(self, tokens: Int[Array, "B T"]) -> Float[Array, "B T D"]:
        """Hidden vectors of whole sequences from position 0, all pairs at once."""
        position = jnp.broadcast_to(jnp.arange(tokens.shape[1]), tokens.shape)

        def layer(x, block):
            return block(x, position, lambda *qkvd: (retention.parallel(*qkvd), None))

        x, _ = scan_layers(layer, self.embed(tokens, position), self.blocks)
        return self.norm(x)

    def chunkwise(
        self,
        tokens: Int[Array, "B T"],
        state: RetNetState,
        length: Int[Array, " B"] | None = None,
        *,
        chunk: int | None = None,
    ) -> tuple[Float[Array, "B T D"], RetNetState]:
        """Hidden vectors of the next T tokens, and the state after each row's real ones.

        Args:
            tokens: the next tokens, padded at the end where rows differ.
            state: after the tokens before.
            length: real tokens per row; None means all T.
            chunk: tokens per chunk; None means the config's.

        Raises:
            ValueError: a state of another network, batch size or dtype, chunk below 1, or
                positions beyond the rotation tables.
        """
        self.check(tokens, state)
        b, t = tokens.shape
        length = jnp.full((b,), t) if length is None else length
        position = state.position[:, None] + jnp.arange(t)
        size = self.config.chunk if chunk is None else chunk

        def layer(x, block_and_state):
            block, r = block_and_state

            def retain(q, k, v, log_decay):
                return retention.chunkwise(q, k, v, log_decay, r, state.position, length, size)

            return block(x, position, retain)

        x, r = scan_layers(layer, self.embed(tokens, position), (self.blocks, state.retention))
        return self.norm(x), RetNetState(r, state.position + length)

    def step(
        self, tokens: Int[Array, " B"], state: RetNetState
    ) -> tuple[Float[Array, "B D"], RetNetState]:
        """Hidden vector of the next token of every row, and the state after it.

        What a token must move, whatever its position: every weight once (for all rows together;
        of the embedding one row each), and per row R twice, read and written: 2 N H K E floats.
        With D = 1,024, V = 2 D, N = 24, H = 16 and bfloat16 weights that is 645 MB + B * 25 MB.
        `models/lazy_state.py` can write R once per C tokens instead.

        Raises:
            ValueError: as `chunkwise`.
        """
        self.check(tokens[:, None], state)
        position = state.position[:, None]

        def layer(x, block_and_state):
            block, r = block_and_state

            def retain(q, k, v, log_decay):
                q, k, v = q[:, 0], k[:, 0], v[:, 0]
                y, after = retention.step(q, k, v, log_decay, r, state.position)
                return y[:, None], after

            return block(x, position, retain)

        x = self.embed(tokens[:, None], position)
        x, r = scan_layers(layer, x, (self.blocks, state.retention))
        return self.norm(x)[:, 0], RetNetState(r, state.position + 1)

    def check(self, tokens: Int[Array, "B T"], state: RetNetState) -> None:
        """Whether the state can read the tokens.

        Shapes and dtypes are checked always, positions where they are known (not under jit).

        Raises:
            ValueError: what is wrong, with got and wanted.
        """
        want = jax.eval_shape(lambda: self.init_state(tokens.shape[0]))
        got = RetNetState(jnp.asarray(state.retention), jnp.asarray(state.position))
        if got.retention.shape != want.retention.shape or got.position.shape != want.position.shape:
            raise ValueError(
                f"for {tokens.shape[0]} rows the state must have shapes {want.retention.shape} and "
                f"{want.position.shape}, got {got.retention.shape} and {got.position.shape}"
            )
        if got.retention.dtype != want.retention.dtype:
            raise ValueError(
                f"the state must be {want.retention.dtype}, got {got.retention.dtype} (rounding it "
                "at every token loses several per cent)"
            )
        if not jnp.issubdtype(got.position.dtype, jnp.integer):
            raise ValueError(f"positions must be integers, got {got.position.dtype}")
        if isinstance(state.position, Tracer) or not len(state.position):
            return
        position = np.asarray(state.position)  # as given: JAX would wrap what int32 cannot hold
        first, last = int(position.min()), int(position.max()) + tokens.shape[1]
        if first < 0 or last > MAX_POSITION:
            raise ValueError(
                f"positions must be in 0..{MAX_POSITION - 1}, got {first}..{last - 1}; begin a new "
                "state"
            )

    def embed(
        self, tokens: Int[Array, "B T"], position: Int[Array, "B T"]
    ) -> Float[Array, "B T D"]:
        """Embeddings of vocabulary ids, plus those of their slots in a block if there are any."""
        return self.tables().embed(tokens, position)

    def logits(self, hidden: Float[Array, "*b D"]) -> Float[Array, "*b V"]:
        """Scores of the frame codes."""
        return self.tables().logits(hidden)

    def tables(self) -> "Tables":
        """What tokens are read and scored with: the codes' levels added to their own rows."""
        embedding, head = self.embedding[...], self.head[...]
        if self.config.code_levels:
            has_level = jnp.asarray(_level_rows(self.config.code_levels), embedding.dtype)
            add_up = functools.partial(jnp.matmul, has_level, precision="highest")
            text_and_serials = embedding.shape[0] - self.codes
            of_codes = jnp.pad(add_up(self.level_embedding[...]), ((text_and_serials, 0), (0, 0)))
            embedding, head = embedding + of_codes, head + add_up(self.level_head[...]).T
        slots = self.slot_embedding[...] if self.config.slots else None
        return Tables(embedding, slots, head, self.config.matmul_dtype)

    def decoder(self) -> "Decoder":
        """The same network with its layers apart; make it once, before a decoding loop.

        Weights come in the dtype that their matmuls take, so that a step reads no more bytes.
        """
        graph, stacked = nnx.split(self.blocks)
        low = self.config.matmul_dtype == "bfloat16"
        cast = lambda x: x.astype(jnp.bfloat16) if low and x.ndim == 2 else x
        blocks = tuple(
            nnx.merge(graph, jax.tree.map(lambda leaf, i=i: cast(leaf[i]), stacked))
            for i in range(self.config.layers)
        )
        tables = self.tables()
        tables = dataclasses.replace(tables, head=cast(tables.head))
        return Decoder(self.config, tables, blocks, self.norm)


@dataclasses.dataclass(frozen=True)
class Tables:
    """Where tokens enter and leave the network.

    Attributes:
        embedding: [vocabulary, D].
        slots: embeddings of a block's slots, [slots, D]; None for none.
        head: [D, codes].
        dtype: of the head's matmul.
    """

    embedding: Array
    slots: Array | None
    head: Array
    dtype: str

    def embed(self, tokens: Int[Array, "*b"], position: Int[Array, "*b"]) -> Float[Array, "*b D"]:
        """Vectors of vocabulary ids at global positions."""
        x = self.embedding[tokens]
        return x if self.slots is None else x + self.slots[position % len(self.slots)]

    def logits(self, hidden: Float[Array, "*b D"]) -> Float[Array, "*b V"]:
        """Scores of the frame codes."""
        return matmul(hidden, self.head, self.dtype)


@dataclasses.dataclass(frozen=True)
class Decoder:
    """A `RetNet` for decoding loops: nothing in it must be cut or added up at every step.

    Attributes:
        config: the network's.
        tables: made once.
        blocks: N layers, each with weights of its own.
        norm: the last one.
    """

    config: RetNetConfig
    tables: Tables
    blocks: tuple[Block, ...]
    norm: RMSNorm


def _level_rows(levels: tuple[int, ...]) -> np.ndarray:
    """Which rows of the level tables make up each code: 0 or 1, [codes, sum of levels].

    Code c has level c // (product of the levels before) % levels[j] in channel j, as in
    `tokenizers/quantiser.py`; the channels' rows follow each other.
    """
    strides = np.cumprod((1, *levels[:-1]))
    first_rows = np.cumsum((0, *levels[:-1]))
    code = np.arange(np.prod(levels))[:, None]
    has_level = np.zeros((len(code), sum(levels)), np.float32)
    has_level[code, code // strides % np.asarray(levels) + first_rows] = 1
    return has_level


def scan_layers(layer: Callable, x: Array, stacked):
    """Run the stacked layers in order, four to a loop turn.

    The loop keeps compile time flat in depth; unrolling some of it saves copies of what the
    backward pass needs (a fifth of a training step on a CPU).
    """
    return jax.lax.scan(layer, x, stacked, unroll=4)


def log_decays(config: RetNetConfig) -> tuple[float, ...]:
    """log gamma of each head: from the memory range if there is one, else RetNet's own."""
    if config.memory_tokens is None:
        return decay.log_decays(config.heads)
    return decay.log_decays_from_memory(config.heads, *config.memory_tokens)
