"""Rows of a training: clips of ids as sequences of a task, packed, with what is to be predicted.

What a row is follows from its clip, the generator that is handed along and the kind of its batch:
whether it tells key frames or inserts, and how many tokens it has.
"""

import dataclasses
import functools
import math

import numpy as np

from fv_jax.config.model import NEARBY_FRAMES, NEARBY_TAPS, SequenceConfig
from fv_jax.config.training import NetworkExperiment
from fv_jax.generation.skip_mask import inheritable, regions
from fv_jax.sequence.changes import unchanged
from fv_jax.sequence.nearby import NONE, codes_nearby, neighbors
from fv_jax.sequence.packing import (
    given_order,
    given_serials,
    interpolation_serials,
    key_frame_serials,
    key_frames_after,
    pack,
    pad_text,
)
from fv_jax.sequence.skipping import compact
from fv_jax.sequence.vocab import PAD, Vocab
from fv_jax.tokenizers.text import TextTokenizer


@dataclasses.dataclass(frozen=True)
class RowMaker:
    """Turns a clip into one training row of a randomly drawn task.

    A row is `tokens` int32 [T] and `weight` float32 [F]: the loss weight of each block's frame.
    All rows have the length of the longest task; shorter ones are padded at the end, where a
    causal network cannot see it.

    A row that lacks stable ids (`NetworkExperiment.skip`) is `tokens` [S], `positions` [S + 1] as
    `sequence/skipping.py` has them, and `weight` float32 for what is predicted after each of the
    last tokens: from the first one on that an inserted id can follow.

    For a network that reads them there is `nearby` int32 [T, 18] (`sequence/nearby.py`), too: the
    codes around what comes after each token.

    Where frames are coded as what changed (`NetworkExperiment.changes`), all rows lack tokens, from
    that before the first serial number on with a frame to predict. Beside each `weight` stands in
    `places` int32 where, after the id that comes next, the frame changes again: P for nowhere, -1
    where that is not to be predicted. `around` int32 [F - 1, P, 18] are the codes around all places
    of the frames after the first, as far as they are known before.

    Attributes:
        experiment: says which tasks, and how often.
        sequence: what a row is packed from.
        text: tokenizer of the captions.
        blocks: see `blocks_of_a_row`.
        parts: that a row's tokens can be cut into.
        radius: of the unstable ring.
    """

    experiment: NetworkExperiment
    sequence: SequenceConfig
    text: TextTokenizer
    blocks: int
    parts: int = 1
    radius: int = 1

    def kind(self, rng: np.random.Generator) -> "Kind":
        """What all rows of a batch are; nothing is drawn where each row draws its own task."""
        choices = self.kinds
        if len(choices) == 1:
            return choices[0][1]
        return choices[rng.choice(len(choices), p=[share for share, _ in choices])][1]

    @functools.cached_property
    def kinds(self) -> "list[tuple[float, Kind]]":
        """The kinds that batches are drawn from. Of changes those with the most room: what a batch
        does not need is cut (`batches_of`).
        """
        choices = kinds(self.experiment, self.sequence, self.parts)
        if not self.experiment.changes:
            return choices
        tasks = {kind.inserted: 0.0 for _, kind in choices}
        for share, kind in choices:
            tasks[kind.inserted] += share
        return [(share, self._rooms(inserted)[-1]) for inserted, share in tasks.items()]

    def batches_of(
        self, rows: list[dict[str, np.ndarray]], kind: "Kind", size: int
    ) -> list[list[dict[str, np.ndarray]]]:
        """Rows in batches of `size`, all of one kind.

        Where frames are coded as what changed, rows are put together by what they need, and each
        batch has the smallest room that the most lively of its clips fits into.
        """
        if not self.experiment.changes:
            return [rows[i : i + size] for i in range(0, len(rows), size)]
        need = [_needed(row) for row in rows]
        order = np.argsort(need, kind="stable")
        lengths = [room.length for room in self._rooms(kind.inserted)]
        made = []
        for batch in (order[i : i + size] for i in range(0, len(rows), size)):
            most = max(need[n] for n in batch)
            length = next((length for length in lengths if length >= most), lengths[-1])
            made.append([_cut(rows[n], length) for n in batch])
        return made

    def _rooms(self, inserted: int | None) -> "list[Kind]":
        """The kinds of rows of changes of one task, from the shortest on."""
        every = (kind for _, kind in kinds(self.experiment, self.sequence, self.parts))
        same = {kind for kind in every if kind.inserted == inserted}
        return sorted(same, key=lambda kind: kind.length)

    def __call__(
        self, clip: tuple[str, np.ndarray], rng: np.random.Generator, kind: "Kind | None" = None
    ) -> dict[str, np.ndarray]:
        """A row of its batch's kind. `clip` is (caption, ids [F, P]), F >= `clip_frames`."""
        caption, frames = clip
        e, kind = self.experiment, kind or Kind()
        drawn = rng.uniform()
        of_key_frames = kind.inserted == 0
        if kind.inserted is None:
            of_key_frames = not e.insertions or rng.uniform() < e.key_frame_share
        drop = e.text_drop if of_key_frames else e.interpolation_text_drop
        drop = e.text_drop if drop is None else drop
        text = pad_text([] if drawn < drop else self.text.encode(caption), self.sequence)
        if of_key_frames:
            given, count = 0, e.key_frames
            order, serials = np.arange(count) * e.key_frame_stride, key_frame_serials(count)
            if e.given_frames and rng.uniform() < e.given_share:
                given, count = e.given_frames, key_frames_after(e.given_frames, count)
                order = np.asarray(given_order(given, count))
                serials = given_serials(given, count)
            room = len(frames) - 1 - order.max()
            first = int(rng.integers(room + 1)) if room else 0
            order, gap = first + order, e.key_frame_stride
            if e.changes:
                return self._changes(text, frames, order, serials, gap, kind, given=given)
            return self._row(text, frames, order, serials, gap, given=given)
        # Drawn in proportion to the frames inserted, which are what the loss sees.
        choices = [pair for pair in e.insertions if kind.inserted in (None, pair[1])]
        share = np.asarray([n for _, n in choices], float)
        gap, n = choices[rng.choice(len(share), p=share / share.sum())]
        first = int(rng.integers(len(frames) - gap))
        order = first + np.asarray([0, gap, *(np.arange(1, n + 1) * (gap // (n + 1)))])
        if e.changes:
            return self._changes(text, frames, order, interpolation_serials(n), gap, kind, given=2)
        if kind.length:
            return self._short_row(text, frames, order, gap, kind.length, rng)
        return self._row(text, frames, order, interpolation_serials(n), gap, given=2)

    def _short_row(self, text, clip, order, gap, size, rng) -> dict[str, np.ndarray]:
        """A row of `size` tokens that lacks a random share of its stable ids, or what it must.

        What still does not fit is cut off at the end.
        """
        s, whole, frames = self.sequence, whole_frames(self.experiment), clip[order]
        tokens = self._packed(text, frames, interpolation_serials(len(frames) - 2), gap)
        a, b = frames[:2].astype(np.int32).reshape(2, *s.frame_grid)
        stable = regions(a, b, self.radius).stable
        most = (len(frames) - whole) * stable.sum()
        need = (len(tokens) - size) / most if most else 0.0
        share = rng.uniform(min(max(need, 0.0), 1.0), 1)
        left_out, predicted = np.zeros((2, len(frames), s.stride), bool)
        predicted[2:, s.header :] = True
        for block in left_out[whole:]:
            block[s.header :] = inheritable(stable, share, rng).ravel()
        row = compact(tokens[None], left_out.reshape(1, -1), size)
        following = row.positions[0, 1:]
        weight = np.append(predicted, False)[following] & (np.arange(1, size + 1) < row.length[0])
        # The first id that can be predicted follows a header, after whole frames and headers.
        start = whole * s.stride + (2 - whole) * s.header + s.header - 1
        weight = weight[start // self.parts * self.parts :]
        return {
            "tokens": row.tokens[0], "positions": row.positions[0],
            "weight": weight.astype(np.float32), **self._nearby(tokens, order, following),
        }  # fmt: skip

    def _changes(self, text, clip, order, serials, gap, kind, *, given) -> dict[str, np.ndarray]:
        """A row of `kind.length` tokens of frames as what changed; what does not fit is cut off."""
        s, size, times = self.sequence, kind.length, (order - order[0]).tolist()
        tokens = self._packed(text, clip[order], serials, gap)
        left_out = unchanged(tokens[None], times, s)
        row = compact(tokens[None], left_out, size)
        following = row.positions[0, 1:]
        # What follows, and whether it is to be predicted; then what follows that.
        block, slot = np.divmod(following, s.stride)
        inside = np.arange(1, size + 1) < row.length[0]
        predicted = inside & (block >= given)
        then = np.append(following[1:], len(tokens))
        stays = np.append(inside[1:], False) & (then // s.stride == block)
        places = np.where(stays, then % s.stride - s.header, s.frame_tokens)
        known = predicted & (slot >= s.header - 1) & (block > 0)
        known[-2] = False  # what would come next may be cut off
        start = first_scored(s, kind.inserted, self.parts)
        blocks = kind.inserted + 2 if kind.inserted else key_frame_blocks(self.experiment)
        around = np.full((blocks - 1, s.frame_tokens, NEARBY_FRAMES * NEARBY_TAPS), NONE, np.int32)
        there = neighbors(times, s, changes=True).reshape(len(times), s.stride, -1)[1:, s.header :]
        around[: len(times) - 1] = codes_nearby(tokens, there, Vocab(s).frame_start)
        return {
            "tokens": row.tokens[0], "positions": row.positions[0],
            "weight": (predicted & (slot >= s.header))[start:].astype(np.float32),
            "places": np.where(known, places, -1)[start:].astype(np.int32), "around": around,
            **self._nearby(tokens, order, following),
        }  # fmt: skip

    def _nearby(self, tokens, order, following) -> dict[str, np.ndarray]:
        """The codes around the places in the whole row that follow each token of what is left."""
        e = self.experiment
        if not e.model.nearby:
            return {}
        # From 0 on, wherever the row begins: so few differ that they are made once each.
        times, changes = (order - order[0]).tolist(), e.changes
        places = neighbors(times, self.sequence, changes=changes, decided=changes)
        places = np.pad(places, ((0, 1), (0, 0)), constant_values=-1)
        places = places[np.minimum(following, len(tokens))]
        return {"nearby": codes_nearby(tokens, places, Vocab(self.sequence).frame_start)}

    def _packed(self, text, frames, serials, gap) -> np.ndarray:
        return pack(text[None], frames[None].astype(np.int32), serials, self.sequence, gap)[0]

    def _row(self, text, clip, order, serials, gap, *, given: int) -> dict[str, np.ndarray]:
        tokens = self._packed(text, clip[order], serials, gap)
        weight = np.zeros(self.blocks, np.float32)
        weight[given : len(serials)] = 1
        length = self.blocks * self.sequence.stride
        nearby = self._nearby(tokens, order, np.arange(1, length + 1))
        tokens = np.pad(tokens, (0, length - len(tokens)), constant_values=PAD)
        return {"tokens": tokens, "weight": weight, **nearby}


def _needed(row: dict[str, np.ndarray]) -> int:
    """Tokens of a row of changes up to the last that says something."""
    says = np.flatnonzero((row["places"] >= 0) | (row["weight"] > 0))
    last = says[-1] if says.size else 0
    return len(row["tokens"]) - len(row["places"]) + int(last) + 2


def _cut(row: dict[str, np.ndarray], length: int) -> dict[str, np.ndarray]:
    """A row of changes without what stands behind so many tokens."""
    less, parts = len(row["tokens"]) - length, dict(row)
    for name in ("tokens", "positions", "nearby", "weight", "places"):
        parts[name] = row[name][: len(row[name]) - less]
    return parts


@dataclasses.dataclass(frozen=True)
class Kind:
    """What the rows of a batch have in common, where it is one batch one task.

    Attributes:
        inserted: frames that they insert, 0 for key frames; None where each row draws its task.
        length: tokens of a row; 0 for those of the longest task.
    """

    inserted: int | None = None
    length: int = 0


def kinds(
    experiment: NetworkExperiment, sequence: SequenceConfig, parts: int = 1
) -> list[tuple[float, Kind]]:
    """The kinds of batches of an experiment, and the share of each."""
    e = experiment
    if not e.skip:
        return [(1.0, Kind())]
    whole, frames = whole_frames(e), sum(n for _, n in e.insertions)
    of_key_frames = e.key_frame_share if e.insertions else 1.0
    found = [(of_key_frames, Kind(0))] if of_key_frames and not e.changes else []
    # Share of such rows, their frames, and those that they insert.
    rows = [(of_key_frames, key_frame_blocks(e), 0)] if of_key_frames and e.changes else []
    for inserted in sorted({n for _, n in e.insertions}):
        of_these = sum(n for _, n in e.insertions if n == inserted) / frames
        rows.append(((1 - e.key_frame_share) * of_these, inserted + 2, inserted))
    for share, blocks, inserted in (row for row in rows if row[0]):
        always = blocks * sequence.header + whole * sequence.frame_tokens
        for room in e.skip:
            ids = math.ceil(room * (blocks - whole) * sequence.frame_tokens)
            length = -(-(always + ids) // parts) * parts
            found.append((share / len(e.skip), Kind(inserted, length)))
    return found


def first_scored(sequence: SequenceConfig, inserted: int, parts: int = 1) -> int:
    """The first token of a row of changes that has something to predict, cut to parts.

    It is the one before the serial number of the first frame that is not given: of a row that
    interpolates at the earliest after A, B's header and its own.
    """
    known = sequence.stride + sequence.header if inserted else 0
    return (known + sequence.header - 2) // parts * parts


def whole_frames(experiment: NetworkExperiment) -> int:
    """How many frames of a row that lacks tokens are read whole: both around, or the first."""
    return 1 if experiment.skip_given or experiment.changes else 2


def blocks_of_a_row(experiment: NetworkExperiment, parts: int = 1) -> int:
    """Blocks of the longest task's row, and more until it can be cut into as many parts."""
    need = max([key_frame_blocks(experiment)] + [n + 2 for _, n in experiment.insertions])
    return -(-need // parts) * parts


def key_frame_blocks(experiment: NetworkExperiment) -> int:
    """Blocks of the longest row of the key-frame task."""
    e, after = experiment, 0
    if e.given_frames:
        count = key_frames_after(e.given_frames, e.key_frames)
        after = len(given_serials(e.given_frames, count))
    return max(e.key_frames, after)
