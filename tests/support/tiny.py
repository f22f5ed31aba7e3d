"""Small things with random weights, built in milliseconds, and the tolerances of all tests.

Frames are 64x64 px like those of `shapes`, but a patch is 16 px, so a frame has 4x4 ids.
"""

import dataclasses
import functools
from collections.abc import Callable
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx

from fv_jax.config.model import RetNetConfig, SequenceConfig, TokenizerConfig
from fv_jax.data.sources.base import Entry
from fv_jax.generation.engine import Engine
from fv_jax.generation.generator import Generator
from fv_jax.generation.pretrained import Model, ModelConfig
from fv_jax.generation.window_size import StepTime
from fv_jax.media.readers import Array
from fv_jax.models.retnet import RetNet
from fv_jax.planning import hlo
from fv_jax.sequence.vocab import Vocab
from fv_jax.shapes import scenes
from fv_jax.tokenizers.fsq import FSQTokenizer
from fv_jax.tokenizers.interface import FrameTokenizer
from fv_jax.tokenizers.patch_autoencoder import PatchAutoencoder
from fv_jax.tokenizers.text import TextTokenizer

# Between forms of the same maths, relative to the largest number expected (or to 1).
TOLERANCE = {"float32": 3e-5, "float64": 1e-11}

STEP_TIME = StepTime(1e-4, 2e-5)
NETWORK = RetNetConfig(
    width=16, layers=2, heads=2, value_width=24, hidden=20, memory_tokens=(2.0, 60.0), chunk=5,
    slots=7, code_levels=(4, 3),
)  # fmt: skip
TOKENIZER = TokenizerConfig(
    levels=(4, 3, 3), patch=16, halo=0, width=12, encoder_depth=1, decoder_depth=1
)
PROMPTS = (
    "a small red circle moves left over stripes",
    "a large blue square moves up over gray",
)


def assert_close(actual, expected, dtype: str, what: str = "") -> None:
    """Two trees agree leaf by leaf within the tolerance of `dtype`."""
    leaves, paths = jax.tree.leaves(actual), jax.tree_util.tree_leaves_with_path(expected)
    assert len(leaves) == len(paths)
    for leaf, (path, want) in zip(leaves, paths):
        leaf, want = np.asarray(leaf, np.float64), np.asarray(want, np.float64)
        assert leaf.shape == want.shape
        error = np.abs(leaf - want).max(initial=0) / max(1.0, np.abs(want).max(initial=0))
        assert error <= TOLERANCE[dtype], f"{what}{jax.tree_util.keystr(path)}: {error:.2e}"


def copies_in_loops(program: str, shape: tuple[int, ...]) -> int:
    """How many arrays of this shape the loops of a compiled program copy at each turn."""
    parts = hlo.Module(program).computations
    loops = [i for part in parts.values() for i in part if i.opcode == "while"]
    inside = [i for loop in loops for i in parts[loop.called("body")]]
    array = f"[{','.join(map(str, shape))}]"
    assert any(array in i.shape for i in inside), "no loop has such an array"
    return sum(i.opcode == "copy" and array in i.shape for i in inside)


def fit(loss: Callable, params, *, steps: int):
    """Adam at rate 1e-2 on `loss(params, key)`: the trained parameters, and every step's loss."""
    optimizer = optax.adam(1e-2)

    @jax.jit
    def train(params, state, key):
        value, gradient = jax.value_and_grad(loss)(params, key)
        updates, state = optimizer.update(gradient, state, params)
        return optax.apply_updates(params, updates), state, value

    state, values = jax.jit(optimizer.init)(params), []
    for key in jax.random.split(jax.random.key(5), steps):
        params, state, value = train(params, state, key)
        values.append(value)
    return params, values


def randomised(make: Callable[[], nnx.Module], seed: int = 0):
    """`make`'s module with random weights, norms' scales too; float64 under `jax.enable_x64`.

    Drawn by NumPy: nothing has to be compiled for it.
    """
    rng = np.random.default_rng(seed)

    def draw(path, leaf):
        values = rng.normal(size=leaf.shape)
        if "scale" in jax.tree_util.keystr(path):
            return jnp.asarray(1 + 0.1 * values)
        if leaf.ndim == 1:  # a bias
            return jnp.asarray(0.1 * values)
        inputs = np.prod(leaf.shape[-4:-1]) if leaf.ndim == 4 else leaf.shape[-2]
        return jnp.asarray(values * inputs**-0.5)

    graph, state = nnx.split(nnx.eval_shape(make))
    return nnx.merge(graph, jax.tree_util.tree_map_with_path(draw, state))


def retnet(
    config: RetNetConfig = NETWORK, vocabulary: int = 40, codes: int = 12, seed: int = 0
) -> RetNet:
    """A network with random weights."""
    return randomised(lambda: RetNet(config, vocabulary, codes, rngs=nnx.Rngs(0)), seed)


@functools.cache
def text() -> TextTokenizer:
    """The tokenizer of the captions of `shapes`."""
    return TextTokenizer.train(scenes.all_captions())


@functools.cache
def frames(config: TokenizerConfig = TOKENIZER) -> FSQTokenizer:
    """A frame tokenizer with random weights."""
    model = randomised(lambda: PatchAutoencoder(config, rngs=nnx.Rngs(0)))
    return FSQTokenizer(config, nnx.to_pure_dict(nnx.state(model, nnx.Param)))


def sequence() -> SequenceConfig:
    """What `text` and `frames` make together."""
    return SequenceConfig(
        text_tokens=9,
        frame_grid=(4, 4),
        text_vocabulary=text().size,
        frame_codes=frames().codebook_size,
        serial_numbers=6,
    )


def model_config() -> ModelConfig:
    """Three key frames at 2 fps; one or three frames may be put between them."""
    return ModelConfig(
        network=dataclasses.replace(NETWORK, slots=sequence().stride, code_levels=TOKENIZER.levels),
        sequence=sequence(),
        key_frames=3,
        key_frame_fps=2.0,
        key_frame_stride=4,
        insertions=((4, 3), (2, 1)),
    )


@functools.cache
def model() -> Model:
    """A whole model with random weights."""
    return model_of(model_config())


def model_of(config: ModelConfig, seed: int = 0) -> Model:
    """A whole model with random weights and a config of the same sizes."""
    s = config.sequence
    network = retnet(config.network, Vocab(s).size, s.frame_codes, seed)
    params = nnx.to_pure_dict(nnx.state(network, nnx.Param))
    return Model("tiny", config, params, frames(), text())


@functools.cache
def model_of_changes() -> Model:
    """A model whose frames after the first are what changes."""
    config = model_config()
    network = dataclasses.replace(config.network, nearby=6, places=config.sequence.frame_tokens)
    return model_of(dataclasses.replace(config, network=network))


@functools.cache
def model_of_five() -> Model:
    """`model`, as if it had been trained to begin with five frames in a row."""
    return dataclasses.replace(model(), config=dataclasses.replace(model_config(), given_frames=5))


@functools.cache
def generator() -> Generator:
    """`model`, ready to generate; its window is chosen as on a machine that is always the same."""
    return Generator(model(), Engine(model(), STEP_TIME))


def video(count: int = 3, seed: int = 0) -> np.ndarray:
    """Random frames, uint8 [count, 64, 64, 3], that keep most patches from frame to frame."""
    rng = np.random.default_rng(seed)
    first = rng.integers(0, 256, (4, 4, 3))
    grids = [first]
    for _ in range(count - 1):
        changed = rng.uniform(size=(4, 4, 1)) < 0.2
        grids.append(np.where(changed, rng.integers(0, 256, (4, 4, 3)), grids[-1]))
    return np.stack(grids).repeat(16, axis=1).repeat(16, axis=2).astype(np.uint8)


class MeanTokenizer(FrameTokenizer):
    """A frame tokenizer of NumPy alone: an id is its 16 px patch's mean red level over 8."""

    codebook_size, downsample, reach = 32, 16, 0

    def __init__(self, name: str = "means"):
        self.name = name
        self.encoded = 0  # frames so far

    def encode(self, frames):
        self.encoded += len(frames)
        b, y, x, _ = frames.shape
        return (frames[..., 0].reshape(b, y // 16, 16, x // 16, 16).mean((2, 4)) // 8).astype(int)

    def decode(self, ids):
        return (ids[..., None].repeat(16, 1).repeat(16, 2) * 8).repeat(3, 3).astype(np.uint8)

    def fingerprint(self):
        return self.name

    def save(self, path):
        Path(path).write_text(self.name)

    @classmethod
    def from_file(cls, path):
        return cls(path.read_text())


class ListSource:
    """A source of arrays at 8 fps. A clip may be an exception, which its `open` raises."""

    noise_free = False

    def __init__(self, clips, texts=None, name="list"):
        self.clips, self.name, self.problems = clips, name, []
        self.texts = texts or [f"clip {i}" for i in range(len(clips))]
        self.opened = []

    def __len__(self):
        return len(self.clips)

    def __getitem__(self, index):
        return Entry(f"clip/{index}", self.texts[index], functools.partial(self._open, index))

    def _open(self, index):
        self.opened.append(index)
        clip = self.clips[index]
        if isinstance(clip, Exception):
            raise clip
        return Array(lambda: clip, 8.0, count=len(clip), size=clip.shape[1:3])
