"""Where a frame changes next (beyond the paper): the other half of a network of changes.

    x      = h + embed(id) + MLP([h, embed(id)])       h: what the id at a place was chosen from
    s[p]   = x w_p + a[p - place] + (x W_query) . key[p]         of all places p beyond that one
    s[END] = x w_END + a[..]                           nothing changes any more

The id is known where the next place is asked for; before the first place "the id" is the frame's
serial number. A network cannot turn to a place that it does not know yet (`models/retnet.py`), so
places are found by what stands around each of them in the frames nearest in time: that makes the
keys. softmax(s) are the probabilities of each place to be the next that changes. So that of a
change at p, if nothing changed since, is sigmoid(s[p] - logsumexp(s[q])), over all q beyond p, END
among them.
"""

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float, Int

from fv_jax.config.model import RetNetConfig
from fv_jax.models.layers import Dense, project
from fv_jax.models.nearby import FEATURES, NEVER, NearbyIds
from fv_jax.models.sharding import gathered


class PlaceHead(nnx.Module):
    """Weights of the scores; all that is learned begins such that places are alike."""

    def __init__(self, config: RetNetConfig, *, rngs: nnx.Rngs):
        width, places, dtype = config.width, config.places + 1, config.matmul_dtype
        channels = config.nearby
        self.dtype, self.scale = dtype, channels**-0.5
        self.up = Dense(
            2 * width, 2 * width, dtype=dtype, gain=1.0, rngs=rngs, axes=(None, "hidden")
        )
        self.down = nnx.Param(jnp.zeros((2 * width, width)), axes=("hidden", "embed"))
        self.place = nnx.Param(jnp.zeros((width, places)), axes=("embed", None))
        self.ahead = nnx.Param(jnp.zeros((places,)), axes=(None,))
        self.query = nnx.Param(jnp.zeros((width, channels)), axes=("embed", None))
        self.key = Dense(FEATURES * channels, channels, dtype=dtype, gain=1.0, rngs=rngs)

    def keys(self, nearby: NearbyIds, around: Int[Array, "*b P nearby"]) -> Float[Array, "*b P C"]:
        """What places are found by, of the codes around each in frames that are known."""
        return self.key(nearby.features(around)) * self.scale

    def after(
        self, hidden: Float[Array, "*b D"], embedded: Float[Array, "*b D"]
    ) -> tuple[Float[Array, "*b places_and_end"], Float[Array, "*b C"]]:
        """Scores of places by themselves, and the query for their keys.

        Args:
            hidden: the vector that an id was chosen from.
            embedded: the id's.
        """
        both = jnp.concatenate([hidden, embedded * embedded.shape[-1] ** 0.5], axis=-1)
        whole = lambda weight, *axes: gathered(weight[...], axes)
        more = project(jax.nn.silu(self.up(both)), whole(self.down, "hidden", "embed"), self.dtype)
        x = hidden + embedded + more
        scores = project(x, whole(self.place, "embed", None), self.dtype)
        return scores, project(x, whole(self.query, "embed", None), self.dtype)

    def beyond(
        self, scores: Float[Array, "*b places_and_end"], by_key: Float[Array, "*b P"],
        here: Int[Array, "*b"],
    ) -> Float[Array, "*b places_and_end"]:  # fmt: skip
        """Scores of what comes after the place `here` (-1: of all), and of END, the last."""
        ahead = jnp.arange(scores.shape[-1]) - here[..., None] - 1
        by_key = jnp.pad(by_key, (*[(0, 0)] * here.ndim, (0, 1)))
        scores = scores + self.ahead[...][jnp.maximum(ahead, 0)] + by_key
        return jnp.where(ahead >= 0, scores, NEVER)


def change_logits(scores: Float[Array, "*b places_and_end"]) -> Float[Array, "*b P"]:
    """Log odds that each place changes, if nothing changes before it."""
    scores = jnp.maximum(scores, NEVER)  # sums of none but minus infinities would be no number
    # Not `lax.cumlogsumexp`, which is slow on a CPU: 2.2 ms for 16 rows of 401, this 0.2.
    from_it_on = jax.lax.associative_scan(jnp.logaddexp, scores, axis=scores.ndim - 1, reverse=True)
    own, beyond = scores[..., :-1], from_it_on[..., 1:]
    return jnp.where(own > NEVER, own - beyond, NEVER)
