"""The patch-local autoencoder around FSQ: what an id sees, and what pixels it makes.

    frame [Y, X, 3] -> patches -> MLP, patch by patch -> FSQ -> ids [h, w]
    ids -> codes -> 3x3 convolutions on the token grid -> patches -> frame

The encoder sees its own patch (and `halo` px around it), so an id cannot change where its
pixels did not. Frame-wide normalization or attention would change 20..30% of such ids, and the
skip mask and the drafts live on them. Only the decoder looks at neighbors.
"""

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from fv_jax.config.model import TokenizerConfig

# Ids must not depend on the device: TPUs and GPUs would round inputs to bf16 / TF32 otherwise.
_PRECISION = jax.lax.Precision.HIGHEST


class ResidualMLP(nnx.Module):
    """x + Dense(silu(Dense(RMSNorm(x)))), hidden width 3x."""

    def __init__(self, width: int, *, rngs: nnx.Rngs):
        self.norm = nnx.RMSNorm(width, rngs=rngs)
        self.expand = nnx.Linear(width, 3 * width, precision=_PRECISION, rngs=rngs)
        self.project = nnx.Linear(3 * width, width, precision=_PRECISION, rngs=rngs)

    def __call__(self, x: Float[Array, "*b D"]) -> Float[Array, "*b D"]:
        return x + self.project(jax.nn.silu(self.expand(self.norm(x))))


class ResidualConv(nnx.Module):
    """x + Dense(silu(Conv3x3(RMSNorm(x)))): per-token norm, so that it stays local."""

    def __init__(self, width: int, *, rngs: nnx.Rngs):
        self.norm = nnx.RMSNorm(width, rngs=rngs)
        self.conv = nnx.Conv(width, width, (3, 3), precision=_PRECISION, rngs=rngs)
        self.project = nnx.Linear(width, width, precision=_PRECISION, rngs=rngs)

    def __call__(self, x: Float[Array, "B h w D"]) -> Float[Array, "B h w D"]:
        return x + self.project(jax.nn.silu(self.conv(self.norm(x))))


class PatchAutoencoder(nnx.Module):
    """Encoder and decoder. Pixels are float32 in [-1, 1] here and uint8 outside (`fsq.py`)."""

    def __init__(self, config: TokenizerConfig, *, rngs: nnx.Rngs):
        self.config = config
        side = config.patch + 2 * config.halo
        channels, width = len(config.levels), config.width
        linear = lambda i, o: nnx.Linear(i, o, precision=_PRECISION, rngs=rngs)
        self.embed = linear(3 * side**2, width)
        self.encoder = nnx.List(
            [ResidualMLP(width, rngs=rngs) for _ in range(config.encoder_depth)]
        )
        self.encoder_norm = nnx.RMSNorm(width, rngs=rngs)
        self.to_latent = linear(width, channels)
        self.from_code = nnx.Conv(channels, width, (3, 3), precision=_PRECISION, rngs=rngs)
        self.decoder = nnx.List(
            [ResidualConv(width, rngs=rngs) for _ in range(config.decoder_depth)]
        )
        self.decoder_norm = nnx.RMSNorm(width, rngs=rngs)
        self.to_pixels = linear(width, 3 * config.patch**2)

    def latent(self, pixels: Float[Array, "B Y X 3"]) -> Float[Array, "B h w d"]:
        """Latents before FSQ. Y and X must be multiples of the patch."""
        return self.to_latent(self.features(pixels))

    def features(self, pixels: Float[Array, "B Y X 3"]) -> Float[Array, "B h w D"]:
        """What the latents are a linear function of."""
        x = self.embed(self.patches(pixels, self.config.halo))
        for block in self.encoder:
            x = block(x)
        return self.encoder_norm(x)

    def pixels(self, codes: Float[Array, "B h w d"]) -> Float[Array, "B Y X 3"]:
        """Pixels (not clipped) of FSQ codes."""
        return self._frames(self.to_pixels(self.code_features(codes)))

    def code_features(self, codes: Float[Array, "B h w d"]) -> Float[Array, "B h w D"]:
        """What the pixels are a linear function of."""
        x = self.from_code(codes)
        for block in self.decoder:
            x = block(x)
        return self.decoder_norm(x)

    def patches(
        self, pixels: Float[Array, "B Y X 3"], halo: int = 0
    ) -> Float[Array, "B h w pixels"]:
        """Each patch with so many px around it, flattened; the frame's edge is repeated."""
        f = self.config.patch
        b, height, width, _ = pixels.shape
        if not halo:
            x = pixels.reshape(b, height // f, f, width // f, f, 3)
            return x.transpose(0, 1, 3, 2, 4, 5).reshape(b, height // f, width // f, -1)
        padded = jnp.pad(pixels, ((0, 0), (halo, halo), (halo, halo), (0, 0)), mode="edge")
        side = f + 2 * halo
        rows = jnp.arange(0, height, f)[:, None] + jnp.arange(side)
        columns = jnp.arange(0, width, f)[:, None] + jnp.arange(side)
        x = padded[:, rows[:, None, :, None], columns[None, :, None, :]]
        return x.reshape(b, height // f, width // f, -1)

    def _frames(self, patches: Float[Array, "B h w pixels"]) -> Float[Array, "B Y X 3"]:
        b, h, w, _ = patches.shape
        f = self.config.patch
        x = patches.reshape(b, h, w, f, f, 3).transpose(0, 1, 3, 2, 4, 5)
        return x.reshape(b, h * f, w * f, 3)
