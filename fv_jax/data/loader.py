"""Batches of packed sequences from cached ids, through grain.

The order and every random choice are functions of the seed; the iterator's position is part of
each checkpoint, so a resumed run sees exactly the rows that an uninterrupted one would.
"""

import dataclasses

import grain
import numpy as np

from fv_jax.config import NetworkExperiment, SequenceConfig
from fv_jax.data.token_cache import ShapesTokens
from fv_jax.sequence import interpolation_serials, key_frame_serials, pack, pad_text
from fv_jax.tokenizers.text import TextTokenizer
from fv_jax.vocab import PAD


@dataclasses.dataclass(frozen=True)
class RowMaker:
    """Turns a clip into one training row of a randomly drawn task.

    A row is `tokens` int32 [L] and `weight` float32 [M]: the loss weight of each block's frame.
    All rows have the length of the longest task; shorter ones are padded at the end, where a
    causal network cannot see it.
    """

    experiment: NetworkExperiment
    sequence: SequenceConfig
    text: TextTokenizer

    @property
    def blocks(self) -> int:
        """M: blocks of a row."""
        return max([self.experiment.key_frames] + [n + 2 for _, n in self.experiment.insertions])

    def __call__(
        self, clip: tuple[str, np.ndarray], rng: np.random.Generator
    ) -> dict[str, np.ndarray]:
        """A row of either task. `clip` is (caption, ids [frames, P])."""
        caption, frames = clip
        e = self.experiment
        text = pad_text(self.text.encode(caption), self.sequence)
        if rng.uniform() < e.text_drop:
            text = np.full_like(text, PAD)
        if not e.insertions or rng.uniform() < e.key_frame_share:
            order = np.arange(e.key_frames) * e.key_frame_stride
            return self._row(text, frames[order], key_frame_serials(e.key_frames), given=0)
        # Drawn in proportion to the frames inserted, which are what the loss sees.
        share = np.asarray([n for _, n in e.insertions], float)
        gap, n = e.insertions[rng.choice(len(share), p=share / share.sum())]
        first = int(rng.integers(len(frames) - gap))
        order = first + np.asarray([0, gap, *(np.arange(1, n + 1) * (gap // (n + 1)))])
        return self._row(text, frames[order], interpolation_serials(n), given=2)

    def _row(self, text, frames, serials, *, given: int) -> dict[str, np.ndarray]:
        tokens = pack(text[None], frames[None].astype(np.int32), serials, self.sequence)[0]
        weight = np.zeros(self.blocks, np.float32)
        weight[given : len(serials)] = 1
        padding = self.blocks * self.sequence.stride - len(tokens)
        return {"tokens": np.pad(tokens, (0, padding), constant_values=PAD), "weight": weight}


def training_batches(
    clips: ShapesTokens, rows: RowMaker, *, seed: int, batch_size: int
) -> grain.DatasetIterator:
    """Shuffled batches without end."""
    dataset = (
        grain.MapDataset.source(clips)
        .seed(seed)
        .shuffle()
        .repeat()
        .random_map(rows)
        .batch(batch_size)
        .to_iter_dataset(grain.ReadOptions(num_threads=1, prefetch_buffer_size=64))
    )
    return iter(dataset)
