"""Counted FLOPs against those of formulas, through everything that a jaxpr may hold."""

import functools

import jax
import jax.numpy as jnp
import pytest
from flax import nnx
from jax.sharding import PartitionSpec

from fv_jax.config.model import PRESETS, RetNetConfig
from fv_jax.models.retnet import RetNet
from fv_jax.training.flops import forward_flops, step_flops

SQUARE = jax.ShapeDtypeStruct((4, 4), jnp.float32)
ONE = 2 * 4**3  # of a product of two 4x4 matrices


def square(x):
    return x @ x


@jax.custom_vjp
def custom(x):
    return x @ x


custom.defvjp(lambda x: (x @ x, x), lambda x, g: (g @ x,))


def in_turn(x, count):
    return jax.lax.scan(lambda x, _: (x @ x, None), x, length=count)[0]


CASES = {
    "one": (square, 1),
    "elementwise operations are free": (lambda x: jnp.tanh(x) + x.sum() * 2, 0),
    "jit": (jax.jit(square), 1),
    "remat is not counted twice": (jax.checkpoint(square), 1),
    "custom_jvp": (lambda x: jax.nn.relu(x) @ jax.nn.silu(x), 1),
    "custom_vjp": (custom, 1),
    "vmap": (lambda x: jax.vmap(square)(jnp.stack([x, x, x])), 3),
    "scan": (lambda x: in_turn(x, 7), 7),
    "scan of scans": (lambda x: jax.lax.fori_loop(0, 3, lambda i, y: in_turn(y, 5), x), 15),
    "scan, unrolled": (
        lambda x: jax.lax.scan(lambda x, _: (x @ x, None), x, length=6, unroll=4)[0],
        6,
    ),
    "cond takes the larger branch": (
        lambda x: jax.lax.cond(x[0, 0] > 0, square, lambda x: x @ x @ x, x),
        2,
    ),
    "while without matmuls": (
        lambda x: jax.lax.while_loop(lambda y: y.sum() < 9, lambda y: y + 1, x) @ x,
        1,
    ),
    "gradient": (jax.grad(lambda x: (x @ jnp.ones((4, 4))).sum()), 2),
    "sort and scatter have functions inside": (lambda x: jnp.sort(x.at[0].add(1)) @ x, 1),
}


@pytest.mark.parametrize(("function", "products"), CASES.values(), ids=CASES.keys())
def test_products_are_counted_as_often_as_they_run(function, products):
    assert forward_flops(function, SQUARE) == products * ONE


def test_a_loop_of_unknown_length_is_refused():
    with pytest.raises(ValueError, match=r"'while'.*not known"):
        forward_flops(lambda x: jax.lax.while_loop(lambda y: y.sum() < 9, square, x), SQUARE)


def test_shapes_of_products():
    a, b = jnp.zeros((5, 3, 7)), jnp.zeros((7, 3, 2))
    assert forward_flops(lambda a, b: jnp.einsum("bhk,khe->bhe", a, b), a, b) == 2 * 5 * 3 * 7 * 2


@pytest.mark.parametrize("groups", [1, 3])
def test_convolutions(groups):
    images, kernel = jnp.zeros((2, 8, 8, 6)), jnp.zeros((3, 3, 6 // groups, 9))
    convolve = functools.partial(
        jax.lax.conv_general_dilated, window_strides=(2, 2), padding="SAME",
        dimension_numbers=("NHWC", "HWIO", "NHWC"), feature_group_count=groups,
    )  # fmt: skip
    outputs = 2 * 4 * 4 * 9
    assert forward_flops(convolve, images, kernel) == 2 * outputs * 3 * 3 * 6 // groups


def test_every_device_of_a_shard_map_counts():
    mesh = jax.make_mesh((1,), ("x",), axis_types=(jax.sharding.AxisType.Auto,))
    rows = PartitionSpec("x")
    mapped = jax.shard_map(lambda a: a @ a.T, mesh=mesh, in_specs=rows, out_specs=rows)
    assert forward_flops(mapped, SQUARE) == ONE
    abstract = jax.sharding.AbstractMesh(
        (2, 3), ("x", "y"), axis_types=(jax.sharding.AxisType.Auto,) * 2
    )
    mapped = jax.shard_map(
        lambda a: a @ jnp.ones((4, 4)), mesh=abstract, in_specs=rows, out_specs=rows
    )
    # Both axes are manual, and along y all devices do the same.
    assert forward_flops(mapped, SQUARE) == 3 * ONE


def network(config: RetNetConfig, codes: int):
    """Graph and abstract weights of a network that was never made."""
    return nnx.split(nnx.eval_shape(lambda: RetNet(config, codes + 7, codes, rngs=nnx.Rngs(0))))


def weights_flops(config: RetNetConfig, codes: int) -> int:
    """2 N of a token: every weight of a matmul is multiplied and added once."""
    d, v = config.width, config.value_width
    block = d * (2 * d + 2 * v) + v * d + 3 * d * config.hidden
    return 2 * (config.layers * block + d * codes)


@pytest.mark.parametrize("name", ["tiny", "paper"])
def test_a_network_in_parallel_form_is_2_n_and_retention(name):
    config, codes, b, t = PRESETS[name], 50, 3, 128
    graph, state = network(config, codes)

    def forward(state, tokens):
        model = nnx.merge(graph, state)
        return model.logits(model.parallel(tokens))

    # A head: q k^T is T^2 K, scores times values T^2 E, the state read and written T K E each.
    pairs = t * (config.width + config.value_width)
    state_read_and_written = 2 * config.width * config.value_dim
    retention = 2 * config.layers * b * t * (pairs + state_read_and_written)
    want = b * t * weights_flops(config, codes) + retention
    tokens = jax.ShapeDtypeStruct((b, t), jnp.int32)
    assert forward_flops(forward, state, tokens) == want
    assert step_flops(forward, state, tokens) == 3 * want


def test_a_network_in_chunks_grows_with_the_length():
    config, codes = PRESETS["paper"], 20_000
    graph, state = network(config, codes)

    def forward(state, tokens):
        model = nnx.merge(graph, state)
        hidden, _ = model.chunkwise(tokens, model.init_state(len(tokens)))
        return model.logits(hidden)

    short, long = (
        forward_flops(forward, state, jax.ShapeDtypeStruct((1, t), jnp.int32)) for t in (1024, 4096)
    )
    assert long == pytest.approx(4 * short, rel=1e-3)
    # Chunks of 256 add a tenth to what the 302 M weights and the head need.
    assert 1 < long / (4096 * weights_flops(config, codes)) < 1.15
