"""Every way of making the same frames, with networks of the same size, ready to be timed.

A way is a list of calls and how often each counts: most are one whole run; those that would take
minutes are a part of it that is repeated in the whole (one of 256 denoising steps; one id at each
of three lengths, between which the cost of an id is a polynomial of second degree).

Weights are random: what is generated means nothing, and takes as long. There is no guidance. Token
models stop at ids: decoding them to pixels is the same for all and not timed. All attention is
plain XLA; on a GPU a fused kernel would help the transformers.
"""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from experiments.baselines import autoregressive, maskgit, sizes, video_diffusion
from experiments.baselines.attention import Transformer
from experiments.timing import parameters
from fv_jax.config.model import RetNetConfig, SequenceConfig
from fv_jax.generation import drafts
from fv_jax.generation.sampler import DecodeState, Sampler, decode
from fv_jax.models.retnet import RetNet
from fv_jax.sequence.packing import interpolation_serials, key_frame_serials, pack
from fv_jax.sequence.vocab import FREE, Vocab

# Frames of a clip: (key frames, frames put into every gap).
INSERTIONS = {5: (2, 3), 16: (4, 4)}
_STEPS = 1  # timed of the samplers whose steps all cost the same


@dataclasses.dataclass(frozen=True)
class Cell:
    """What is generated.

    Attributes:
        pixels: side of a frame; a patch has 8 px.
        frames: of a clip.
        batch: clips at a time.
    """

    pixels: int
    frames: int
    batch: int

    def __str__(self) -> str:
        return f"{self.pixels} px, {self.frames} frames, batch {self.batch}"


@dataclasses.dataclass(frozen=True)
class Way:
    """One method.

    Attributes:
        calls: (how often it counts, what to time).
        parameters: of the network.
        part: what of it is timed, "" for all.
        steps: sequential steps of the whole, 0 where they say nothing.
        step_bytes: that one of these steps must move at least, 0 if not counted.
    """

    calls: tuple[tuple[float, Callable[[], Any]], ...]
    parameters: int
    part: str = ""
    steps: int = 0
    step_bytes: int = 0


def sequence(cell: Cell, text_tokens: int, codes: int) -> SequenceConfig:
    """The layout of the cell's tokens."""
    side = cell.pixels // 8
    return SequenceConfig(text_tokens, (side, side), 100, codes, serial_numbers=cell.frames + 2)


class RetNets:
    """Our network and sampler on the cells of one frame size."""

    def __init__(self, config: RetNetConfig, layout: SequenceConfig):
        self.layout, self.config = layout, config
        make = functools.partial(_retnet, config, layout)
        self.params = jax.jit(lambda: nnx.state(make()))()
        self.graph = nnx.graphdef(nnx.eval_shape(make))
        self.size = parameters(self.params)

    def in_turn(self, cell: Cell) -> Way:
        """All frames one after the other, as an autoregressive transformer makes them; W = 1."""
        tokens, _ = _key_frames(self.layout, cell.batch, cell.frames)
        return self._way([(1.0, self.run(tokens))], tokens.shape[1], cell.batch)

    def inserted(self, cell: Cell) -> Way:
        """Key frames, then all gaps at once; W = 1."""
        keys, insert = INSERTIONS[cell.frames]
        first, _ = _key_frames(self.layout, cell.batch, keys)
        rows = cell.batch * (keys - 1)
        then = gap_rows(self.layout, rows, insert)
        lengths = first.shape[1], insert * self.layout.stride
        runs = [(1.0, self.run(first)), (1.0, self.run(then, known=2))]
        mean = (lengths[0] * cell.batch + lengths[1] * rows) / sum(lengths)
        return self._way(runs, sum(lengths), mean)

    def windows(self, cell: Cell, windows: tuple[int, int]) -> Way:
        """`inserted` over known tokens: a run keeps W tokens at every step, so it says what a step
        costs. How many there are depends on how well the network guesses, which random weights
        cannot say. The calls: key frames; inserted frames; of these, what comes before any step.
        `windows` are those of the two stages.
        """
        keys, insert = INSERTIONS[cell.frames]
        rows = cell.batch * (keys - 1)
        first = np.maximum(_key_frames(self.layout, cell.batch, keys)[0], 1)
        then = np.maximum(gap_rows(self.layout, rows, insert), 1)
        runs = (
            self.run(first, windows[0]),
            self.run(then, windows[1], known=2),
            self.run(then[:, : 2 * self.layout.stride], windows[1], known=2),
        )
        return Way(tuple((1.0, run) for run in runs), self.size)

    def run(self, tokens: np.ndarray, window: int = 1, known: int = 0) -> Callable[[], Any]:
        """A call that replaces the FREE tokens of whole blocks, the first `known` of them read."""
        rows, length = tokens.shape
        sampler = Sampler(self.layout, window=window)
        keys = jax.random.split(jax.random.key(0), rows)

        @jax.jit
        def state():  # anew for each call, since `decode` takes it over
            model = nnx.merge(self.graph, self.params)
            return DecodeState(model.init_state(rows), jnp.copy(keys))

        nothing = drafts.nothing(length // self.layout.stride, self.layout)
        run = functools.partial(decode, graph=self.graph, sampler=sampler)
        prefix = known * self.layout.stride
        inputs = jnp.asarray(tokens), jnp.asarray(nothing)
        return lambda: run(self.params, state(), *inputs, prefix=prefix)

    def _way(self, runs, steps: int, rows: float) -> Way:
        c = self.config
        low = 2 if c.matmul_dtype == "bfloat16" else 4
        weights = low * (self.size - Vocab(self.layout).size * c.width)  # of these, one row each
        state = 4 * c.layers * c.heads * c.key_dim * c.value_dim
        return Way(tuple(runs), self.size, "", steps, round(weights + 2 * rows * state))


def transformer_without_cache(config: RetNetConfig, layout: SequenceConfig, cell: Cell) -> Way:
    """The whole prefix anew for every id."""
    params, graph, size = transformer(config, layout)
    tokens, keys = _key_frames(layout, cell.batch, cell.frames)
    tokens = jnp.asarray(np.maximum(tokens, 1))  # what was sampled before
    starts = autoregressive.part_starts(layout, cell.frames)
    ends = autoregressive.part_ends(layout, starts)
    points = np.asarray([ends[0], ends[len(ends) // 2], ends[-1]])

    def run(stop, ids=1):
        return autoregressive.part(
            params, tokens, keys, graph=graph, sequence=layout, start=stop - ids, stop=stop
        )

    # The sum over all ids of the parabola through the three: a weight for each.
    ids = np.repeat(ends, np.subtract(ends, starts))
    weights = np.sum([_lagrange(points, n) for n in ids], axis=0)
    calls = tuple((float(w), functools.partial(run, int(n))) for w, n in zip(weights, points))
    # What a call does besides (laying out weights, drawing noise) is paid once a part, not an id.
    besides = len(ends) - sum(weights)
    calls += ((float(besides), functools.partial(run, int(points[1]), 0)),)
    return Way(calls, size, "one id at 3 lengths", len(ids))


def transformer_with_cache(config: RetNetConfig, layout: SequenceConfig, cell: Cell) -> Way:
    """One token per id, over a KV cache."""
    params, graph, size = transformer(config, layout)
    tokens, keys = _key_frames(layout, cell.batch, cell.frames)
    tokens = jnp.asarray(tokens)
    run = functools.partial(autoregressive.cached, graph=graph, sequence=layout)
    steps = cell.frames * layout.frame_tokens
    return Way(((1.0, lambda: run(params, tokens, keys)),), size, "", steps)


def masked_transformer(config: RetNetConfig, layout: SequenceConfig, cell: Cell) -> Way:
    """MaskGIT: all ids at once in 12 steps."""
    config = sizes.maskgit(config, layout, cell.frames)
    make = lambda: maskgit.MaskGit(config, layout, cell.frames, rngs=nnx.Rngs(0))
    params, graph = _parts(make)
    text = jnp.ones((cell.batch, layout.text_tokens), jnp.int32)
    codes = jnp.full((cell.batch, cell.frames, *layout.frame_grid), FREE)
    keys = jax.random.split(jax.random.key(0), cell.batch)
    run = functools.partial(maskgit.sample, graph=graph, steps=_STEPS)
    call = (maskgit.STEPS / _STEPS, lambda: run(params, text, codes, keys))
    part = f"{_STEPS} of {maskgit.STEPS} steps"
    return Way((call,), parameters(params), part, maskgit.STEPS)


def pixel_diffusion(config: RetNetConfig, layout: SequenceConfig, cell: Cell) -> Way:
    """A U-Net on pixels in 256 steps."""
    config_unet = sizes.video_diffusion(config, layout, cell.frames)
    params, graph = _parts(lambda: video_diffusion.VideoUNet(config_unet, rngs=nnx.Rngs(0)))
    text = jnp.ones((cell.batch, layout.text_tokens), jnp.int32)
    keys = jax.random.split(jax.random.key(0), cell.batch)
    size = (cell.pixels, cell.pixels)
    run = functools.partial(video_diffusion.sample, graph=graph, size=size, steps=_STEPS)
    call = (video_diffusion.STEPS / _STEPS, lambda: run(params, text, keys))
    part = f"{_STEPS} of {video_diffusion.STEPS} steps"
    return Way((call,), parameters(params), part, video_diffusion.STEPS)


def _key_frames(layout: SequenceConfig, rows: int, frames: int):
    text = np.ones((rows, layout.text_tokens), np.int32)
    codes = np.full((rows, frames, layout.frame_tokens), FREE, np.int32)
    tokens = pack(text, codes, key_frame_serials(frames), layout)
    return tokens, jax.random.split(jax.random.key(0), rows)


def gap_rows(layout: SequenceConfig, rows: int, insert: int) -> np.ndarray:
    """Gaps between known frames, all that is inserted FREE: tokens [rows, T]."""
    text = np.ones((rows, layout.text_tokens), np.int32)
    codes = np.zeros((rows, insert + 2, layout.frame_tokens), np.int32)
    codes[:, 2:] = FREE
    return pack(text, codes, interpolation_serials(insert), layout)


def _retnet(config: RetNetConfig, layout: SequenceConfig) -> RetNet:
    return RetNet(config, Vocab(layout).size, layout.frame_codes, rngs=nnx.Rngs(0))


def transformer(config: RetNetConfig, layout: SequenceConfig):
    """Parameters, graph and size of the transformer that stands beside a RetNet."""
    config = sizes.transformer(config, layout)
    make = lambda: Transformer(config, Vocab(layout).size, layout.frame_codes, rngs=nnx.Rngs(0))
    params, graph = _parts(make)
    return params, graph, parameters(params)


def _parts(make: Callable[[], nnx.Module]):
    """Parameters, made on the device in one go, and the graph."""
    return jax.jit(lambda: nnx.state(make()))(), nnx.graphdef(nnx.eval_shape(make))


def _lagrange(points: np.ndarray, x: float) -> np.ndarray:
    """How the value at x follows from the values at the points."""
    return np.asarray([np.prod([(x - q) / (p - q) for q in points if q != p]) for p in points])
