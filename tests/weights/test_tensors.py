"""Weights on disk: bfloat16, names and shapes checked, damage reported by file name."""

import jax.numpy as jnp
import numpy as np
import pytest
import safetensors.flax

from fv_jax.weights.tensors import params_from_tensors, read_safetensors, write_params

PARAMS = {"a": {"b": jnp.linspace(-3, 3, 12).reshape(3, 4)}, "c": jnp.ones((2,))}


def write(folder, params=PARAMS):
    path = folder / "w.safetensors"
    write_params(path, params, {"made": "here"})
    return path


def test_round_trip_keeps_names_header_and_values_to_bfloat16(tmp_path):
    tensors, header = read_safetensors(write(tmp_path))
    assert header == {"made": "here"}
    assert {name: x.dtype for name, x in tensors.items()} == {
        "a.b": jnp.bfloat16, "c": jnp.bfloat16,
    }  # fmt: skip
    params = params_from_tensors(tensors, PARAMS, tmp_path)
    assert params["a"]["b"].dtype == jnp.float32
    np.testing.assert_array_equal(
        params["a"]["b"], PARAMS["a"]["b"].astype(jnp.bfloat16).astype(jnp.float32)
    )
    np.testing.assert_array_equal(params["c"], PARAMS["c"])


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"nowhere\.safetensors"):
        read_safetensors(tmp_path / "nowhere.safetensors")


@pytest.mark.parametrize("share", [0.0, 0.02, 0.5, 0.99])
def test_a_file_cut_short_is_named(tmp_path, share):
    path = write(tmp_path)
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    with pytest.raises(ValueError, match=r"w\.safetensors is damaged"):
        read_safetensors(path)


def test_a_text_file_is_refused(tmp_path):
    path = tmp_path / "w.safetensors"
    path.write_text("hello, I am no tensor" * 10)
    with pytest.raises(ValueError, match=r"w\.safetensors is damaged"):
        read_safetensors(path)


@pytest.mark.parametrize(
    ("tensors", "name"),
    [
        ({"a.b": jnp.ones((3, 4))}, "c "),
        ({"a.b": jnp.ones((3, 5)), "c": jnp.ones(2)}, r"a\.b \(want \(3, 4\), got \(3, 5\)\)"),
        ({"a.b": jnp.ones((3, 4)), "c": jnp.ones(2), "d": jnp.ones(1)}, "d "),
    ],
)
def test_tensors_of_another_model_are_named(tmp_path, tensors, name):
    safetensors.flax.save_file(tensors, tmp_path / "w.safetensors")
    found, _ = read_safetensors(tmp_path / "w.safetensors")
    with pytest.raises(ValueError, match=name) as caught:
        params_from_tensors(found, PARAMS, tmp_path / "w.safetensors")
    assert "w.safetensors" in str(caught.value)
