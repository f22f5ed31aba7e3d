"""Rotary position embedding (RoPE, arXiv:2104.09864) of q and k.

It is a plain rotation, without the growth factor of xPos: decay does that job.

Channels j and j + K/2 turn by position * theta_j (the papers pair 2j and 2j + 1: the same but for
the channels' order). A score then depends on the distance
n - m only. Two choices of theta_j, radians per token, j = 0 .. J - 1, J = K / 2:

    geometric   10000^(-j / (J - 1)): RetNet's; the exponent runs from 0 to 1 inclusive
    even        pi (j + 1/2) / (J - 2), and for the last two pairs 1e-4 and 1e-3

A head that looks a fixed distance d back scores distance n - m as sum_j cos(theta_j (n - m - d)).
With geometric angles its neighbors d - 1 and d + 1 get nearly the same score, since cos(1) = 0.54
is the fastest that anything changes. Angles spaced evenly up to pi sum to 0 at all 2 (J - 2)
distances around d but d itself: one is picked out among its neighbors. (The sum returns, with its
sign changed, every 2 (J - 2) tokens; decay and what the tokens are must tell those apart.) In a
frame, "one patch to the left, one frame ago" is such a distance. The two slow pairs are for what
is wanted at any distance, such as a word of the text.
"""

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

CosSin = tuple[Float[Array, "B T K2"], Float[Array, "B T K2"]]

_SLOW = (1e-4, 1e-3)
_FINE = 1024
MAX_POSITION = _FINE * 4096  # 4,194,304 tokens; positions are checked where they enter


def angles(key_dim: int) -> Float[np.ndarray, " K2"]:
    """theta_j, radians per token, float64.

    Raises:
        ValueError: an odd number of channels, or only one pair (its exponent is undefined).
    """
    if key_dim % 2 or key_dim < 4:
        raise ValueError(f"keys are rotated in pairs: key_dim must be even and >= 4, got {key_dim}")
    j = np.arange(key_dim // 2)
    return 10000.0 ** (-j / (key_dim // 2 - 1))


def even_angles(key_dim: int) -> Float[np.ndarray, " K2"]:
    """theta_j spaced evenly between 0 and pi, and two slow ones, float64.

    Raises:
        ValueError: an odd number of channels, or no pair beside the slow ones.
    """
    even = key_dim // 2 - len(_SLOW)
    if key_dim % 2 or even < 1:
        raise ValueError(f"even angles need an even key_dim >= {2 * len(_SLOW) + 2}, got {key_dim}")
    return np.concatenate([np.pi * (np.arange(even) + 0.5) / even, _SLOW])


def apply_rope(x: Float[Array, "B T H K"], tables: CosSin) -> Float[Array, "B T H K"]:
    """x with each pair of channels turned by its token's angle; pair j is (j, j + K / 2).

    Which channels make a pair is nothing to a score, and taking every other channel is slow on a
    TPU; `apply_rope_interleaved` is the same for the papers' order of channels.
    """
    cos, sin = (table[..., None, :] for table in tables)
    first, second = jnp.split(x.astype(cos.dtype), 2, axis=-1)
    return jnp.concatenate([first * cos - second * sin, second * cos + first * sin], axis=-1)


def apply_rope_interleaved(
    x: Float[Array, "B T H K"],
    position: Int[Array, "B T"],
    theta: Float[np.ndarray, " K2"] | None = None,
) -> Float[Array, "B T H K"]:
    """The same for pairs (2j, 2j + 1), as the papers write it; `theta` defaults to `angles(K)`."""
    theta = angles(x.shape[-1]) if theta is None else theta
    halves = jnp.concatenate([x[..., 0::2], x[..., 1::2]], axis=-1)
    turned = apply_rope(halves, cos_sin(position, theta, x.dtype))
    return jnp.stack(jnp.split(turned, 2, axis=-1), axis=-1).reshape(x.shape)


def cos_sin(position: Int[Array, "B T"], theta: Float[np.ndarray, " K2"], dtype) -> CosSin:
    """cos and sin of every position's angles, each [B, T, K/2].

    They come from float64 tables made on the host: float32 phases would be off by 2e-5 at 6,800
    tokens. Two small tables (position // 1024 and position % 1024) joined by the angle-sum rule
    reach MAX_POSITION without one row per position. Whoever passes the end where nobody can be
    told (inside `jax.jit`) gets NaN, not the angles of another place.
    """
    fine = np.arange(_FINE)[:, None] * theta
    coarse = np.arange(MAX_POSITION // _FINE)[:, None] * (_FINE * theta)
    fine_cos, fine_sin = (jnp.asarray(f(fine), dtype)[position % _FINE] for f in (np.cos, np.sin))
    block = jnp.where(position < 0, len(coarse), position // _FINE)
    coarse_cos, coarse_sin = (
        jnp.asarray(f(coarse), dtype).at[block].get(mode="fill", fill_value=jnp.nan)
        for f in (np.cos, np.sin)
    )
    cos = fine_cos * coarse_cos - fine_sin * coarse_sin
    sin = fine_sin * coarse_cos + fine_cos * coarse_sin
    return cos, sin
