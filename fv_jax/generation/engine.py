"""Compiled calls of the sampler for one model: what `Generator` and `Stream` both stand on."""

import contextlib
import dataclasses
import hashlib
import json
import time
from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np
from flax import nnx
from jaxtyping import Int

from fv_jax.config.model import to_json
from fv_jax.files import user_cache, write_text
from fv_jax.generation.policies import Policy, Sampling
from fv_jax.generation.pretrained import Model
from fv_jax.generation.sampler import DecodeState, Sampler, decode, start
from fv_jax.generation.stats import Stats
from fv_jax.generation.window_size import (
    KEPT_KEY_FRAMES,
    StepTime,
    buffer_size,
    window_size,
    without_guesses,
)
from fv_jax.provenance import machine
from fv_jax.sequence.packing import unpack
from fv_jax.sequence.vocab import FREE

KEY_FRAMES, BETWEEN = 0, 1  # stages, folded into a request's key
_MEASURED_WINDOW, _MEASURED_ROWS, _MEASUREMENTS = 64, 16, 5


class Engine:
    """Compiles the sampler once for each shape, and calls it.

    Args:
        model: whose weights and layout it uses.
        step_time: what a step takes on this device; None measures it when it is first needed.
    """

    def __init__(self, model: Model, step_time: StepTime | None = None):
        self.model, self._step_time = model, step_time
        self._network = nnx.merge(model.graph, model.params)
        self._compiled: dict[Any, Callable] = {}

    def sampler(
        self,
        policy: Policy,
        rows: int,
        *,
        window: int = 0,
        guidance: float = 1.0,
        kept: Mapping[int, float] | None = KEPT_KEY_FRAMES,
    ) -> Sampler:
        """What to compile for `rows` rows.

        Args:
            policy: how ids are chosen.
            rows: that decode together.
            window: W, at most a block; 0 takes what is fastest on this device.
            guidance: of classifier-free guidance.
            kept: tokens that a step keeps at some W; None where nothing is guessed.
        """
        sequence = self.model.config.sequence
        if not window:
            readings = Sampler(sequence, policy, guidance=guidance).readings
            kept = kept or without_guesses(sequence)
            window = window_size(self.step_time, rows * readings, sequence.stride, kept)
        window = min(window, sequence.stride)
        buffer = buffer_size(window, jax.default_backend())
        return Sampler(sequence, policy, window, guidance, buffer)

    @property
    def step_time(self) -> StepTime:
        """What a step takes here: measured once for a device and a network, then kept on disk."""
        if self._step_time is None:
            device = jax.devices()[0]
            what = {
                "device": f"{device.platform} {device.device_kind}", "machine": machine(),
                "jax": jax.__version__,
                "network": to_json(self.model.config.network),
                "codes": self.model.config.sequence.frame_codes,
            }  # fmt: skip
            name = hashlib.sha256(json.dumps(what, sort_keys=True).encode()).hexdigest()[:16]
            path = user_cache() / "step-times" / f"{name}.json"
            try:
                self._step_time = StepTime(**json.loads(path.read_text(encoding="utf-8"))["step"])
            except (OSError, ValueError, KeyError, TypeError):  # none, or not whole
                self._step_time = self._measured()
                values = {"step": dataclasses.asdict(self._step_time), **what}
                with contextlib.suppress(OSError):  # a read-only home: measured again next time
                    write_text(path, json.dumps(values, indent=1) + "\n")
        return self._step_time

    def _measured(self) -> StepTime:
        """Known tokens through the sampler, at few and at many of them a step."""
        sequence = self.model.config.sequence
        window = min(_MEASURED_WINDOW, sequence.stride)
        rows = 1 if jax.default_backend() == "cpu" else _MEASURED_ROWS

        def seconds(rows: int, window: int) -> float:
            sampler = Sampler(sequence, Sampling(), window)
            tokens = np.ones((rows, 2 * sequence.stride), np.int32)
            guesses, taken = np.full(tokens.shape[1], -1, np.int32), []
            for _ in range(_MEASUREMENTS + 1):
                state = self.start(sampler, [(0, row) for row in range(rows)])
                jax.block_until_ready(state)
                begin = time.perf_counter()
                self.decode(state, sampler, Stats(), tokens=tokens, guesses=guesses)
                taken.append(time.perf_counter() - begin)
            # Other work on the machine only adds to it.
            return min(taken[1:]) / -(-tokens.shape[1] // window)

        return StepTime.between((1, seconds(1, 1)), (rows * window, seconds(rows, window)))

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
