"""An autoregressive transformer with a KV cache: what retention is compared with.

As the project's RetNet in everything but the mixing: pre-norm, no biases, RMSNorm, GLU, rotary
positions, one embedding and one head over the frame codes. The gated linear
unit is wider by 4/3 D, which gives both networks the same number of parameters at V = 2 D.

The cache is made of static buffers [B, L, H, K], one pair a layer, updated in place: decoding is
one compiled step, and a step reads all L slots, so its cost grows with the length that the
buffers are made for. Layers are unrolled, since a scan would copy every buffer at each token.
"""

from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx, struct
from jaxtyping import Array, Float, Int

from fv_jax.config import RetNetConfig
from fv_jax.models.layers import Dense, GatedLinearUnit, RMSNorm, matmul
from fv_jax.ops.rotation import rotate


@struct.dataclass
class Cache:
    """Keys and values of all tokens so far, and their number.

    Attributes:
        layers: (k, v) of every layer, [B, L, H, K] each.
        position: [B] int32.
    """

    layers: Any
    position: Any


class Attention(nnx.Module):
    """Causal softmax attention over a cache."""

    def __init__(self, config: RetNetConfig, *, rngs: nnx.Rngs):
        self.config = config
        d, dtype = config.width, config.matmul_dtype
        self.qkv = Dense(d, 3 * d, dtype=dtype, gain=1.0, rngs=rngs)
        self.out = Dense(d, d, dtype=dtype, gain=0.5, rngs=rngs)

    def __call__(self, x: Float[Array, "B T D"], cache, position: Int[Array, " B"]):
        """Output, and the cache with these T tokens written at each row's position."""
        c = self.config
        heads = lambda y: y.reshape(*y.shape[:2], c.heads, c.key_dim)
        places = position[:, None] + jnp.arange(x.shape[1])
        q, k, v = (heads(y) for y in jnp.split(self.qkv(x), 3, axis=-1))
        q, k = rotate(q, places), rotate(k, places)
        write = jax.vmap(jax.lax.dynamic_update_slice_in_dim, in_axes=(0, 0, 0, None))
        keys = write(cache[0], k.astype(cache[0].dtype), position, 0)
        values = write(cache[1], v.astype(cache[1].dtype), position, 0)
        scores = jnp.einsum("bthk,bshk->bhts", q.astype(keys.dtype), keys,
                            preferred_element_type=x.dtype) * c.key_dim**-0.5  # fmt: skip
        seen = jnp.arange(keys.shape[1]) <= places[..., None]  # [B, T, L]
        weights = jax.nn.softmax(jnp.where(seen[:, None], scores, -jnp.inf), axis=-1)
        y = jnp.einsum("bhts,bshk->bthk", weights.astype(values.dtype), values,
                       preferred_element_type=x.dtype)  # fmt: skip
        return self.out(y.reshape(x.shape)), (keys, values)


class AttentionBlock(nnx.Module):
    """Pre-norm residual block."""

    def __init__(self, config: RetNetConfig, *, rngs: nnx.Rngs):
        d = config.width
        self.attention_norm, self.glu_norm = RMSNorm(d), RMSNorm(d)
        self.attention = Attention(config, rngs=rngs)
        hidden = config.hidden + 4 * d // 3
        self.glu = GatedLinearUnit(d, hidden, dtype=config.matmul_dtype, rngs=rngs)

    def __call__(self, x, cache, position):
        """Residual attention, then the residual gated linear unit."""
        y, cache = self.attention(self.attention_norm(x), cache, position)
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
        empty = lambda: jnp.zeros((batch, length, c.heads, c.key_dim), dtype)
        layers = tuple((empty(), empty()) for _ in range(c.layers))
        return Cache(layers, jnp.zeros((batch,), jnp.int32))

    def read(self, tokens: Int[Array, "B T"], cache: Cache) -> tuple[Float[Array, "B T D"], Cache]:
        """Hidden vectors of the next T tokens, and the cache with them."""

        x, layers = self.embedding[...][tokens], []
        for block, keys_values in zip(self.blocks, cache.layers):
            x, keys_values = block(x, keys_values, cache.position)
            layers.append(keys_values)
        return self.norm(x), Cache(tuple(layers), cache.position + tokens.shape[1])

    def logits(self, hidden: Float[Array, "*b D"]) -> Float[Array, "*b V"]:
        """Scores of the frame codes."""
        return matmul(hidden, self.head[...], self.config.matmul_dtype)
