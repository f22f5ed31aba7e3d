"""A patch discriminator: is what lies around this place real video, or decoded? (PatchGAN)

The hinge losses and the R1 penalty on real frames (arXiv:1801.04406) that VQGAN-like tokenizers
are trained with (arXiv:2012.09841). It sees 38 px, and has no norm over frames.
"""

import itertools

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

_WIDTHS = (32, 64, 128)


class Discriminator(nnx.Module):
    """Pixels [-1, 1] to a score for every 8x8 patch; above 0 means real."""

    def __init__(self, *, rngs: nnx.Rngs):
        widths = (3, *_WIDTHS)
        self.convs = nnx.List(
            [
                nnx.Conv(i, o, (4, 4), strides=(2, 2), padding="SAME", rngs=rngs)
                for i, o in itertools.pairwise(widths)
            ]
        )
        self.score = nnx.Conv(widths[-1], 1, (3, 3), rngs=rngs)

    def __call__(self, pixels: Float[Array, "B Y X 3"]) -> Float[Array, "B h w"]:
        x = pixels
        for conv in self.convs:
            x = jax.nn.leaky_relu(conv(x), 0.2)
        return self.score(x)[..., 0]


def hinge(real: Float[Array, "B h w"], fake: Float[Array, "B h w"]) -> Float[Array, ""]:
    """The discriminator's own loss: scores of real frames above 1, of decoded ones below -1."""
    return jnp.mean(jax.nn.relu(1 - real)) + jnp.mean(jax.nn.relu(1 + fake))


def r1(model: Discriminator, real: Float[Array, "B Y X 3"]) -> Float[Array, ""]:
    """Mean squared gradient of the scores by real pixels; keeps the discriminator smooth."""
    gradient = jax.grad(lambda pixels: jnp.sum(jnp.mean(model(pixels), axis=(1, 2))))(real)
    return jnp.mean(jnp.sum(gradient**2, axis=(1, 2, 3)))
