"""How a token is chosen from logits: a pure function of the logits and the position's noise."""

import dataclasses

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int


@dataclasses.dataclass(frozen=True)
class Policy:
    """Temperature, then top-k, then top-p, then one draw.

    The draw is `argmax(logits + Gumbel noise)`, which picks each token with exactly its softmax
    probability. Given the noise, the choice is deterministic: that is what makes a video a
    function of its seed.

    Attributes:
        temperature: divides the logits; 0 takes the most likely token.
        top_k: keep the k most likely tokens; 0 keeps all.
        top_p: keep the fewest most likely tokens whose probabilities reach p; 1 keeps all.
    """

    temperature: float = 1.0
    top_k: int = 0
    top_p: float = 1.0

    def __post_init__(self) -> None:
        if not self.temperature >= 0:
            raise ValueError(f"temperature must be >= 0, got {self.temperature}")
        if self.top_k < 0:
            raise ValueError(f"top_k must be >= 0 (0 keeps all tokens), got {self.top_k}")
        if not 0 < self.top_p <= 1:
            raise ValueError(f"top_p must be in (0, 1], got {self.top_p}")

    def __call__(
        self, logits: Float[Array, "*B V"], noise: Float[Array, "*B V"]
    ) -> Int[Array, "*B"]:
        """Token ids of every row."""
        if self.temperature == 0:
            return jnp.argmax(logits, axis=-1).astype(jnp.int32)
        kept = self.filter(logits / self.temperature)
        return jnp.argmax(kept + noise, axis=-1).astype(jnp.int32)

    def filter(self, logits: Float[Array, "*B V"]) -> Float[Array, "*B V"]:
        """Scaled logits with everything outside top-k and top-p at -inf.

        Tokens as likely as the last one kept are kept too.
        """
        if 0 < self.top_k < logits.shape[-1]:
            least = jax.lax.top_k(logits, self.top_k)[0][..., -1:]
            logits = jnp.where(logits >= least, logits, -jnp.inf)
        if self.top_p < 1:
            descending = -jnp.sort(-logits, axis=-1)
            probability = jax.nn.softmax(descending, axis=-1)
            before = jnp.cumsum(probability, axis=-1) - probability
            least = jnp.min(
                jnp.where(before < self.top_p, descending, jnp.inf), axis=-1, keepdims=True
            )
            logits = jnp.where(logits >= least, logits, -jnp.inf)
        return logits


def position_noise(
    keys: Array, position: Int[Array, " B"], tokens: int
) -> Float[Array, "B tokens"]:
    """Gumbel noise of one position per row: `fold_in(request key, position)`.

    It depends on nothing else, so neither batch neighbours nor the order in which positions are
    computed can change a request's video.
    """

    def row(key, n):
        return jax.random.gumbel(jax.random.fold_in(key, n), (tokens,), jnp.float32)

    return jax.vmap(row)(keys, position)
