"""Compiled calls of the sampler for one model: what `Generator` and `Stream` both stand on.

Who wants to see ids while they are decided gives a `look`. The sampler's loop then runs in pieces
of `_PIECE` seconds, and the next one is on its way before the last one's ids are read: nothing
waits for who looks on, and the ids are the same. What `look` raises ends the work between pieces.
"""

import contextlib
import dataclasses
import functools
import hashlib
import json
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Bool, Int

from fv_jax.config.model import to_json
from fv_jax.files import user_cache, write_text
from fv_jax.generation.changes import Blocks, decode_blocks
from fv_jax.generation.policies import Policy, Sampling
from fv_jax.generation.pretrained import Model
from fv_jax.generation.sampler import (
    Counts,
    DecodeState,
    Feed,
    Sampler,
    advance_watched,
    begin_watched,
    decode,
    make_decoder,
    settle_watched,
    start,
)
from fv_jax.generation.stats import Stats
from fv_jax.generation.window_size import (
    KEPT_KEY_FRAMES,
    StepTime,
    buffer_size,
    row_groups,
    window_size,
    without_guesses,
)
from fv_jax.models.retnet import Decoder, RetNetState
from fv_jax.provenance import machine
from fv_jax.sequence.changes import unchanged
from fv_jax.sequence.nearby import neighbors
from fv_jax.sequence.packing import unpack
from fv_jax.sequence.skipping import compact, kept_places
from fv_jax.sequence.vocab import FREE, Vocab

KEY_FRAMES, BETWEEN = 0, 1  # stages, folded into a request's key
Look = Callable[[Int[np.ndarray, "B F P"], int], None]  # ids, FREE where open; steps so far
_PIECE = 0.08  # seconds
_ENOUGH_TO_PART = 8  # rows of changes; groups of fewer differ from call to call, and are compiled
_MOST_COMPILED = 128  # programs; the one that was used longest ago goes first
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
        self._compiled: OrderedDict[Any, Callable] = OrderedDict()

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

    @functools.cached_property
    def _decoder(self) -> Decoder:
        """What is made of the weights before a loop; once, where loops run in pieces."""
        return make_decoder(self.model.params, graph=self.model.graph)

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
            tokens[:, 1] = FREE  # else all of it would be read at once
            guesses, taken = np.full(tokens.shape[1], -1, np.int32), []
            for _ in range(_MEASUREMENTS + 1):
                state = self.start(sampler, [(0, row) for row in range(rows)])
                jax.block_until_ready(state)
                begin = time.perf_counter()
                self._all_ids(state, sampler, Stats(), tokens, guesses, (0, 1))
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
        order: Sequence[int],
        read: int = 0,
        left_out: Bool[np.ndarray, "B T"] | None = None,
        look: Look | None = None,
    ) -> tuple[Int[np.ndarray, "B F P"], DecodeState]:
        """Run the sampler, compiling it for a new shape.

        Args:
            state: `start` or an earlier call's result.
            sampler: what is sampled how.
            stats: told what it costs.
            tokens: whole blocks of vocabulary ids, or FREE.
            guesses: see `sampler.decode_tokens`.
            order: when each block's frame is, in any unit of time.
            read: blocks that the state has seen. What follows them up to the first FREE is read by
                one chunkwise call.
            left_out: known tokens that the network is to do without; then nothing may be read. A
                network of changes does without all that does not change.
            look: is shown the ids while they are decided, at first and at last, too.
        """
        if not self.model.config.network.places:
            return self._all_ids(
                state, sampler, stats, tokens, guesses, order, read, left_out, look
            )
        s, tokens, first, taken = sampler.sequence, tokens.copy(), slice(sampler.sequence.stride), 0
        if not read and (tokens[:, first] == FREE).any():

            def look_at_first(codes: Int[np.ndarray, "B first P"], steps: int) -> None:
                nonlocal taken
                taken = steps
                look(np.concatenate([codes, _decided(tokens, s)[:, 1:]], axis=1), steps)

            codes, state = self._all_ids(
                state, sampler, stats, tokens[:, first], guesses[first], order[:1],
                look=look and look_at_first,
            )  # fmt: skip
            tokens[:, s.header : s.stride] = codes[:, 0] + Vocab(s).frame_start
            read = 1
        return self._changes(state, sampler, stats, tokens, order, read, look, taken)

    def _changes(
        self, state: DecodeState, sampler: Sampler, stats: Stats, tokens: Int[np.ndarray, "B T"],
        order: Sequence[int], read: int, look: Look | None, taken: int,
    ) -> tuple[Int[np.ndarray, "B F P"], DecodeState]:  # fmt: skip
        """`decode` of blocks after the first, as what changes (`generation/changes.py`)."""
        s, count = sampler.sequence, len(order)
        sampler = dataclasses.replace(sampler, window=1)
        open_blocks = (tokens == FREE).reshape(len(tokens), count, s.stride).any(axis=(0, 2))
        begin = int(open_blocks.argmax()) if open_blocks.any() else count
        known = _rows_of_changes(tokens, order, read, begin, s) if begin > read else None
        if begin == count and known is None:
            return unpack(tokens, s)[2], state
        blocks, whole, groups = Blocks.of(order, s), tokens, [np.arange(len(tokens))]
        if not look and sampler.readings == 1 and len(tokens) >= _ENOUGH_TO_PART:
            # Where more is open, more changes; a frame ends with its last row.
            groups = row_groups((tokens == FREE).sum(axis=1), self.step_time, 1)
        # Who looks on is shown every frame; else all are one call.
        for end in [begin, *range(begin + 1, count + 1)] if look else [count]:

            def call(state, tokens, known, first=np.int32(begin), end=np.int32(end)):
                shape, weights = (known and known.places.shape, tokens.shape), self.model.params
                return self._call(
                    decode_blocks, shape, stats, weights, state, tokens, blocks, known, first, end,
                    graph=self.model.graph, sampler=sampler,
                )  # fmt: skip

            whole, state, changed = _in_groups(groups, call, state, whole, known)
            with stats("sample"):
                steps, fed, drawn = jax.device_get(
                    (changed.steps, changed.fed.sum(), changed.changes.sum())
                )
            stats.count(
                steps=int(steps), fed=int(fed), sampled=int(drawn), forced=int(fed - drawn),
                drafted=0, accepted=0,
            )  # fmt: skip
            taken += int(steps)
            if look:
                look(_decided(np.asarray(whole), s), taken)
            begin, known = end, None
        return unpack(np.asarray(whole), s)[2], state

    def _all_ids(
        self, state: DecodeState, sampler: Sampler, stats: Stats, tokens: Int[np.ndarray, "B T"],
        guesses: Int[np.ndarray, " T"], order: Sequence[int], read: int = 0,
        left_out: Bool[np.ndarray, "B T"] | None = None, look: Look | None = None,
    ) -> tuple[Int[np.ndarray, "B F P"], DecodeState]:  # fmt: skip
        """`decode`, an id at a time or some that are guessed."""
        sequence = sampler.sequence
        start = read * sequence.stride
        if left_out is not None:
            places, fed, prefix = feed(tokens, left_out, sequence.stride)
        else:
            places, fed = None, tokens.size - len(tokens) * start
            free = (tokens == FREE).any(axis=0)
            # The token before an id is fed where the id is sampled.
            prefix = max(int(free.argmax() if free.any() else len(free)) - 1 - start, 0)
        known = neighbors(order, sequence) if self.model.config.network.nearby else None
        weights, settings = self.model.params, {"graph": self.model.graph, "sampler": sampler}
        settings |= {"read": start, "prefix": prefix}
        if look is not None:
            look(_decided(tokens, sequence), 0)
            arrays = (state, tokens, guesses, places, known)
            shape = (read, prefix, tokens.shape, jax.tree.structure(places))
            walk = self._call(begin_watched, shape, stats, weights, *arrays, **settings)
            whole, state, counts = self._watched(walk, sampler, shape, stats, look)
        else:
            groups = [np.arange(len(tokens))]
            if places is not None and sampler.readings == 1:
                left = places.length - (prefix if places.known is None else places.known)
                groups = row_groups(left, self.step_time, sampler.window)

            def call(state, tokens, places):
                shape = (read, prefix, tokens.shape, jax.tree.structure(places))
                arrays = (state, tokens, guesses, places, known)
                return self._call(decode, shape, stats, weights, *arrays, **settings)

            whole, state, counts = _in_groups(groups, call, state, tokens, places)
        with stats("sample"):
            codes = unpack(np.asarray(whole), sequence)[2]
        sampled = int((tokens[:, start:] == FREE).sum())
        stats.count(
            steps=int(counts.steps), fed=fed, sampled=sampled, forced=fed - sampled,
            drafted=int(counts.drafted.sum()), accepted=int(counts.accepted.sum()),
        )  # fmt: skip
        return codes, state

    def _watched(
        self, walk: Any, sampler: Sampler, shape: tuple, stats: Stats, look: Look
    ) -> tuple[np.ndarray, DecodeState, Counts]:
        """The loop in pieces; a piece that has nothing left to do takes no time."""
        rows = len(walk.end) * sampler.readings
        most = np.int32(max(1, round(_PIECE / self.step_time(rows * sampler.window))))
        make = lambda function, *arrays: self._call(
            function, shape, stats, self._decoder, *arrays, sampler=sampler
        )
        call = lambda walk: make(advance_watched, walk, most)
        walk, *seen = call(walk)
        while True:
            walk, *following = call(walk)
            with stats("sample"):
                whole, steps, more = jax.device_get(seen)
            look(_decided(whole, sampler.sequence), int(steps))
            if not more:
                break
            seen = following
        state, counts = make(settle_watched, walk)
        return whole, state, counts

    def _call(
        self, function: Any, shape: tuple, stats: Stats, *arrays: Any, sampler: Sampler,
        **settings: Any,
    ) -> Any:  # fmt: skip
        """One of the jitted functions of `sampler.py`, compiled once for a shape."""
        name = (function, sampler, shape)
        if name not in self._compiled:
            with stats("compile"):
                lowered = function.lower(*arrays, sampler=sampler, **settings)
                self._compiled[name] = lowered.compile()
            while len(self._compiled) > _MOST_COMPILED:
                self._compiled.popitem(last=False)
        self._compiled.move_to_end(name)
        with stats("sample"):
            return self._compiled[name](*arrays)


def _in_groups(
    groups: list[Int[np.ndarray, " rows"]], call: Callable, state: DecodeState, *of_all: Any
) -> tuple:
    """`call(state, *of_all)` of some rows at a time, joined."""
    if len(groups) == 1:
        return call(state, *of_all)
    made = []
    for rows in groups:
        net = RetNetState(state.net.retention[:, rows], state.net.position[rows])
        some = jax.tree.map(lambda x, rows=rows: x[rows], of_all)
        made.append(call(DecodeState(net, state.keys[rows]), *some))
    return _joined(made, groups)


def _joined(made: list[tuple], parts: list[Int[np.ndarray, " rows"]]) -> tuple:
    """What the sampler gives for all rows, of what it gave for some of them at a time."""
    back = np.argsort(np.concatenate(parts))
    tokens, states, counts = zip(*made)
    join = lambda values, axis=0: jnp.take(jnp.concatenate(values, axis), back, axis)
    net = RetNetState(
        join([s.net.retention for s in states], 1), join([s.net.position for s in states])
    )
    state = DecodeState(net, join([s.keys for s in states]))
    counted = jax.tree.map(lambda *n: join(n) if n[0].ndim else sum(n), *counts)
    return join(tokens), state, counted


def _decided(tokens: Int[np.ndarray, "B T"], sequence: Any) -> Int[np.ndarray, "B F P"]:
    return np.maximum(unpack(tokens, sequence)[2], FREE)


def _rows_of_changes(
    tokens: Int[np.ndarray, "B T"], order: Sequence[int], read: int, end: int, sequence: Any
) -> Feed:
    """What is read of some known blocks, filled up to a quarter of a block: few are compiled."""
    left_out = np.ones(tokens.shape, bool)
    left_out[:, : end * sequence.stride] = unchanged(
        tokens[:, : end * sequence.stride], order[:end], sequence
    )
    left_out[:, : read * sequence.stride] = True
    part = max(sequence.stride // 4, 1)
    size = int((~left_out).sum(axis=1).max())
    row = compact(tokens, left_out, -(-size // part) * part)
    # What follows the last of them is the next block.
    last = np.arange(row.positions.shape[1]) >= row.length[:, None]
    return Feed(np.where(last, end * sequence.stride, row.positions), row.length, None)


def feed(
    tokens: Int[np.ndarray, "B T"], left_out: Bool[np.ndarray, "B T"], stride: int
) -> tuple[Feed, int, int]:
    """The places that are fed, how many they are, and of how many the prefix is, at most.

    A row's prefix ends before the token that is fed where its first id is sampled, the row itself
    where nothing is left to be sampled. Prefixes that differ from row to row are filled up to a
    quarter of a block, so that few lengths are compiled.
    """
    places, kept = kept_places(left_out)
    place = np.arange(tokens.shape[1])
    free = (np.take_along_axis(tokens, places, axis=1) == FREE) & (place < kept[:, None])
    # What is sampled last is not fed.
    length = np.max(np.where(free, place, 0), axis=1)
    known = np.where(free.any(axis=1), free.argmax(axis=1) - 1, 0)
    fed, most = int(length.sum()), int(known.max())
    places, length = places.astype(np.int32), length.astype(np.int32)
    if (known == most).all() and not left_out[:, :most].any():
        return Feed(places, length, None), fed, most
    part = max(stride // 4, 1)
    most = min(-(-most // part) * part, tokens.shape[1])
    return Feed(places, length, known.astype(np.int32)), fed, most
