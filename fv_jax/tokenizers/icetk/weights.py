"""icetk's parameters by its names, and the same ones as the network here wants them.

    enc.conv_in.weight        [out, in, y, x]    enc.conv_in.kernel        [y, x, in, out]
    enc.norm_out.weight       [C]                enc.norm_out.scale        [C]
    quantize.embed.weight     [K, d]             quantize.embed.embedding  [K, d]

Names on the left are those of ice_image.pt (329 tensors, 102,579,497 elements) and of files that
`IceTokenizer.save` writes.
"""

from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from fv_jax.tokenizers.icetk.network import IceConfig, parameter_shapes

# Kept by icetk's training and not used by anything here.
_TRAINING = {"quantize.cluster_size", "quantize.embed_avg"}


def shapes(config: IceConfig) -> dict[str, tuple[int, ...]]:
    """Shape of every tensor of a checkpoint, by icetk's names, in the order of names."""
    want = {
        _their_name(name): _their_shape(shape) for name, shape in parameter_shapes(config).items()
    }
    want["quantize.cluster_size"] = (config.n_embed,)
    want["quantize.embed_avg"] = (config.n_embed, config.embedding_dim)
    return dict(sorted(want.items()))


def params_of(tensors: Mapping[str, Any], config: IceConfig, source: str) -> dict[str, Array]:
    """The network's parameters by their names here, float32.

    Args:
        tensors: arrays by icetk's names. The two that only its training uses may be missing.
        config: sizes of the network.
        source: where they are from, for the message.

    Raises:
        ValueError: missing, unknown or misshapen tensors, by name.
    """
    want = shapes(config)
    got = {name: tuple(np.shape(tensor)) for name, tensor in tensors.items()}
    missing = sorted(want.keys() - got.keys() - _TRAINING)
    unknown = sorted(got.keys() - want.keys())
    wrong = [n for n in sorted(want.keys() & got.keys()) if want[n] != got[n]]
    problems = [
        f"{what} {len(names)} tensors, e.g. {', '.join(names[:3])}"
        for what, names in (("it misses", missing), ("it has unknown", unknown))
        if names
    ]
    problems += [f"{n} must have shape {want[n]}, got {got[n]}" for n in wrong[:3]]
    if problems:
        raise ValueError(f"{source} does not fit icetk's network: {'; '.join(problems)}")
    params = {}
    for name in parameter_shapes(config):
        tensor = np.asarray(tensors[_their_name(name)]).astype(np.float32)
        params[name] = jnp.asarray(tensor.transpose(2, 3, 1, 0) if tensor.ndim == 4 else tensor)
    return params


def tensors_of(params: Mapping[str, Array]) -> dict[str, np.ndarray]:
    """The reverse: float32 arrays by icetk's names, in the order of names."""
    tensors = {}
    for name, param in params.items():
        array = np.asarray(param)
        tensors[_their_name(name)] = array.transpose(3, 2, 0, 1) if array.ndim == 4 else array
    return dict(sorted(tensors.items()))


def _their_name(name: str) -> str:
    module, _, leaf = name.rpartition(".")
    return f"{module}.{'bias' if leaf == 'bias' else 'weight'}"


def _their_shape(shape: tuple[int, ...]) -> tuple[int, ...]:
    return (shape[3], shape[2], *shape[:2]) if len(shape) == 4 else shape
