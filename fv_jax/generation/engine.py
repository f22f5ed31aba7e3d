"""Compiled calls of the sampler for one model: what `Generator` and `Stream` both stand on."""

from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from flax import nnx
from jaxtyping import Int

from fv_jax.generation.policies import Policy
from fv_jax.generation.pretrained import Model
from fv_jax.generation.sampler import DecodeState, Sampler, decode, start
from fv_jax.generation.stats import Stats
from fv_jax.generation.window_size import buffer_size, window_size
from fv_jax.sequence.packing import unpack
from fv_jax.sequence.vocab import FREE

KEY_FRAMES, BETWEEN = 0, 1  # stages, folded into a request's key


class Engine:
    """Compiles the sampler once for each shape, and calls it.

    Args:
        model: whose weights and layout it uses.
    """

    def __init__(self, model: Model):
        self.model = model
        self._network = nnx.merge(model.graph, model.params)
        self._compiled: dict[Any, Callable] = {}

    def sampler(
        self, policy: Policy, rows: int, *, window: int = 0, guidance: float = 1.0
    ) -> Sampler:
        """What to compile for `rows` rows; `window` 0 is what suits the machine."""
        sequence, platform = self.model.config.sequence, jax.default_backend()
        readings = Sampler(sequence, policy, guidance=guidance).readings
        window = min(window or window_size(rows * readings, platform), sequence.stride)
        return Sampler(sequence, policy, window, guidance, buffer_size(window, platform))

    def start(self, sampler: Sampler, keys: list[tuple[int, ...]]) -> DecodeState:
        """A state before any token; see `sampler.start`."""
        return start(self._network, sampler, keys)

    def decode(
        self,
        state: DecodeState,
        sampler: Sampler,
        stats: Stats,
        *,
        tokens: Int[np.ndarray, "B T"],
        guesses: Int[np.ndarray, " T"],
        read: int = 0,
        prefix: int = 0,
    ) -> tuple[Int[np.ndarray, "B F P"], DecodeState]:
        """Run the sampler, compiling it for a new shape. `read` and `prefix` count blocks."""
        sequence = sampler.sequence
        static = dict(
            graph=self.model.graph, sampler=sampler,
            read=read * sequence.stride, prefix=prefix * sequence.stride,
        )  # fmt: skip
        shape = (sampler, read, prefix, tokens.shape)
        if shape not in self._compiled:
            with stats("compile"):
                lowered = decode.lower(self.model.params, state, tokens, guesses, **static)
                self._compiled[shape] = lowered.compile()
        with stats("sample"):
            whole, state, counts = self._compiled[shape](self.model.params, state, tokens, guesses)
            codes = unpack(np.asarray(whole), sequence)[2]
        new = tokens[:, read * sequence.stride :]
        sampled = int((new == FREE).sum())
        stats.count(
            steps=int(counts.steps), sampled=sampled, forced=new.size - sampled,
            drafted=int(counts.drafted.sum()), accepted=int(counts.accepted.sum()),
        )  # fmt: skip
        return codes, state
