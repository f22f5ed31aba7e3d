"""Matrix products whose precision is the network's own, not a setting of its user.

Unasked, XLA rounds float32 inputs to bfloat16 on a TPU and to TF32 on a recent GPU: forms, windows
and batches would no longer agree there. Here float32 stays float32 (`Precision.HIGHEST`). Inputs
in bfloat16 were rounded on purpose and take the fast default, and so do the gradients that come
back through them. Sums are float32 at least.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array

# Of two matrices for `lax.dot_general`: a b, a b^T and a^T b.
NN, NT, TN = ((((a,), (b,)), ((), ())) for a, b in ((1, 0), (1, 1), (0, 0)))


def accumulator(x: Array) -> jnp.dtype:
    """The dtype of sums: float32, or float64 where the inputs are."""
    return jnp.promote_types(x.dtype, jnp.float32)


def matmul(a: Array, b: Array) -> Array:
    """`jnp.matmul` of inputs of one dtype."""
    return jnp.matmul(a, b, precision=precision(a), preferred_element_type=accumulator(a))


def einsum(pattern: str, a: Array, b: Array) -> Array:
    """`jnp.einsum` of two inputs of one dtype."""
    return jnp.einsum(pattern, a, b, precision=precision(a), preferred_element_type=accumulator(a))


def precision(x: Array) -> jax.lax.Precision:
    """Of products that read x: the fast one for bfloat16 alone."""
    low = x.dtype == jnp.bfloat16
    return jax.lax.Precision.DEFAULT if low else jax.lax.Precision.HIGHEST
