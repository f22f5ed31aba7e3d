"""What decays and the normalizer depend on, as rows over tokens that kernels read.

row      0            1                                    2                          8 + h
holds    position     to the last token before the chunk   to its last real token     s^(-1/2)
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from fv_jax.ops.decay import inverse_root_sum

HEADER = 8  # rows before those of the heads: a TPU tile's height
NEVER = 1e30  # a distance after which nothing is left


def by_token(
    gamma: Float[Array, " H"],
    start: Int[Array, " B"],
    length: Int[Array, " B"],
    positions: Int[Array, "B T"] | None,
    chunks: int,
    size: int,
) -> tuple[Float[Array, "B rows padded"], Float[Array, "B chunks"]]:
    """Rows of the next tokens, padded to N chunks of S; how far each chunk goes on.

    Distances are >= 0: padding stays where the last real token is, and is `NEVER` from the end.

    Args:
        gamma: log gamma of each head; its dtype is that of the results.
        start / length / positions: see `ops.retention.recurrent`.
        chunks: N.
        size: S.
    """
    if positions is None:
        positions = start[:, None] + jnp.arange(chunks * size)
    positions = jnp.pad(positions, ((0, 0), (0, chunks * size - positions.shape[1])))
    real = jnp.arange(chunks * size) < length[:, None]
    at = jax.lax.cummax(jnp.where(real, positions, start[:, None] - 1), axis=1)
    pieces = at.reshape(len(at), -1, size)
    ends = jnp.concatenate([start[:, None] - 1, pieces[..., -1]], axis=1)
    since, left = pieces - ends[:, :-1, None], ends[:, 1:, None] - pieces
    left = jnp.where(real, left.reshape(at.shape).astype(gamma.dtype), NEVER)
    header = jnp.stack([x.astype(gamma.dtype) for x in (at, since.reshape(at.shape), left)], axis=1)
    header = jnp.pad(header, ((0, 0), (0, HEADER - header.shape[1]), (0, 0)))
    scale = inverse_root_sum(gamma, jnp.maximum(at, 0)).swapaxes(1, 2)
    return jnp.concatenate([header, scale], axis=1), jnp.diff(ends, axis=1).astype(gamma.dtype)
