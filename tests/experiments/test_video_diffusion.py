"""The diffusion baseline: its schedule, sampler and network are right."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny
from flax import nnx

from experiments.baselines.video_diffusion import (
    UNetConfig,
    VideoUNet,
    alpha_sigma,
    ancestral,
    clean,
    loss,
    noised,
    posterior,
    sample,
    velocity,
)  # fmt: skip

M, SIZE = 3, (8, 8)
CONFIG = UNetConfig(
    frames=M, text_vocabulary=20, channels=4, multipliers=(1, 2), attention_levels=1, depth=1,
    embedding=8, heads=2, key_dim=4,
)  # fmt: skip


FLAT = dataclasses.replace(CONFIG, multipliers=(1,))  # faster to compile


def network(config=FLAT):
    return tiny.randomised(lambda: VideoUNet(config, rngs=nnx.Rngs(0)))


@jax.jit
def score(net, z, t, text):
    return net(z, t, text)


def text(rows=2):
    return jnp.array([[3, 4, 0], [5, 0, 0]])[:rows]


def keys(rows=2):
    return jax.vmap(jax.random.key)(jnp.arange(rows))


def frames(rows=2):
    return jnp.tanh(jax.random.normal(jax.random.key(3), (rows, M, *SIZE, 3)))


def run(rows=2, config=FLAT, size=SIZE):
    graph, params = nnx.split(network(config))
    return np.asarray(sample(params, text(rows), keys(rows), graph=graph, size=size, steps=3))


@pytest.mark.usefixtures("x64")
def test_the_schedule_keeps_the_variance_and_noise_can_be_taken_off():
    t = jnp.linspace(0, 1, 11)[:, None]
    alpha, sigma = alpha_sigma(t)
    np.testing.assert_allclose(alpha**2 + sigma**2, 1)
    x, noise = jax.random.normal(jax.random.key(0), (2, 11, 5))
    np.testing.assert_allclose(clean(noised(x, noise, t), velocity(x, noise, t), t), x, atol=1e-12)
    np.testing.assert_allclose(noised(x, noise, t)[0], x[0])
    np.testing.assert_allclose(noised(x, noise, t)[-1], noise[-1], atol=1e-12)


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize(("t", "s"), [(1.0, 0.99), (0.6, 0.5), (0.1, 0.0)])
def test_a_step_leads_from_the_noise_of_t_to_that_of_s(t, s):
    """For z_t = alpha_t x + sigma_t e, z_s has mean alpha_s x and variance sigma_s^2."""
    t, s, zero, one = (jnp.asarray(v) for v in (t, s, 0.0, 1.0))
    (alpha, sigma), (alpha_s, sigma_s) = alpha_sigma(t), alpha_sigma(s)
    of_z, deviation = posterior(one, zero, t, s)
    of_x, _ = posterior(zero, one, t, s)
    np.testing.assert_allclose(of_z * alpha + of_x, alpha_s, rtol=1e-12)
    np.testing.assert_allclose((of_z * sigma) ** 2 + deviation**2, sigma_s**2, rtol=1e-12)


@pytest.mark.parametrize("steps", [7, 256])
def test_with_the_right_v_the_sampler_returns_the_frames(steps):
    x = frames()

    def denoise(z, t):
        alpha, sigma = alpha_sigma(t)
        return (alpha * z - x) / sigma

    got = jax.jit(lambda: ancestral(denoise, keys(), x.shape[1:], steps))()
    np.testing.assert_allclose(got, x, atol=2e-5)


def test_a_rows_video_depends_on_its_own_key_and_text_only():
    both = run()
    assert both.shape == (2, M, *SIZE, 3)
    assert np.abs(both).max() <= 1
    np.testing.assert_allclose(both[:1], run(rows=1), atol=1e-5)
    assert np.abs(both[0] - both[1]).max() > 0.1


def attention_over_time(net):
    return [module for _, module in nnx.iter_modules(net) if hasattr(module, "time_bias")]


def test_frames_touch_through_attention_over_time_only():
    def change(net):
        z, t = frames(1), jnp.array([0.5])
        other = score(net, z.at[0, 1].multiply(0.5), t, text(1))
        return jnp.abs(score(net, z, t, text(1)) - other).max((0, 2, 3, 4))

    net = network(CONFIG)
    assert (change(net) > 1e-5).all()
    for module in attention_over_time(net):
        module.time_out.weight[...] = jnp.zeros_like(module.time_out.weight[...])
    first, middle, last = change(net)
    assert middle > 1e-3
    assert first == last == 0


def test_attention_over_time_knows_the_frames_order():
    """Only the biases tell frames apart: without them, frames in turn give results in turn."""

    def difference(net):
        z, t = frames(1), jnp.array([0.5])
        return jnp.abs(
            score(net, z[:, ::-1], t, text(1))[:, ::-1] - score(net, z, t, text(1))
        ).max()

    net = network()
    assert difference(net) > 1e-4
    for module in attention_over_time(net):
        module.time_bias[...] = jnp.zeros_like(module.time_bias[...])
    assert difference(net) < 1e-5


def test_text_and_time_matter_and_padding_does_not():
    net, z, t = network(), frames(1), jnp.array([0.5])
    before = score(net, z, t, text(1))
    assert jnp.abs(score(net, z, t, text(2)[1:]) - before).max() > 1e-3
    assert jnp.abs(score(net, z, t + 0.1, text(1)) - before).max() > 1e-3
    np.testing.assert_allclose(score(net, z, t, jnp.array([[0, 3, 4]])), before, atol=1e-5)


def test_bfloat16_is_close_and_float32_outside():
    low = network(dataclasses.replace(FLAT, matmul_dtype="bfloat16"))
    inputs = frames(1), jnp.array([0.5]), text(1)
    got, want = score(low, *inputs), score(network(), *inputs)
    assert got.dtype == jnp.float32
    assert 0 < jnp.abs(got - want).max() < 0.1 * jnp.abs(want).max()


@pytest.mark.slow
def test_it_learns_two_videos():
    graph, params = nnx.split(network())
    # Of one color per frame, and many at once, as each row has one time only.
    videos = jnp.repeat(jnp.broadcast_to(frames()[:, :, :1, :1], (2, M, 4, 4, 3)), 8, axis=0)
    texts = jnp.repeat(text(), 8, axis=0)
    of = lambda params, key: loss(nnx.merge(graph, params), videos, texts, key)
    _, values = tiny.fit(of, params, steps=100)
    assert np.mean(values[-10:]) < 0.6 * values[0]


def test_wrong_sizes_are_an_error():
    with pytest.raises(ValueError, match=r"Y and X divisible by 2, got \(2, 3, 8, 7, 3\)"):
        run(config=CONFIG, size=(8, 7))
    with pytest.raises(ValueError, match="channels must be even and >= 2, got 3"):
        UNetConfig(frames=1, text_vocabulary=1, channels=3)
