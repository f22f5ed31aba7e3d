"""Baselines with as many parameters as the RetNet that they stand beside, within 5%.

Parameters are all there are, embeddings and heads included, and are counted from the shapes of
the real modules; nothing is allocated. What is free to match them:

    transformer       nothing: its gated linear unit is 4/3 D wider (`attention.py`)
    MaskGIT           width of the gated linear unit
    video diffusion   channels, then the width of the embedding of time and text
"""

import dataclasses
import functools
from collections.abc import Callable

import numpy as np
from flax import nnx

from experiments import timing
from experiments.baselines.attention import Transformer
from experiments.baselines.maskgit import MaskGit
from experiments.baselines.video_diffusion import UNetConfig, VideoUNet
from fv_jax.config.model import RetNetConfig, SequenceConfig
from fv_jax.models.retnet import RetNet
from fv_jax.sequence.vocab import Vocab

TOLERANCE = 0.05


def parameters(make: Callable[[], nnx.Module]) -> int:
    """Number of parameters of what `make` returns, without making it."""
    params = nnx.state(nnx.eval_shape(make), nnx.Param)
    return timing.parameters(params)


@functools.cache
def retnet(config: RetNetConfig, sequence: SequenceConfig) -> int:
    """Parameters of the RetNet: what the others are to have."""
    size, codes = Vocab(sequence).size, sequence.frame_codes
    return parameters(lambda: RetNet(config, size, codes, rngs=nnx.Rngs(0)))


def transformer(config: RetNetConfig, sequence: SequenceConfig) -> RetNetConfig:
    """`config` of the `Transformer`.

    Raises:
        ValueError: its parameters are not those of the RetNet, which they are at V = 2 D.
    """
    size, codes = Vocab(sequence).size, sequence.frame_codes
    got = parameters(lambda: Transformer(config, size, codes, rngs=nnx.Rngs(0)))
    _check("transformer", got, retnet(config, sequence))
    return config


def maskgit(config: RetNetConfig, sequence: SequenceConfig, frames: int) -> RetNetConfig:
    """`config` of the `MaskGit`.

    Raises:
        ValueError: no width of its gated linear unit has the RetNet's parameters.
    """
    want = retnet(config, sequence)
    make = lambda hidden: dataclasses.replace(config, hidden=max(1, hidden))
    count = lambda config: parameters(lambda: MaskGit(config, sequence, frames, rngs=nnx.Rngs(0)))
    one, two = count(make(1)), count(make(2))
    found = make(1 + round((want - one) / (two - one)))
    _check("MaskGIT", count(found), want)
    return found


def video_diffusion(config: RetNetConfig, sequence: SequenceConfig, frames: int) -> UNetConfig:
    """`config` of the `VideoUNet`.

    Heads are those of the RetNet. The channels are the most with which an embedding of four times
    their number leaves room, and the embedding takes what is left. Networks of less than about
    100,000 parameters are of a smaller kind: half the depth, and attention of one head at the
    lowest level only.

    Raises:
        ValueError: no U-Net has the RetNet's parameters.
    """
    want = retnet(config, sequence)
    common = {"text_vocabulary": sequence.text_vocabulary, "matmul_dtype": config.matmul_dtype}
    large = UNetConfig(1, heads=config.heads, key_dim=config.key_dim, **common)
    small = UNetConfig(1, heads=1, key_dim=config.key_dim, depth=1, attention_levels=1, **common)
    for kind in (large, small):
        count = _polynomial(kind)
        if count(2, 8) > want:
            continue
        channels = 2
        while count(channels + 2, 4 * (channels + 2)) <= want:
            channels += 2
        embedding = 4 * channels
        while count(channels, embedding + 2) <= want:
            embedding += 2
        found = dataclasses.replace(kind, frames=frames, channels=channels, embedding=embedding)
        _check("U-Net", unet(found), want)
        return found
    raise ValueError(f"no U-Net has as few as {want:,} parameters, the least is {count(2, 8):,}")


@functools.cache
def _polynomial(kind: UNetConfig) -> Callable[[int, int], float]:
    """Parameters as a function of channels and embedding width.

    The count is a polynomial of second degree in both, which six networks determine. (Without the
    biases of more than one frame: a few hundred parameters.)
    """
    terms = lambda c, e: [1.0, c, c * c, e, c * e, e * e]
    points = [(2, 2), (4, 2), (6, 2), (2, 4), (4, 4), (2, 6)]
    counts = [unet(dataclasses.replace(kind, channels=c, embedding=e)) for c, e in points]
    weights = np.linalg.solve([terms(*point) for point in points], counts)
    return lambda channels, embedding: float(np.dot(terms(channels, embedding), weights))


@functools.cache
def unet(config: UNetConfig) -> int:
    """Parameters of a `VideoUNet`."""
    return parameters(lambda: VideoUNet(config, rngs=nnx.Rngs(0)))


def _check(name: str, got: int, want: int) -> None:
    if abs(got / want - 1) > TOLERANCE:
        raise ValueError(f"the {name} has {got:,} parameters, wanted {want:,} within 5%")
