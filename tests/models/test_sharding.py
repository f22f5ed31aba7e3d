"""Names of axes: what a layout makes of them, and that without one they do nothing."""

import jax
import jax.numpy as jnp
import pytest
import tiny
from flax import nnx
from jax.sharding import PartitionSpec

from fv_jax.config.training import MeshConfig
from fv_jax.models.sharding import constrain, current, gathered, of_params, using
from fv_jax.training.mesh import make_layout

LAYOUT = make_layout(MeshConfig(), jax.devices()[:1])


def test_every_parameter_says_what_its_axes_are():
    model = nnx.eval_shape(tiny.retnet)
    axes = of_params(model)
    params = nnx.to_pure_dict(nnx.state(model, nnx.Param))
    jax.tree.map(lambda leaf, names: None, params, axes)  # the same tree
    named = jax.tree.leaves(axes, is_leaf=lambda x: isinstance(x, tuple))
    assert [len(names) for names in named] == [leaf.ndim for leaf in jax.tree.leaves(params)]
    assert axes["blocks"]["retention"]["qkvg"]["key"]["weight"] == ("layers", "embed", "heads")
    assert axes["embedding"] == ("vocabulary", "embed")


def test_names_become_mesh_axes_and_unknown_ones_are_not_cut():
    assert LAYOUT.spec(("rows", "tokens", None)) == PartitionSpec(
        ("data", "fsdp"), ("sequence",), None
    )
    assert LAYOUT.spec(("layers", "norm")) == PartitionSpec(None, None)
    assert LAYOUT.parts("rows") == 1


def test_without_a_layout_nothing_is_placed():
    assert current() is None
    x = jnp.ones((2, 3))
    assert constrain(x, "rows", "no such name") is x
    assert gathered(x, ("embed", "heads")) is x


def test_a_layout_ends_with_its_block_even_if_that_fails():
    seen = []

    def fails():
        seen.append(current())
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError), using(LAYOUT):
        fails()
    assert seen == [LAYOUT]
    assert current() is None


def test_every_axis_needs_a_name():
    with using(LAYOUT), pytest.raises(ValueError, match=r"got 1 names .* for an array of shape"):
        constrain(jnp.ones((2, 3)), "rows")
