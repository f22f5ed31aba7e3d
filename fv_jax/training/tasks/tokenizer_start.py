"""Where a frame tokenizer begins: a quantized PCA codec of the clips it is to be trained on.

From random weights the first steps drive whole channels far to one side (the quickest way to the
right brightness), where `FSQ.bound` is flat and no gradient comes back: one code then serves every
patch for hundreds of steps, or for good. Here the first step finds every level of every channel in
use, and a decoder that already shows the picture:

    residual branches   add nothing yet
    to_latent           least squares from the encoder's features to the leading principal
                        components of the patches, as far apart as the levels are
    to_pixels           least squares from the decoder's features of the codes to the pixels
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Float, UInt8

from fv_jax.config.model import TokenizerConfig
from fv_jax.tokenizers.fsq import to_float
from fv_jax.tokenizers.patch_autoencoder import PatchAutoencoder
from fv_jax.tokenizers.quantizer import FSQ
from fv_jax.training.state import Params

# tanh(SPREAD x) of a normal x is nearly uniform (arXiv:2601.17124 has 2 sigmoid(1.6 x) - 1).
SPREAD = 0.8
_STILL = 1.0 / 127.5  # one level: components that move pixels by less are noise
_RIDGE = 1e-4  # of the features' mean square


def codec_start(
    config: TokenizerConfig, params: Params, frames: UInt8[np.ndarray, "B Y X 3"]
) -> Params:
    """The weights of an autoencoder, such as random ones, made into a codec of these frames.

    Args:
        config: sizes.
        params: of the autoencoder; embedding and first convolution stay as they are but for
            their biases, which tell the norms behind them how strong a patch is.
        frames: what it is to be trained on, some hundreds of patches at least.
    """
    graph = nnx.graphdef(nnx.eval_shape(lambda: PatchAutoencoder(config, rngs=nnx.Rngs(0))))
    params = jax.tree.map(jnp.asarray, params)
    for blocks in (params["encoder"], params["decoder"]):
        for block in blocks.values():
            block["project"] = jax.tree.map(jnp.zeros_like, block["project"])
    for name in ("embed", "from_code"):
        params[name]["bias"] = jnp.ones_like(params[name]["bias"])

    @functools.partial(jax.jit, static_argnums=0)
    def apply(method, params, x):
        return method(nnx.merge(graph, params), x)

    pixels = to_float(jnp.asarray(frames))
    patches = _rows(apply(PatchAutoencoder.patches, params, pixels))
    features = apply(PatchAutoencoder.features, params, pixels)
    params["to_latent"] = _solve(_rows(features), _latents(patches, config.levels))
    codes = FSQ(config.levels).quantize(apply(PatchAutoencoder.latent, params, pixels))
    features = apply(PatchAutoencoder.code_features, params, codes)
    params["to_pixels"] = _solve(_rows(features), patches)
    return params


def _rows(grid: Float[Array, "B h w D"]) -> Float[np.ndarray, "patches D"]:
    return np.asarray(grid, np.float64).reshape(-1, grid.shape[-1])


def _latents(
    patches: Float[np.ndarray, "patches pixels"], levels: tuple[int, ...]
) -> Float[np.ndarray, "patches d"]:
    """Principal components, the largest where there are most levels, spread over all of them.

    A component's unit is the larger of its standard deviation and of what its middle 68% say:
    few patches that differ from the rest, as edges do, get the outer levels for themselves.
    """
    centered = patches - patches.mean(0)
    axes = np.linalg.eigh(centered.T @ centered)[1][:, ::-1][:, : len(levels)]
    components = centered @ axes
    low, middle, high = np.quantile(components, [0.16, 0.5, 0.84], axis=0)
    unit = np.maximum((high - low) / 2, components.std(0))
    unit = np.maximum(unit, _STILL * np.sqrt(patches.shape[1]))
    order = np.argsort([-level for level in levels], kind="stable")
    latents = np.zeros((len(patches), len(levels)))
    latents[:, order[: components.shape[1]]] = SPREAD * (components - middle) / unit
    return latents


def _solve(
    features: Float[np.ndarray, "patches D"], wanted: Float[np.ndarray, "patches wanted"]
) -> dict[str, Float[Array, "..."]]:
    """Kernel and bias of the linear layer that comes nearest to `wanted`."""
    x, y = features - features.mean(0), wanted - wanted.mean(0)
    square = x.T @ x
    square += _RIDGE * np.trace(square) / len(square) * np.eye(len(square))
    kernel = np.linalg.solve(square, x.T @ y)
    bias = wanted.mean(0) - features.mean(0) @ kernel
    return {"kernel": jnp.asarray(kernel, jnp.float32), "bias": jnp.asarray(bias, jnp.float32)}
