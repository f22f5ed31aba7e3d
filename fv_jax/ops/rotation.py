"""Rotary positions for q and k: a plain rotation (no xPos growth factor, decay does that job).

Adjacent channels (2j, 2j+1) turn by position * theta_j. A score then depends on the distance
n - m only. Two choices of theta_j, radians per token, j = 0 .. J - 1, J = K / 2:

    geometric   10000^(-j / (J - 1)): RetNet's; the exponent runs from 0 to 1 inclusive
    even        pi (j + 1/2) / (J - 2), and for the last two pairs 1e-4 and 1e-3

A head that looks a fixed distance d back scores distance n - m as sum_j cos(theta_j (n - m - d)).
With geometric angles its neighbours d - 1 and d + 1 get nearly the same score, since cos(1) = 0.54
is the fastest that anything changes. Angles spaced evenly up to pi sum to 0 at all 2 (J - 2)
distances around d but d itself: one is picked out among its neighbours. (The sum returns, with its
sign changed, every 2 (J - 2) tokens; decay and what the tokens are must tell those apart.) In a
frame, "one patch to the left, one frame ago" is such a distance. The two slow pairs are for what
is wanted at any distance, such as a word of the text.
"""

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

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


def rotate(
    x: Float[Array, "B T H K"],
    position: Int[Array, "B T"],
    theta: Float[np.ndarray, " K2"] | None = None,
) -> Float[Array, "B T H K"]:
    """Turn each pair of channels by its position's angle; `theta` replaces `angles(K)`.

    cos and sin come from float64 tables made on the host: float32 phases would be off by 2e-5
    at 6,800 tokens. Two small tables (position // 1024 and position % 1024) joined by the
    angle-sum rule reach MAX_POSITION without one row per position.
    """
    theta = angles(x.shape[-1]) if theta is None else theta
    cos, sin = (table[..., None, :] for table in _cos_sin(position, theta, x.dtype))
    even, odd = x[..., 0::2], x[..., 1::2]
    turned = jnp.stack([even * cos - odd * sin, odd * cos + even * sin], axis=-1)
    return turned.reshape(x.shape)


def _cos_sin(position: Int[Array, "B T"], theta: np.ndarray, dtype):
    fine = np.arange(_FINE)[:, None] * theta
    coarse = np.arange(MAX_POSITION // _FINE)[:, None] * (_FINE * theta)
    fine_cos, fine_sin = (jnp.asarray(f(fine), dtype)[position % _FINE] for f in (np.cos, np.sin))
    coarse_cos, coarse_sin = (
        jnp.asarray(f(coarse), dtype)[position // _FINE] for f in (np.cos, np.sin)
    )
    cos = fine_cos * coarse_cos - fine_sin * coarse_sin
    sin = fine_sin * coarse_cos + fine_cos * coarse_sin
    return cos, sin
