"""The chunkwise form of a layer: by a kernel where there is one, over several devices.

A device may hold a part of a sequence:

    device 0          device 1          device 2
    [tokens ..]       [tokens ..]       [tokens ..]
        S_0               S_1               S_2      what each part adds to the state, from zero
            \\ ____________ all-gather ____________/
    R = 0             gamma^T S_0 ..     ..          the state before each part

What a device must know of all tokens before its own is the state R, a few MB a layer, however
long they are: the reason why a RetNet's sequence can be cut at so low a price (arXiv:2307.08621,
section 2.3). Both passes over a part's tokens stay on its device.
"""

import functools

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from fv_jax.models import sharding
from fv_jax.models.heads import Rope, form_of_kernel, in_steps, kernels_of, turn
from fv_jax.ops import retention


def chunkwise(
    q: Float[Array, "B T H K"],
    k: Float[Array, "B T H K"],
    v: Float[Array, "B T H E"],
    log_decay: retention.LogDecay,
    state: Float[Array, "B H K E"],
    start: Int[Array, " B"],
    length: Int[Array, " B"],
    positions: Int[Array, "B T"] | None,
    rope: Rope,
    *,
    chunk: int,
) -> tuple[Float[Array, "B T H E"], Float[Array, "B H K E"]]:
    """`retention.chunkwise` in the steps of `models/heads.py`, cut as the current layout says.

    Raises:
        ValueError: T cannot be cut into as many parts, or chunk is below 1.
    """
    layout = sharding.current()
    parts = layout.parts("tokens") if layout else 1
    form = in_steps(functools.partial(retention.chunkwise, chunk=chunk))
    if kernel := kernels_of(len(q), *q.shape[2:], v.shape[3]):
        form = form_of_kernel(kernel)
    if layout is None or (parts == 1 and not kernel):
        return form(q, k, v, log_decay, state, start, length, positions, rope)
    tokens = q.shape[1]
    if tokens % parts:
        raise ValueError(f"a sequence on {parts} devices must be divisible by it, got {tokens}")
    own = tokens // parts

    # The compiler cuts plain JAX over devices, but not a kernel.
    def part(gamma, q, k, v, state, start, length, positions, rope):
        if parts == 1:
            return form(q, k, v, gamma, state, start, length, positions, rope)
        (axis,) = layout.rules["tokens"]
        first = jax.lax.axis_index(axis) * own
        real = jnp.clip(length - first, 0, own)
        # Where this part ends is known here; where it begins, another part knows.
        end = retention.end(start + jnp.minimum(first, length), real, positions)
        turned = turn(q, k, rope)[1]
        added = retention.fold(turned, v, gamma, jnp.zeros_like(state), real, start, positions)
        before, begin, after = _states(
            axis, gamma, added, jnp.where(real > 0, end, 0), state, start
        )
        y, _ = form(q, k, v, gamma, before, begin, real, positions, rope)
        return y, after

    spec = lambda *axes: layout.spec(axes)
    by_token = spec("rows", "tokens", "heads", None)
    by_head, by_row = spec("rows", "heads", None, None), spec("rows")
    along, table = spec("rows", "tokens"), spec("rows", "tokens", None)
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
            None if positions is None else along,
            ((table, table), (table, table)),
        ),
        out_specs=(by_token, by_head),
        check_vma=False,
    )(gamma, q, k, v, state, start, jnp.broadcast_to(length, start.shape), positions, rope)


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
