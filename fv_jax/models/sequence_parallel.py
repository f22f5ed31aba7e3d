"""The chunkwise form over several devices that hold a sequence's parts.

    device 0          device 1          device 2
    [tokens ..]       [tokens ..]       [tokens ..]
        S_0               S_1               S_2      what each part adds to the state, from zero
            \\ ____________ all-gather ____________/
    R = 0             gamma^T S_0 ..     ..          the state before each part

What a device must know of all tokens before its own is the state R, a few MB a layer, however
long they are: the reason why a RetNet's sequence can be cut at so low a price (arXiv:2307.08621,
section 2.3). Both passes over a part's tokens stay on its device.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from fv_jax.models import sharding
from fv_jax.ops import retention


def chunkwise(
    q: Float[Array, "B T H K"],
    k: Float[Array, "B T H K"],
    v: Float[Array, "B T H E"],
    log_decay: retention.LogDecay,
    state: Float[Array, "B H K E"],
    start: Int[Array, " B"],
    length: Int[Array, " B"],
    chunk: int,
    positions: Int[Array, "B T"] | None = None,
) -> tuple[Float[Array, "B T H E"], Float[Array, "B H K E"]]:
    """`retention.chunkwise`, with the tokens cut as the current layout says.

    Raises:
        ValueError: T cannot be cut into as many parts, or chunk is below 1.
    """
    layout = sharding.current()
    parts = layout.parts("tokens") if layout else 1
    if layout is None or parts == 1:
        return retention.chunkwise(q, k, v, log_decay, state, start, length, chunk, positions)
    tokens = q.shape[1]
    if tokens % parts:
        raise ValueError(f"a sequence on {parts} devices must be divisible by it, got {tokens}")
    (axis,) = layout.rules["tokens"]
    own = tokens // parts

    def part(gamma, q, k, v, state, start, length, positions):
        first = jax.lax.axis_index(axis) * own
        real = jnp.clip(length - first, 0, own)
        # Where this part ends is known here; where it begins, another part knows.
        end = retention.end(start + jnp.minimum(first, length), real, positions)
        added = retention.fold(k, v, gamma, jnp.zeros_like(state), real, start, positions)
        before, begin, after = _states(
            axis, gamma, added, jnp.where(real > 0, end, 0), state, start
        )
        y, _ = retention.chunkwise(q, k, v, gamma, before, begin, real, chunk, positions)
        return y, after

    spec = lambda *axes: layout.spec(axes)
    by_token = spec("rows", "tokens", "heads", None)
    by_head, by_row = spec("rows", "heads", None, None), spec("rows")
    gamma = jnp.asarray(log_decay, jnp.promote_types(q.dtype, jnp.float32))
    # All mesh axes are named: what lies on devices of other rows and heads is not asked for.
    return jax.shard_map(
        part,
        mesh=layout.mesh,
        in_specs=(
            spec("heads"),
            by_token,
            by_token,
            by_token,
            by_head,
            by_row,
            by_row,
            None if positions is None else spec("rows", "tokens"),
        ),
        out_specs=(by_token, by_head),
        check_vma=False,
    )(gamma, q, k, v, state, start, jnp.broadcast_to(length, start.shape), positions)


def _states(
    axis: str, gamma: Array, added: Array, end: Array, state: Array, start: Array
) -> tuple[Array, Array, Array]:
    """R before this device's tokens, the position after its last one, and R after all devices'.

    `end` is the position after a device's last token, 0 where it has none.
    """
    added, ends = jax.lax.all_gather((added, end), axis)
    before, begin = [state], [start]
    for device in range(len(added)):
        begin.append(jnp.maximum(begin[-1], ends[device]))
        passed = (begin[-1] - begin[-2]).astype(gamma.dtype)
        before.append(
            before[-1] * jnp.exp(passed[:, None] * gamma)[..., None, None] + added[device]
        )
    here = jax.lax.axis_index(axis)
    of_this = lambda x: jax.lax.dynamic_index_in_dim(jnp.stack(x), here, keepdims=False)
    return of_this(before), of_this(begin), before[-1]
