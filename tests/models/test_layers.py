"""The small layers against plain NumPy, and their dtypes."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny
from flax import nnx

from fv_jax.models.layers import (
    NORM_EPSILON,
    Dense,
    GatedLinearUnit,
    RMSNorm,
    project,
    rms_normalize,
)


def silu(x):
    return x / (1 + np.exp(-x))


def test_rms_norm_divides_by_the_root_mean_square_and_scales(dtype):
    x = jax.random.normal(jax.random.key(0), (3, 5, 16), dtype) * 7
    norm = RMSNorm(16)
    norm.scale[...] = jnp.arange(16.0, dtype=dtype)
    wide = np.asarray(x, np.float64)
    rms = np.sqrt(np.mean(wide**2, axis=-1, keepdims=True) + NORM_EPSILON)
    tiny.assert_close(norm(x), wide / rms * np.arange(16), dtype)


def test_rms_norm_of_zeros_is_zero_with_a_finite_gradient():
    zeros = jnp.zeros((1, 8))
    assert (rms_normalize(zeros) == 0).all()
    assert jnp.isfinite(jax.grad(lambda x: rms_normalize(x).sum())(zeros)).all()


def test_rms_norm_of_bfloat16_takes_its_statistics_in_float32():
    x = jnp.full((1, 4096), 1.0, jnp.bfloat16).at[0, 0].set(64.0)
    # The sum of squares is 4095 + 4096; a bfloat16 running sum would stop growing far earlier.
    assert float(rms_normalize(x)[0, 1]) == pytest.approx(2**-0.5, rel=2**-8)


def test_dense_has_no_bias_and_multiplies(dtype):
    layer = Dense(6, 4, dtype="float32", gain=1.0, rngs=nnx.Rngs(0))
    x = jax.random.normal(jax.random.key(0), (2, 6), dtype)
    assert (layer(jnp.zeros((1, 6), dtype)) == 0).all()
    weight = np.asarray(layer.weight[...], np.float64)
    tiny.assert_close(layer(x), np.asarray(x, np.float64) @ weight, dtype)


@pytest.mark.parametrize("gain", [1.0, 2**-0.5])
def test_dense_is_initialized_xavier_uniform(gain):
    weight = np.asarray(Dense(300, 500, dtype="float32", gain=gain, rngs=nnx.Rngs(0)).weight[...])
    bound = gain * (6 / 800) ** 0.5
    assert np.abs(weight).max() <= bound
    assert weight.std() == pytest.approx(bound / 3**0.5, rel=0.01)


def test_bfloat16_projection_accumulates_in_float32():
    product = project(jnp.ones((1, 4096)), jnp.ones((4096, 1)), "bfloat16")
    assert product.dtype == jnp.float32
    assert float(product[0, 0]) == 4096  # a bfloat16 sum of ones ends at 256


def test_bfloat16_projection_rounds_its_inputs():
    x, weight = jnp.asarray([[1 + 2**-10]]), jnp.asarray([[1.0]])
    assert float(project(x, weight, "bfloat16")[0, 0]) == 1
    assert float(project(x, weight, "float32")[0, 0]) == 1 + 2**-10


def test_gated_linear_unit_is_silu_of_up_times_gate(dtype):
    layer = GatedLinearUnit(6, 10, dtype="float32", rngs=nnx.Rngs(0))
    x = jax.random.normal(jax.random.key(0), (2, 3, 6), dtype)
    matrices = (layer.up_gate.up, layer.up_gate.gate, layer.down)
    w_up, w_gate, down = (np.asarray(dense.weight[...], np.float64) for dense in matrices)
    up, gate = (np.asarray(x, np.float64) @ w for w in (w_up, w_gate))
    expected = (silu(up) * gate) @ down
    tiny.assert_close(layer(x), expected, dtype)
