"""A small icetk network with random weights, and the rule of the parity vectors' weights."""

import functools
import zlib

import numpy as np

from fv_jax.tokenizers.icetk import weights as icetk_weights
from fv_jax.tokenizers.icetk.network import IceConfig
from fv_jax.tokenizers.icetk.tokenizer import IceTokenizer

CONFIG = IceConfig(
    channels=32, channels_mult=(1, 1, 2), enc_num_res_blocks=1, hidden_dim=8, embedding_dim=6,
    n_embed=50,
)  # fmt: skip


@functools.cache
def tensors(config: IceConfig = CONFIG, seed: int = 0) -> dict[str, np.ndarray]:
    """Every tensor of a checkpoint, by the rule that the parity vectors' weights follow."""
    return {name: _draw(name, shape, seed) for name, shape in icetk_weights.shapes(config).items()}


@functools.cache
def tokenizer(config: IceConfig = CONFIG, seed: int = 0) -> IceTokenizer:
    """The tokenizer of these weights."""
    params = icetk_weights.params_of(tensors(config, seed), config, "the tests' weights")
    return IceTokenizer(config, params)


def _draw(name: str, shape: tuple[int, ...], seed: int) -> np.ndarray:
    if name == "quantize.cluster_size":
        return np.ones(shape, np.float32)
    source = name.replace("embed_avg", "embed.weight")
    random = np.random.RandomState(zlib.crc32(source.encode()) ^ seed)
    u = (2 * random.random_sample(shape) - 1) * np.sqrt(3)
    if source == "quantize.embed.weight":
        values = u
    elif len(shape) == 4:
        values = 1.4 * u / np.sqrt(np.prod(shape[1:]))
    elif "norm" in name:
        values = 0.2 * u + name.endswith("weight")
    else:
        values = 0.1 * u
    return values.astype(np.float32)
