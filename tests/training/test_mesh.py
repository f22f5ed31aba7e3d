"""Any mesh trains what one device trains, and really holds only its part."""

import subprocess
import sys

import jax
import numpy as np
import pytest
from eight_devices import MESHES
from places import ROOT, SUPPORT

from fv_jax.config.training import MeshConfig
from fv_jax.models.sharding import Layout
from fv_jax.training.mesh import (
    batch_sharding,
    check_batch,
    make_layout,
    place_batch,
    resolved,
    rows_of_process,
    to_host,
)

SPREAD = [*MESHES, "accumulate, block"]


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    """What `eight_devices.py` found out, in a process with eight devices."""
    path = tmp_path_factory.mktemp("mesh") / "results.npz"
    command = [sys.executable, str(SUPPORT / "eight_devices.py"), str(path)]
    subprocess.run(command, check=True, cwd=ROOT)
    return dict(np.load(path))


@pytest.mark.parametrize(
    ("name", "one"), [*((name, "one") for name in SPREAD), ("short, sequence 2", "short, one")]
)
def test_five_steps_are_those_of_one_device(results, name, one):
    assert (np.diff(results[f"{one}/losses"]) != 0).all()  # it does train
    np.testing.assert_allclose(results[f"{name}/losses"], results[f"{one}/losses"], rtol=1e-6)
    for part in ("params", "ema"):
        got, want = results[f"{name}/{part}"], results[f"{one}/{part}"]
        np.testing.assert_allclose(got, want, rtol=0, atol=1e-5 * np.abs(want).max())


def test_parts_of_rows_that_lack_tokens_give_what_one_device_gives(results):
    want = results["gaps/one"]
    assert len(want) > 1000
    np.testing.assert_allclose(
        results["gaps/sequence 2"], want, rtol=0, atol=1e-5 * np.abs(want).max()
    )


@pytest.mark.parametrize(("name", "least"), [("fsdp 8", 7), ("2x2x2", 3.5), ("sequence 2", 3.5)])
def test_each_device_holds_its_part_of_weights_average_and_optimizer(results, name, least):
    for part in ("params_bytes", "ema_bytes", "opt_state_bytes"):
        assert results[f"one/{part}"] / results[f"{name}/{part}"] > least
    assert results["data 8/params_bytes"] == results["one/params_bytes"]


def test_heads_channels_and_codes_are_cut_by_tensor_and_the_rest_by_fsdp(results):
    names = {"query", "down", "head", "embedding"}
    assert {name: str(results[f"2x2x2/{name}"]) for name in names} == {
        "query": "(None, 'fsdp', 'tensor')",
        "down": "(None, 'tensor', 'fsdp')",
        "head": "('fsdp', 'tensor')",
        "embedding": "('tensor', 'fsdp')",
    }


def test_one_size_may_be_what_is_left():
    assert resolved(MeshConfig(), 8) == MeshConfig(data=8)
    assert resolved(MeshConfig(data=2, fsdp=-1, tensor=2), 8) == MeshConfig(2, 2, 2)
    assert resolved(MeshConfig(data=1, sequence=-1), 8) == MeshConfig(1, 1, 1, 8)


@pytest.mark.parametrize("mesh", [MeshConfig(data=3), MeshConfig(tensor=3), MeshConfig(16)])
def test_a_mesh_that_does_not_fit_says_so(mesh):
    with pytest.raises(ValueError, match=r"does not make up 8 devices; set --run\.mesh"):
        resolved(mesh, 8)


@pytest.mark.parametrize("sizes", [{"data": 0}, {"tensor": -2}, {"data": -1, "fsdp": -1}])
def test_sizes_that_mean_nothing_are_refused(sizes):
    with pytest.raises(ValueError, match="sizes must be >= 1, one of them may be -1"):
        MeshConfig(**sizes)


def test_one_process_makes_all_rows_and_places_them_in_order():
    layout = make_layout(MeshConfig(), jax.devices()[:1])
    rows = rows_of_process(layout, 6)
    assert rows == (0, 1, 2, 3, 4, 5)
    batch = {"x": np.arange(12).reshape(6, 2)}
    placed = place_batch(layout, batch, rows, 6)
    np.testing.assert_array_equal(placed["x"], batch["x"])


@pytest.mark.parametrize(("batch", "accumulate"), [(6, 1), (8, 2)])
def test_a_batch_that_cannot_be_shared_evenly_is_refused(batch, accumulate):
    class EightParts(Layout):
        def parts(self, name):
            return 8

    eight = EightParts(make_layout(MeshConfig(), jax.devices()[:1]).mesh, {})
    with pytest.raises(ValueError, match=rf"divisible by 8 .data x fsdp. x {accumulate} .*{batch}"):
        check_batch(eight, batch, accumulate)
    check_batch(eight, 8 * accumulate, accumulate)


def test_a_process_may_hold_rows_that_do_not_follow_each_other():
    layout = make_layout(MeshConfig(), jax.devices()[:1])
    local, taken = np.asarray([[2], [3], [6], [7]]), []

    def devices_of_a_square(shape, sharding, part):
        assert (shape, sharding) == ((8, 1), batch_sharding(layout))
        for first in (2, 6):
            taken.extend(part((slice(first, first + 2), slice(None)))[:, 0].tolist())
        return jax.numpy.zeros(shape)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(jax, "make_array_from_callback", devices_of_a_square)
        place_batch(layout, {"x": local}, (2, 3, 6, 7), 8)
    assert taken == [2, 3, 6, 7]


def test_the_host_gets_a_copy_of_its_own():
    tree = {"x": jax.numpy.arange(3.0)}
    host = to_host(tree)
    tree["x"].delete()
    np.testing.assert_array_equal(host["x"], [0, 1, 2])
