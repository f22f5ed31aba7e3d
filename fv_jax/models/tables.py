"""Where tokens enter and leave a network: embeddings and scores."""

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from fv_jax.models.layers import project
from fv_jax.models.nearby import NearbyIds
from fv_jax.models.places import PlaceHead
from fv_jax.models.sharding import gathered

# A field of a pytree: an array, or whatever JAX puts in its place (shapes, shardings, tracers).
Leaf = Any


@functools.partial(
    jax.tree_util.register_dataclass,
    data_fields=["embedding", "slots", "head", "nearby", "places"], meta_fields=["dtype"],
)  # fmt: skip
@dataclasses.dataclass(frozen=True)
class Tables:
    """Where tokens enter and leave the network.

    Attributes:
        embedding: [vocabulary, D].
        slots: embeddings of a block's slots, [slots, D]; None for none.
        head: [D, codes].
        nearby: what reads the ids nearby; None where nothing does.
        places: what says which place changes next; None where all ids are coded.
        dtype: of the head's matmul.
    """

    embedding: Leaf
    slots: Leaf | None
    head: Leaf
    nearby: NearbyIds | None
    places: PlaceHead | None
    dtype: str

    def embed(
        self, tokens: Int[Array, "*b"], position: Int[Array, "*b"],
        nearby: Int[Array, "*b nearby"] | None = None,
    ) -> Float[Array, "*b D"]:  # fmt: skip
        """Vectors of ids at global positions, and of the ids nearby what they predict."""
        # Whole channels, or every row would be put together from all devices.
        x = gathered(self.embedding, ("vocabulary", "embed"))[tokens]
        if self.slots is not None:
            x = x + gathered(self.slots, ("slots", "embed"))[position % len(self.slots)]
        if self.nearby is not None and nearby is not None:
            x = x + self.nearby.vectors(nearby)
        return x

    def logits(
        self, hidden: Float[Array, "*b D"], nearby: Int[Array, "*b nearby"] | None = None
    ) -> Float[Array, "*b V"]:
        """Scores of the frame codes."""
        return self.scores(hidden, self.head, jnp.arange(self.head.shape[1]), nearby)

    def scores(
        self, hidden: Float[Array, "*b D"], head: Float[Array, "D V"], codes: Int[Array, " V"],
        nearby: Int[Array, "*b nearby"] | None = None,
    ) -> Array:  # fmt: skip
        """Scores of some codes, by their columns of the head."""
        scores = project(hidden, head, self.dtype)
        if self.nearby is None or nearby is None:
            return scores
        return self.nearby.with_copies(scores, codes, hidden, nearby)


def level_rows(levels: tuple[int, ...]) -> np.ndarray:
    """Which rows of the level tables make up each code: 0 or 1, [codes, sum of levels].

    Code c has level c // (product of the levels before) % levels[j] in channel j, as in
    `tokenizers/quantizer.py`; the channels' rows follow each other.
    """
    strides = np.cumprod((1, *levels[:-1]))
    first_rows = np.cumsum((0, *levels[:-1]))
    code = np.arange(np.prod(levels))[:, None]
    has_level = np.zeros((len(code), sum(levels)), np.float32)
    has_level[code, code // strides % np.asarray(levels) + first_rows] = 1
    return has_level
