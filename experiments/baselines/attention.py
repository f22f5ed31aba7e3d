"""An autoregressive transformer with a KV cache: what retention is compared with.

As the project's RetNet in everything but the mixing: pre-norm, no biases, RMSNorm, GLU, rotary
positions, one embedding and one head over the frame codes. The gated linear
unit is wider by 4/3 D, which gives both networks the same number of parameters at V = 2 D.

The cache is made of static buffers, one pair a layer, updated in place: a step reads all of their
slots, so its cost grows with the length that they have (`Cache.grown` makes it follow what is
filled). Rows and heads are one axis, [B H, L, K], since XLA turns the products of such buffers
with one query into plain matrix-vector products; with an axis of one row it copies and transposes
the whole buffer at every token. Layers are unrolled, since a scan would copy every buffer, too.
"""

from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx, struct
from jaxtyping import Array, Bool, Float, Int

from fv_jax.config.model import RetNetConfig
from fv_jax.models.layers import Dense, GatedLinearUnit, RMSNorm, project
from fv_jax.models.retnet import scan_layers
from fv_jax.ops.rope import apply_rope_interleaved


@struct.dataclass
class Cache:
    """Keys and values of all tokens so far, and their number.

    Attributes:
        layers: (k, v) of every layer, [B H, L, K] each.
        position: tokens so far, int32: [B], or [1] where all rows have as many (which is faster:
            then they are written as one slice).
    """

    layers: Any
    position: Any

    def grown(self, length: int) -> "Cache":
        """The same with buffers of `length` slots, at least as many as before."""
        more = lambda x: jnp.pad(x, ((0, 0), (0, length - x.shape[1]), (0, 0)))
        return Cache(jax.tree.map(more, self.layers), self.position)


def softmax_attention(
    q: Float[Array, "N T K"],
    k: Float[Array, "N S K"],
    v: Float[Array, "N S K"],
    seen: Bool[Array, "#N #T S"],
    dtype: Any,
) -> Float[Array, "N T K"]:
    """softmax(q k^T / sqrt(K)) v over what is `seen`; scores and result have `dtype`.

    q and the weights are rounded to the type of k and v, as inputs of a matmul.
    """
    scores = jnp.einsum("ntk,nsk->nts", q.astype(k.dtype), k, preferred_element_type=dtype)
    scores = jnp.where(seen, scores * q.shape[-1] ** -0.5, -jnp.inf)
    weights = jax.nn.softmax(scores, axis=-1)
    return jnp.einsum("nts,nsk->ntk", weights.astype(v.dtype), v, preferred_element_type=dtype)


def all_turns(position: Int[Array, "#B T"], key_dim: int, dtype: Any) -> Float[Array, "#B T 1 K"]:
    """Where rotary positions take the pair (1, 0): cosines in even channels, sines in odd ones.

    Made once for all layers: each call of it brings megabytes of tables into the program.
    """
    pairs = jnp.tile(jnp.array([1, 0], dtype), key_dim // 2)
    return apply_rope_interleaved(jnp.broadcast_to(pairs, (*position.shape, 1, key_dim)), position)


def turned(x: Float[Array, "B T H K"], turns: Float[Array, "#B T 1 K"]) -> Array:
    """`x` with each pair of channels turned by its token's turn."""
    cos, sin, even, odd = turns[..., 0::2], turns[..., 1::2], x[..., 0::2], x[..., 1::2]
    return jnp.stack([even * cos - odd * sin, odd * cos + even * sin], axis=-1).reshape(x.shape)


class Attention(nnx.Module):
    """Causal softmax attention over a cache, or over the given tokens alone."""

    def __init__(self, config: RetNetConfig, *, rngs: nnx.Rngs):
        self.config = config
        d, dtype = config.width, config.matmul_dtype
        self.qkv = Dense(d, 3 * d, dtype=dtype, gain=1.0, rngs=rngs)
        self.out = Dense(d, d, dtype=dtype, gain=0.5, rngs=rngs)

    def __call__(
        self,
        x: Float[Array, "B T D"],
        cache,
        position: Int[Array, " #B"],
        turns: Float[Array, "#B T 1 K"],
    ):
        """Output, and the cache with these T tokens written at each row's position.

        Without a cache (None) the keys and values of these tokens are all there is. `turns` are
        those of the tokens' positions.
        """
        c = self.config
        b, t, _ = x.shape
        places = position[:, None] + jnp.arange(t)
        fold = lambda y: y.swapaxes(1, 2).reshape(b * c.heads, t, c.key_dim)
        qk, v = jnp.split(self.qkv(x).reshape(b, t, 3 * c.heads, c.key_dim), [2 * c.heads], axis=2)
        q, k, v = (fold(y) for y in (*jnp.split(turned(qk, turns), 2, axis=2), v))
        if cache is None:
            low = jnp.bfloat16 if c.matmul_dtype == "bfloat16" else x.dtype
            keys, values = k.astype(low), v.astype(low)
        else:
            keys, values = (self._write(old, new, position) for old, new in zip(cache, (k, v)))
        seen = jnp.arange(keys.shape[1]) <= places[..., None]  # [#B, T, S]
        if len(position) > 1:
            seen = jnp.repeat(seen, c.heads, axis=0)
        y = softmax_attention(q, keys, values, seen, x.dtype)
        y = y.reshape(b, c.heads, t, c.key_dim).swapaxes(1, 2)
        return self.out(y.reshape(x.shape)), (keys, values)

    def _write(self, slots, new, position):
        new = new.astype(slots.dtype)
        if len(position) == 1:
            return jax.lax.dynamic_update_slice_in_dim(slots, new, position[0], axis=1)
        write = jax.vmap(jax.lax.dynamic_update_slice_in_dim, in_axes=(0, 0, 0, None))
        return write(slots, new, jnp.repeat(position, self.config.heads), 0)


class AttentionBlock(nnx.Module):
    """Pre-norm residual block."""

    def __init__(self, config: RetNetConfig, *, rngs: nnx.Rngs):
        d = config.width
        self.attention_norm, self.glu_norm = RMSNorm(d), RMSNorm(d)
        self.attention = Attention(config, rngs=rngs)
        hidden = config.hidden + 4 * d // 3
        self.glu = GatedLinearUnit(d, hidden, dtype=config.matmul_dtype, rngs=rngs)

    def __call__(self, x, cache, position, turns):
        """Residual attention, then the residual gated linear unit."""
        y, cache = self.attention(self.attention_norm(x), cache, position, turns)
        x = x + y
        return x + self.glu(self.glu_norm(x)), cache


class Transformer(nnx.Module):
    """The baseline network; `config` is that of the RetNet it stands beside."""

    def __init__(self, config: RetNetConfig, vocabulary: int, codes: int, *, rngs: nnx.Rngs):
        self.config = config
        table = lambda shape: jax.random.normal(rngs.params(), shape) * config.width**-0.5
        self.embedding = nnx.Param(table((vocabulary, config.width)))
        self.blocks = nnx.List([AttentionBlock(config, rngs=rngs) for _ in range(config.layers)])
        self.norm = RMSNorm(config.width)
        self.head = nnx.Param(table((config.width, codes)))

    def init_state(self, batch: int, length: int) -> Cache:
        """An empty cache for `length` tokens."""
        c = self.config
        dtype = jnp.promote_types(self.embedding[...].dtype, jnp.float32)
        dtype = jnp.bfloat16 if c.matmul_dtype == "bfloat16" else dtype
        empty = lambda: jnp.zeros((batch * c.heads, length, c.key_dim), dtype)
        layers = tuple((empty(), empty()) for _ in range(c.layers))
        return Cache(layers, jnp.zeros((batch,), jnp.int32))

    def read(self, tokens: Int[Array, "B T"], cache: Cache) -> tuple[Float[Array, "B T D"], Cache]:
        """Hidden vectors of the next T tokens, and the cache with them."""
        x, layers = self.embedding[...][tokens], []
        turns = self._turns(cache.position, x)
        for block, keys_values in zip(self.blocks, cache.layers):
            x, keys_values = block(x, keys_values, cache.position, turns)
            layers.append(keys_values)
        return self.norm(x), Cache(tuple(layers), cache.position + tokens.shape[1])

    def stacked(self) -> AttentionBlock:
        """The blocks as one, with parameters stacked in front, for `parallel`."""
        return jax.tree.map(lambda *layers: jnp.stack(layers), *self.blocks)

    def parallel(self, tokens: Int[Array, "B T"], blocks: AttentionBlock) -> Float[Array, "B T D"]:
        """Hidden vectors of whole sequences from position 0, without a cache.

        `blocks` is what `stacked` returns; call it once, outside of any loop.
        """
        start, x = jnp.zeros((1,), jnp.int32), self.embedding[...][tokens]
        turns = self._turns(start, x)
        layer = lambda x, block: (block(x, None, start, turns)[0], None)
        x, _ = scan_layers(layer, x, blocks)
        return self.norm(x)

    def _turns(self, position, x):
        return all_turns(position[:, None] + jnp.arange(x.shape[1]), self.config.key_dim, x.dtype)

    def logits(self, hidden: Float[Array, "*b D"]) -> Float[Array, "*b V"]:
        """Scores of the frame codes."""
        return project(hidden, self.head[...], self.config.matmul_dtype)
