"""Weights in safetensors files: bfloat16 on disk, float32 in memory, shapes checked on the way."""

from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
import safetensors
import safetensors.flax
from flax.traverse_util import flatten_dict, unflatten_dict
from jaxtyping import Array

from fv_jax.files import replacing


def write_params(path: Path, params: Any, header: dict[str, str]) -> None:
    """Write a nested dict of arrays as bfloat16, names joined by dots; whole or not at all.

    Raises:
        OSError: it cannot be written, for example because the disk is full.
    """
    tensors = {k: jnp.asarray(v, jnp.bfloat16) for k, v in flatten_dict(params, sep=".").items()}
    try:
        with replacing(path) as temporary:
            safetensors.flax.save_file(tensors, temporary, metadata=header)
    except safetensors.SafetensorError as error:
        raise OSError(f"{path} could not be written ({error})") from error


def read_safetensors(path: Path) -> tuple[dict[str, Array], dict[str, str]]:
    """Tensors by name, and the header's strings.

    Raises:
        FileNotFoundError: no such file.
        ValueError: a damaged file, or none of safetensors.
    """
    if not path.is_file():
        raise FileNotFoundError(f"no file {path}")
    try:
        with safetensors.safe_open(path, framework="flax") as file:
            return {name: file.get_tensor(name) for name in file.keys()}, file.metadata() or {}
    except safetensors.SafetensorError as error:
        raise ValueError(f"{path} is damaged or no safetensors file ({error})") from error


def params_from_tensors(tensors: dict[str, Array], expected: Any, path: Path) -> Any:
    """A nested dict of float32 arrays.

    Args:
        tensors: by dotted name.
        expected: nested dict whose leaves have the shapes wanted.
        path: for the message.

    Raises:
        ValueError: missing, unknown or misshapen tensors, by name.
    """
    leaves: dict[str, Any] = flatten_dict(expected, sep=".")  # pyright: ignore[reportAssignmentType]
    want = {name: np.shape(leaf) for name, leaf in leaves.items()}
    got = {name: tensor.shape for name, tensor in tensors.items()}
    if want != got:
        wrong = sorted(name for name in want | got if want.get(name) != got.get(name))
        shown = ", ".join(f"{n} (want {want.get(n)}, got {got.get(n)})" for n in wrong[:3])
        raise ValueError(f"{path} does not fit its config: {len(wrong)} tensors, e.g. {shown}")
    return unflatten_dict({k: v.astype(jnp.float32) for k, v in tensors.items()}, sep=".")
