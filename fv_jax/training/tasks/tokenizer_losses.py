"""What the frame tokenizer is trained to do: show the pixels again, with ids that keep still.

    reconstruction   absolute and squared error, optionally of neighboring pixels' differences,
                     optionally LPIPS (weights by the user) and a discriminator's opinion
    range            latents that stay where rounding them has a gradient
    stability        latents that neither noise nor the next frame moves where nothing happens:
                     the skip mask and the drafts live on ids that stay

Batches hold pairs: two frames of one clip, at one place.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Float

from fv_jax.config.training import TokenizerExperiment
from fv_jax.metrics.lpips import LPIPS
from fv_jax.tokenizers.fsq import to_float
from fv_jax.tokenizers.patch_autoencoder import PatchAutoencoder
from fv_jax.tokenizers.quantizer import FSQ
from fv_jax.training.discriminator import Discriminator, hinge, r1
from fv_jax.training.state import Params

_MSE_WEIGHT = 8.0  # of the squared error beside the absolute one, for pixels in [-1, 1]
_STILL = 2.0 / 127.5  # pixels that change by no more keep still: two levels
_R1_WEIGHT = 1.0
_FLAT = 2.0  # beyond this `FSQ.bound` is flat: latents there get no gradient back


class TokenizerLoss:
    """The loss of an experiment, as `make_train_step` wants it.

    Attributes:
        lpips: the distance, if it has weight; read here, given with every batch.
    """

    def __init__(self, config: TokenizerExperiment):
        self.config = config
        self._fsq = FSQ(config.tokenizer.levels)
        model = nnx.eval_shape(lambda: PatchAutoencoder(config.tokenizer, rngs=nnx.Rngs(0)))
        self._graph = nnx.graphdef(model)
        judge = nnx.eval_shape(lambda: Discriminator(rngs=nnx.Rngs(0)))
        self._judge_graph = nnx.graphdef(judge)
        self.lpips = None
        if config.lpips_weight:
            self.lpips = LPIPS.load(config.lpips_trunk, config.lpips_heads)

    def init(self, key: jax.Array) -> Params:
        """Random weights of the autoencoder, and of the discriminator where it is used."""
        model = PatchAutoencoder(self.config.tokenizer, rngs=nnx.Rngs(key))
        params = {"autoencoder": nnx.to_pure_dict(nnx.state(model, nnx.Param))}
        if self.config.adversarial_weight:
            judge = Discriminator(rngs=nnx.Rngs(jax.random.fold_in(key, 1)))
            params["discriminator"] = nnx.to_pure_dict(nnx.state(judge, nnx.Param))
        return params

    def batch_shapes(self) -> dict[str, jax.ShapeDtypeStruct]:
        """Shapes of a batch of all processes, without `lpips`."""
        config = self.config
        rows, side = config.run.batch_size, config.crop * config.tokenizer.patch
        return {
            "frames": jax.ShapeDtypeStruct((rows, 2, side, side, 3), jnp.uint8),
            "changed": jax.ShapeDtypeStruct((rows, 2, config.crop, config.crop), jnp.bool_),
        }

    def __call__(self, params: Params, batch: Any, key: jax.Array) -> tuple[jax.Array, dict]:
        """Loss and metrics.

        Args:
            params: weights of the autoencoder, and of the discriminator where it is used.
            batch: `frames` uint8 [B, 2, Y, X, 3], `changed` bool [B, 2, h, w], and `lpips`
                where it has weight (closed over, it would be a constant of the compiled step).
            key: draws the noise.
        """
        config = self.config
        model = nnx.merge(self._graph, params["autoencoder"])
        flat = lambda x, tail: x.reshape(-1, *x.shape[-tail:])  # a pair's frames one by one
        clean = to_float(flat(batch["frames"], 3))
        key_noise, key_scale = jax.random.split(key)
        scale = jax.random.uniform(key_scale, (clean.shape[0], 1, 1, 1))
        noise = jax.random.normal(key_noise, clean.shape) * scale * config.noise / 127.5
        latent = model.latent(clean + noise)
        decoded = model.pixels(self._fsq.quantize(latent))
        error = decoded - clean
        per_pixel = jnp.abs(error) + _MSE_WEIGHT * error**2
        weight = jnp.where(flat(batch["changed"], 2), config.changed_weight, config.plain_weight)
        errors = per_patch(per_pixel, config.tokenizer.patch).mean((2, 4, 5))
        # Without weight on plain patches a batch in which nothing changes weighs nothing.
        loss = jnp.sum(errors * weight) / jnp.maximum(jnp.sum(weight), 1e-6)
        if config.range_weight:
            beyond = jnp.maximum(jnp.abs(latent) - _FLAT, 0)
            loss += config.range_weight * jnp.mean(beyond**2)
        metrics = {"mse": jnp.mean(error**2)}
        if config.gradient_weight:
            loss += config.gradient_weight * _gradient_error(error)
        if config.noise_consistency or config.still_consistency:
            terms = self._stability(model, clean, latent)
            loss += config.noise_consistency * terms["moved_by_noise"]
            loss += config.still_consistency * terms["moved_while_still"]
            metrics |= terms
        if config.lpips_weight:
            distance = jnp.mean(batch["lpips"].distance(decoded, clean))
            loss += config.lpips_weight * distance
            metrics["lpips"] = distance
        if config.adversarial_weight:
            opinion, terms = self._adversarial(params["discriminator"], clean, decoded)
            loss += opinion
            metrics |= terms
        return loss, metrics

    def _stability(self, model: PatchAutoencoder, clean: Array, noisy_latent: Array) -> dict:
        """How far bounded latents move, in quantization steps squared."""
        at_rest = self._fsq.bound(model.latent(clean))
        by_noise = jnp.mean((self._fsq.bound(noisy_latent) - at_rest) ** 2)
        change = per_patch(jnp.abs(clean[0::2] - clean[1::2]), self.config.tokenizer.patch)
        still = jnp.max(change, axis=(2, 4, 5)) <= _STILL * 1.01
        moved = jnp.mean((at_rest[0::2] - at_rest[1::2]) ** 2, axis=-1)
        while_still = jnp.sum(moved * still) / jnp.maximum(jnp.sum(still), 1)
        return {"moved_by_noise": by_noise, "moved_while_still": while_still}

    def _adversarial(self, weights: Params, real: Array, fake: Array) -> tuple[Array, dict]:
        """One sum for both players: each one's gradient is stopped from reaching the other."""
        fixed = nnx.merge(self._judge_graph, jax.lax.stop_gradient(weights))
        judge = nnx.merge(self._judge_graph, weights)
        opinion = -jnp.mean(fixed(fake))
        judged = hinge(judge(real), judge(jax.lax.stop_gradient(fake)))
        loss = self.config.adversarial_weight * opinion + judged + _R1_WEIGHT * r1(judge, real)
        return loss, {"opinion": opinion, "judged": judged}


def per_patch(pixels: Array | np.ndarray, patch: int) -> Array | np.ndarray:
    """[B, Y, X, C] as [B, h, patch, w, patch, C]."""
    b, height, width, channels = pixels.shape
    return pixels.reshape(b, height // patch, patch, width // patch, patch, channels)


def _gradient_error(error: Float[Array, "B Y X 3"]) -> Float[Array, ""]:
    """Mean absolute error of the differences between neighbors."""
    down, right = jnp.diff(error, axis=1), jnp.diff(error, axis=2)
    return jnp.mean(jnp.abs(down)) + jnp.mean(jnp.abs(right))
