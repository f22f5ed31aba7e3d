"""How a token is chosen from logits: a pure function of the logits and the position's noise."""

import dataclasses
from typing import Protocol, runtime_checkable

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

_COLDEST = float(np.finfo(np.float32).tiny)  # colder is a number that float32 may take for 0


@runtime_checkable
class Policy(Protocol):
    """Chooses ids; any hashable callable of this form will do, it is fixed when compiling.

    It must be a function of its arguments alone: a video is then a function of its seed.
    """

    def __call__(
        self, logits: Float[Array, "*b V"], noise: Float[Array, "*b V"]
    ) -> Int[Array, "*b"]:
        """Frame codes of every row from their scores and standard Gumbel noise."""
        ...


@dataclasses.dataclass(frozen=True)
class Sampling:
    """Temperature, then top-k, then top-p, then one draw.

    The draw is `argmax(logits + Gumbel noise)`, which picks each token with exactly its softmax
    probability.

    Attributes:
        temperature: divides the logits; 0 takes the most likely token, as all do that are too
            small for a normal float32.
        top_k: keep the k most likely tokens; 0 keeps all.
        top_p: keep the fewest most likely tokens whose probabilities reach p; 1 keeps all.
    """

    temperature: float = 1.0
    top_k: int = 0
    top_p: float = 1.0

    def __call__(
        self, logits: Float[Array, "*b V"], noise: Float[Array, "*b V"]
    ) -> Int[Array, "*b"]:
        """Token ids of every row."""
        if self.is_greedy:
            return _argmax(logits)
        return _argmax(self.tempered(logits) + noise)

    def tempered(self, logits: Float[Array, "*b V"]) -> Float[Array, "*b V"]:
        """What softmax makes the probabilities of, at a temperature above 0."""
        # The largest becomes 0, so that no temperature makes it infinite.
        scaled = (logits - logits.max(axis=-1, keepdims=True)) / self.temperature
        return self.filter(scaled)

    @property
    def is_greedy(self) -> bool:
        """Whether the most likely token is taken."""
        return self.temperature < _COLDEST

    def filter(self, logits: Float[Array, "*b V"]) -> Float[Array, "*b V"]:
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


def _argmax(x: Float[Array, "*b V"]) -> Int[Array, "*b"]:
    """The first of the largest, as two plain reductions: JAX's own is one that CPUs do slowly."""
    codes = jnp.arange(x.shape[-1], dtype=jnp.int32)
    largest = jnp.max(x, axis=-1, keepdims=True)
    return jnp.min(jnp.where(x == largest, codes, x.shape[-1] - 1), axis=-1)


def position_words(keys: Array, position: Int[Array, "B T"]) -> Array:
    """Two random words for each position, uint32 [B, T, 2]: of `fold_in(request key, position)`.

    They depend on nothing else, so neither batch neighbors nor the order in which positions are
    computed can change a request's video.
    """
    words = lambda key, p: jax.random.bits(jax.random.fold_in(key, p), (2,))
    return jax.vmap(jax.vmap(words, in_axes=(None, 0)))(keys, position)


def position_noise(
    keys: Array, position: Int[Array, " B"], tokens: int
) -> Float[Array, "B tokens"]:
    """Gumbel noise of one position per row."""
    return gumbel(position_words(keys, position[:, None])[:, 0], tokens)


def gumbel(words: Array, tokens: int) -> Float[Array, "*b tokens"]:
    """Gumbel noise of `tokens` tokens from a position's two words, uint32 [*b, 2].

    A hash of the words and the token (pcg3d: Jarzynski and Olano, JCGT 9(3), 2020) stands in for
    a generator of one more draw per token: it is a dozen instructions, and at every step as many
    draws are needed as there are tokens.
    """
    words = words[..., None, :]
    bits = _pcg3d(words[..., 0], words[..., 1], jnp.arange(tokens, dtype=jnp.uint32))
    return -jnp.log(-jnp.log(_uniform(bits)))


def _uniform(bits: Array) -> Float[Array, "*b"]:
    """A float32 between 0 and 1, never either, of 32 random bits: 23 and a half are exact."""
    return ((bits >> 9).astype(jnp.float32) + 0.5) * 2.0**-23


def _pcg3d(x: Array, y: Array, z: Array) -> Array:
    """The first of the hash's three words."""
    x, y, z = (v * jnp.uint32(1664525) + jnp.uint32(1013904223) for v in (x, y, z))
    x = x + y * z
    y = y + z * x
    z = z + x * y
    x, y, z = (v ^ (v >> 16) for v in (x, y, z))
    return x + y * z
