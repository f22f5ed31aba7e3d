"""RetNet (arXiv:2307.08621 as the paper's section 3.1 sets it): one set of weights,
three forms.

    x = embed(tokens) (+ embed(position in the block))
    x = x + Retention(RMSNorm(x))      }  `layers` times, scanned over stacked parameters
    x = x + GLU(RMSNorm(x))            }
    hidden = RMSNorm(x);  logits(hidden) = hidden W_head, over the frame codes only
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
from jax.ad_checkpoint import checkpoint_name
from jax.core import Tracer
from jaxtyping import Array, Float, Int

from fv_jax.config.model import RetNetConfig
from fv_jax.models import sequence_parallel
from fv_jax.models.heads import Rope, in_steps
from fv_jax.models.layers import Dense, GatedLinearUnit, Projections, RMSNorm, fuse_params
from fv_jax.models.nearby import NearbyIds
from fv_jax.models.places import PlaceHead
from fv_jax.models.sharding import constrain, platform
from fv_jax.models.tables import Leaf, Tables, level_rows
from fv_jax.ops import decay, retention
from fv_jax.ops.products import matmul
from fv_jax.ops.rope import MAX_POSITION, CosSin, angles, cos_sin, even_angles


@struct.dataclass
class RetNetState:
    """All that the network remembers of the tokens so far: its size does not depend on how many.

    Attributes:
        retention: R of every layer and head, unnormalized, [L, B, H, K, E] float32 (float64 in
            tests).
        position: the one after the last token's, [B] int32; where none was left out, tokens
            consumed so far.
    """

    retention: Leaf
    position: Leaf


class MultiScaleRetention(nnx.Module):
    """W_o( silu(W_g x) * headnorm(retention(W_q x, W_k x, W_v x)) )."""

    NAMES = ("query", "key", "value", "gate")

    def __init__(self, config: RetNetConfig, *, rngs: nnx.Rngs, fused: bool = False):
        self.config = config
        d, values, dtype = config.width, config.value_width, config.matmul_dtype
        # torchscale's gain for q, k, v, g is 2^-2.5; the head norm makes the scale of v moot.
        self.qkvg = Projections(
            d, dict(zip(self.NAMES, (d, d, values, values))), dtype=dtype, gain=2**-0.5,
            rngs=rngs, axes=("embed", "heads"), fused=fused,
        )  # fmt: skip
        self.out = Dense(values, d, dtype=dtype, gain=0.5, rngs=rngs, axes=("heads", "embed"))

    @property
    def log_decay(self) -> tuple[float, ...]:
        """log gamma of each head."""
        return log_decays(self.config)

    def qkvg_heads(self, x: Float[Array, "B T D"]):
        """q, k and v, all [B, T, H, *]; the gate [B, T, H * E]."""
        c = self.config
        q, k, v, g = (checkpoint_name(y, "projection") for y in self.qkvg(x))
        heads = lambda y: constrain(
            y.reshape(*y.shape[:2], c.heads, -1), "rows", "tokens", "heads", None
        )
        return heads(q), heads(k), heads(v), g

    def gated(self, y: Float[Array, "B T H E"], g: Float[Array, "B T values"]) -> Array:
        """Gate and output projection of y, which is normalized by head (without a weight)."""
        return self.out(jax.nn.silu(g) * y.reshape(g.shape).astype(g.dtype))


class Block(nnx.Module):
    """Pre-norm residual block."""

    def __init__(self, config: RetNetConfig, *, rngs: nnx.Rngs, fused: bool = False):
        """`fused`: with matrices fused for decoding."""
        self.retention_norm = RMSNorm(config.width)
        self.retention = MultiScaleRetention(config, rngs=rngs, fused=fused)
        self.glu_norm = RMSNorm(config.width)
        self.glu = GatedLinearUnit(
            config.width, config.hidden, dtype=config.matmul_dtype, rngs=rngs, fused=fused
        )

    def __call__(
        self, x: Float[Array, "B T D"], retain: Callable
    ) -> tuple[Float[Array, "B T D"], Any]:
        """`retain(q, k, v, log_decay) -> (y, anything)` is what `models/heads.py` does."""
        q, k, v, g = self.retention.qkvg_heads(self.retention_norm(x))
        y, carried = retain(q, k, v, self.retention.log_decay)
        x = x + checkpoint_name(self.retention.gated(y, g), "projection")
        x = constrain(x, "rows", "tokens", None)
        return constrain(x + self.glu(self.glu_norm(x)), "rows", "tokens", None), carried


class RetNet(nnx.Module):
    """The network: `parallel`, `chunkwise`, `recurrent` and `step` on the same parameters."""

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
        # All rows share a random vector, unless they are to start plain. Without it no score can
        # depend on the distance alone (there are no biases), and "the same patch, one frame ago" is
        # not found for thousands of steps: copying a block of 77 random ids takes 200 steps with
        # it, over 300 without.
        rows = jax.random.normal(rngs.params(), (vocabulary, config.width))
        shared = jax.random.normal(rngs.params(), (1, config.width)) if config.shared_start else 0
        self.embedding = nnx.Param(
            (rows + shared) * config.width**-0.5, axes=("vocabulary", "embed")
        )
        if config.slots:
            shape = (config.slots, config.width)
            self.slot_embedding = nnx.Param(jnp.zeros(shape), axes=("slots", "embed"))
        if config.code_levels:
            shape = (sum(config.code_levels), config.width)
            scale = config.width**-0.5
            by_level = lambda: nnx.Param(
                jax.random.normal(rngs.params(), shape) * scale, axes=("levels", "embed")
            )
            self.level_embedding, self.level_head = by_level(), by_level()
        self.codes = codes
        keys = jax.random.split(rngs.params(), config.layers)
        self.blocks = jax.vmap(lambda key: Block(config, rngs=nnx.Rngs(key)))(keys)
        self.norm = RMSNorm(config.width)
        self.head = nnx.Param(
            jax.random.normal(rngs.params(), (config.width, codes)) * config.width**-0.5,
            axes=("embed", "codes"),
        )
        if config.nearby:
            self.nearby = NearbyIds(config, codes, rngs=rngs)
        if config.places:
            self.places = PlaceHead(config, rngs=rngs)

    def init_state(self, batch: int) -> RetNetState:
        """The state before any token."""
        c = self.config
        dtype = jnp.promote_types(self.embedding[...].dtype, jnp.float32)
        state = retention.init_state(batch, c.heads, c.key_dim, c.value_dim, dtype)
        stacked = jnp.broadcast_to(state, (c.layers, *state.shape))
        return RetNetState(stacked, jnp.zeros((batch,), jnp.int32))

    def parallel(
        self,
        tokens: Int[Array, "B T"],
        positions: Int[Array, "B tokens_and_next"] | None = None,
        nearby: Int[Array, "B T nearby"] | None = None,
    ) -> Float[Array, "B T D"]:
        """Hidden vectors of whole sequences, all pairs at once; more of it as in `chunkwise`."""
        state = self.init_state(len(tokens))
        form = in_steps(retention.parallel)
        return self._read(form, tokens, state, positions=positions, nearby=nearby)[0]

    def chunkwise(
        self,
        tokens: Int[Array, "B T"],
        state: RetNetState,
        length: Int[Array, " B"] | None = None,
        positions: Int[Array, "B tokens_and_next"] | None = None,
        nearby: Int[Array, "B T nearby"] | None = None,
        *,
        chunk: int | None = None,
        remat: str = "none",
    ) -> tuple[Float[Array, "B T D"], RetNetState]:
        """Hidden vectors of the next T tokens, and the state after each row's real ones.

        Args:
            tokens: the next tokens, padded at the end where rows differ.
            state: after the tokens before.
            length: real tokens per row; None means all T.
            positions: where tokens are left out, the global position of each, from the state's on
                and increasing over the real ones, and of the token that comes after them; padding
                may have any. None means one after the other.
            nearby: where the network reads them (`RetNetConfig.nearby`), the codes around the place
                that each token predicts (`sequence/nearby.py`), -1 for none.
            chunk: tokens per chunk; None means the config's.
            remat: what the backward pass computes again, see `scan_layers`.

        Raises:
            ValueError: a state of another network, batch size or dtype, chunk below 1, positions
                that do not increase, or beyond the RoPE tables.
        """
        size = self.config.chunk if chunk is None else chunk
        form = functools.partial(sequence_parallel.chunkwise, chunk=size)
        return self._read(form, tokens, state, length, positions, nearby, remat)

    def recurrent(
        self,
        tokens: Int[Array, "B T"],
        state: RetNetState,
        length: Int[Array, " B"] | None = None,
        positions: Int[Array, "B tokens_and_next"] | None = None,
        nearby: Int[Array, "B T nearby"] | None = None,
    ) -> tuple[Float[Array, "B T D"], RetNetState]:
        """`chunkwise` token by token: in every layer one `lax.scan` over the tokens."""
        return self._read(in_steps(retention.recurrent), tokens, state, length, positions, nearby)

    def step(
        self,
        tokens: Int[Array, " B"],
        state: RetNetState,
        nearby: Int[Array, "B nearby"] | None = None,
    ) -> tuple[Float[Array, "B D"], RetNetState]:
        """Hidden vector of the next token of every row, and the state after it.

        What a token must move, whatever its position: every weight once (for all rows together;
        of the embedding one row each), and per row R twice, read and written: 2 L H K E floats.
        With D = 1,024, 2 D channels of values, L = 24, H = 16 and bfloat16 weights that is 645 MB
        + B * 25 MB. `models/decode_cache.py` can write R once per M tokens instead.

        Raises:
            ValueError: as `chunkwise`.
        """

        def one(q, k, v, log_decay, state, start, length, positions):
            y, after = retention.step(q[:, 0], k[:, 0], v[:, 0], log_decay, state, start)
            return y[:, None], after

        nearby = None if nearby is None else nearby[:, None]
        hidden, state = self._read(in_steps(one), tokens[:, None], state, nearby=nearby)
        return hidden[:, 0], state

    def _read(
        self,
        form: Callable,
        tokens: Int[Array, "B T"],
        state: RetNetState,
        length: Int[Array, " B"] | None = None,
        positions: Int[Array, "B tokens_and_next"] | None = None,
        nearby: Int[Array, "B T nearby"] | None = None,
        remat: str = "none",
    ) -> tuple[Float[Array, "B T D"], RetNetState]:
        """The next tokens by a form in its steps (`models/heads.py`), or what does the same."""
        self.check(tokens, state, length, positions)
        rows, count = tokens.shape
        length = jnp.full((rows,), count, jnp.int32) if length is None else length
        at, told, rope = places_of_tokens(
            self.config, state.position, count, self.embedding[...].dtype, positions
        )
        gaps = None if positions is None else at

        def layer(x, block_and_state):
            block, r = block_and_state

            def retain(q, k, v, log_decay):
                return form(q, k, v, log_decay, r, state.position, length, gaps, rope)

            return block(x, retain)

        x = constrain(self.embed(tokens, told, nearby), "rows", "tokens", None)
        x, r = scan_layers(layer, x, (self.blocks, state.retention), remat)
        return self.norm(x), RetNetState(r, retention.end(state.position, length, gaps))

    def check(
        self,
        tokens: Int[Array, "B T"],
        state: RetNetState,
        length: Int[Array, " B"] | None = None,
        positions: Int[Array, "B tokens_and_next"] | None = None,
    ) -> None:
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
        if positions is not None and positions.shape != (tokens.shape[0], tokens.shape[1] + 1):
            raise ValueError(
                f"tokens {tokens.shape} need positions of themselves and of what comes after them, "
                f"got {positions.shape}"
            )
        if any(isinstance(x, Tracer) for x in (state.position, length, positions)):
            return
        if not len(state.position):
            return
        position = np.asarray(state.position)  # as given: JAX would wrap what int32 cannot hold
        first, last = int(position.min()), int(position.max()) + tokens.shape[1]
        if positions is not None:
            at = np.asarray(positions)
            real = np.arange(at.shape[1]) < at.shape[1]
            if length is not None:
                real = np.arange(at.shape[1]) < np.asarray(length)[:, None]
            steps = np.diff(at, axis=1, prepend=position[:, None] - 1)
            if np.any(real & (steps < 1)):
                raise ValueError("the positions of a row must increase, from its state's on")
            last = int(at.max()) + 1
        if first < 0 or last > MAX_POSITION:
            raise ValueError(
                f"positions must be in 0..{MAX_POSITION - 1}, got {first}..{last - 1}; begin a new "
                "state"
            )

    def embed(
        self, tokens: Int[Array, "B T"], position: Int[Array, "B T"],
        nearby: Int[Array, "B T nearby"] | None = None,
    ) -> Float[Array, "B T D"]:  # fmt: skip
        """Embeddings of vocabulary ids, plus those of their slots in a block and of the ids nearby
        what they predict, if there are any.
        """
        return self.tables().embed(tokens, position, nearby)

    def logits(
        self, hidden: Float[Array, "*b D"], nearby: Int[Array, "*b nearby"] | None = None
    ) -> Float[Array, "*b V"]:
        """Scores of the frame codes."""
        return self.tables().logits(hidden, nearby)

    def tables(self) -> Tables:
        """What tokens are read and scored with: the codes' levels added to their own rows."""
        embedding, head = self.embedding[...], self.head[...]
        if self.config.code_levels:
            has_level = jnp.asarray(level_rows(self.config.code_levels), embedding.dtype)
            add_up = functools.partial(matmul, has_level)
            text_and_serials = embedding.shape[0] - self.codes
            of_codes = jnp.pad(add_up(self.level_embedding[...]), ((text_and_serials, 0), (0, 0)))
            embedding, head = embedding + of_codes, head + add_up(self.level_head[...]).T
        slots = self.slot_embedding[...] if self.config.slots else None
        nearby = self.nearby if self.config.nearby else None
        places = self.places if self.config.places else None
        return Tables(embedding, slots, head, nearby, places, self.config.matmul_dtype)

    def decoder(self) -> "Decoder":
        """The same network with its layers apart; make it once, before a decoding loop.

        What reads the same vector is one matrix. Weights come in the dtype that their matmuls
        take, so that a step reads no more bytes.
        """
        config, cast = self.config, lambda x: low(x, self.config) if x.ndim > 1 else x
        params = nnx.to_pure_dict(nnx.state(self.blocks, nnx.Param))
        for layer, name, kind in (
            ("retention", "qkvg", MultiScaleRetention), ("glu", "up_gate", GatedLinearUnit),
        ):  # fmt: skip
            params[layer] = params[layer] | {name: fuse_params(params[layer][name], kind.NAMES)}
        graph = nnx.graphdef(nnx.eval_shape(lambda: Block(config, rngs=nnx.Rngs(0), fused=True)))
        blocks = tuple(
            nnx.merge(graph, jax.tree.map(lambda leaf, i=i: cast(leaf[i]), params))
            for i in range(config.layers)
        )
        tables = self.tables()
        tables = dataclasses.replace(tables, head=cast(tables.head))
        return Decoder(self.config, tables, blocks, self.norm)


@functools.partial(
    jax.tree_util.register_dataclass,
    data_fields=["tables", "blocks", "norm"], meta_fields=["config"],
)  # fmt: skip
@dataclasses.dataclass(frozen=True)
class Decoder:
    """A `RetNet` for decoding loops: nothing in it must be cut or added up at every step.

    Attributes:
        config: the network's.
        tables: made once.
        blocks: L layers, each with weights of its own.
        norm: the last one.
    """

    config: RetNetConfig
    tables: Tables
    blocks: tuple[Block, ...]
    norm: RMSNorm


def scan_layers(layer: Callable, x: Array, stacked, remat: str = "none"):
    """Run the stacked layers in order.

    The loop keeps compile time flat in depth. On a CPU four layers are one turn, which saves
    copies of what the backward pass needs (a fifth of a training step); on a TPU one, since four
    cost the compiler's layouts more than they save (a third of the paper's step).

    Args:
        layer: (x, part of `stacked`) -> (x, anything).
        x: into the first layer.
        stacked: with a leading axis of layers.
        remat: what the backward pass computes again instead of keeping it: "none"; "cheap", all
            but the results of the layers' projections, so that retention alone is done twice;
            "block", all but x.
    """
    if remat == "block":
        layer = jax.checkpoint(layer, prevent_cse=False)
    elif remat == "cheap":
        keep = jax.checkpoint_policies.save_only_these_names("projection", "retention")
        layer = jax.checkpoint(layer, prevent_cse=False, policy=keep)
    return jax.lax.scan(layer, x, stacked, unroll=4 if platform() == "cpu" else 1)


def rope_tables(config: RetNetConfig, position: Int[Array, "B T"], dtype) -> CosSin:
    """cos and sin of the config's angles at global positions, float32 at least."""
    theta = (even_angles if config.angles == "even" else angles)(config.key_dim)
    return cos_sin(position, theta, jnp.promote_types(dtype, jnp.float32))


def places_of_tokens(
    config: RetNetConfig,
    start: Int[Array, " B"],
    count: int,
    dtype,
    positions: Int[Array, "B tokens_and_next"] | None = None,
) -> tuple[Int[Array, "B T"], Int[Array, "B T"], Rope]:
    """Where the next tokens stand, and what they are told of it.

    A key turns by its token's position, a query by the position before the token that follows: it
    looks from where it has to predict, and what lies "here, one frame ago" is as far away as ever.
    Where no token is left out, that is its own position. Where frames are coded as what changed,
    the slot in the block that a token is told is that one as well: the token itself may stand
    anywhere before it.

    Args:
        config: the network's.
        start: the position after the last token so far.
        count: T.
        dtype: of the embeddings.
        positions: of the tokens and of what comes after them; None for one after the other.

    Returns:
        Positions, those whose slots are embedded (`Tables.embed`), and RoPE tables of queries and
        keys, for all layers.
    """
    if positions is None:
        position = start[:, None] + jnp.arange(count)
        both = rope_tables(config, position, dtype)
        return position, position, (both, both)
    position, before_next = positions[:, :-1], positions[:, 1:] - 1
    rope = tuple(rope_tables(config, at, dtype) for at in (before_next, position))
    return position, before_next if config.places else position, rope


def low(x: Array, config: RetNetConfig) -> Array:
    """x in the dtype that matmuls take it in."""
    return x.astype(jnp.bfloat16) if config.matmul_dtype == "bfloat16" else x


def log_decays(config: RetNetConfig) -> tuple[float, ...]:
    """log gamma of each head: from the memory range if there is one, else RetNet's own."""
    if config.memory_tokens is None:
        return decay.log_decays(config.heads)
    return decay.log_decays_from_memory(config.heads, *config.memory_tokens)
