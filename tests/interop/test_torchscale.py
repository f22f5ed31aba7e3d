"""torchscale's checkpoints give torchscale's numbers, form by form.

The vectors in tests/fixtures/torchscale were computed with torchscale itself (see its README).
Its three forms differ from each other by design, so each is held to its own array.
"""

import functools
import inspect
import json

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import tiny
from places import FIXTURES
from safetensors.numpy import load_file, save_file

from fv_jax.interop import torchscale
from fv_jax.ops import reference, retention

DATA = FIXTURES / "torchscale"
CASES = ("a_main", "b_options", "c_own_init")
OPTIONS = json.loads((DATA / "a_main.json").read_text())["config"]
FLOAT32_BAR = {"a_main": 3e-5, "b_options": 7e-5, "c_own_init": 3e-5}


@functools.cache
def case(name: str, dtype: str):
    net = torchscale.load(DATA / f"{name}.safetensors", DATA / f"{name}.json", dtype)
    return net, dict(np.load(DATA / f"{name}.npz"))


@functools.cache
def ours(name: str, dtype: str, length: str, form: str, chunk: int = 16):
    """Our form, on the vectors' tokens: compiled once for all tests."""
    net, vectors = case(name, dtype)
    return net.forward(vectors[f"{length}/tokens"], form, chunk)


@functools.cache
def theirs(name: str, dtype: str, length: str, form: str):
    """`form` as the vectors name it: parallel, recurrent, chunk16."""
    if form == "recurrent":
        return ours(name, dtype, length, form)
    net, vectors = case(name, dtype)
    form, chunk = ("chunkwise", int(form[5:])) if form.startswith("chunk") else (form, 16)
    return net.forward(vectors[f"{length}/tokens"], form, chunk, abs_sum_norm=True)


def logit_arrays(vectors, precision: str):
    suffix = f"_logits_{precision}"
    for key in vectors:
        if key.endswith(suffix):
            length, name = key.split("/")
            yield length, name.removesuffix(suffix), vectors[key]


@pytest.mark.parametrize("name", CASES)
def test_every_form_equals_torchscale_in_float64(name):
    _, vectors = case(name, "float64")
    arrays = list(logit_arrays(vectors, "f64"))
    assert {form for _, form, _ in arrays} >= {"parallel", "recurrent", "chunk16"}
    for length, form, expected in arrays:
        got = theirs(name, "float64", length, form).logits
        np.testing.assert_allclose(got, expected, rtol=0, atol=1e-11, err_msg=f"{length} {form}")


@pytest.mark.parametrize("name", CASES)
def test_every_form_equals_torchscale_in_float32(name):
    for length, form, expected in logit_arrays(case(name, "float32")[1], "f32"):
        got = theirs(name, "float32", length, form).logits
        assert got.dtype == np.float32
        np.testing.assert_allclose(got, expected, rtol=0, atol=FLOAT32_BAR[name])


@pytest.mark.parametrize("name", CASES)
def test_our_forms_all_equal_torchscales_recurrent_one(name):
    expected = case(name, "float64")[1]["L37/recurrent_logits_f64"]
    for form, chunk in (("parallel", 16), ("chunkwise", 16), ("chunkwise", 7)):
        got = ours(name, "float64", "L37", form, chunk).logits
        np.testing.assert_allclose(got, expected, rtol=0, atol=1e-11)


@pytest.mark.parametrize("name", CASES)
def test_hidden_states_and_retention_states_equal_torchscales(name):
    _, vectors = case(name, "float64")
    hidden = theirs(name, "float64", "L37", "parallel").hidden
    expected = vectors["L37/parallel_hidden_f64"]  # stored as float32
    np.testing.assert_allclose(hidden, expected, rtol=1e-6, atol=1e-6)
    scale = np.sqrt(vectors["L37/scale_f64"])[:, None, None]
    for form in ("recurrent", "chunkwise"):
        for layer, r in enumerate(ours(name, "float64", "L37", form).state):
            want = vectors[f"L37/state{layer}_f64"].swapaxes(-1, -2)
            np.testing.assert_allclose(r / scale, want, rtol=0, atol=1e-11)


@pytest.mark.parametrize("name", CASES)
def test_loss_and_gradients_equal_torchscales(name, x64):
    net, vectors = case(name, "float64")
    tokens = jnp.asarray(vectors["L37/tokens"])

    def loss(params):
        logits = net.apply(params, tokens, abs_sum_norm=True)[0]
        return jnp.mean(
            optax.softmax_cross_entropy_with_integer_labels(logits[:, :-1], tokens[:, 1:])
        )

    params = {key: jnp.asarray(value) for key, value in net.params.items()}
    value, grads = jax.jit(jax.value_and_grad(loss))(params)
    np.testing.assert_allclose(value, vectors["L37/loss_f64"], rtol=1e-12)
    compared = 0
    for key, grad in grads.items():
        grad = np.asarray(grad)
        if f"L37/grad/{key}" in vectors:
            full = vectors[f"L37/grad/{key}"]
            assert np.linalg.norm(grad - full) <= 1e-6 * np.linalg.norm(full), key
        else:
            got = np.concatenate([[grad.sum(), np.linalg.norm(grad)], grad.ravel()[:16]])
            stat = vectors[f"L37/gradstat/{key}"]
            np.testing.assert_allclose(got, stat, rtol=1e-6, atol=1e-9, err_msg=key)
        compared += 1
    assert compared == len(net.params)


def test_deepnorm_scales_the_residual_stream():
    tokens = np.load(DATA / "a_main.npz")["L37/tokens"][:1, :5]
    plain = torchscale.load(DATA / "a_main.safetensors", OPTIONS, "float64")
    deep = torchscale.load(DATA / "a_main.safetensors", {**OPTIONS, "deepnorm": True}, "float64")
    assert plain.config.alpha == 1
    assert deep.config.alpha == pytest.approx(6**0.25)
    assert np.abs(deep.logits(tokens) - plain.logits(tokens)).max() > 1e-2


@pytest.fixture
def altered(tmp_path):
    """Write a_main's tensors with changes; returns its path and options."""

    def make(**changes):
        tensors = load_file(DATA / "a_main.safetensors")
        for name, value in changes.items():
            name = name.replace("__", ".")
            if value is None:
                del tensors[name]
            else:
                tensors[name] = value
        save_file(tensors, tmp_path / "w.safetensors")
        return tmp_path / "w.safetensors"

    return make


def test_a_missing_an_unknown_and_a_misshapen_tensor_are_named(altered):
    with pytest.raises(ValueError, match=r"misses layers\.1\.ffn\.gate\.weight"):
        torchscale.load(altered(layers__1__ffn__gate__weight=None), OPTIONS)
    extra = np.zeros(3, np.float32)
    with pytest.raises(ValueError, match=r"unknown layers\.9\.bias"):
        torchscale.load(altered(layers__9__bias=extra), OPTIONS)
    with pytest.raises(ValueError, match=r"layer_norm\.weight must have shape \(32,\), got \(3,\)"):
        torchscale.load(altered(layer_norm__weight=extra), OPTIONS)


def test_post_norm_needs_no_last_norm_and_differs(altered):
    path = altered(layer_norm__weight=None)
    net = torchscale.load(path, {**OPTIONS, "decoder_normalize_before": False}, "float64")
    tokens = np.load(DATA / "a_main.npz")["L37/tokens"][:1, :9]
    parallel = net.logits(tokens)
    np.testing.assert_allclose(net.logits(tokens, "recurrent"), parallel, rtol=0, atol=1e-11)
    pre = torchscale.load(DATA / "a_main.safetensors", OPTIONS, "float64").logits(tokens)
    assert np.abs(parallel - pre).max() > 1e-2


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"decoder_layer": 3}, "decoder_layer"),
        ({"moe_freq": 2}, "moe_freq must be 0"),
        ({"activation_fn": "tanh"}, "activation_fn: no 'tanh'"),
        ({"decoder_retention_heads": 5}, "heads"),
    ],
)
def test_an_unknown_or_unsupported_option_is_named(change, words):
    with pytest.raises(ValueError, match=words):
        torchscale.load(DATA / "a_main.safetensors", {**OPTIONS, **change})


@pytest.mark.usefixtures("x64")
def test_abs_sum_norm_divides_by_the_rows_absolute_sum_without_a_gradient():
    rng, gammas = np.random.default_rng(37), np.asarray((0.3, 0.9, 0.997))
    q, k, v, cotangent = (jnp.asarray(rng.normal(size=(2, 37, 3, 6))) for _ in range(4))
    q = 4 * q  # so that many rows sum to more than 1
    n = np.arange(37)
    distance = n[:, None] - n
    powers = gammas[:, None, None] ** np.abs(distance) * (distance >= 0)
    scale = np.asarray([[reference.normalizer(gamma, m) for m in range(37)] for gamma in gammas])
    scores = np.einsum("bnhk,bmhk->bhnm", q, k) * powers * scale[..., None]
    total = np.abs(scores).sum(-1).transpose(0, 2, 1)[..., None]
    assert 0.1 < (total > 1).mean() < 1
    divisor = jnp.asarray(np.clip(total, 1, 5e4))

    decay, state = tuple(np.log(gammas).tolist()), jnp.zeros((2, 3, 6, 6))
    at = (jnp.zeros(2, int), jnp.full(2, 37))
    normed = torchscale._WITH_ABS_SUM["parallel"]
    actual, pull = jax.vjp(lambda *qkv: normed(*qkv, decay), q, k, v)
    plain = lambda *qkv: retention.parallel(*qkv, decay, state, *at)[0] / divisor
    expected, pull_expected = jax.vjp(plain, q, k, v)
    tiny.assert_close(actual, expected, "float64")
    tiny.assert_close(pull(cotangent), pull_expected(cotangent), "float64")


def test_bad_calls_say_what_was_wanted():
    net = torchscale.load(DATA / "a_main.safetensors", OPTIONS)
    tokens = np.zeros((1, 4), np.int32)
    with pytest.raises(
        ValueError, match="form: no 'serial'; there are: parallel, chunkwise, recurrent"
    ):
        inspect.unwrap(torchscale.TorchscaleRetNet.forward)(net, tokens, "serial")
    with pytest.raises(ValueError, match="chunk must be >= 1, got 0"):
        net.logits(tokens, "chunkwise", 0)
    with pytest.raises(ValueError, match="form with abs_sum_norm: no 'rec"):
        net.logits(tokens, "recurrent", abs_sum_norm=True)
    with pytest.raises(ValueError, match=r"0\.\.63"):
        net.logits(tokens + 64)
    with pytest.raises(ValueError, match="float16"):
        torchscale.load(DATA / "a_main.safetensors", OPTIONS, "float16")
    with pytest.raises(FileNotFoundError, match="nowhere"):
        torchscale.load(DATA / "nowhere.safetensors", OPTIONS)
