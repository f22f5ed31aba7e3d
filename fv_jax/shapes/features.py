"""The network whose features `shapes-FVD` compares: what `shapes` clips show, and how it moves.

A small network of our own, trained here on rendered clips (`experiments/shapes_features.py`) to
name the five attributes of a caption and to measure radius, place and velocity. Its features are
the 64 numbers from which all of these are read off. It knows nothing but `shapes`.

    frames [F, 64, 64, 3]
      -> 4x4 patches, two convolutions, one vector a frame        what there is, and where
      -> two convolutions over time                               how it moves
      -> mean over time -> 64 features -> attributes, radius, place, velocity

Its sizes are fixed: with others the distances would be other numbers.

Shapes: B clips of F frames of 64x64 px, C = 64 features.
"""

import functools
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Float, UInt8

from fv_jax.batching import batched
from fv_jax.shapes import scenes
from fv_jax.weights.shipped import SHIPPED
from fv_jax.weights.tensors import params_from_tensors, read_safetensors, write_params

FEATURES, LEAST_FRAMES = 64, 3
WEIGHTS = SHIPPED / "shapes_features" / "network.safetensors"

# What is read off the features: words, and numbers with the size that counts as one unit of loss.
WORDS: dict[str, tuple[str, ...]] = {
    "size": tuple(scenes.SIZES),
    "colour": tuple(scenes.COLOURS),
    "shape": scenes.SHAPES,
    "direction": tuple(scenes.DIRECTIONS),
    "background": scenes.BACKGROUNDS,
}
NUMBERS = {"radius": 1.0, "x": 8.0, "y": 8.0, "velocity_x": 0.5, "velocity_y": 0.5}

_BATCH = 16  # clips per compiled call
_SIDE = scenes.FRAME_SIZE // 8  # of the grid that a frame's vector is made of


class ShapesFeatures(nnx.Module):
    """The network. It takes clips of at least 3 frames; it was trained on 17."""

    def __init__(self, *, rngs: nnx.Rngs):
        conv = functools.partial(nnx.Conv, rngs=rngs)
        self.patches = conv(3, 32, (4, 4), strides=4)
        self.coarser = conv(32, 48, (3, 3), strides=2)
        self.around = conv(48, 48, (3, 3))
        self.squeeze = conv(48, 16, (1, 1))
        self.frame = nnx.Linear(16 * _SIDE**2, 64, rngs=rngs)
        self.anywhere = nnx.Linear(48, 64, rngs=rngs)
        self.beside = conv(64, 96, (3,))
        self.further = conv(96, 96, (3,), kernel_dilation=2)
        self.features = nnx.Linear(96, FEATURES, rngs=rngs)
        self.words = nnx.Linear(FEATURES, sum(map(len, WORDS.values())), rngs=rngs)
        self.numbers = nnx.Linear(FEATURES, len(NUMBERS), rngs=rngs)

    def __call__(self, frames: UInt8[Array, "B F Y X 3"]) -> Float[Array, "B C"]:
        b, m = frames.shape[:2]
        x = frames.reshape(b * m, *frames.shape[2:]).astype(jnp.float32) / 127.5 - 1
        x = nnx.silu(self.patches(x))
        x = nnx.silu(self.coarser(x))
        x = x + nnx.silu(self.around(x))
        # A corner means the same wherever it is; by place alone shapes are hardly told apart.
        anywhere = self.anywhere(x.max((1, 2)))
        places = self.frame(nnx.silu(self.squeeze(x)).reshape(b * m, -1))
        x = nnx.silu(places + anywhere).reshape(b, m, -1)
        x = nnx.silu(self.beside(x))
        x = x + nnx.silu(self.further(x))
        return self.features(x.mean(1))

    def read(
        self, features: Float[Array, "B C"]
    ) -> tuple[dict[str, Float[Array, "B _"]], Float[Array, "B numbers"]]:
        """Logits of each attribute's words; numbers in units of `NUMBERS`."""
        ends = np.cumsum([len(words) for words in WORDS.values()])[:-1]
        logits = jnp.split(self.words(features), ends, axis=-1)
        return dict(zip(WORDS, logits)), self.numbers(features)


def truth(clip: scenes.ShapeClip) -> tuple[np.ndarray, np.ndarray]:
    """What `read` should say: index of each attribute's word, and the numbers in their units."""
    words = [WORDS[name].index(getattr(clip, name)) for name in WORDS]
    centers = clip.centers()
    # Off the middle of the frame, px; px per frame.
    place = centers.mean(0) - scenes.FRAME_SIZE / 2
    velocity = (centers[-1] - centers[0]) / (len(centers) - 1)
    radius = clip.radius - 10.0
    values = np.asarray([radius, *place, *velocity]) / list(NUMBERS.values())
    return np.asarray(words, np.int32), values.astype(np.float32)


class FeatureExtractor:
    """A trained `ShapesFeatures`.

    Attributes:
        params: nested dict of float32 arrays.
    """

    def __init__(self, params: Any):
        self.params = params

    @classmethod
    def load(cls, path: Path = WEIGHTS) -> "FeatureExtractor":
        """Read weights, by default those that come with the package.

        Raises:
            FileNotFoundError: no such file.
            ValueError: a damaged file, or one of other shapes.
        """
        tensors, _ = read_safetensors(path)
        return cls(params_from_tensors(tensors, abstract_params(), path))

    def save(self, path: Path) -> None:
        """Write the weights as bfloat16."""
        write_params(path, self.params, {})

    def __call__(self, videos: np.ndarray) -> Float[np.ndarray, "N C"]:
        """Features of clips, uint8 [N, F, 64, 64, 3]; float32.

        Raises:
            ValueError: not uint8 clips of at least 3 frames of 64x64 px.
        """
        side = scenes.FRAME_SIZE
        clips = videos.ndim == 5 and videos.shape[1] >= LEAST_FRAMES
        if not clips or videos.shape[2:] != (side, side, 3) or videos.dtype != np.uint8:
            raise ValueError(
                f"videos must be uint8 [N, F >= {LEAST_FRAMES}, {side}, {side}, 3], got "
                f"{videos.dtype} {list(videos.shape)}"
            )
        with jax.default_matmul_precision("highest"):  # the same on every device
            return batched(lambda part: _features(self.params, part), videos, _BATCH)


def graph() -> nnx.GraphDef:
    """The network's structure, for `nnx.merge(graph(), params)`."""
    return nnx.graphdef(_abstract())


def abstract_params() -> Any:
    """Shapes of the weights, as a nested dict."""
    return nnx.to_pure_dict(nnx.state(_abstract(), nnx.Param))


def _abstract() -> ShapesFeatures:
    return nnx.eval_shape(lambda: ShapesFeatures(rngs=nnx.Rngs(0)))


@jax.jit
def _features(params: Any, frames: Array) -> Array:
    return nnx.merge(graph(), params)(frames)
