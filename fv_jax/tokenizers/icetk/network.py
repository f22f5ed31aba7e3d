"""icetk's image network: one encoder, one codebook, a decoder for each compress rate.

    frame -> ImageEncoder -> features at a quarter of the size            rate 4
                           -> HalfSize -> rate 8 -> HalfSize -> rate 16
    features -> 1x1 projection -> the nearest of the codebook's vectors: an id
    ids -> codebook's vectors -> ImageDecoder of that rate -> frame

GroupNorm and attention see the whole frame, so every id depends on every pixel. Attributes are
named like icetk's parameters (icetk 0.0.7), which is how `weights.py` finds them. Pixels
are normalized here; `tokenizer.py` is where they are uint8.

Shape letters: N positions (y x), C channels, z hidden_dim, d embedding_dim, K n_embed.
"""

import dataclasses
import functools
import itertools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from flax.traverse_util import flatten_dict, unflatten_dict
from jaxtyping import Array, Float, Int

from fv_jax.config.model import require

# Ids must not depend on the device: TPUs and GPUs would round inputs to bf16 / TF32 otherwise.
_PRECISION = jax.lax.Precision.HIGHEST
_GROUPS = 32
_QUERIES = 1024  # positions whose attention scores exist at a time
_CODES = 2048  # codebook vectors whose distances exist at a time
RATES = (4, 8, 16)


@dataclasses.dataclass(frozen=True)
class IceConfig:
    """Sizes of the network; the defaults are icetk's.

    Attributes:
        channels: of the first level.
        channels_mult: factor on them at full, half and quarter size.
        enc_num_res_blocks: residual blocks of each level of the encoder.
        hidden_dim: channels of the features that are quantized.
        embedding_dim: channels of a codebook vector.
        n_embed: number of ids.
    """

    channels: int = 128
    channels_mult: tuple[int, ...] = (1, 2, 4)
    enc_num_res_blocks: int = 2
    hidden_dim: int = 256
    embedding_dim: int = 256
    n_embed: int = 20_000

    def __post_init__(self) -> None:
        require(
            self.channels >= _GROUPS and self.channels % _GROUPS == 0,
            f"IceConfig.channels must be a multiple of {_GROUPS}, got {self.channels}",
        )
        require(
            len(self.channels_mult) == 3 and min(self.channels_mult) >= 1,
            f"IceConfig.channels_mult must be three factors >= 1, got {self.channels_mult}",
        )
        for name in ("enc_num_res_blocks", "hidden_dim", "embedding_dim", "n_embed"):
            value = getattr(self, name)
            require(value >= 1, f"IceConfig.{name} must be >= 1, got {value}")


class IceNetwork(nnx.Module):
    """The whole network."""

    def __init__(self, config: IceConfig):
        self.enc = ImageEncoder(config)
        # The decoders of rates 16, 8 and 4, in this order; one more level for each halving.
        self.decs = nnx.List([ImageDecoder(config, extra) for extra in (2, 1, 0)])
        self.down_samplers = nnx.List([HalfSize(config.hidden_dim) for _ in range(2)])
        self.quantize = Quantizer(config)

    def latent(self, features: Float[Array, "B y x C"], rate: int) -> Float[Array, "B h w d"]:
        """Vectors before the search for the nearest code, of the encoder's features."""
        for halve in list(self.down_samplers)[: RATES.index(rate)]:
            features = halve(features)
        return self.quantize.proj(features)

    def pixels(self, ids: Int[Array, "B h w"], rate: int) -> Float[Array, "B Y X 3"]:
        """Normalized pixels of ids."""
        return self.decs[2 - RATES.index(rate)](self.quantize.embed(ids))


class ImageEncoder(nnx.Module):
    """Frame to features at a quarter of its size."""

    def __init__(self, config: IceConfig):
        width = config.channels
        self.conv_in = _conv3(3, width)
        levels = []
        for i, factor in enumerate(config.channels_mult):
            inputs, width = width, config.channels * factor
            levels.append(ImageEncoderLevel(inputs, width, config.enc_num_res_blocks, i < 2))
        self.down = nnx.List(levels)
        self.mid = Middle(width)
        self.norm_out = _norm(width)
        self.conv_out = _conv3(width, config.hidden_dim)

    def __call__(self, x: Float[Array, "B Y X 3"]) -> Float[Array, "B y x C"]:
        x = self.conv_in(x)
        for level in self.down:
            x = level(x)
        return self.conv_out(jax.nn.silu(self.norm_out(self.mid(x))))


class ImageEncoderLevel(nnx.Module):
    """Residual blocks, then half the size on all levels but the last."""

    def __init__(self, inputs: int, width: int, blocks: int, halve: bool):
        widths = [inputs] + [width] * blocks
        self.block = nnx.List([ResidualBlock(a, b) for a, b in itertools.pairwise(widths)])
        self.downsample = Strided(width) if halve else None

    def __call__(self, x: Float[Array, "B Y X I"]) -> Float[Array, "B y x O"]:
        for block in self.block:
            x = block(x)
        return x if self.downsample is None else self.downsample(x)


class ImageDecoder(nnx.Module):
    """Features to a frame. `extra` levels of the first width lie behind the encoder's three."""

    def __init__(self, config: IceConfig, extra: int):
        factors = (1,) * extra + config.channels_mult
        width = config.channels * factors[-1]
        self.conv_in = _conv3(config.embedding_dim, width)
        self.mid = Middle(width)
        levels = []
        for i in reversed(range(len(factors))):
            inputs, width = width, config.channels * factors[i]
            # The published network has attention where a 256 px frame would be 16 px wide: only
            # the fifth level of the decoder of rate 16, whatever the frame's real size.
            levels.append(ImageDecoderLevel(inputs, width, attention=i == 4, double=i > 0))
        self.up = nnx.List(levels[::-1])
        self.norm_out = _norm(width)
        self.conv_out = _conv3(width, 3)

    def __call__(self, x: Float[Array, "B h w d"]) -> Float[Array, "B Y X 3"]:
        x = self.mid(self.conv_in(x))
        for level in reversed(list(self.up)):
            x = level(x)
        return self.conv_out(jax.nn.silu(self.norm_out(x)))


class ImageDecoderLevel(nnx.Module):
    """One residual block, attention on one level, then twice the size on all but the last."""

    def __init__(self, inputs: int, width: int, *, attention: bool, double: bool):
        self.block = nnx.List([ResidualBlock(inputs, width)])
        self.attn = nnx.List([Attention(width)] if attention else [])
        self.upsample = DoubleSize(width) if double else None

    def __call__(self, x: Float[Array, "B y x I"]) -> Float[Array, "B Y X O"]:
        for block in (*self.block, *self.attn):
            x = block(x)
        return x if self.upsample is None else self.upsample(x)


class Middle(nnx.Module):
    """Residual block, attention, residual block."""

    def __init__(self, width: int):
        self.block_1 = ResidualBlock(width, width)
        self.attn_1 = Attention(width)
        self.block_2 = ResidualBlock(width, width)

    def __call__(self, x: Float[Array, "B y x C"]) -> Float[Array, "B y x C"]:
        return self.block_2(self.attn_1(self.block_1(x)))


class ResidualBlock(nnx.Module):
    """x + Conv(silu(GN(Conv(silu(GN(x)))))), x through a 1x1 convolution if the widths differ."""

    def __init__(self, inputs: int, width: int):
        self.norm1 = _norm(inputs)
        self.conv1 = _conv3(inputs, width)
        self.norm2 = _norm(width)
        self.conv2 = _conv3(width, width)
        self.nin_shortcut = _conv1(inputs, width) if inputs != width else None

    def __call__(self, x: Float[Array, "B y x I"]) -> Float[Array, "B y x O"]:
        y = self.conv1(jax.nn.silu(self.norm1(x)))
        y = self.conv2(jax.nn.silu(self.norm2(y)))
        return (x if self.nin_shortcut is None else self.nin_shortcut(x)) + y


class Attention(nnx.Module):
    """x + single-head attention over all positions of a frame."""

    def __init__(self, width: int):
        self.norm = _norm(width)
        self.q, self.k, self.v, self.proj_out = (_conv1(width, width) for _ in range(4))

    def __call__(self, x: Float[Array, "B y x C"]) -> Float[Array, "B y x C"]:
        normed = self.norm(x)
        flat = lambda y: y.reshape(len(y), -1, y.shape[-1])
        mixed = attend(*(flat(part(normed)) for part in (self.q, self.k, self.v)))
        return x + self.proj_out(mixed.reshape(x.shape))


class Strided(nnx.Module):
    """Half the size by a strided convolution."""

    def __init__(self, width: int):
        # Padded at the bottom and the right only.
        pad = ((0, 1), (0, 1))
        self.conv = _conv(width, width, (3, 3), strides=2, padding=pad)

    def __call__(self, x: Float[Array, "B y x C"]) -> Float[Array, "B h w C"]:
        return self.conv(x)


class HalfSize(nnx.Module):
    """Half the size: the mean of 2x2 features plus a strided convolution."""

    def __init__(self, width: int):
        self.conv_down_sampler = Strided(width)

    def __call__(self, x: Float[Array, "B y x C"]) -> Float[Array, "B h w C"]:
        return nnx.avg_pool(x, (2, 2), strides=(2, 2)) + self.conv_down_sampler(x)


class DoubleSize(nnx.Module):
    """Twice the size: every feature repeated, then a convolution."""

    def __init__(self, width: int):
        self.conv = _conv3(width, width)

    def __call__(self, x: Float[Array, "B h w C"]) -> Float[Array, "B y x C"]:
        return self.conv(jnp.repeat(jnp.repeat(x, 2, axis=1), 2, axis=2))


class Quantizer(nnx.Module):
    """The projection before the search, and the codebook."""

    def __init__(self, config: IceConfig):
        self.proj = _conv1(config.hidden_dim, config.embedding_dim)
        self.embed = nnx.Embed(config.n_embed, config.embedding_dim, rngs=_RNGS)


def attend(
    q: Float[Array, "B places C"],
    k: Float[Array, "B places C"],
    v: Float[Array, "B places C"],
) -> Float[Array, "B places C"]:
    """softmax(q k / sqrt(C)) v, some queries at a time: 480x480 px are 14,400 positions."""
    positions, width = q.shape[1:]
    chunks = -(-positions // _QUERIES)
    size = -(-positions // chunks)
    padded = jnp.pad(q, ((0, 0), (0, chunks * size - positions), (0, 0)))

    def some(q: Array) -> Array:
        scores = jnp.einsum("bic,bjc->bij", q, k, precision=_PRECISION) * width**-0.5
        return jnp.einsum("bij,bjc->bic", jax.nn.softmax(scores), v, precision=_PRECISION)

    mixed = jax.lax.map(some, padded.reshape(len(q), chunks, size, width).swapaxes(0, 1))
    return mixed.swapaxes(0, 1).reshape(padded.shape)[:, :positions]


def nearest(z: Float[Array, "*b d"], codebook: Float[Array, "V d"]) -> Int[Array, "*b"]:
    """Index of the code at the smallest distance to each vector; of equals, the first.

    |z - e|^2 without |z|^2, which is the same for all codes, and for some codes at a time: all
    20,000 distances of a batch would be gigabytes.
    """
    count, width = codebook.shape
    chunks = -(-count // _CODES)
    size = -(-count // chunks)
    missing = chunks * size - count
    codes = jnp.pad(codebook, ((0, missing), (0, 0))).reshape(chunks, size, width)
    norms = jnp.pad(jnp.sum(codebook**2, axis=-1), (0, missing), constant_values=jnp.inf)
    flat = z.reshape(-1, width)

    def step(best, chunk):
        code, norm, first = chunk
        distance = norm - 2 * jnp.einsum("nd,kd->nk", flat, code, precision=_PRECISION)
        index = jnp.argmin(distance, axis=-1)
        least = jnp.min(distance, axis=-1)
        better = least < best[0]
        return (
            jnp.where(better, least, best[0]),
            jnp.where(better, first + index.astype(jnp.int32), best[1]),
        ), None

    start = (jnp.full(len(flat), jnp.inf, flat.dtype), jnp.zeros(len(flat), jnp.int32))
    firsts = jnp.arange(chunks, dtype=jnp.int32) * size
    (_, ids), _ = jax.lax.scan(step, start, (codes, norms.reshape(chunks, size), firsts))
    return ids.reshape(z.shape[:-1])


def parameter_shapes(config: IceConfig) -> dict[str, tuple[int, ...]]:
    """Shape of every parameter by its dotted name, such as `enc.down.0.block.1.conv1.kernel`."""
    flat: Any = flatten_dict(nnx.to_pure_dict(nnx.state(_abstract(config), nnx.Param)))
    return {".".join(map(str, path)): np.shape(leaf) for path, leaf in flat.items()}


def with_parameters(config: IceConfig, params: dict[str, Array]) -> IceNetwork:
    """The network with parameters by dotted name."""
    # nnx numbers a list's modules with integers.
    parts = {name: tuple(int(p) if p.isdigit() else p for p in name.split(".")) for name in params}
    nested = unflatten_dict({parts[name]: param for name, param in params.items()})
    return nnx.merge(nnx.graphdef(_abstract(config)), nested)


@functools.cache
def _abstract(config: IceConfig) -> IceNetwork:
    return nnx.eval_shape(lambda: IceNetwork(config))


class _NoRandomness:
    """Stands in for nnx.Rngs: weights come from files, and counting would take seconds."""

    def params(self) -> Array:
        return jax.random.key(0)


_RNGS: Any = _NoRandomness()


def _norm(width: int) -> nnx.GroupNorm:
    # E[x^2] - E[x]^2 would lose digits that torch keeps.
    return nnx.GroupNorm(width, _GROUPS, epsilon=1e-6, use_fast_variance=False, rngs=_RNGS)


def _conv1(inputs: int, width: int) -> nnx.Conv:
    return _conv(inputs, width, (1, 1))


def _conv3(inputs: int, width: int) -> nnx.Conv:
    return _conv(inputs, width, (3, 3))


def _conv(inputs: int, width: int, kernel: tuple[int, int], **options: Any) -> nnx.Conv:
    zeros = jax.nn.initializers.zeros
    return nnx.Conv(
        inputs, width, kernel, precision=_PRECISION, kernel_init=zeros, rngs=_RNGS, **options
    )
