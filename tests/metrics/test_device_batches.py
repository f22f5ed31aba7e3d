"""Batches: every row once and in order, whatever the numbers; several devices change nothing."""

import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from places import ROOT, SUPPORT

from fv_jax.metrics.device_batches import DeviceBatches, on_every


@given(rows=st.integers(0, 23), size=st.integers(1, 9))
def test_every_row_comes_once_and_in_order(rows, size):
    shapes, results = set(), []

    def function(state, x, y):
        shapes.add(x.shape)
        return {"sum": state + x + y, "x": x}

    batches = DeviceBatches(function, jnp.asarray(100.0), results.append, size=size)
    for i in range(rows):
        batches.add(np.asarray(float(i)), np.asarray(i / 2))
    batches.finish()
    assert [len(result["x"]) for result in results] == [
        min(size, rows - start) for start in range(0, rows, size)
    ]
    together = np.concatenate([np.zeros(0), *(result["sum"] for result in results)])
    np.testing.assert_allclose(together, 100 + 1.5 * np.arange(rows))
    assert shapes == ({(min(rows, size),)} if rows else set())  # one program for all


def test_matmuls_have_full_precision_and_only_there():
    seen = []
    batches = DeviceBatches(
        lambda state, x: seen.append(jax.config.jax_default_matmul_precision) or x,
        (),
        lambda _: seen.append(jax.config.jax_default_matmul_precision),
        size=1,
    )
    with jax.default_matmul_precision("bfloat16"):
        batches.add(np.zeros(2))
        batches.finish()
    assert seen == ["highest", "bfloat16"]


def test_a_size_below_1_is_refused():
    with pytest.raises(ValueError, match="batch must be >= 1, got 0"):
        DeviceBatches(lambda state, x: x, (), print, size=0)


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    """What `devices_program.py` found out, in a process with eight devices."""
    path = tmp_path_factory.mktemp("devices") / "results.npz"
    command = [sys.executable, str(SUPPORT / "devices_program.py"), str(path)]
    paths = f"{ROOT}:{SUPPORT}"
    environment = {"PYTHONPATH": paths, "PATH": "/usr/bin:/bin", "JAX_PLATFORMS": "cpu"}
    subprocess.run(command, check=True, env=environment)
    return dict(np.load(path))


@pytest.mark.parametrize("name", ["psnr", "ssim", "lpips", "features", "fvd"])
def test_eight_devices_give_the_numbers_of_one(results, name):
    expected = results[f"one/{name}"]
    assert expected.size == {"features": 2000, "fvd": 1}.get(name, 45)
    np.testing.assert_allclose(results[f"eight/{name}"], expected, rtol=1e-5, atol=1e-5)


def test_each_device_holds_its_part_of_a_batch(results):
    np.testing.assert_array_equal(results["held"], np.full((2, 8), 2))  # the last one filled up
    np.testing.assert_array_equal(results["counts"], [16, 3])
    assert results["all/psnr"] == pytest.approx(results["one/psnr"].mean(), rel=1e-6)


def test_weights_that_lie_on_every_device_are_not_copied_again():
    once = on_every({"w": jnp.arange(4.0)})
    again = on_every(once)
    places = lambda x: [shard.data.unsafe_buffer_pointer() for shard in x.addressable_shards]
    assert places(again["w"]) == places(once["w"])
    assert again["w"].devices() == set(jax.local_devices())
