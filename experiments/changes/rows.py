"""Key frames as what changed: every frame after the first is the list of its changed ids.

    whole    [text SN_1 | a b c d] [text SN_2 | a e c f] [text SN_3 | a e c f]
    changed  [text SN_1 | a b c d] [text SN_2 |   e   f] [text SN_3 | END]
    place                0 1 2 3                1   3

Places are the positions of `sequence/skipping.py`; END is that the next position is beyond the
frame. Any video has one such row, and the row has the video: nothing is lost.
"""

import math
from typing import Any

import grain
import numpy as np
from jaxtyping import Int

from fv_jax.config.model import SequenceConfig
from fv_jax.data.batches import Batches, Clips
from fv_jax.sequence.packing import key_frame_serials, pack, pad_text
from fv_jax.sequence.skipping import Compact, compact
from fv_jax.sequence.vocab import Vocab
from fv_jax.tokenizers.text import TextTokenizer

_ROOM = (1 / 8, 3 / 16, 1 / 4, 1 / 2, 1)  # of the ids of later frames; one trace each
_GROUP = 8  # batches that are sorted by length together


def coded(
    text: Int[np.ndarray, "B text"], frames: Int[np.ndarray, "B F P"], sequence: SequenceConfig,
    *, few_lengths: bool = False,
) -> Compact:  # fmt: skip
    """Rows of changes, as long as the longest needs, T = F header + P + changes.

    With `few_lengths` T is the next of a few lengths, since there are as many traces.
    """
    tokens = pack(text, frames, key_frame_serials(frames.shape[1]), sequence)
    same = np.zeros((*frames.shape[:2], sequence.stride), bool)
    same[:, 1:, sequence.header :] = frames[:, 1:] == frames[:, :-1]
    left_out = same.reshape(tokens.shape)
    size = int((~left_out).sum(1).max())
    if few_lengths:
        first = frames.shape[1] * sequence.header + sequence.frame_tokens
        later = tokens.shape[1] - first
        size = next(n for n in (first + math.ceil(room * later) for room in _ROOM) if n >= size)
    return compact(tokens, left_out, size)


def decoded(row: Compact, blocks: int, sequence: SequenceConfig) -> Int[np.ndarray, "B F P"]:
    """Frame codes of rows of changes."""
    count = len(row.tokens)
    whole = np.full((count, blocks * sequence.stride + 1), -1)
    places = np.where(row.real, row.positions[:, :-1], whole.shape[1] - 1)
    np.put_along_axis(whole, places, row.tokens - Vocab(sequence).frame_start, axis=1)
    frames = whole[:, :-1].reshape(count, blocks, sequence.stride)[..., sequence.header :]
    for block in range(1, blocks):
        same = frames[:, block] < 0
        frames[:, block][same] = frames[:, block - 1][same]
    return frames


class SortedBatches:
    """Batches of key frames by number, each a function of seed and number alone.

    `batch_size` rows of about one length: those of eight batches are sorted by their changes, then
    the batches are shuffled. A batch is `text` [B, text], `frames` [B, F, P] and, of changes,
    `tokens` [B, T], `positions` [B, T + 1] and `length` [B], all int32.

    Args:
        clips: to draw from, each once an epoch.
        text: tokenizer of the captions.
        sequence: layout of a row.
        key_frames: F.
        stride: frames of a clip from one key frame to the next.
        changes: code them as changes.
        seed: of the order, and of the window that is taken of each clip.
        batch_size: B.
        count: of batches.
    """

    def __init__(
        self, clips: Clips, text: TextTokenizer, sequence: SequenceConfig, *, key_frames: int,
        stride: int, changes: bool, seed: int, batch_size: int, count: int,
    ):  # fmt: skip
        self.clips, self.text, self.sequence = clips, text, sequence
        self.key_frames, self.stride, self.changes = key_frames, stride, changes
        self.seed, self.batch_size, self.count = seed, batch_size, count
        self._newest: tuple[int, list[dict[str, Any]]] = (-1, [])

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> dict[str, Any]:
        number, place = divmod(int(index), _GROUP)
        newest = self._newest
        if newest[0] != number:
            self._newest = newest = number, self._group(number)
        return newest[1][place]

    def iterator(self) -> Batches:
        """The batches in turn; its position can be saved."""
        return Batches(grain.MapDataset.source(self))

    def _group(self, number: int) -> list[dict[str, Any]]:
        size = self.batch_size * _GROUP
        drawn = [self._draw(row) for row in range(number * size, (number + 1) * size)]
        text, frames = (np.stack(part) for part in zip(*drawn))
        changes = (frames[:, 1:] != frames[:, :-1]).sum((1, 2))
        batches = np.argsort(changes, kind="stable").reshape(_GROUP, -1)
        order = np.random.default_rng((self.seed, 1, number)).permutation(_GROUP)
        return [self._batch(text[rows], frames[rows]) for rows in batches[order]]

    def _draw(self, row: int) -> tuple[np.ndarray, np.ndarray]:
        epoch, place = divmod(row, len(self.clips))
        order = np.random.default_rng((self.seed, 2, epoch)).permutation(len(self.clips))
        rng = np.random.default_rng((self.seed, 3, row))
        caption, ids = self.clips.draw(int(order[place]), rng)
        first = rng.integers(len(ids) - (self.key_frames - 1) * self.stride)
        frames = ids[first :: self.stride][: self.key_frames]
        return pad_text(self.text.encode(caption), self.sequence), frames.astype(np.int32)

    def _batch(self, text: np.ndarray, frames: np.ndarray) -> dict[str, Any]:
        batch = {"text": text, "frames": frames}
        if self.changes:
            row = coded(text, frames, self.sequence, few_lengths=True)
            batch |= {"tokens": row.tokens, "positions": row.positions, "length": row.length}
        return batch
