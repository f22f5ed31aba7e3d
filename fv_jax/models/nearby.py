"""What stands around a place in the frames nearest in time, read directly (beyond the paper).

Retention finds "the same patch, one frame ago" among hundreds of tokens by its distance alone, and
learns it anew for every code. Here each prediction is told the ids around its place in two frames
(`sequence/nearby.py`), in two ways:

    x      = embed(token) + W_out silu(W_in [embeddings of the 18 ids])
    logits = hidden W_head,  plus hidden w_f at the id that stands at the place itself in frame f

The second is a pointer (arXiv:1506.03134): an id is copied by one weight, whichever it is. Both
begin at zero, so a network that was trained without goes on as it was. Where frames are coded as
what changed, the base's id is never the one at the place: its score is minus infinity, or nearly.
"""

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float, Int

from fv_jax.config.model import NEARBY_FRAMES, NEARBY_TAPS, RetNetConfig
from fv_jax.models.layers import Dense, project
from fv_jax.models.sharding import gathered

FEATURES = 4  # of what stands around a place: times the channels of an id
NEVER = -1e9


class NearbyIds(nnx.Module):
    """Weights of both ways."""

    def __init__(self, config: RetNetConfig, codes: int, *, rngs: nnx.Rngs):
        """`config.nearby` channels for each of `codes` codes."""
        c, width = config.nearby, config.width
        self.dtype, self.changes = config.matmul_dtype, config.places > 0
        self.codes = nnx.Param(jax.random.normal(rngs.params(), (codes, c)), axes=("codes", None))
        self.mix = Dense(
            NEARBY_FRAMES * NEARBY_TAPS * c, FEATURES * c, dtype=self.dtype, gain=1.0, rngs=rngs,
            axes=(None, "hidden"),
        )  # fmt: skip
        self.out = nnx.Param(jnp.zeros((FEATURES * c, width)), axes=("hidden", "embed"))
        self.pointer = nnx.Param(jnp.zeros((width, NEARBY_FRAMES)), axes=("embed", None))

    def features(self, nearby: Int[Array, "*b nearby"]) -> Float[Array, "*b C"]:
        """What stands around places, as so many channels."""
        some = (nearby >= 0)[..., None]
        x = jnp.where(some, self.codes[...][jnp.maximum(nearby, 0)], 0)
        return jax.nn.silu(self.mix(x.reshape(*nearby.shape[:-1], -1)))

    def vectors(self, nearby: Int[Array, "*b nearby"]) -> Float[Array, "*b D"]:
        """What is added to the embeddings of the tokens before."""
        out = gathered(self.out[...], ("hidden", "embed"))
        return project(self.features(nearby), out, self.dtype)

    def with_copies(
        self, scores: Float[Array, "*b V"], codes: Int[Array, " V"], hidden: Float[Array, "*b D"],
        nearby: Int[Array, "*b nearby"],
    ) -> Float[Array, "*b V"]:  # fmt: skip
        """Scores of some codes, with what the ids at the place itself get."""
        more = project(hidden, gathered(self.pointer[...], ("embed", None)), self.dtype)
        for frame in range(NEARBY_FRAMES):
            there = nearby[..., frame * NEARBY_TAPS + NEARBY_TAPS // 2, None] == codes
            if self.changes and not frame:
                scores = jnp.where(there, NEVER, scores)
                continue
            scores = scores + jnp.where(there, more[..., frame, None], 0).astype(scores.dtype)
        return scores
