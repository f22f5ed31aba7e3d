"""The discriminator: what it sees, and its losses by hand."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny
from flax import nnx

from fv_jax.training.discriminator import Discriminator, hinge, r1

# Compiles in a third of the time.
jit = functools.partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})


class Linear(Discriminator):
    """A score for every pixel, linear in it."""

    weights = np.float32([0.5, -2.0, 3.0])

    def __init__(self):
        pass

    def __call__(self, pixels):
        return pixels @ self.weights


def model():
    return tiny.randomised(lambda: Discriminator(rngs=nnx.Rngs(0)))


def frames(count, size):
    return np.random.default_rng(0).uniform(-1, 1, (count, size, size, 3)).astype(np.float32)


def test_there_is_a_score_for_every_8_px_that_sees_38_px_of_its_own_frame():
    def one_score(pixels):
        scores = model()(pixels)
        return scores[0, 3, 3], scores

    slopes, scores = jit(jax.grad(one_score, has_aux=True))(frames(2, 64))
    assert scores.shape == (2, 8, 8)
    seen = np.abs(slopes).max(-1) > 0
    rows, columns = np.flatnonzero(seen[0].any(1)), np.flatnonzero(seen[0].any(0))
    assert rows.tolist() == columns.tolist() == list(range(9, 9 + 38))
    assert not seen[1].any()


@pytest.mark.parametrize(
    ("real", "fake", "expected"),
    [
        ([1, 1], [-1, -1], 0),
        ([5, 1.5], [-7, -2], 0),
        ([0, 0], [0, 0], 2),
        ([3, -1], [-4, 2], (0 + 2) / 2 + (0 + 3) / 2),
    ],
)
def test_hinge_wants_real_above_1_and_decoded_below_minus_1_score_by_score(real, fake, expected):
    assert float(hinge(jnp.asarray([[real]], float), jnp.asarray([[fake]], float))) == expected


def test_r1_of_a_linear_score_is_its_slope_squared():
    # The mean over Y X scores has the slope w / (Y X) at each of the Y X pixels.
    expected = np.sum(Linear.weights**2) / 8**2
    assert float(jit(r1)(Linear(), frames(3, 8))) == pytest.approx(expected, rel=1e-6)
