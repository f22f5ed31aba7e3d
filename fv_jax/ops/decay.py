"""Decays: how fast each head forgets. Built in float64 on the host, cast where they are used.

gamma_h is kept as log gamma_h: it rounds to exactly 1 from head 4 on in bfloat16 and from head
20 on in float32, and powers of it would then never decay.
"""

import math

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int


def log_decays(heads: int) -> tuple[float, ...]:
    """log gamma_h of gamma_h = 1 - 2^(-5-h), RetNet's choice (arXiv:2307.08621, section 3.1)."""
    return tuple(math.log1p(-(2.0 ** (-5 - h))) for h in range(heads))


def log_decays_from_memory(heads: int, shortest: float, longest: float) -> tuple[float, ...]:
    """log gamma_h for half-lives spaced geometrically from `shortest` to `longest` tokens."""
    half_lives = np.geomspace(shortest, longest, heads)
    return tuple(float(x) for x in -math.log(2.0) / half_lives)


def half_life(log_decay: float) -> float:
    """Tokens after which a head's memory has halved."""
    return -math.log(2.0) / log_decay


def masked_powers(
    log_decay: Float[Array, " H"], distance: Int[Array, "*b"]
) -> Float[Array, "*b H"]:
    """gamma_h^distance where distance >= 0, else 0.

    The distance is clamped BEFORE exp: masking afterwards would leave inf * 0 = NaN in the
    gradient. Never factor it as gamma^n gamma^-m, which overflows near n = 2,800.
    """
    exponent = jnp.maximum(distance, 0).astype(log_decay.dtype)[..., None] * log_decay
    return jnp.where((distance >= 0)[..., None], jnp.exp(exponent), 0)


def inverse_root_sum(
    log_decay: Float[Array, " H"], position: Int[Array, "*b"]
) -> Float[Array, "*b H"]:
    """s_n^(-1/2), with s_n = sum of gamma^j over j = 0..n = (1 - gamma^(n+1)) / (1 - gamma).

    The one normalizer of all three forms (docs/deviations.md). n is the global position, from 0.
    """
    exponent = (position + 1).astype(log_decay.dtype)[..., None] * log_decay
    return jnp.sqrt(jnp.expm1(log_decay) / jnp.expm1(exponent))
