"""Floating-point operations of a function, counted in its jaxpr: nothing is compiled or run.

Only matmuls and convolutions count, a multiplication and an addition each. What a model must
compute is the convention of MFU (PaLM, arXiv:2204.02311, appendix B): what is computed twice to
save memory is not counted twice, so a slower program never looks better.
"""

import math
from collections.abc import Callable, Iterator
from typing import Any

import jax
from jax.extend import core

# A training step multiplies every weight three times: forward, and backward for its inputs and
# for itself.
STEP_PER_FORWARD = 3

_CALLS = (
    "jit", "pjit", "closed_call", "core_call", "custom_jvp_call", "custom_vjp_call",
    "custom_vjp_call_jaxpr", "remat2", "checkpoint",
)  # fmt: skip


def forward_flops(function: Callable, *args: Any) -> int:
    """FLOPs of matmuls and convolutions of one call.

    Loops count as often as they run, of branches the most expensive one, rematerialised parts
    once. Inside of `shard_map` every device counts, whether or not others compute the same.

    Args:
        function: anything that `jax.jit` takes.
        *args: arrays or `jax.ShapeDtypeStruct`s.

    Raises:
        ValueError: there are matmuls in a loop whose number of turns is not known, or in
            something else that cannot be counted.
    """
    return _flops(jax.make_jaxpr(function)(*args).jaxpr)


def step_flops(loss: Callable, *args: Any) -> int:
    """FLOPs that a training step on `loss(*args)` needs: three times its forward pass."""
    return STEP_PER_FORWARD * forward_flops(loss, *args)


def _flops(jaxpr: core.Jaxpr) -> int:
    return sum(map(_equation_flops, jaxpr.eqns))


def _equation_flops(eqn: core.JaxprEqn) -> int:
    name, params = eqn.primitive.name, eqn.params
    if name == "dot_general":
        (contracted, _), _ = params["dimension_numbers"]
        inputs = eqn.invars[0].aval.shape  # pyright: ignore[reportAttributeAccessIssue]
        return 2 * _size(eqn.outvars[0]) * math.prod(inputs[axis] for axis in contracted)
    if name == "conv_general_dilated":
        # An output is a sum over all of the kernel but its output channels.
        channels = eqn.invars[1].aval.shape[params["dimension_numbers"].rhs_spec[0]]  # pyright: ignore
        return 2 * _size(eqn.outvars[0]) * _size(eqn.invars[1]) // channels
    inside = [_flops(jaxpr) for jaxpr in _inner(params)]
    if not any(inside):
        return 0
    if name == "cond":
        return max(inside)
    if name == "scan":
        return params["length"] * sum(inside)
    if name == "shard_map":
        devices = math.prod(params["mesh"].shape[axis] for axis in params["newly_manual_axes"])
        return devices * sum(inside)
    if name in _CALLS:
        return sum(inside)
    why = "how often it turns is not known" if name == "while" else "it is of an unknown kind"
    raise ValueError(f"cannot count the matmuls in a {name!r} of the function: {why}")


def _size(variable: Any) -> int:
    return math.prod(variable.aval.shape)


def _inner(params: dict[str, Any]) -> Iterator[core.Jaxpr]:
    """Jaxprs among the parameters of an equation, also in tuples, as a cond's branches are."""
    for value in params.values():
        for item in value if isinstance(value, tuple | list) else (value,):
            if isinstance(item, core.ClosedJaxpr):
                yield item.jaxpr
            elif isinstance(item, core.Jaxpr):
                yield item
