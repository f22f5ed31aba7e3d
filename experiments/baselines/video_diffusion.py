"""Diffusion over pixels with a 3-D U-Net: Video Diffusion Models (arXiv:2204.03458).

The U-Net is that of images with two changes (section 3): every convolution sees one frame at a
time (1x3x3), and after each block of attention over space comes one over time, at every pixel by
itself, with learned biases of the relative position. So frames touch nowhere else.

    frames [B, M, Y, X, 3] -> c -> 2c -> 4c -> 8c -> 4c -> 2c -> c -> v [B, M, Y, X, 3]
                              1    1/2   1/4   1/8  of the size; attention at the lowest two
    time + mean of the text's embeddings -> scale and shift in every residual block

Time t runs from 0 (frames) to 1 (noise), on the cosine schedule:

    z_t = alpha x + sigma e,  alpha = cos(pi t / 2),  sigma = sin(pi t / 2),  v = alpha e - sigma x

The network predicts v (arXiv:2202.00512); sampling is ancestral, 256 steps.

Shapes: B rows, M frames of Y x X px, floats in [-1, 1]; T text tokens, S = Y X places, C channels.
"""

import dataclasses
import functools
import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float, Int

from experiments.baselines.attention import softmax_attention
from fv_jax.config.model import DTYPES
from fv_jax.models.layers import Dense
from fv_jax.sequence.vocab import PAD

STEPS = 256


@dataclasses.dataclass(frozen=True)
class UNetConfig:
    """Sizes of the U-Net.

    Attributes:
        frames: M, frames of a video.
        text_vocabulary: number of text ids (padding is one more).
        channels: c, of the full-size level.
        multipliers: of c, by level; each level has half the size of the one before.
        attention_levels: how many of the lowest levels have attention.
        depth: residual blocks per level on the way down; the way up has one more.
        embedding: width of the embedding of time and text.
        heads, key_dim: heads of attention, and channels of each, at every level that has it.
        matmul_dtype: dtype of convolutions, matmuls and activations; parameters, statistics and
            the result are float32.
    """

    frames: int
    text_vocabulary: int
    channels: int = 128
    multipliers: tuple[int, ...] = (1, 2, 4, 8)
    attention_levels: int = 2
    depth: int = 2
    embedding: int = 512
    heads: int = 8
    key_dim: int = 64
    matmul_dtype: str = "float32"

    def __post_init__(self) -> None:
        for name in ("frames", "text_vocabulary", "depth", "heads", "key_dim"):
            if getattr(self, name) < 1:
                raise ValueError(f"UNetConfig.{name} must be >= 1, got {getattr(self, name)}")
        for name in ("channels", "embedding"):  # sine and cosine; groups of the norms
            value = getattr(self, name)
            if value < 2 or value % 2:
                raise ValueError(f"UNetConfig.{name} must be even and >= 2, got {value}")
        if not 0 <= self.attention_levels <= len(self.multipliers):
            raise ValueError(
                f"UNetConfig.attention_levels must be in 0..{len(self.multipliers)}, got "
                f"{self.attention_levels}"
            )
        if self.matmul_dtype not in DTYPES:
            raise ValueError(
                f"UNetConfig.matmul_dtype must be one of {DTYPES}, got {self.matmul_dtype!r}"
            )

    @property
    def downsample(self) -> int:
        """Y and X must be divisible by this."""
        return 2 ** (len(self.multipliers) - 1)


class GroupNorm(nnx.Module):
    """Norm over the places and a group of channels of each row, with learned scale and bias."""

    def __init__(self, channels: int):
        self.groups = math.gcd(channels, 32)
        self.scale, self.bias = nnx.Param(jnp.ones(channels)), nnx.Param(jnp.zeros(channels))

    def __call__(self, x: Float[Array, "N *s C"]) -> Float[Array, "N *s C"]:
        wide = x.reshape(len(x), -1, self.groups, x.shape[-1] // self.groups).astype(jnp.float32)
        mean = jnp.mean(wide, axis=(1, 3), keepdims=True)
        variance = jnp.mean((wide - mean) ** 2, axis=(1, 3), keepdims=True)
        wide = ((wide - mean) * jax.lax.rsqrt(variance + 1e-6)).reshape(x.shape)
        return (wide * self.scale[...] + self.bias[...]).astype(x.dtype)


class Conv(nnx.Module):
    """A 3x3 convolution; `zero` starts it at 0, as the last one of a residual branch."""

    def __init__(
        self, inputs: int, outputs: int, dtype: str, *,
        rngs: nnx.Rngs, stride: int = 1, zero: bool = False,
    ):  # fmt: skip
        self.dtype, self.stride, shape = dtype, stride, (3, 3, inputs, outputs)
        deviation = (9 * inputs) ** -0.5
        draw = lambda: jax.random.normal(rngs.params(), shape) * deviation
        self.weight = nnx.Param(jnp.zeros(shape) if zero else draw())
        self.bias = nnx.Param(jnp.zeros(outputs))

    def __call__(self, x: Float[Array, "N Y X I"]) -> Float[Array, "N y x O"]:
        low = jnp.bfloat16 if self.dtype == "bfloat16" else x.dtype
        y = jax.lax.conv_general_dilated(
            x.astype(low), self.weight[...].astype(low), (self.stride, self.stride), "SAME",
            dimension_numbers=("NHWC", "HWIO", "NHWC"),
        )  # fmt: skip
        return y + self.bias[...].astype(low)


class SpaceTimeAttention(nnx.Module):
    """Attention among the places of each frame, then among the frames at each place."""

    def __init__(self, channels: int, config: UNetConfig, *, rngs: nnx.Rngs):
        self.heads, self.key_dim, dtype = config.heads, config.key_dim, config.matmul_dtype
        inner = self.heads * self.key_dim
        dense = lambda i, o, gain: Dense(i, o, dtype=dtype, gain=gain, rngs=rngs)
        self.space_norm, self.time_norm = (GroupNorm(channels) for _ in range(2))
        self.space_qkv, self.time_qkv = (dense(channels, 3 * inner, 1.0) for _ in range(2))
        self.space_out, self.time_out = (dense(inner, channels, 0.5) for _ in range(2))
        self.time_bias = nnx.Param(jnp.zeros((2 * config.frames - 1, self.heads)))

    def __call__(self, x: Float[Array, "B F Y X C"]) -> Float[Array, "B F Y X C"]:
        shape = b, m, y, w, c = x.shape
        x = x.reshape(b * m, y * w, c)
        x = x + self._space(self.space_norm(x))
        x = x.reshape(b, m, y * w, c)
        return (x + self._time(_per_frame(self.time_norm, x))).reshape(shape)

    def _space(self, x: Float[Array, "N S C"]) -> Float[Array, "N S C"]:
        n, s, _ = x.shape
        qkv = self.space_qkv(x).reshape(n, s, 3, self.heads, self.key_dim)
        q, k, v = qkv.transpose(2, 0, 3, 1, 4).reshape(3, n * self.heads, s, self.key_dim)
        out = softmax_attention(q, k, v, jnp.ones((1, 1, s), bool), jnp.float32)
        out = out.reshape(n, self.heads, s, self.key_dim).swapaxes(1, 2)
        return self.space_out(out.reshape(n, s, -1).astype(x.dtype))

    def _time(self, x: Float[Array, "B F places C"]) -> Float[Array, "B F places C"]:
        b, m, s, _ = x.shape
        qkv = self.time_qkv(x).reshape(b, m, s, 3, self.heads, self.key_dim)
        q, k, v = jnp.moveaxis(qkv, 3, 0)
        scores = jnp.einsum("bmshk,bnshk->bshmn", q, k, preferred_element_type=jnp.float32)
        places = jnp.arange(m)
        bias = self.time_bias[...][places[:, None] - places + m - 1]  # [M, M, H]
        scores = scores * self.key_dim**-0.5 + jnp.moveaxis(bias, -1, 0)
        weights = jax.nn.softmax(scores, axis=-1).astype(v.dtype)
        out = jnp.einsum("bshmn,bnshk->bmshk", weights, v)
        return self.time_out(out.reshape(b, m, s, -1))


class ResidualBlock(nnx.Module):
    """Two convolutions; the embedding scales and shifts between them."""

    def __init__(self, inputs: int, outputs: int, config: UNetConfig, *, rngs: nnx.Rngs):
        dtype = config.matmul_dtype
        self.first_norm, self.second_norm = GroupNorm(inputs), GroupNorm(outputs)
        self.first = Conv(inputs, outputs, dtype, rngs=rngs)
        self.second = Conv(outputs, outputs, dtype, rngs=rngs, zero=True)
        embedding = config.embedding
        self.modulation = Dense(embedding, 2 * outputs, dtype=dtype, gain=1.0, rngs=rngs)
        same = inputs == outputs
        self.skip = None if same else Dense(inputs, outputs, dtype=dtype, gain=1.0, rngs=rngs)

    def __call__(
        self, x: Float[Array, "B F Y X C"], embedding: Float[Array, "B E"]
    ) -> Float[Array, "B F Y X O"]:
        h = _per_frame(lambda x: self.first(jax.nn.silu(self.first_norm(x))), x)
        scale, shift = jnp.split(self.modulation(embedding)[:, None, None, None], 2, axis=-1)
        h = _per_frame(self.second_norm, h) * (1 + scale) + shift
        h = _per_frame(self.second, jax.nn.silu(h))
        return h + (x if self.skip is None else self.skip(x))


class Stage(nnx.Module):
    """A residual block, with attention or without."""

    def __init__(
        self, inputs: int, outputs: int, attends: bool, config: UNetConfig, *, rngs: nnx.Rngs
    ):
        self.residual = ResidualBlock(inputs, outputs, config, rngs=rngs)
        self.attention = SpaceTimeAttention(outputs, config, rngs=rngs) if attends else None

    def __call__(self, x, embedding):
        x = self.residual(x, embedding)
        return x if self.attention is None else self.attention(x)


class VideoUNet(nnx.Module):
    """The network: noisy frames, time and text to v."""

    def __init__(self, config: UNetConfig, *, rngs: nnx.Rngs):
        self.config = config
        c, dtype, e = config.channels, config.matmul_dtype, config.embedding
        widths = [c * m for m in config.multipliers]
        attends = [i >= len(widths) - config.attention_levels for i in range(len(widths))]
        dense = lambda i, o: Dense(i, o, dtype=dtype, gain=1.0, rngs=rngs)
        stage = lambda i, o, attends: Stage(i, o, attends, config, rngs=rngs)
        text = jax.random.normal(rngs.params(), (1 + config.text_vocabulary, e))
        self.text_embedding = nnx.Param(text)
        self.time_in, self.time_out = dense(e, e), dense(e, e)
        self.first = Conv(3, c, dtype, rngs=rngs)
        down, halves, skips, now = [], [], [c], c
        for level, width in enumerate(widths):
            row = []
            for _ in range(config.depth):
                row.append(stage(now, width, attends[level]))
                now = width
                skips.append(now)
            down.append(nnx.List(row))
            if level + 1 < len(widths):
                halves.append(Conv(now, now, dtype, rngs=rngs, stride=2))
                skips.append(now)
        self.down, self.halves = nnx.List(down), nnx.List(halves)
        self.middle = nnx.List([stage(now, now, attends[-1]), stage(now, now, False)])
        up, doubles = [], []
        for level, width in reversed(list(enumerate(widths))):
            row = []
            for _ in range(config.depth + 1):
                row.append(stage(now + skips.pop(), width, attends[level]))
                now = width
            up.append(nnx.List(row))
            if level:
                doubles.append(Conv(now, now, dtype, rngs=rngs))
        self.up, self.doubles = nnx.List(up), nnx.List(doubles)
        self.norm = GroupNorm(now)
        self.last = Conv(now, 3, "float32", rngs=rngs, zero=True)

    def __call__(
        self,
        z: Float[Array, "B F Y X 3"],
        t: Float[Array, " B"],
        text: Int[Array, "B text"],
    ) -> Float[Array, "B F Y X 3"]:
        """v of noisy frames at time t; text as `fv_jax.sequence.pad_text` gives it.

        Raises:
            ValueError: frames of another number, or of a size that cannot be halved so often.
        """
        _check(self.config, z.shape)
        dtype = jnp.bfloat16 if self.config.matmul_dtype == "bfloat16" else z.dtype
        embedding = self._embed(t, text).astype(dtype)
        x = _per_frame(self.first, z.astype(dtype))
        skips = [x]
        for level, stages in enumerate(self.down):
            for stage in stages:
                x = stage(x, embedding)
                skips.append(x)
            if level < len(self.halves):
                x = _per_frame(self.halves[level], x)
                skips.append(x)
        for stage in self.middle:
            x = stage(x, embedding)
        for level, stages in enumerate(self.up):
            for stage in stages:
                x = stage(jnp.concatenate([x, skips.pop()], axis=-1), embedding)
            if level < len(self.doubles):
                x = _per_frame(lambda x, conv=self.doubles[level]: conv(_doubled(x)), x)
        return _per_frame(lambda x: self.last(jax.nn.silu(self.norm(x)).astype(z.dtype)), x)

    def _embed(self, t, text):
        """Time's sines and cosines through two layers, and the mean over the text's real ids."""
        e = self.config.embedding
        frequencies = 1e4 ** -jnp.linspace(0, 1, e // 2)
        phase = 1000 * t[:, None] * frequencies
        time = jnp.concatenate([jnp.sin(phase), jnp.cos(phase)], axis=-1)
        time = self.time_out(jax.nn.silu(self.time_in(time)))
        real = (text != PAD)[..., None]
        total = jnp.sum(jnp.where(real, self.text_embedding[...][text], 0), axis=1)
        return jax.nn.silu(time + total / jnp.maximum(jnp.sum(real, axis=1), 1))


def alpha_sigma(t: Float[Array, "*b"]) -> tuple[Float[Array, "*b"], Float[Array, "*b"]]:
    """Shares of frames and of noise at time t, alpha^2 + sigma^2 = 1 (cosine schedule)."""
    angle = jnp.pi / 2 * t
    return jnp.cos(angle), jnp.sin(angle)


def noised(x: Float[Array, "*b"], noise: Float[Array, "*b"], t: Float[Array, "*#b"]) -> Array:
    """z_t = alpha x + sigma e; `t` has the axes of x, of size 1 where it is shared."""
    alpha, sigma = alpha_sigma(t)
    return alpha * x + sigma * noise


def velocity(x: Float[Array, "*b"], noise: Float[Array, "*b"], t: Float[Array, "*#b"]) -> Array:
    """v = alpha e - sigma x."""
    alpha, sigma = alpha_sigma(t)
    return alpha * noise - sigma * x


def clean(z: Float[Array, "*b"], v: Float[Array, "*b"], t: Float[Array, "*#b"]) -> Array:
    """The x that z_t and v belong to: alpha z - sigma v."""
    alpha, sigma = alpha_sigma(t)
    return alpha * z - sigma * v


def posterior(
    z: Float[Array, "*b"], x: Float[Array, "*b"], t: Float[Array, ""], s: Float[Array, ""]
) -> tuple[Float[Array, "*b"], Float[Array, ""]]:
    """Mean and standard deviation of z_s, given z_t and the frames, s < t (section 2, eq. 3)."""
    (alpha, sigma), (alpha_s, sigma_s) = alpha_sigma(t), alpha_sigma(s)
    # e^(lambda_t - lambda_s) alpha_s / alpha_t without the division by alpha_t, which is 0 at t = 1
    kept = alpha * sigma_s**2 / (alpha_s * sigma**2)
    new = 1 - (alpha * sigma_s / (alpha_s * sigma)) ** 2
    return kept * z + new * alpha_s * x, jnp.sqrt(new) * sigma_s


def loss(
    model: VideoUNet, frames: Float[Array, "B F Y X 3"], text: Int[Array, "B text"], key: Array
) -> Float[Array, ""]:
    """Mean squared error of v at random times, one per row."""
    t_key, noise_key = jax.random.split(key)
    t = jax.random.uniform(t_key, frames.shape[:1])
    noise = jax.random.normal(noise_key, frames.shape, frames.dtype)
    over_rows = t[:, None, None, None, None]
    v = model(noised(frames, noise, over_rows), t, text)
    return jnp.mean((v - velocity(frames, noise, over_rows)) ** 2)


def ancestral(
    denoise: Callable[[Array, Array], Array], keys: Array, shape: tuple[int, ...], steps: int
) -> Float[Array, "B F Y X 3"]:
    """Frames from noise: each step draws z_s given z_t and the frames that v gives, cut to [-1, 1].

    The variance is the posterior's (gamma = 0 of the paper's interpolation).

    Args:
        denoise: z_t [B, M, Y, X, 3] and t, a scalar, to v.
        keys: one typed PRNG key per row, [B]; step i draws from `fold_in(key, i)`.
        shape: (M, Y, X, 3).
        steps: runs of the network.
    """
    draw = lambda i: jax.vmap(lambda k: jax.random.normal(jax.random.fold_in(k, i), shape))(keys)

    def step(i, z):
        t, s = (steps - i) / steps, (steps - i - 1) / steps  # 1 and 0 are exact
        x = jnp.clip(clean(z, denoise(z, t), t), -1, 1)
        mean, deviation = posterior(z, x, t, s)
        return mean + deviation * draw(i + 1)

    # The last step is at s = 0, where sigma is 0: its result is x.
    return jax.lax.fori_loop(0, steps, step, draw(0))


@functools.partial(jax.jit, static_argnames=("graph", "size", "steps"))
def sample(
    params: Any,
    text: Int[Array, "B text"],
    keys: Array,
    *,
    graph: nnx.GraphDef,
    size: tuple[int, int],
    steps: int = STEPS,
) -> Float[Array, "B F Y X 3"]:
    """Videos of a text, floats in [-1, 1].

    Args:
        params: of a `VideoUNet`, as `nnx.split` gives them.
        text: vocabulary ids as `fv_jax.sequence.pad_text` gives them.
        keys: one typed PRNG key per row, [B]; a row's video depends on its own key alone.
        graph: of the `VideoUNet`.
        size: (Y, X) px.
        steps: runs of the network.

    Raises:
        ValueError: a size that the network cannot halve as often as it has levels, or no step.
    """
    if steps < 1:
        raise ValueError(f"steps must be >= 1, got {steps}")
    model = nnx.merge(graph, params)
    shape = (model.config.frames, *size, 3)
    _check(model.config, (len(text), *shape))
    denoise = lambda z, t: model(z, jnp.broadcast_to(t, (len(text),)), text)
    return ancestral(denoise, keys, shape, steps)


def _check(config: UNetConfig, shape: tuple[int, ...]) -> None:
    want = f"[B, {config.frames}, Y, X, 3] with Y and X divisible by {config.downsample}"
    _, frames, *size, colors = shape
    if frames != config.frames or colors != 3 or any(n % config.downsample for n in size):
        raise ValueError(f"frames must have shape {want}, got {shape}")


def _per_frame(layer: Callable[[Array], Array], x: Array) -> Array:
    """`layer` applied to [B M, ...], so that neither its norm nor its kernel mixes frames."""
    y = layer(x.reshape(-1, *x.shape[2:]))
    return y.reshape(*x.shape[:2], *y.shape[1:])


def _doubled(x: Float[Array, "N Y X C"]) -> Float[Array, "N Y2 X2 C"]:
    """Each pixel four times."""
    return jnp.repeat(jnp.repeat(x, 2, axis=1), 2, axis=2)
