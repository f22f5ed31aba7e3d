"""Terms of the tokenizer's loss: what each sees, and whom it trains."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny
from flax import nnx

from fv_jax.config.model import TokenizerConfig
from fv_jax.config.training import TokenizerExperiment
from fv_jax.metrics.lpips import LPIPS
from fv_jax.tokenizers.fsq import to_float
from fv_jax.tokenizers.patch_autoencoder import PatchAutoencoder
from fv_jax.tokenizers.quantizer import FSQ
from fv_jax.training.discriminator import Discriminator, hinge, r1
from fv_jax.training.tasks.tokenizer_losses import TokenizerLoss

# Compiles in a third of the time.
jit = functools.partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})

PATCH, SIZE = 8, 32
GRID = (4, SIZE // PATCH, SIZE // PATCH)
PLAIN = TokenizerExperiment(
    "tiny",
    tokenizer=TokenizerConfig((4, 3, 3), PATCH, 0, 8, encoder_depth=1, decoder_depth=1),
    crop=4,
    changed_weight=2.0,
    plain_weight=0.5,
    range_weight=0.0,
    noise=0.0,
)
ALL = {
    "gradient_weight": 0.5, "noise_consistency": 0.7, "still_consistency": 1.1,
    "adversarial_weight": 0.3,
}  # fmt: skip
NOISE = {"noise": 64.0, "plain_weight": 0.0}
NOISY = NOISE | {"noise_consistency": 30.0, "still_consistency": 1.1}
KEY = jax.random.key(0)


def autoencoder():
    return tiny.randomised(lambda: PatchAutoencoder(PLAIN.tokenizer, rngs=nnx.Rngs(0)))


def judge():
    return tiny.randomised(lambda: Discriminator(rngs=nnx.Rngs(0)), seed=1)


@functools.cache
def params():
    """Weights of both, as NumPy arrays."""
    models = {"autoencoder": autoencoder(), "discriminator": judge()}
    pure = {k: nnx.to_pure_dict(nnx.state(model, nnx.Param)) for k, model in models.items()}
    return jax.tree.map(np.asarray, pure)


def batch(frames=None, changed=None):
    """Two pairs of frames of noise, unless others are given."""
    rng = np.random.default_rng(0)
    noise, half = rng.integers(0, 256, (4, SIZE, SIZE, 3)), rng.uniform(size=GRID) < 0.5
    return {
        "frames": np.asarray(noise if frames is None else frames, np.uint8),
        "changed": half if changed is None else changed,
    }


def still_pairs(level):
    """In each pair's second frame patch (0, 0) moves by `level`, all others by much."""
    frames = batch()["frames"].astype(int) // 2 + 60
    frames[1::2, :PATCH, :PATCH] = frames[0::2, :PATCH, :PATCH] + level
    return batch(frames)


@functools.cache
def compiled(**changes):
    return jit(TokenizerLoss(dataclasses.replace(PLAIN, **changes)))


def loss(data=None, weights=None, **changes):
    """Value and metrics as floats."""
    value, metrics = compiled(**changes)(weights or params(), data or batch(), KEY)
    return float(value), {name: float(metric) for name, metric in metrics.items()}


@jit
def by_hand(frames):
    """Bounded latents, error, and what the discriminator makes of it."""
    fsq, model, pixels = FSQ(PLAIN.tokenizer.levels), autoencoder(), to_float(frames)
    latent = model.latent(pixels)
    decoded = model.pixels(fsq.quantize(latent))
    own = hinge(judge()(pixels), judge()(decoded))
    opinion = -jnp.mean(judge()(decoded))
    return fsq.bound(latent), decoded, decoded - pixels, opinion, own, r1(judge(), pixels)


def test_reconstruction_is_the_weighted_mean_of_absolute_and_squared_error():
    data = batch()
    error = np.asarray(by_hand(data["frames"])[2], np.float64)
    weight = np.where(data["changed"], 2.0, 0.5).repeat(PATCH, 1).repeat(PATCH, 2)[..., None]
    expected = np.sum((np.abs(error) + 8 * error**2) * weight) / (3 * np.sum(weight))
    value, metrics = loss(data)
    assert value == pytest.approx(expected, rel=1e-5)
    assert metrics == pytest.approx({"mse": np.mean(error**2)}, rel=1e-5)


def test_plain_patches_without_weight_do_not_count_even_where_all_are_plain():
    assert loss(batch(changed=np.zeros(GRID, bool)), **NOISE)[0] == 0
    assert loss(batch(changed=np.ones(GRID, bool)), **NOISE)[0] > 1


def test_latents_beyond_the_range_of_the_bound_are_drawn_back():
    weights = jax.tree.map(np.array, params())
    last = weights["autoencoder"]["to_latent"]
    last["kernel"][:], last["bias"][:] = 0, 5  # where tanh is flat
    value = TokenizerLoss(dataclasses.replace(PLAIN, range_weight=0.1))
    gradient = jit(jax.grad(lambda weights, data: value(weights, data, KEY)[0]))
    far = gradient(weights, batch())["autoencoder"]["to_latent"]["bias"]
    np.testing.assert_allclose(far, 0.1 * 2 * (5 - 2) / len(far), rtol=0.1)
    last["bias"][:] = 1.9
    within, without = (loss(weights=weights, range_weight=w)[0] for w in (0.1, 0.0))
    assert within == pytest.approx(without, rel=1e-6)


def test_noise_is_on_the_input_and_not_on_what_is_wanted():
    one_color = jax.tree.map(np.zeros_like, params()["autoencoder"])
    weights = params() | {"autoencoder": one_color}  # whatever the input is
    quiet, noisy = loss(weights=weights)[1], loss(weights=weights, **NOISE)[1]
    assert noisy["mse"] == pytest.approx(quiet["mse"], rel=1e-6)
    assert loss(**NOISE)[1]["mse"] != pytest.approx(loss()[1]["mse"], rel=1e-6)


def test_terms_add_up_by_their_weights_and_leave_one_another_alone():
    data = still_pairs(2)
    _, _, error, opinion, own, penalty = by_hand(data["frames"])
    neighbors = sum(np.abs(np.diff(error, axis=axis)).mean() for axis in (1, 2))
    plain, everything = loss(data), loss(data, **ALL)
    terms = everything[1]
    added = 0.5 * neighbors + 1.1 * terms["moved_while_still"] + 0.3 * opinion + own + penalty
    assert everything[0] - plain[0] == pytest.approx(float(added), rel=1e-4)
    assert terms["opinion"] == pytest.approx(float(opinion), rel=1e-4)
    assert terms["judged"] == pytest.approx(float(own), rel=1e-4)
    assert terms["mse"] == pytest.approx(plain[1]["mse"], rel=1e-5)

    plain, noisy = loss(data, **NOISE), loss(data, **NOISY)
    added = 30 * noisy[1]["moved_by_noise"] + 1.1 * noisy[1]["moved_while_still"]
    assert noisy[0] - plain[0] == pytest.approx(added, rel=1e-4)
    assert noisy[1]["mse"] == pytest.approx(plain[1]["mse"], rel=1e-5)
    assert noisy[1]["moved_while_still"] == pytest.approx(terms["moved_while_still"], rel=1e-5)


def test_noise_moves_latents_by_less_than_their_levels_reach_and_no_noise_by_nothing():
    assert loss(**ALL)[1]["moved_by_noise"] == pytest.approx(0, abs=1e-9)
    assert 1e-4 < loss(**NOISY)[1]["moved_by_noise"] < 3**2


@pytest.mark.parametrize(("level", "still"), [(-2, True), (2, True), (3, False), (-3, False)])
def test_still_consistency_sees_patches_that_keep_within_two_levels_and_no_other(level, still):
    data = still_pairs(level)
    latents = np.asarray(by_hand(data["frames"])[0])
    moved = np.mean((latents[0::2, 0, 0] - latents[1::2, 0, 0]) ** 2)
    assert moved > 1e-6
    expected = moved if still else 0
    assert loss(data, **ALL)[1]["moved_while_still"] == pytest.approx(expected, rel=1e-4)


def test_still_consistency_is_zero_where_pixels_are_equal():
    assert loss(still_pairs(0), **ALL)[1]["moved_while_still"] == pytest.approx(0, abs=1e-9)


@functools.cache
def _slopes():
    function = TokenizerLoss(dataclasses.replace(PLAIN, adversarial_weight=0.3))
    return jit(jax.value_and_grad(function, has_aux=True))


def gradient(weights):
    """((value, metrics), gradient) of the adversarial loss of a small pair, as NumPy arrays."""
    small = {"frames": batch()["frames"][:2, :16, :16], "changed": batch()["changed"][:2, :2, :2]}
    return jax.tree.map(np.asarray, _slopes()(weights, small, KEY))


def with_score(kernel=1.0, bias=0.0):
    """The weights with the discriminator's last layer scaled and shifted."""
    last = params()["discriminator"]["score"]
    score = {"kernel": last["kernel"] * np.float32(kernel), "bias": last["bias"] + np.float32(bias)}
    return params() | {"discriminator": params()["discriminator"] | {"score": score}}


@pytest.mark.parametrize(("bias", "slope"), [(1000, 1), (-1000, -1)])
def test_the_autoencoders_wish_does_not_train_the_discriminator(bias, slope):
    # All scores far above 0 (or below): the slope of the hinge by the bias is 1 (or -1), the
    # penalty's is 0, and that of the opinion, -0.3, must not show.
    got = gradient(with_score(bias=bias))[1]["discriminator"]["score"]["bias"]
    assert got == pytest.approx(slope, rel=1e-6)


def test_the_discriminators_own_loss_does_not_train_the_autoencoder():
    # A bias turns the hinge of decoded frames on or off, and leaves the opinion's slopes.
    on, off, blind = (
        gradient(with_score(**change))[1]["autoencoder"]
        for change in ({"bias": 1000}, {"bias": -1000}, {"kernel": 0})
    )
    tiny.assert_close(on, off, "float32")
    difference = jax.tree.map(lambda a, b: np.abs(a - b).max(), on, blind)
    assert difference["to_pixels"]["kernel"] > 1e-3


def test_a_short_adversarial_run_trains_both():
    weights, history = params(), []
    for _ in range(10):
        (value, metrics), slopes = gradient(weights)
        assert np.isfinite(value)
        history.append(metrics)
        weights = jax.tree.map(lambda w, g: w - np.float32(0.003) * g, weights, slopes)
    for player in ("autoencoder", "discriminator"):
        leaves = zip(jax.tree.leaves(weights[player]), jax.tree.leaves(params()[player]))
        assert all((after != before).any() for after, before in leaves if after.ndim > 1)
    assert history[-1]["mse"] < history[0]["mse"]
    assert history[-1]["judged"] < history[0]["judged"]


def test_lpips_adds_its_distance_and_its_weights_are_no_constants_of_the_program(tmp_path):
    rng, tensors, before = np.random.default_rng(0), {}, 3
    layers = ((0, 64, 11), (3, 192, 5), (6, 384, 3), (8, 256, 3), (10, 256, 3))
    for index, channels, kernel in layers:
        shape, spread = (channels, before, kernel, kernel), (2 / (before * kernel**2)) ** 0.5
        weight = rng.standard_normal(shape, np.float32) * np.float32(spread)
        tensors[f"features.{index}.weight"] = weight
        tensors[f"features.{index}.bias"] = np.zeros(channels, np.float32)
        before = channels
    heads = {
        f"lin{i}.model.1.weight": np.full((1, layer[1], 1, 1), 0.1, np.float32)
        for i, layer in enumerate(layers)
    }
    np.savez(tmp_path / "trunk.npz", **tensors)
    np.savez(tmp_path / "heads.npz", **heads)
    files = {
        k: str(tmp_path / f"{k.removeprefix('lpips_')}.npz") for k in ("lpips_trunk", "lpips_heads")
    }
    function = TokenizerLoss(dataclasses.replace(PLAIN, lpips_weight=0.5, **files))
    data = batch()
    program = jit(function).lower(params(), data | {"lpips": function.lpips}, KEY)
    assert len(program.as_text()) < 1e6  # 2.5 M weights as text are twenty times as long
    value, metrics = program.compile()(params(), data | {"lpips": function.lpips}, KEY)
    decoded, pixels = by_hand(data["frames"])[1], to_float(jnp.asarray(data["frames"]))
    expected = float(jit(LPIPS.distance)(function.lpips, decoded, pixels).mean())
    assert expected > 0.01
    assert float(metrics["lpips"]) == pytest.approx(expected, rel=1e-3)
    assert float(value) - loss()[0] == pytest.approx(0.5 * expected, rel=1e-3)
