"""A masked transformer over all ids of a video: MaskGIT (arXiv:2202.04200), as MAGVIT uses it for
videos (arXiv:2212.05199).

It reads text and video at once, both ways, and predicts every masked id. Sampling starts from a
volume that is all mask (but for given ids) and takes 12 steps, whatever the number of ids. Each
fills all masked places, keeps the surest and masks the others again:

    step      0      1      2    ..   11
    masked    N   .99 N  .97 N   ..    0      floor(N cos(pi/2 (step + 1) / 12)) after each

The layers are those of the other networks here (RMSNorm, bias-free projections, GLU); positions
are learned, one table per axis of the volume, and one for the text.

Shapes: B rows, T text tokens, M frames of h w ids, N = M h w, V frame codes, D width.
"""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Bool, Float, Int

from experiments.baselines.attention import softmax_attention
from fv_jax.config.model import RetNetConfig, SequenceConfig
from fv_jax.generation.policies import Policy, Sampling, gumbel, position_words
from fv_jax.models.layers import Dense, GatedLinearUnit, RMSNorm, project
from fv_jax.models.retnet import scan_layers
from fv_jax.sequence.vocab import FREE

STEPS = 12
CHOICE_TEMPERATURE = 4.5  # of MaskGIT's released sampler


class BidirectionalBlock(nnx.Module):
    """Pre-norm residual block: softmax attention among all tokens, then the gated linear unit."""

    def __init__(self, config: RetNetConfig, *, rngs: nnx.Rngs):
        self.config = config
        d, dtype = config.width, config.matmul_dtype
        self.attention_norm, self.glu_norm = RMSNorm(d), RMSNorm(d)
        self.qkv = Dense(d, 3 * d, dtype=dtype, gain=1.0, rngs=rngs)
        self.out = Dense(d, d, dtype=dtype, gain=0.5, rngs=rngs)
        self.glu = GatedLinearUnit(d, config.hidden, dtype=dtype, rngs=rngs)

    def __call__(self, x: Float[Array, "B S D"]) -> Float[Array, "B S D"]:
        c = self.config
        b, s, _ = x.shape
        low = jnp.bfloat16 if c.matmul_dtype == "bfloat16" else x.dtype
        qkv = self.qkv(self.attention_norm(x)).reshape(b, s, 3, c.heads, c.key_dim).astype(low)
        q, k, v = jnp.moveaxis(qkv, 2, 0).swapaxes(2, 3).reshape(3, b * c.heads, s, c.key_dim)
        y = softmax_attention(q, k, v, jnp.ones((1, 1, s), bool), x.dtype)
        y = y.reshape(b, c.heads, s, c.key_dim).swapaxes(1, 2).reshape(x.shape)
        x = x + self.out(y)
        return x + self.glu(self.glu_norm(x))


class MaskGit(nnx.Module):
    """The network.

    Of `config` it takes width, layers, heads, hidden and matmul_dtype.
    """

    def __init__(
        self, config: RetNetConfig, sequence: SequenceConfig, frames: int, *, rngs: nnx.Rngs
    ):
        self.config, self.sequence, self.frames = config, sequence, frames
        d, (h, w) = config.width, sequence.frame_grid
        table = lambda *shape: nnx.Param(jax.random.normal(rngs.params(), shape) * d**-0.5)
        self.text_embedding = table(1 + sequence.text_vocabulary, d)  # padding, then the text ids
        self.code_embedding = table(sequence.frame_codes + 1, d)  # the last one is the mask
        self.text_position = table(sequence.text_tokens, d)
        self.frame_position = table(frames, 1, 1, d)
        self.row_position = table(h, 1, d)
        self.column_position = table(w, d)
        keys = jax.random.split(rngs.params(), config.layers)
        self.blocks = jax.vmap(lambda key: BidirectionalBlock(config, rngs=nnx.Rngs(key)))(keys)
        self.norm = RMSNorm(d)
        self.head = table(d, sequence.frame_codes)

    def __call__(
        self, text: Int[Array, "B text"], codes: Int[Array, "B F h w"]
    ) -> Float[Array, "B N V"]:
        """Scores of every place's id.

        Args:
            text: vocabulary ids as `fv_jax.sequence.pad_text` gives them.
            codes: frame codes from 0, FREE where they are masked.
        """
        b, t = text.shape
        ids = jnp.where(codes == FREE, self.sequence.frame_codes, codes)
        place = self.frame_position[...] + self.row_position[...] + self.column_position[...]
        video = self.code_embedding[...][ids] + place
        words = self.text_embedding[...][text] + self.text_position[...]
        x = jnp.concatenate([words, video.reshape(b, -1, video.shape[-1])], axis=1)
        x, _ = scan_layers(lambda x, block: (block(x), None), x, self.blocks)
        return project(self.norm(x[:, t:]), self.head[...], self.config.matmul_dtype)

    def check(self, text: Array, codes: Array) -> None:
        """Whether shapes are those that the network is made for.

        Raises:
            ValueError: what is wrong, with got and wanted.
        """
        b, s = codes.shape[0], self.sequence
        for name, got, want in (
            ("codes", codes.shape, (b, self.frames, *s.frame_grid)),
            ("text", text.shape, (b, s.text_tokens)),
        ):
            if got != want:
                raise ValueError(f"{name} must have shape {want}, got {got}")


def loss(
    model: MaskGit, text: Int[Array, "B text"], codes: Int[Array, "B F h w"], key: Array
) -> Float[Array, ""]:
    """Cross-entropy of masked ids, nats per id (arXiv:2202.04200, section 3.1).

    Of each video ceil(cos(pi/2 r) N) ids are masked, r uniform in [0, 1).
    """
    model.check(text, codes)
    flat = codes.reshape(codes.shape[0], -1)
    ratio_key, place_key = jax.random.split(key)
    ratio = jnp.cos(jnp.pi / 2 * jax.random.uniform(ratio_key, (len(flat), 1)))
    masked = _lowest(jax.random.uniform(place_key, flat.shape), jnp.ceil(ratio * flat.shape[1]))
    logits = model(text, jnp.where(masked, FREE, flat).reshape(codes.shape))
    logs = jax.nn.log_softmax(logits.astype(jnp.float32), axis=-1)
    right = jnp.take_along_axis(logs, flat[..., None], axis=-1)[..., 0]
    return -jnp.sum(right * masked) / jnp.sum(masked)


def masked_after(step: Int[Array, ""], unknown: Int[Array, " B"], steps: int) -> Int[Array, " B"]:
    """How many of the `unknown` ids are masked again after this step, counted from 0.

    The cosine schedule, but each step fills one id at least while there are any.
    """
    # On the host: cos(pi / 3) must be one half.
    shares = jnp.asarray(np.cos(np.pi / 2 * np.arange(1, steps + 1) / steps), jnp.float32)
    masked = jnp.floor(shares[step] * unknown).astype(jnp.int32)
    masked = jnp.minimum(masked, unknown - step - 1)
    return jnp.maximum(masked, 0)


def fill_step(
    model: MaskGit,
    text: Int[Array, "B text"],
    codes: Int[Array, "B F h w"],
    unknown: Int[Array, " B"],
    step: Int[Array, ""],
    keys: Array,
    *,
    policy: Policy,
    steps: int,
    choice_temperature: float,
) -> Int[Array, "B F h w"]:
    """Fill all FREE codes, then free those of them again of which the network is least sure.

    Sure is log p(id) + Gumbel noise; the noise's scale falls linearly from `choice_temperature`
    to 0. `unknown` is the number of FREE codes before the first step.
    """
    flat = codes.reshape(codes.shape[0], -1)
    logits = model(text, codes).astype(jnp.float32)
    id_keys, choice_keys = jax.vmap(
        lambda key: jax.random.split(jax.random.fold_in(key, step)), out_axes=1
    )(keys)
    places = jnp.broadcast_to(jnp.arange(flat.shape[1]), flat.shape)
    sampled = policy(logits, gumbel(position_words(id_keys, places), logits.shape[-1]))
    logs = jnp.take_along_axis(jax.nn.log_softmax(logits, axis=-1), sampled[..., None], axis=-1)
    noise = jax.vmap(lambda key: jax.random.gumbel(key, places.shape[1:], jnp.float32))(choice_keys)
    sure = logs[..., 0] + choice_temperature * (1 - (step + 1) / steps) * noise
    free = flat == FREE
    again = _lowest(jnp.where(free, sure, jnp.inf), masked_after(step, unknown, steps)[:, None])
    filled = jnp.where(free, sampled, flat)
    return jnp.where(again, FREE, filled).reshape(codes.shape)


@functools.partial(jax.jit, static_argnames=("graph", "policy", "steps", "choice_temperature"))
def sample(
    params: Any,
    text: Int[Array, "B text"],
    codes: Int[Array, "B F h w"],
    keys: Array,
    *,
    graph: nnx.GraphDef,
    policy: Policy = Sampling(),
    steps: int = STEPS,
    choice_temperature: float = CHOICE_TEMPERATURE,
) -> Int[Array, "B F h w"]:
    """Replace every FREE code.

    Args:
        params: of a `MaskGit`, as `nnx.split` gives them.
        text: vocabulary ids as `fv_jax.sequence.pad_text` gives them.
        codes: int32 frame codes from 0, or FREE.
        keys: one typed PRNG key per row, [B]; a row's video depends on its own key alone.
        graph: of the `MaskGit`.
        policy: how ids are chosen.
        steps: runs of the network.
        choice_temperature: randomness of which ids are kept.

    Raises:
        ValueError: inputs of another shape than the network is made for, or no step.
    """
    if steps < 1:
        raise ValueError(f"steps must be >= 1, got {steps}")
    model = nnx.merge(graph, params)
    model.check(text, codes)
    unknown = jnp.sum(codes == FREE, axis=(1, 2, 3))

    def step(i, codes):
        return fill_step(
            model, text, codes, unknown, i, keys,
            policy=policy, steps=steps, choice_temperature=choice_temperature,
        )  # fmt: skip

    return jax.lax.fori_loop(0, steps, step, codes)


def _lowest(values: Float[Array, "B N"], count: Array) -> Bool[Array, "B N"]:
    """Whether a value is among the `count` lowest of its row; `count` is [B, 1]."""
    rank = jnp.argsort(jnp.argsort(values, axis=1), axis=1)
    return rank < count
